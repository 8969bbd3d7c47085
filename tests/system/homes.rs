//! Promise: what is deployed may stay where it was built. Files in a registry and on a web server reach
//! targets by their digest; a target that cannot go there is brought them by the coordinator; what
//! nobody needs goes, on either side.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_protocol::api::event::Event;
use holdfast_protocol::api::release::Release;
use holdfast_protocol::digest::Digest;
use holdfast_tests::archive::{site, tar_gz};
use holdfast_tests::disk::Disk;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::home::{Fault, Home, lacking};
use holdfast_tests::manifest::ENVIRONMENTS;
use holdfast_tests::program::{Program, built};
use holdfast_tests::skip::skip;
use holdfast_tests::wait::{PATIENCE, expect, holds_for, wait_for};

/// Most bytes of one answer's headers.
const HEADERS: u64 = 2_000;

pub(crate) fn can_run(test: &str) -> bool {
    if let Some(program) = lacking() {
        skip(test, &format!("{program} is not installed"));
    }
    lacking().is_none()
}

/// Sites of one artifact, `names` of them, each laid down in a folder of its own.
pub(crate) fn sites(names: &[String], folder: &Path) -> String {
    let one = |name: &String| {
        format!(
            "apiVersion: holdfast/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  runtime: static\n  \
             artifacts: {{site: {{file: site.tar.gz}}}}\n  template: {{path: {}/{name}}}\n  \
             environments: {{production: {{enabled: false}}}}\n",
            folder.display()
        )
    };
    names.iter().map(one).collect::<Vec<_>>().join("---\n")
}

pub(crate) fn fleet(settings: &str, names: &[String]) -> (Fleet, PathBuf) {
    let fleet = Fleet::start_with(settings);
    let folder = fleet.directory().join("srv");
    fs::create_dir(&folder).unwrap();
    fleet.try_apply("platform", ENVIRONMENTS).unwrap();
    fleet.try_apply("sites", &sites(names, &folder)).unwrap();
    (fleet, folder)
}

pub(crate) fn agent(fleet: &Fleet, settings: &str) -> Program {
    let config = fleet.write("agent.toml", settings);
    let (data, token) = (
        fleet.directory().join("staging-1"),
        fleet.token("staging", &[]),
    );
    let data = data.to_str().unwrap();
    let words = [
        "run",
        "--config",
        &config,
        "--coordinator",
        fleet.address(),
        "--token",
        &token,
    ];
    let words = words
        .into_iter()
        .chain(["--name", "staging-1", "--data", data]);
    let quick = [("HOLDFAST_RECONNECT_MAX", "500ms")];
    let agent = Program::new(
        "staging-1",
        built("holdfast-agent"),
        words,
        &quick,
        fleet.directory(),
    );
    agent.start();
    agent
}

/// Makes a release by the operator's own command; what it says where that fails.
pub(crate) fn release(
    fleet: &Fleet,
    service: &str,
    version: &str,
    home: &str,
) -> Result<(), String> {
    let artifact = format!("site={home}");
    let words = ["release", "create", service, "--version", version];
    let said = fleet.operator(&[&words[..], &["--artifact", &artifact]].concat());
    match said.code {
        Some(0) => Ok(()),
        _ => Err(said.stderr),
    }
}

pub(crate) fn version(folder: &Path, service: &str) -> String {
    fs::read_to_string(folder.join(service).join("VERSION")).unwrap_or_default()
}

pub(crate) fn laid_down(folder: &Path, service: &str, wanted: &str) {
    wait_for(&format!("{wanted} of {service} is there"), PATIENCE, || {
        let found = version(folder, service);
        expect(found.trim() == wanted, &found)
    });
}

fn web_url(web: &Home, name: &str, content: &[u8]) -> String {
    let digest = Digest::of(content).hex();
    format!("{}#sha256={digest}", web.put(name, content))
}

/// Four times `count` bytes that cannot be compressed.
fn noise(count: u32) -> Vec<u8> {
    (0..count)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

/// The files of a store, whole and on their way.
pub(crate) fn stored(store: &Path) -> Vec<String> {
    let entries = fs::read_dir(store).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_file_stays_in_its_registry_and_reaches_a_target_also_while_the_coordinator_is_away() {
    let test = "a_file_stays_in_its_registry_and_reaches_a_target";
    if !can_run(test) {
        return;
    }
    let (registry, web) = (Home::registry(None), Home::web());
    let names = ["shop".to_owned()];
    let (fleet, folder) = fleet("", &names);
    let agent = agent(&fleet, "");
    let manifest = registry.push(("team/shop", "1"), &[("site.tar.gz", &site("1"))], None);
    let home = format!("oci://{}/team/shop", registry.host());
    release(&fleet, "shop", "1", &format!("{home}:1")).unwrap();
    laid_down(&folder, "shop", "1");
    let releases: Vec<Release> = fleet.api.list("/v1/releases").unwrap();
    let found = &releases[0].artifacts["site"];
    assert_eq!(
        found.reference,
        format!("{home}@{manifest}"),
        "a tag is resolved once"
    );
    assert_eq!(found.digest, Digest::of(&site("1")));
    let here = fleet.coordinator_data();
    assert_eq!(
        stored(&here.join("artifacts")),
        [""; 0],
        "nothing was uploaded"
    );
    assert_eq!(stored(&here.join("relay")), [""; 0], "nothing was relayed");

    // The tag moves: the release does not, and saying the same again is a conflict.
    let _ = registry.push(("team/shop", "1"), &[("site.tar.gz", &site("other"))], None);
    let moved = release(&fleet, "shop", "1", &format!("{home}:1")).unwrap_err();
    assert!(moved.contains("other artifacts"), "{moved}");
    release(&fleet, "shop", "1", &format!("{home}@{manifest}")).unwrap();

    // What the assignment names is fetched without the coordinator.
    let url = web_url(&web, "two.tar.gz", &site("2"));
    web.fail(Fault::Broken);
    let broken = release(&fleet, "shop", "2", &url).unwrap_err();
    assert!(broken.contains("500"), "{broken}");
    let size = site("2").len();
    release(&fleet, "shop", "2", &format!("{url}&size={size}")).unwrap();
    wait_for("the target has tried", PATIENCE, || {
        expect(agent.log().contains("not fetched"), "not yet")
    });
    assert_eq!(
        version(&folder, "shop").trim(),
        "1",
        "the old release stays"
    );
    fleet.coordinator.kill9();
    web.fail(Fault::None);
    laid_down(&folder, "shop", "2");
    fleet.start_coordinator();
    fleet.wait_stable("shop", "staging", "2");
}

#[test]
fn twenty_workloads_that_share_a_file_fetch_it_once() {
    if !can_run("twenty_workloads_that_share_a_file_fetch_it_once") {
        return;
    }
    let web = Home::web();
    let names: Vec<String> = (1..=20).map(|n| format!("site-{n}")).collect();
    let (fleet, folder) = fleet("", &names);
    let content = tar_gz(&[
        ("VERSION", 0o644, b"1\n"),
        ("noise", 0o644, &noise(300_000)),
    ]);
    let url = web_url(&web, "site.tar.gz", &content);
    for name in &names {
        release(&fleet, name, "1", &url).unwrap();
    }
    let _ = web.take_bytes();
    let agent = agent(&fleet, "");
    for name in &names {
        laid_down(&folder, name, "1");
    }
    let (bytes, size) = (web.take_bytes(), content.len() as u64);
    assert!(
        (size..size + HEADERS).contains(&bytes),
        "{bytes} bytes came for {size}\n{}",
        agent.last_words()
    );
    let store = fleet.directory().join("staging-1/artifacts");
    assert_eq!(stored(&store), [Digest::of(&content).hex()]);
}

#[test]
fn several_files_are_fetched_at_once_and_never_more_than_a_target_may() {
    const PARALLEL: usize = 3;
    if !can_run("several_files_are_fetched_at_once_and_never_more_than_a_target_may") {
        return;
    }
    let web = Home::web();
    let names: Vec<String> = (1..=9).map(|n| format!("site-{n}")).collect();
    let (fleet, folder) = fleet("", &names);
    let mut size = 0;
    for name in &names {
        let content = tar_gz(&[
            ("VERSION", 0o644, format!("{name}\n").as_bytes()),
            ("noise", 0o644, &noise(100_000)),
        ]);
        size += content.len() as u64;
        let url = web_url(&web, &format!("{name}.tar.gz"), &content);
        release(&fleet, name, "1", &url).unwrap();
    }
    // None comes to its end, so that those that may be under way together are.
    web.fail(Fault::StallAfter(100_000));
    let _ = (web.take_most_open(), web.take_bytes());
    let agent = agent(&fleet, &format!("[artifacts]\nparallel = {PARALLEL}\n"));
    wait_for("as many as may be are fetched", PATIENCE, || {
        let open = web.take_most_open();
        expect(open >= PARALLEL, open)
    });
    holds_for("it fetches no more", Duration::from_secs(3), || {
        let open = web.take_most_open();
        expect(open <= PARALLEL, open)
    });
    web.fail(Fault::None);
    for name in &names {
        laid_down(&folder, name, name);
    }
    // What was on its way when the first of them were cut may have come for nothing.
    let (bytes, lost) = (web.take_bytes(), PARALLEL as u64 * 100_000);
    let headers = HEADERS * names.len() as u64 * 2;
    assert!(
        (size..size + lost + headers).contains(&bytes),
        "{bytes} bytes came for {size}\n{}",
        agent.last_words()
    );
}

#[test]
fn a_fetch_that_is_cut_with_its_agent_goes_on_where_it_ended() {
    if !can_run("a_fetch_that_is_cut_with_its_agent_goes_on_where_it_ended") {
        return;
    }
    let web = Home::web();
    let (fleet, folder) = fleet("", &["shop".to_owned()]);
    let content = tar_gz(&[
        ("VERSION", 0o644, b"1\n"),
        ("noise", 0o644, &noise(1_000_000)),
    ]);
    let size = content.len() as u64;
    let url = web_url(&web, "shop.tar.gz", &content);
    release(&fleet, "shop", "1", &url).unwrap();
    // The way breaks off, and then stands still; the agent is killed while it waits.
    web.fail(Fault::StallAfter(1_500_000));
    let _ = (web.take_bytes(), web.take_ranges());
    let agent = agent(&fleet, "");
    wait_for("a part of it came", PATIENCE, || {
        let store = fleet.directory().join("staging-1/artifacts");
        let parts = fs::read_dir(store).into_iter().flatten().flatten();
        let length: u64 = parts
            .map(|part| part.metadata().map_or(0, |m| m.len()))
            .sum();
        expect(length > 1_000_000, length)
    });
    agent.kill9();
    let came = web.take_bytes();
    assert!(came <= 1_500_000, "{came}");
    let asked = web.take_ranges();
    assert!(asked.iter().all(|from| *from == 0), "{asked:?}");
    web.fail(Fault::CutAfter(1_000_000));
    agent.start();
    laid_down(&folder, "shop", "1");
    let ranges = web.take_ranges();
    println!("{size} bytes; after {came} of them asked from {ranges:?}");
    assert!(ranges.len() >= 2, "it broke off once more: {ranges:?}");
    assert!(
        ranges.is_sorted() && ranges[0] > 1_000_000,
        "it began again: {ranges:?}"
    );
    // What was on its way when the agent was killed, or the way cut, may have come for nothing.
    let (bytes, lost) = (web.take_bytes(), 512 * 1024 * (ranges.len() as u64 + 1));
    assert!(
        came + bytes <= size + lost,
        "{came} and {bytes} bytes came for {size}"
    );
}

#[test]
fn a_target_that_may_not_go_there_is_brought_the_file_and_a_wrong_one_harms_nothing() {
    if !can_run("a_target_that_may_not_go_there_is_brought_the_file") {
        return;
    }
    let web = Home::web();
    let names = ["shop".to_owned()];
    let (fleet, folder) = fleet("", &names);
    let agent = agent(&fleet, "[artifacts]\ndirect = false\n");
    let url = web_url(&web, "one.tar.gz", &site("1"));
    release(&fleet, "shop", "1", &url).unwrap();
    laid_down(&folder, "shop", "1");
    fleet.wait_stable("shop", "staging", "1");
    let relay = fleet.coordinator_data().join("relay");
    assert_eq!(stored(&relay), [Digest::of(&site("1")).hex()]);

    // What lies there later is something else: it is refused, said, and never laid down.
    let url = web_url(&web, "two.tar.gz", &site("2"));
    let wrong = vec![b'x'; site("2").len()];
    let _ = web.put("two.tar.gz", &wrong);
    release(&fleet, "shop", "2", &url).unwrap();
    wait_for("the wrong content is named", PATIENCE, || {
        let said = agent.log();
        expect(
            said.contains("is not what was asked for"),
            agent.last_words(),
        )
    });
    assert_eq!(version(&folder, "shop").trim(), "1");
    assert_eq!(stored(&relay), [Digest::of(&site("1")).hex()]);
    let _ = web.put("two.tar.gz", &site("2"));
    laid_down(&folder, "shop", "2");
}

#[test]
fn a_disk_too_small_for_a_file_leaves_the_old_release_and_takes_the_file_when_there_is_room() {
    let test = "a_disk_too_small_for_a_file_leaves_the_old_release";
    if !can_run(test) {
        return;
    }
    let web = Home::web();
    let names = ["shop".to_owned(), "other".to_owned()];
    let (fleet, folder) = fleet("", &names);
    let store = fleet.directory().join("staging-1/artifacts");
    let Some(disk) = Disk::mount(&store, "512k") else {
        return skip(test, "this machine lets no file system be mounted");
    };
    let agent = agent(&fleet, "");
    let url = web_url(&web, "one.tar.gz", &site("1"));
    release(&fleet, "shop", "1", &url).unwrap();
    laid_down(&folder, "shop", "1");

    let large = tar_gz(&[
        ("VERSION", 0o644, b"2\n"),
        ("noise", 0o644, &noise(300_000)),
    ]);
    let url = web_url(&web, "two.tar.gz", &large);
    let _ = web.take_bytes();
    release(&fleet, "shop", "2", &url).unwrap();
    wait_for("the lack of space is said", PATIENCE, || {
        let said = agent.log().contains("more bytes are needed");
        expect(said, agent.last_words())
    });
    assert_eq!(version(&folder, "shop").trim(), "1");
    assert!(
        web.take_bytes() < HEADERS * 2,
        "nothing was fetched in vain"
    );
    // What still fits is not held up by it.
    let url = web_url(&web, "other.tar.gz", &site("other"));
    release(&fleet, "other", "1", &url).unwrap();
    laid_down(&folder, "other", "other");
    disk.resize("8m");
    laid_down(&folder, "shop", "2");
}

#[test]
fn uploads_that_no_release_needs_go_and_their_releases_say_so() {
    let names = ["shop".to_owned()];
    let settings = "[artifacts]\nkeep = 1\ngrace = \"1s\"\nevery = \"200ms\"\n";
    let (fleet, folder) = fleet(settings, &names);
    let agent = agent(&fleet, "");
    for n in ["1", "2", "3", "4"] {
        fleet.release("shop", n, &[("site", &site(n))]);
        laid_down(&folder, "shop", n);
        fleet.wait_stable("shop", "staging", n);
    }
    // The newest, and what a rollback would bring back; the target's last assignments let go of the rest.
    let store = fleet.coordinator_data().join("artifacts");
    wait_for("the first upload is removed", PATIENCE, || {
        let left = stored(&store);
        expect(!left.contains(&Digest::of(&site("1")).hex()), &left)
    });
    for kept in ["3", "4"] {
        assert!(
            stored(&store).contains(&Digest::of(&site(kept)).hex()),
            "{kept}"
        );
    }
    let releases: Vec<Release> = fleet.api.list("/v1/releases").unwrap();
    assert!(releases[0].artifacts["site"].gone && !releases[3].artifacts["site"].gone);
    let events: Vec<Event> = fleet.api.list("/v1/events").unwrap();
    let removed = events
        .iter()
        .find(|event| event.kind == "artifacts.removed");
    assert!(
        removed.is_some_and(|e| e.message.contains("of shop")),
        "{removed:?}"
    );
    let deploy = ["deploy", "shop", "-e", "staging", "--version", "1"];
    let refused = fleet.operator(&deploy);
    assert!(
        refused.code != Some(0) && refused.complaint().contains("upload the same file again"),
        "{refused:?}"
    );
    let list = fleet.operator(&["get", "releases"]);
    assert!(list.stdout.contains("gone"), "{list:?}");

    // The same file again makes it whole, for as long as an upload stays in any case.
    let back = ["rollback", "shop", "-e", "staging", "--to", "1"];
    wait_for("the release is deployed again", PATIENCE, || {
        fleet.release("shop", "1", &[("site", &site("1"))]);
        let said = fleet.operator(&back);
        expect(said.code == Some(0), &said)
    });
    laid_down(&folder, "shop", "1");
    drop(agent);
}
