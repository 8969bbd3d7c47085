//! Bytes that are no conversation, from a target with a certificate that is right.

use std::time::{Duration, Instant};

use holdfast_protocol::digest::Digest;
use holdfast_protocol::frame;
use holdfast_protocol::message::{Hello, ToAgent, ToCoordinator};
use holdfast_protocol::observed::Report;
use holdfast_protocol::stream::AgentOpens;
use holdfast_protocol::version::{ALPN_CONTROL, Range};
use holdfast_tests::fleet::Fleet;
use holdfast_tests::wait::{PATIENCE, expect, wait_for};

use super::client::{Heard, Link, Net, hello, tls};
use super::credential::{Member, join};
use super::{ENVIRONMENTS, assert_never_disconnected, count, memory_kib};

struct Scene {
    fleet: Fleet,
    net: Net,
    member: Member,
}

/// A real agent that must not notice, and a target by hand.
fn scene() -> Scene {
    let mut fleet = Fleet::start();
    fleet.apply(ENVIRONMENTS);
    fleet.join("production-1", "production", &[]);
    fleet.wait_connected("production-1", true);
    let net = Net::to(fleet.address());
    let member = join(&net, &fleet.token("staging", &[]), "staging-1");
    Scene { fleet, net, member }
}

impl Scene {
    fn dial(&self) -> Link<'_> {
        let credential = self.member.credential();
        let tls = tls(&self.member.roots(), Some(&credential), ALPN_CONTROL);
        self.net.dial(tls).unwrap()
    }

    fn memory(&self) -> (u64, u64) {
        memory_kib(self.fleet.coordinator.pid().unwrap())
    }
}

fn framed(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    [&length.to_be_bytes()[..], content].concat()
}

/// A frame with one byte more inside than the message has.
fn with_trailing_byte(message: &ToCoordinator) -> Vec<u8> {
    let whole = frame::encode(message).unwrap();
    framed(&[&whole[4..], &[0]].concat())
}

#[test]
fn what_is_no_conversation_ends_the_connection_and_nothing_else() {
    let scene = scene();
    let leave = frame::encode(&ToCoordinator::Leave).unwrap();
    let greeting = frame::encode(&ToCoordinator::Hello(hello())).unwrap();
    let want_2_to_40 = {
        // Variant 1 (`Want`), then a length as bincode's varint: 253 and eight bytes.
        let mut content = vec![1, 253];
        content.extend_from_slice(&(1u64 << 40).to_le_bytes());
        framed(&content)
    };
    let strange = Hello {
        versions: Range {
            lowest: 7,
            highest: 9,
        },
        ..hello()
    };
    let strange = frame::encode(&ToCoordinator::Hello(strange)).unwrap();
    let first = framed(&vec![0; 64 * 1024 + 1]);
    let cases: Vec<(&str, bool, Vec<u8>)> = vec![
        ("a message before the hello", false, leave.clone()),
        (
            "a hello with a trailing byte",
            false,
            with_trailing_byte(&ToCoordinator::Hello(hello())),
        ),
        ("a first frame of 64 KiB and one byte", false, first),
        ("a first frame of 4 GiB, announced", false, vec![0xff; 4]),
        ("an empty first frame", false, vec![0; 4]),
        ("no version in common", false, strange),
        ("HTTP", false, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("a second hello", true, greeting),
        ("a frame of 4 GiB, announced", true, vec![0xff; 4]),
        (
            "a frame of 1 MiB and one byte",
            true,
            framed(&vec![0; 1024 * 1024 + 1]),
        ),
        (
            "2 MiB in one frame",
            true,
            framed(&vec![7; 2 * 1024 * 1024]),
        ),
        ("an empty frame", true, vec![0; 4]),
        ("a variant that does not exist", true, framed(&[200])),
        ("garbage", true, framed(&[0xa5; 1000])),
        (
            "a trailing byte",
            true,
            with_trailing_byte(&ToCoordinator::Leave),
        ),
        ("a list of 2^40 digests", true, want_2_to_40),
        (
            "more bodies than there can be",
            true,
            frame::encode(&ToCoordinator::Want(vec![Digest::of(b""); 20_000])).unwrap(),
        ),
    ];
    let (before, _) = scene.memory();
    for (what, introduced, bytes) in &cases {
        let link = scene.dial();
        let mut control = if *introduced {
            link.introduce()
        } else {
            link.open()
        };
        control.say_bytes(bytes);
        let why = link
            .closed(PATIENCE)
            .unwrap_or_else(|| panic!("{what}: still open"));
        assert_eq!(super::client::closing_code(&why), Some(3), "{what}: {why}");
        if !introduced {
            assert!(
                !matches!(control.hear::<ToAgent>(), Heard::Said(_)),
                "{what}"
            );
        }
    }
    let recorded = count(&scene.fleet, "security.refused");
    assert_eq!(recorded, cases.len());
    assert!(
        scene.fleet.target("staging-1").is_ok(),
        "`Leave` with a trailing byte is no leave"
    );
    let (after, most) = scene.memory();
    println!("coordinator: {before} KiB before, {after} KiB after, {most} KiB at most");
    assert!(most < before + 32 * 1024);
    assert_never_disconnected(&scene.fleet, "production-1");
}

#[test]
fn a_frame_that_is_cut_off_is_dropped_with_its_connection() {
    let scene = scene();
    let link = scene.dial();
    let mut control = link.introduce();
    let whole = frame::encode(&ToCoordinator::Leave).unwrap();
    control.say_bytes(&whole[..whole.len() - 1]);
    control.finish();
    assert!(link.closed(PATIENCE).is_some());
    assert!(
        scene.fleet.target("staging-1").is_ok(),
        "half a message does nothing"
    );
}

#[test]
fn a_target_that_hangs_up_right_after_its_hello_is_not_connected() {
    let scene = scene();
    for _ in 0..20 {
        let link = scene.dial();
        let mut control = link.open();
        control.say(&ToCoordinator::Hello(hello()));
        link.connection.close(0u32.into(), b"");
        drop(control);
    }
    let settled = || {
        let connected = count(&scene.fleet, "target.connected");
        let disconnected = count(&scene.fleet, "target.disconnected");
        let target = scene.fleet.target("staging-1").unwrap();
        expect(!target.connected, (connected, disconnected, &target))
    };
    wait_for("it is not connected", PATIENCE, settled);
    // Nor does it come back by itself.
    holdfast_tests::wait::holds_for("it stays away", Duration::from_secs(1), settled);
}

#[test]
fn what_comes_together_with_the_hello_is_answered() {
    let scene = scene();
    let link = scene.dial();
    let mut control = link.open();
    let renew = ToCoordinator::Renew {
        request: b"no request at all".to_vec(),
    };
    let hello = ToCoordinator::Hello(hello());
    let together = [hello, renew]
        .map(|message| frame::encode(&message).unwrap())
        .concat();
    control.say_bytes(&together);
    control.hear_until(|message| match message {
        ToAgent::RenewalRefused { .. } => Some(()),
        _ => None,
    });
}

#[test]
fn many_streams_are_not_opened_and_ten_thousand_one_after_the_other_cost_nothing() {
    let scene = scene();
    let link = scene.dial();
    let _control = link.introduce();
    let (before, _) = scene.memory();
    let opened = scene.net.block(async {
        let mut held = Vec::new();
        while let Ok(opened) =
            tokio::time::timeout(Duration::from_millis(500), link.connection.open_bi()).await
        {
            let (mut send, receive) = opened.unwrap();
            send.write_all(&[0, 0]).await.unwrap();
            held.push((send, receive));
            assert!(held.len() <= 100, "there is no bound");
        }
        held.len()
    });
    assert!(opened < 10, "{opened} streams beside the control stream");
    scene.net.block(async {
        for _ in 0..10_000 {
            // Each is empty: nothing is asked, so nothing is refused.
            let (mut send, mut receive) = link.connection.open_bi().await.unwrap();
            send.finish().unwrap();
            let _ = receive.read_to_end(16).await;
        }
    });
    let (after, most) = scene.memory();
    println!(
        "coordinator: {before} KiB before, {after} KiB after 10,000 streams, {most} KiB at most"
    );
    assert!(most < before + 32 * 1024);
    assert!(link.closed(Duration::ZERO).is_none());
    assert_never_disconnected(&scene.fleet, "production-1");
}

#[test]
fn a_target_that_talks_without_end_is_read_no_faster_than_it_may_talk() {
    let scene = scene();
    let link = scene.dial();
    let mut control = link.introduce();
    let report = |sequence| {
        frame::encode(&ToCoordinator::Report(Report {
            sequence,
            generation: None,
            converged: false,
            complete: false,
            statuses: Vec::new(),
            transitions: Vec::new(),
            conditions: None,
            facts: None,
        }))
        .unwrap()
    };
    let began = Instant::now();
    let flood: Vec<u8> = (1..=5_000).flat_map(report).collect();
    control.say_bytes(&flood);
    let mut stored = 0;
    while began.elapsed() < Duration::from_secs(3) {
        if let Heard::Said(ToAgent::Stored { sequence }) =
            control.hear_within(Duration::from_millis(200))
        {
            stored = sequence;
        }
    }
    println!("{stored} of 5000 messages were taken in 3 s");
    assert!((200..400).contains(&stored), "{stored}");
    // Meanwhile others are served at once.
    let asked = Instant::now();
    let other = join(&scene.net, &scene.fleet.token("staging", &[]), "staging-2");
    println!("another one joined in {:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(2));
    drop(other);
    assert_never_disconnected(&scene.fleet, "production-1");
}

/// A service whose body is large, for one who asks and does not read.
const LARGE: &str = "\
apiVersion: holdfast/v1
kind: Service
metadata: {name: large, owner: team-large}
spec:
  artifacts: {blob: {file: blob.bin}}
  runtime: process
  template: {command: [\"/bin/sleep\", \"100000\", \"{{ artifacts.blob.path }}\"]}
";

#[test]
fn those_who_ask_and_do_not_read_cost_little_and_disturb_nobody() {
    let scene = scene();
    let blob: Vec<u8> = (0..48 * 1024 * 1024u32)
        .map(|n| n.to_le_bytes()[1])
        .collect();
    scene.fleet.apply(&[ENVIRONMENTS, LARGE].join("---\n"));
    let digest = scene.fleet.release("large", "1.0.0", &[("blob", &blob)]);
    let digest = digest.artifacts.values().next().unwrap().digest;
    let link = scene.dial();
    let mut control = link.introduce();
    control.hear_until(|message| match message {
        ToAgent::Assign(signed) => {
            let assignment = signed.open_unverified().unwrap();
            (!assignment.workloads.is_empty()).then_some(())
        }
        _ => None,
    });
    // The blob went through the coordinator's memory on its way in: that is not counted.
    let (before, _) = scene.memory();
    let streams: Vec<_> = (0..7)
        .map(|_| {
            let mut stream = link.open();
            stream.say(&AgentOpens::Artifact { digest, offset: 0 });
            stream
        })
        .collect();
    holdfast_tests::wait::holds_for("memory is bounded", Duration::from_secs(2), || {
        let (now, _) = scene.memory();
        expect(now < before + 16 * 1024, (before, now))
    });
    let (after, _) = scene.memory();
    println!("coordinator: {before} KiB before, {after} KiB with 7 artifacts that nobody reads");
    let other = join(&scene.net, &scene.fleet.token("staging", &[]), "staging-2");
    drop((other, streams));
    assert_never_disconnected(&scene.fleet, "production-1");
}
