//! Promise: a home that asks who it is is told a secret, by those who fetch and to its own host alone; a new
//! value is taken by the next fetch and restarts nothing.

use std::path::{Path, PathBuf};

use holdfast_tests::archive::site;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::home::Home;
use holdfast_tests::manifest::ENVIRONMENTS;
use holdfast_tests::wait::{PATIENCE, expect, wait_for};

use crate::access::by;
use crate::homes::{agent, can_run, fleet, laid_down, release, sites, stored, version};
use crate::secrets::files_with;

/// `ada` with the password `s3cret?>~`.
const LOGIN: &str = "YWRhOnMzY3JldD8+fg==";
const HTPASSWD: &str = "ada:$2b$04$h4It96sCxCAzrZXWhFAb3.0UvVQ5oekXP981Wx6aL04m8PZtNSew6\n";

/// The service `shop`, whose one file is fetched with a secret that is for `host`.
fn guarded(host: &str, folder: &Path) -> String {
    let credentials =
        format!("file: site.tar.gz, credentials: {{secret: registry-login, host: '{host}'}}");
    sites(&["shop".to_owned()], folder).replace("file: site.tar.gz", &credentials)
}

fn set(fleet: &Fleet, value: &str) -> String {
    let set = ["secret", "set", "registry-login", "-e", "staging"];
    fleet.operator_given(value.as_bytes(), &set).succeeds()
}

fn pushed(registry: &Home, version: &str) -> String {
    let files = [("site.tar.gz", &site(version)[..])];
    let _ = registry.push(("team/shop", version), &files, Some(LOGIN));
    format!("oci://{}/team/shop:{version}", registry.host())
}

fn deployments(fleet: &Fleet) -> usize {
    fleet.history("shop", "staging").unwrap().len()
}

#[test]
fn a_home_that_asks_who_it_is_is_told_the_secret_that_the_manifest_names_and_nobody_else_hears_it()
{
    if !can_run("a_home_that_asks_who_it_is_is_told_the_secret_that_the_manifest_names") {
        return;
    }
    for (settings, is_relayed) in [("", false), ("[artifacts]\ndirect = false\n", true)] {
        let registry = Home::registry(Some(HTPASSWD));
        let host = registry.host();
        let (fleet, folder) = fleet("", &["other".to_owned()]);
        fleet
            .try_apply("guarded", &guarded(&host, &folder))
            .unwrap();
        let agent = agent(&fleet, settings);
        let pushed = registry.push(
            ("team/shop", "1"),
            &[("site.tar.gz", &site("1"))],
            Some(LOGIN),
        );
        let named = format!("oci://{host}/team/shop:1");
        let unset = release(&fleet, "shop", "1", &named).unwrap_err();
        assert!(
            unset.contains("holdfast secret set registry-login -e staging"),
            "{unset}"
        );
        let set = |value: &str| set(&fleet, value);
        set("ada:canary-wr0ng");
        let wrong = release(&fleet, "shop", "1", &named).unwrap_err();
        assert!(wrong.contains("401") && !wrong.contains("wr0ng"), "{wrong}");
        set("ada:s3cret?>~\n");
        release(&fleet, "shop", "1", &named).unwrap();
        laid_down(&folder, "shop", "1");
        fleet.wait_stable("shop", "staging", "1");
        let relay = stored(&fleet.coordinator_data().join("relay"));
        assert_eq!(relay.len(), usize::from(is_relayed), "{relay:?}");
        // Who does not fetch himself is not given the value.
        let sealed = stored(&fleet.directory().join("staging-1/secrets"));
        assert_eq!(sealed.is_empty(), is_relayed, "{sealed:?}");

        // A service that names no secret has no way in with that of another one.
        let pinned = format!("oci://{host}/team/shop@{pushed}");
        let other = release(&fleet, "other", "1", &pinned).unwrap_err();
        assert!(other.contains("401"), "{other}");

        // What is wrong with a value is said, without any of it; what runs goes on.
        let _ = registry.push(
            ("team/shop", "2"),
            &[("site.tar.gz", &site("2"))],
            Some(LOGIN),
        );
        set("canary-form");
        let named = format!("oci://{host}/team/shop:2");
        let odd = release(&fleet, "shop", "2", &named).unwrap_err();
        assert!(
            odd.contains("neither USER:PASSWORD") && !odd.contains("canary"),
            "{odd}"
        );
        assert_eq!(version(&folder, "shop").trim(), "1");
        let docker = format!("{{\"auths\": {{\"{host}\": {{\"auth\": \"{LOGIN}\"}}}}}}");
        set(&docker);
        release(&fleet, "shop", "2", &named).unwrap();
        laid_down(&folder, "shop", "2");
        fleet.wait_stable("shop", "staging", "2");

        let mut found = Vec::new();
        let values = ["s3cret?>~", LOGIN, "canary-wr0ng", "canary-form"];
        files_with(fleet.directory(), &values, &mut found);
        assert_eq!(found, Vec::<PathBuf>::new());
        for asked in ["events", "history", "status"] {
            let said = format!("{:?}", fleet.operator(&[asked, "-o", "json"]));
            assert!(values.iter().all(|value| !said.contains(value)), "{said}");
        }
        drop(agent);
    }
}

#[test]
fn a_new_value_of_a_login_restarts_nothing_and_the_next_fetch_has_it() {
    if !can_run("a_new_value_of_a_login_restarts_nothing_and_the_next_fetch_has_it") {
        return;
    }
    let registry = Home::registry(Some(HTPASSWD));
    let (fleet, folder) = fleet("", &["other".to_owned()]);
    let patient = ENVIRONMENTS.replace("progressDeadline: 20s", "progressDeadline: 300s");
    fleet.try_apply("platform", &patient).unwrap();
    let manifest = guarded(&registry.host(), &folder);
    fleet.try_apply("guarded", &manifest).unwrap();
    set(&fleet, "ada:s3cret?>~");
    let agent = agent(&fleet, "");
    release(&fleet, "shop", "1", &pushed(&registry, "1")).unwrap();
    laid_down(&folder, "shop", "1");
    fleet.wait_stable("shop", "staging", "1");

    // What was made with the old value is away while the new one, a wrong one, is set.
    release(&fleet, "shop", "2", &pushed(&registry, "2")).unwrap();
    laid_down(&folder, "shop", "2");
    fleet.wait_stable("shop", "staging", "2");
    let before = deployments(&fleet);
    agent.kill9();
    release(&fleet, "shop", "3", &pushed(&registry, "3")).unwrap();
    set(&fleet, "ada:canary-wr0ng");
    agent.start();
    wait_for("the target says that it is refused", PATIENCE, || {
        let said = format!("{:?}", fleet.operator(&["why", "shop", "-e", "staging"]));
        expect(said.contains("401") && !said.contains("canary"), &said)
    });
    assert_eq!(version(&folder, "shop").trim(), "2");
    set(&fleet, "ada:s3cret?>~");
    laid_down(&folder, "shop", "3");
    fleet.wait_stable("shop", "staging", "3");
    assert_eq!(deployments(&fleet), before + 1);

    // Once more, with nothing to fetch; what is deployed after it shows that it was taken in.
    set(&fleet, "ada:canary-next");
    set(&fleet, "ada:s3cret?>~");
    let other = fleet.write("other.tar.gz", "");
    std::fs::write(&other, site("1")).unwrap();
    let artifact = format!("site={other}");
    let words = ["release", "create", "other", "--version", "1", "--file"];
    let words = [&words[..], &[artifact.as_str()]].concat();
    drop(fleet.operator(&words).succeeds());
    fleet.wait_stable("other", "staging", "1");
    assert_eq!(deployments(&fleet), before + 1);
    drop(agent);
}

#[test]
fn who_writes_manifests_and_makes_releases_cannot_have_a_secret_sent_where_he_likes() {
    let test = "who_writes_manifests_and_makes_releases_cannot_have_a_secret_sent_where_he_likes";
    if !can_run(test) {
        return;
    }
    let registry = Home::registry(Some(HTPASSWD));
    let (fleet, folder) = fleet("", &["other".to_owned()]);
    let manifest = guarded(&registry.host(), &folder);
    fleet.try_apply("guarded", &manifest).unwrap();
    set(&fleet, "ada:s3cret?>~");
    let role = "role create shipper --permission read --permission release --service shop";
    let words = |line: &str| -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        fleet.operator(&words).succeeds()
    };
    words(role);
    let token = words("user create ci --role shipper").trim().to_owned();
    let shipped = |version: &str| {
        let home = pushed(&registry, version);
        let line = format!("release create shop --version {version} --artifact site={home}");
        by(&fleet, &token, &line)
    };
    // Nothing was let through that is fetched so: the manifest's word alone does not count.
    let refused = shipped("1");
    assert!(
        refused.code != Some(0) && refused.stderr.contains("docker login"),
        "{refused:?}"
    );
    // A value that says itself whom it is for was set by somebody who may.
    let docker = format!(
        "{{\"auths\": {{\"{}\": {{\"auth\": \"{LOGIN}\"}}}}}}",
        registry.host()
    );
    set(&fleet, &docker);
    let _ = shipped("1").succeeds();
    let agent = agent(&fleet, "");
    laid_down(&folder, "shop", "1");
    fleet.wait_stable("shop", "staging", "1");
    // Now a deployment was let through with this host.
    set(&fleet, "ada:s3cret?>~");
    let _ = shipped("2").succeeds();
    fleet.wait_stable("shop", "staging", "2");
    // Another host in the manifest is as unknown as the first one was, as long as nothing is let through.
    words("pause shop -e staging");
    let moved = Home::registry(Some(HTPASSWD));
    let elsewhere = guarded(&moved.host(), &folder);
    fleet.try_apply("guarded", &elsewhere).unwrap();
    let home = pushed(&moved, "3");
    let line = format!("release create shop --version 3 --artifact site={home}");
    let refused = by(&fleet, &token, &line);
    assert!(
        refused.code != Some(0) && refused.stderr.contains("docker login"),
        "{refused:?}"
    );
    drop(agent);
}
