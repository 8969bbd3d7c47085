//! The two ends against each other in memory.

use std::collections::{BTreeMap, BTreeSet};

use super::SessionError;
use super::agent::{self, AgentSession};
use super::coordinator::{self, CoordinatorSession};
use crate::assignment::{Generation, Held, SignedAssignment};
use crate::digest::Digest;
use crate::frame;
use crate::message::{Hello, Refusal, ToAgent, ToCoordinator, Welcome};
use crate::observed::{Facts, Hold, Report};
use crate::time::Timestamp;
use crate::version;

const NOW: Timestamp = Timestamp::from_millis(1_000);

fn hello() -> Hello {
    Hello {
        versions: version::SUPPORTED,
        agent_version: "0.1.0".to_owned(),
        held: None,
        time: NOW,
        facts: Facts::default(),
    }
}

struct Pair {
    agent: AgentSession,
    coordinator: CoordinatorSession,
}

impl Pair {
    fn open() -> Self {
        let mut pair = Self {
            agent: AgentSession::new(hello()).unwrap(),
            coordinator: CoordinatorSession::default(),
        };
        pair.drive();
        assert_eq!(
            pair.coordinator.poll_event(),
            Some(coordinator::Event::Hello(hello()))
        );
        pair.coordinator.welcome("0.1.0", NOW).unwrap();
        pair.drive();
        assert!(matches!(
            pair.agent.poll_event(),
            Some(agent::Event::Welcomed(_))
        ));
        pair
    }

    /// Moves every byte, one at a time, until both are silent.
    fn drive(&mut self) {
        loop {
            let up = self.agent.poll_transmit();
            let down = self.coordinator.poll_transmit();
            if up.is_none() && down.is_none() {
                return;
            }
            for byte in up.into_iter().flatten() {
                self.coordinator.handle(&[byte]).unwrap();
            }
            for byte in down.into_iter().flatten() {
                self.agent.handle(&[byte]).unwrap();
            }
        }
    }
}

fn signed(content: &[u8]) -> SignedAssignment {
    SignedAssignment {
        bytes: content.to_vec(),
        signature: vec![0; 64],
    }
}

#[test]
fn only_the_bodies_that_are_lacking_travel() {
    let mut pair = Pair::open();
    let (one, two) = (vec![1u8; 2_000], vec![2u8; 2_000]);
    pair.coordinator.assign(signed(b"first")).unwrap();
    pair.drive();
    assert_eq!(
        pair.agent.poll_event(),
        Some(agent::Event::Offered(signed(b"first")))
    );

    pair.agent
        .want(signed(b"first"), BTreeSet::from([Digest::of(&two)]))
        .unwrap();
    pair.drive();
    let wanted = pair.coordinator.poll_event();
    assert_eq!(
        wanted,
        Some(coordinator::Event::Want(vec![Digest::of(&two)]))
    );

    pair.coordinator.bodies([one, two.clone()]).unwrap();
    pair.drive();
    let bodies = BTreeMap::from([(Digest::of(&two), two)]);
    let complete = agent::Event::Complete {
        signed: signed(b"first"),
        bodies,
    };
    assert_eq!(pair.agent.poll_event(), Some(complete));
}

#[test]
fn a_newer_offer_replaces_one_that_is_being_collected() {
    let mut pair = Pair::open();
    pair.coordinator.assign(signed(b"old")).unwrap();
    pair.drive();
    pair.agent.poll_event();
    pair.agent
        .want(signed(b"old"), BTreeSet::from([Digest::of(b"x")]))
        .unwrap();
    pair.coordinator.assign(signed(b"new")).unwrap();
    pair.drive();
    pair.coordinator.bodies([b"x".to_vec()]).unwrap();
    pair.drive();
    assert_eq!(
        pair.agent.poll_event(),
        Some(agent::Event::Offered(signed(b"new")))
    );
    assert_eq!(pair.agent.poll_event(), None);
}

#[test]
fn bodies_are_split_over_messages_that_fit_a_frame() {
    let mut pair = Pair::open();
    let bodies: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n; 200 * 1024]).collect();
    pair.coordinator.assign(signed(b"big")).unwrap();
    pair.drive();
    pair.agent.poll_event();
    pair.agent
        .want(
            signed(b"big"),
            bodies.iter().map(|b| Digest::of(b)).collect(),
        )
        .unwrap();
    pair.drive();
    pair.coordinator.bodies(bodies).unwrap();
    while let Some(message) = pair.coordinator.poll_transmit() {
        assert!(message.len() < frame::FRAME_MAX_BYTES);
        pair.agent.handle(&message).unwrap();
    }
    assert!(matches!(
        pair.agent.poll_event(),
        Some(agent::Event::Complete { bodies, .. }) if bodies.len() == 20
    ));
}

#[test]
fn nobody_speaks_before_hello() {
    let mut coordinator = CoordinatorSession::default();
    let early = frame::encode(&ToCoordinator::Leave).unwrap();
    let refused = coordinator.handle(&early);
    assert_eq!(
        refused,
        Err(SessionError::Unexpected("message before Hello"))
    );
    assert_eq!(coordinator.poll_event(), None);
}

#[test]
fn a_second_hello_ends_the_session() {
    let mut pair = Pair::open();
    let again = frame::encode(&ToCoordinator::Hello(hello())).unwrap();
    assert_eq!(
        pair.coordinator.handle(&again),
        Err(SessionError::Unexpected("second Hello"))
    );
}

#[test]
fn a_large_frame_before_hello_is_refused() {
    let mut coordinator = CoordinatorSession::default();
    let length = u32::try_from(frame::FIRST_FRAME_MAX_BYTES + 1).unwrap();
    assert!(matches!(
        coordinator.handle(&length.to_be_bytes()),
        Err(SessionError::Frame(frame::FrameError::TooLarge { .. }))
    ));
}

#[test]
fn no_common_version_is_said_so() {
    let stranger = Hello {
        versions: version::Range {
            lowest: 7,
            highest: 9,
        },
        ..hello()
    };
    let bytes = frame::encode(&ToCoordinator::Hello(stranger)).unwrap();
    assert_eq!(
        CoordinatorSession::default().handle(&bytes),
        Err(SessionError::NoCommonVersion {
            lowest: 7,
            highest: 9
        })
    );
}

#[test]
fn a_returning_target_in_an_unchanged_world_costs_under_500_bytes_each_way() {
    let facts = Facts {
        os: "debian".to_owned(),
        os_version: "12".to_owned(),
        kernel: "6.18.0-cloud-amd64".to_owned(),
        arch: "x86_64".to_owned(),
        hostname: "shop-4711.branch.example".to_owned(),
        ..Facts::default()
    };
    let mut agent = AgentSession::new(Hello { facts, ..hello() }).unwrap();
    let up = agent.poll_transmit().unwrap();
    let mut coordinator = CoordinatorSession::default();
    coordinator.handle(&up).unwrap();
    coordinator.welcome("0.1.0", NOW).unwrap();
    let down = coordinator.poll_transmit().unwrap();
    assert!(
        up.len() < 500 && down.len() < 500,
        "{} up, {} down",
        up.len(),
        down.len()
    );
    assert!(coordinator.poll_transmit().is_none());
}

#[test]
fn a_peer_that_takes_nothing_is_given_up() {
    let mut pair = Pair::open();
    let outcome = (0..2_000).try_for_each(|n| pair.coordinator.stored(n));
    assert_eq!(outcome, Err(SessionError::TooSlow));
}

#[test]
fn the_end_is_the_end() {
    let mut pair = Pair::open();
    pair.coordinator.farewell().unwrap();
    pair.drive();
    assert_eq!(pair.agent.poll_event(), Some(agent::Event::Farewell));
    let late = frame::encode(&ToAgent::Stored { sequence: 1 }).unwrap();
    assert!(pair.agent.handle(&late).is_err());
    assert!(pair.coordinator.stored(1).is_err());
}

fn hold() -> Option<Hold> {
    Some(Hold {
        until: NOW,
        reason: "inventory".to_owned(),
    })
}

#[test]
fn a_hold_and_its_end_are_said() {
    let mut pair = Pair::open();
    for wish in [hold(), None] {
        pair.agent.hold(wish.clone()).unwrap();
        pair.drive();
        let heard = pair.coordinator.poll_event();
        assert_eq!(heard, Some(coordinator::Event::Hold(wish)));
    }
}

#[test]
fn a_coordinator_that_knows_no_holds_is_told_of_none() {
    let mut agent = AgentSession::new(hello()).unwrap();
    let welcome = ToAgent::Welcome(Welcome {
        version: version::HOLDS - 1,
        coordinator_version: "0.1.0".to_owned(),
        time: NOW,
    });
    agent.handle(&frame::encode(&welcome).unwrap()).unwrap();
    drop(agent.poll_transmit());
    agent.hold(hold()).unwrap();
    assert_eq!(agent.poll_transmit(), None);
}

/// The newest message that peers of a minor version know, by its place in its enum: up, and down.
fn newest_known(minor: u16) -> (u8, u8) {
    let up = if minor < version::HOLDS { 6 } else { 7 };
    (up, 7)
}

/// Reads frames as a build of an older minor version would: what it does not know ends the conversation.
fn places(frames: &[u8]) -> Vec<u8> {
    let mut rest = frames;
    let mut places = Vec::new();
    while let Some((length, body)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        places.push(body[0]);
        rest = &body[length..];
    }
    places
}

#[test]
fn an_agent_of_each_older_minor_version_works_with_this_coordinator() {
    for highest in version::SUPPORTED.lowest..=version::SUPPORTED.highest {
        let versions = version::Range { lowest: 0, highest };
        let hello = Hello {
            versions,
            ..hello()
        };
        let mut coordinator = CoordinatorSession::default();
        let bytes = frame::encode(&ToCoordinator::Hello(hello.clone())).unwrap();
        coordinator.handle(&bytes).unwrap();
        let heard = coordinator.poll_event();
        assert_eq!(heard, Some(coordinator::Event::Hello(hello)));
        // Everything that a coordinator ever says on the control stream.
        coordinator.welcome("0.2.0", NOW).unwrap();
        coordinator.assign(signed(b"first")).unwrap();
        coordinator.bodies([vec![1]]).unwrap();
        coordinator.stored(1).unwrap();
        coordinator.renewed(Ok(vec![vec![0x30]])).unwrap();
        coordinator.renewed(Err("no".to_owned())).unwrap();
        coordinator.farewell().unwrap();
        let said: Vec<u8> = std::iter::from_fn(|| coordinator.poll_transmit())
            .flatten()
            .collect();
        let mut decoder = frame::Decoder::new(frame::FRAME_MAX_BYTES);
        decoder.feed(&said);
        let first = decoder.next_message::<ToAgent>().unwrap();
        assert!(
            matches!(&first, Some(ToAgent::Welcome(welcome)) if welcome.version == highest),
            "minor {highest}: {first:?}"
        );
        let (_, newest) = newest_known(highest);
        let strange = places(&said).into_iter().find(|place| *place > newest);
        assert_eq!(strange, None, "minor {highest} does not know this message");
    }
}

#[test]
fn this_agent_works_with_a_coordinator_of_each_older_minor_version() {
    for highest in version::SUPPORTED.lowest..=version::SUPPORTED.highest {
        let mut agent = AgentSession::new(hello()).unwrap();
        let mut said = agent.poll_transmit().unwrap();
        let mut decoder = frame::Decoder::new(frame::FRAME_MAX_BYTES);
        decoder.feed(&said);
        let Some(ToCoordinator::Hello(first)) = decoder.next_message().unwrap() else {
            panic!("an agent begins with a hello");
        };
        let older = version::Range { lowest: 0, highest };
        let version = older.common(first.versions).expect("a version in common");
        assert_eq!(version, highest);
        let welcome = ToAgent::Welcome(Welcome {
            version,
            coordinator_version: "0.0.1".to_owned(),
            time: NOW,
        });
        agent.handle(&frame::encode(&welcome).unwrap()).unwrap();
        // Everything that an agent ever says on the control stream.
        agent.hold(hold()).unwrap();
        agent
            .want(signed(b"first"), BTreeSet::from([Digest::of(b"body")]))
            .unwrap();
        let held = Held {
            generation: Generation {
                epoch: 1,
                number: 1,
            },
            digest: Digest::of(b"first"),
        };
        agent.accepted(held).unwrap();
        agent.refuse(held.generation, Refusal::NotForMe).unwrap();
        let report = Report {
            sequence: 1,
            generation: Some(held.generation),
            converged: true,
            complete: true,
            statuses: Vec::new(),
            transitions: Vec::new(),
            conditions: None,
            facts: None,
        };
        agent.report(report).unwrap();
        agent.renew(vec![0x30]).unwrap();
        agent.leave().unwrap();
        said.extend(std::iter::from_fn(|| agent.poll_transmit()).flatten());
        let (newest, _) = newest_known(highest);
        let strange = places(&said).into_iter().find(|place| *place > newest);
        assert_eq!(strange, None, "minor {highest} does not know this message");
    }
}
