//! How a status follows the one before it.

use super::*;
use holdfast_protocol::digest::Digest;

fn status(state: State, running_since: Option<u64>) -> Standing {
    Standing::Wanted(Status {
        wanted: Digest::of(b"body"),
        running: None,
        version: None,
        runtime: None,
        state,
        message: String::new(),
        restarts: 0,
        running_since: running_since.map(Timestamp::from_millis),
    })
}

fn next(
    standing: Standing,
    known: Option<&WorkloadStatus>,
    now: u64,
) -> (WorkloadStatus, Option<Transition>) {
    let web = ServiceName::parse("web").unwrap();
    follow(
        web,
        standing,
        known,
        Timestamp::from_millis(now),
        Timestamp::from_millis(1_000),
    )
}

#[test]
fn what_ran_before_the_agent_did_has_not_changed() {
    let (unknown, silent) = next(status(State::Unknown, None), None, 1_000);
    assert_eq!(silent, None);
    let (ready, silent) = next(status(State::Ready, Some(400)), Some(&unknown), 1_100);
    assert_eq!((ready.since.as_millis(), silent), (400, None));
}

#[test]
fn a_change_is_told_with_its_own_time_and_a_repetition_is_not() {
    let (ready, first) = next(status(State::Ready, Some(1_500)), None, 2_000);
    assert_eq!(first.unwrap().at.as_millis(), 2_000);
    let (same, again) = next(status(State::Ready, Some(1_500)), Some(&ready), 3_000);
    assert_eq!((same.since.as_millis(), again), (2_000, None));
    let (gone, told) = next(Standing::Gone, Some(&same), 4_000);
    assert_eq!((gone.state, gone.wanted), (State::Removed, None));
    assert_eq!(told.unwrap().state, State::Removed);
}
