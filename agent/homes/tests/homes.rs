//! Fetching from real homes: nginx and an OCI registry, with what can be wrong on the way. Bytes are
//! counted on the wire.

#![allow(clippy::unwrap_used, reason = "a failure is a panic")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_homes::credentials::of_value;
use holdfast_homes::download::{self, DownloadError};
use holdfast_homes::partial::path_of;
use holdfast_homes::registry::AskError;
use holdfast_homes::resolve::{Found, ResolveError, resolve};
use holdfast_homes::way::{Homes, Patience, Rules, Way};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::home::Home;
use holdfast_tests::home::{Fault, Home as Server, lacking};
use holdfast_tests::skip::skip;

const MIB: usize = 1 << 20;
/// Bytes of headers that one answer may have besides.
const HEADERS: u64 = 2_000;
/// `ada` with the password `s3cret?>~`.
const LOGIN: &str = "YWRhOnMzY3JldD8+fg==";
const HTPASSWD: &str = "ada:$2b$04$h4It96sCxCAzrZXWhFAb3.0UvVQ5oekXP981Wx6aL04m8PZtNSew6\n";

fn can_run(test: &str) -> bool {
    if let Some(program) = lacking() {
        skip(test, &format!("{program} is not installed"));
    }
    lacking().is_none()
}

/// Content that no two places have in common.
fn content(length: usize) -> Vec<u8> {
    (0..length / 4)
        .flat_map(|n| {
            u32::try_from(n)
                .unwrap()
                .wrapping_mul(2_654_435_761)
                .to_le_bytes()
        })
        .collect()
}

fn way(rules: Rules) -> Arc<Way> {
    Homes::new(rules).way().unwrap()
}

fn strict() -> Arc<Way> {
    way(Rules::strict("agent.toml"))
}

async fn fetched(
    way: &Way,
    store: &Path,
    home: &str,
    (digest, size): (Digest, usize),
) -> Result<PathBuf, DownloadError> {
    let home: Home = home.parse().unwrap();
    download::bring(way, (&home, None), store, (digest, size as u64), &|_| {}).await?;
    Ok(store.join(digest.hex()))
}

#[tokio::test]
async fn a_file_that_breaks_off_is_gone_on_with_and_no_byte_comes_twice() {
    if !can_run("a_file_that_breaks_off_is_gone_on_with_and_no_byte_comes_twice") {
        return;
    }
    let (web, store) = (Server::web(), tempfile::tempdir().unwrap());
    let content = content(8 * MIB);
    let (digest, size) = (Digest::of(&content), content.len());
    let url = web.put("web.bin", &content);
    web.fail(Fault::CutAfter(3 * MIB as u64));
    let whole = fetched(&strict(), store.path(), &url, (digest, size)).await;
    assert_eq!(std::fs::read(whole.unwrap()).unwrap(), content);
    let (bytes, requests) = (web.take_bytes(), web.take_requests() as u64);
    assert_eq!(requests, 3, "each connection gave at most 3 MiB of the 8");
    // What was under way when a connection was cut may be lost, and nothing else.
    let most = size as u64 + requests * (HEADERS + 512 * 1024);
    assert!(bytes <= most, "{bytes} bytes came for {size}");
}

#[tokio::test]
async fn an_interrupted_fetch_goes_on_in_another_process_where_it_ended() {
    if !can_run("an_interrupted_fetch_goes_on_in_another_process_where_it_ended") {
        return;
    }
    let (web, store) = (Server::web(), tempfile::tempdir().unwrap());
    let content = content(4 * MIB);
    let (digest, size) = (Digest::of(&content), content.len());
    let url = web.put("web.bin", &content);
    web.fail(Fault::StallAfter(3 * MIB as u64));
    let quick = way(Rules {
        patience: Patience {
            span: Duration::from_millis(1_500),
            bytes: 8 * MIB as u64,
        },
        ..Rules::strict("agent.toml")
    });
    let slow = fetched(&quick, store.path(), &url, (digest, size)).await;
    assert!(matches!(slow, Err(DownloadError::Slow { .. })), "{slow:?}");
    let kept = std::fs::metadata(path_of(store.path(), digest))
        .unwrap()
        .len();
    assert!(kept > 2 * MIB as u64, "{kept} bytes were kept");
    web.fail(Fault::None);
    let _ = web.take_bytes();
    drop(quick);
    let whole = fetched(&strict(), store.path(), &url, (digest, size)).await;
    assert_eq!(std::fs::read(whole.unwrap()).unwrap(), content);
    let bytes = web.take_bytes();
    assert!(
        bytes <= size as u64 - kept + HEADERS,
        "{bytes} bytes came where {} were missing",
        size as u64 - kept
    );
}

#[tokio::test]
async fn what_is_not_what_was_asked_for_is_not_kept() {
    if !can_run("what_is_not_what_was_asked_for_is_not_kept") {
        return;
    }
    let (web, store) = (Server::web(), tempfile::tempdir().unwrap());
    let url = web.put("web.bin", b"what somebody put there");
    let wanted = (Digest::of(b"what the release named."), 23);
    let wrong = fetched(&strict(), store.path(), &url, wanted).await;
    assert!(
        matches!(wrong, Err(DownloadError::Digest(found)) if found == Digest::of(b"what somebody put there")),
        "{wrong:?}"
    );
    let longer = fetched(&strict(), store.path(), &url, (wanted.0, 22)).await;
    assert!(
        matches!(
            longer,
            Err(DownloadError::Size {
                actual: 23,
                expected: 22
            })
        ),
        "{longer:?}"
    );
    assert!(!store.path().join(wanted.0.hex()).exists());
    // An older file that changed in between is found out, and brought anew.
    std::fs::write(path_of(store.path(), wanted.0), b"what somebody").unwrap();
    let _ = web.put("web.bin", b"what the release named.");
    let whole = fetched(&strict(), store.path(), &url, wanted).await;
    let whole = std::fs::read(whole.unwrap()).unwrap();
    assert_eq!(whole, b"what the release named.");
}

#[tokio::test]
async fn a_home_that_fails_is_named_with_what_it_said() {
    if !can_run("a_home_that_fails_is_named_with_what_it_said") {
        return;
    }
    let (web, store) = (Server::web(), tempfile::tempdir().unwrap());
    let url = web.put("web.bin", b"content");
    let wanted = (Digest::of(b"content"), 7);
    web.fail(Fault::Broken);
    let broken = fetched(&strict(), store.path(), &url, wanted).await;
    let said = broken.unwrap_err().to_string();
    assert!(said.contains("500") && said.contains(&web.host()), "{said}");
    web.fail(Fault::None);
    let missing = format!("{url}.gone?signature=hunter2");
    let missing = fetched(&strict(), store.path(), &missing, wanted).await;
    let said = missing.unwrap_err().to_string();
    assert!(said.contains("404") && !said.contains("hunter2"), "{said}");
    assert!(fetched(&strict(), store.path(), &url, wanted).await.is_ok());
}

#[tokio::test]
async fn redirects_end_and_lead_to_no_metadata_and_no_plain_host() {
    if !can_run("redirects_end_and_lead_to_no_metadata_and_no_plain_host") {
        return;
    }
    let (web, store) = (Server::web(), tempfile::tempdir().unwrap());
    let url = web.put("web.bin", b"content");
    let wanted = (Digest::of(b"content"), 7);
    web.fail(Fault::Metadata);
    let refused = fetched(&strict(), store.path(), &url, wanted).await;
    let said = refused.unwrap_err().to_string();
    assert!(
        said.contains("169.254.169.254") && said.contains("`allow`"),
        "{said}"
    );
    let port = web.host().rsplit_once(':').unwrap().1.parse().unwrap();
    web.fail(Fault::Redirect(port));
    let _ = web.take_requests();
    let refused = fetched(&strict(), store.path(), &url, wanted).await;
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("redirects"), "{said}");
    assert!(web.take_requests() <= 7, "it ends");
}

#[tokio::test]
async fn a_full_disk_is_said_before_anything_is_fetched() {
    if !can_run("a_full_disk_is_said_before_anything_is_fetched") {
        return;
    }
    let (web, store) = (Server::web(), tempfile::tempdir().unwrap());
    let Some(_mounted) = Small::mount(store.path()) else {
        return skip(
            "a_full_disk_is_said_before_anything_is_fetched",
            "a file system can be mounted by root alone",
        );
    };
    let content = content(2 * MIB);
    let url = web.put("web.bin", &content);
    let _ = web.take_bytes();
    let wanted = (Digest::of(&content), content.len());
    let full = fetched(&strict(), store.path(), &url, wanted).await;
    assert!(
        matches!(full, Err(DownloadError::NoSpace { .. })),
        "{full:?}"
    );
    assert_eq!(web.take_bytes(), 0);
}

#[tokio::test]
async fn a_file_in_a_registry_is_found_by_tag_digest_and_title_and_fetched() {
    if !can_run("a_file_in_a_registry_is_found_by_tag_digest_and_title_and_fetched") {
        return;
    }
    let (registry, store) = (Server::registry(None), tempfile::tempdir().unwrap());
    let (one, two) = (content(2 * MIB), content(MIB));
    let alone = registry.push(("team/web", "1.4"), &[("web.tar.gz", &one)], None);
    let _ = registry.push(
        ("team/both", "x"),
        &[("notes", b"n"), ("web.tar.gz", &two)],
        None,
    );
    let (way, host) = (strict(), registry.host());
    let found = async |name: &str| -> Result<Found, ResolveError> {
        resolve(&way, (&name.parse().unwrap(), "web.tar.gz"), None).await
    };
    let by_tag = found(&format!("oci://{host}/team/web:1.4")).await.unwrap();
    assert_eq!(
        by_tag.home.to_string(),
        format!("oci://{host}/team/web@{alone}")
    );
    assert_eq!(
        (by_tag.digest, by_tag.size),
        (Digest::of(&one), one.len() as u64)
    );
    let by_digest = found(&format!("oci://{host}/team/web@{alone}")).await;
    assert_eq!(by_digest.unwrap(), by_tag);
    let by_title = found(&format!("oci://{host}/team/both:x")).await.unwrap();
    assert_eq!(by_title.digest, Digest::of(&two));
    let missing = found(&format!("oci://{host}/team/web:2"))
        .await
        .unwrap_err();
    assert!(missing.to_string().contains("404"), "{missing}");

    registry.fail(Fault::CutAfter(MIB as u64 + 300_000));
    let wanted = (by_tag.digest, one.len());
    let whole = fetched(&way, store.path(), &by_tag.home.to_string(), wanted).await;
    assert_eq!(std::fs::read(whole.unwrap()).unwrap(), one);
}

#[tokio::test]
async fn a_registry_that_asks_who_it_is_is_told_only_from_a_private_file() {
    use std::os::unix::fs::PermissionsExt as _;
    if !can_run("a_registry_that_asks_who_it_is_is_told_only_from_a_private_file") {
        return;
    }
    let (registry, store) = (
        Server::registry(Some(HTPASSWD)),
        tempfile::tempdir().unwrap(),
    );
    let file = content(MIB);
    let _ = registry.push(("team/web", "1"), &[("web.tar.gz", &file)], Some(LOGIN));
    let name = format!("oci://{}/team/web:1", registry.host())
        .parse()
        .unwrap();
    let refused = resolve(&strict(), (&name, "web.tar.gz"), None)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, ResolveError::Ask(AskError::Denied { help, .. }) if help.contains("credentials")),
        "{refused}"
    );
    let path = registry.folder().join("credentials.json");
    let auths = serde_json::json!({"auths": {registry.host(): {"auth": LOGIN}}});
    std::fs::write(&path, auths.to_string()).unwrap();
    let rules = Rules {
        credentials: Some(path.clone()),
        ..Rules::strict("agent.toml")
    };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = resolve(&way(rules.clone()), (&name, "web.tar.gz"), None).await;
    assert!(open.unwrap_err().to_string().contains("chmod 600"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let way = way(rules);
    let found = resolve(&way, (&name, "web.tar.gz"), None).await.unwrap();
    let wanted = (found.digest, file.len());
    let whole = fetched(&way, store.path(), &found.home.to_string(), wanted).await;
    assert_eq!(std::fs::read(whole.unwrap()).unwrap(), file);
}

#[tokio::test]
async fn a_registry_that_asks_who_it_is_is_told_the_secret_of_a_manifest() {
    if !can_run("a_registry_that_asks_who_it_is_is_told_the_secret_of_a_manifest") {
        return;
    }
    let (registry, store) = (
        Server::registry(Some(HTPASSWD)),
        tempfile::tempdir().unwrap(),
    );
    let file = content(MIB);
    let _ = registry.push(("team/web", "1"), &[("web.tar.gz", &file)], Some(LOGIN));
    let (way, host) = (strict(), registry.host());
    let named = format!("oci://{host}/team/web:1").parse().unwrap();
    let login = |value: &str| of_value(value.as_bytes(), &host, Some(&host)).unwrap();
    let wrong = login("ada:wr0ng");
    let refused = resolve(&way, (&named, "web.tar.gz"), wrong.as_ref()).await;
    let refused = format!("{:?}", refused.unwrap_err());
    assert!(
        refused.contains("401") && !refused.contains("wr0ng"),
        "{refused}"
    );
    let docker = serde_json::json!({"auths": {&host: {"auth": LOGIN}}}).to_string();
    for value in ["ada:s3cret?>~\n", &docker] {
        let login = login(value);
        let found = resolve(&way, (&named, "web.tar.gz"), login.as_ref()).await;
        let found = found.unwrap();
        let wanted = (found.digest, file.len() as u64);
        let from = (&found.home, login.as_ref());
        let brought = download::bring(&way, from, store.path(), wanted, &|_| {}).await;
        brought.unwrap();
        let path = store.path().join(found.digest.hex());
        assert_eq!(std::fs::read(&path).unwrap(), file);
        std::fs::remove_file(path).unwrap();
    }
}

#[tokio::test]
async fn the_length_of_a_file_is_asked_for_with_one_byte() {
    if !can_run("the_length_of_a_file_is_asked_for_with_one_byte") {
        return;
    }
    let web = Server::web();
    let content = content(4 * MIB);
    let digest = Digest::of(&content);
    let url = format!("{}#sha256={}", web.put("a.tar", &content), digest.hex());
    let found = resolve(&strict(), (&url.parse().unwrap(), "a.tar"), None)
        .await
        .unwrap();
    assert_eq!((found.digest, found.size), (digest, content.len() as u64));
    assert!(web.take_bytes() < HEADERS);
    let known = format!("{url}&size=12").parse().unwrap();
    web.fail(Fault::Broken);
    assert_eq!(
        resolve(&strict(), (&known, "a.tar"), None)
            .await
            .unwrap()
            .size,
        12
    );
}

/// A file system of 1 MiB.
struct Small<'p>(&'p Path);

impl<'p> Small<'p> {
    fn mount(place: &'p Path) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1M", "holdfast-test"]);
        let mounted = mount
            .arg(place)
            .status()
            .is_ok_and(|status| status.success());
        mounted.then_some(Self(place))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg(self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}
