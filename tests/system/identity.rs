//! Promise: who speaks is known from the certificate alone, and nobody gets or does more than that
//! allows. Everything here is tried by hand against the real coordinator, or done to the real agent.
#![expect(
    clippy::too_many_lines,
    reason = "one case after the other is easier to follow than a function for each"
)]

mod client;
mod credential;
mod frames;
mod handshake;
mod interface;
mod isolation;
mod joining;
mod renewal;
mod replay;
mod revocation;
mod secrets;

use std::time::Duration;

use holdfast_protocol::api::event::Event;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::wait::{PATIENCE, wait_for};

/// Waits until the history has an entry of this kind whose message holds `part`.
#[track_caller]
fn recorded(fleet: &Fleet, kind: &str, part: &str) -> Event {
    wait_for(&format!("{kind} is recorded: {part}"), PATIENCE, || {
        let events = fleet.events();
        let found = events
            .iter()
            .find(|event| event.kind == kind && event.message.contains(part));
        found.cloned().ok_or_else(|| {
            let newest = events.iter().rev().take(8);
            let newest = newest.map(|event| format!("\n  {}: {}", event.kind, event.message));
            newest.collect()
        })
    })
}

/// How many entries of a kind the history has.
fn count(fleet: &Fleet, kind: &str) -> usize {
    let events = fleet.events();
    events.iter().filter(|event| event.kind == kind).count()
}

/// Memory of a process that is in use now, and that ever was, in KiB (proc_pid_status(5)).
fn memory_kib(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap()
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// Everybody else must not notice: a target is connected all the time.
fn assert_never_disconnected(fleet: &Fleet, name: &str) {
    assert!(fleet.wait_connected(name, true).connected);
    let lost = fleet.events().into_iter().find(|event| {
        event.kind == "target.disconnected"
            && event.target.as_ref().is_some_and(|t| t.as_str() == name)
    });
    assert!(lost.is_none(), "{name} was disturbed: {lost:?}");
}

/// Two environments that have nothing to do with each other.
const ENVIRONMENTS: &str = "\
apiVersion: holdfast/v1
kind: Environment
metadata: {name: staging, owner: platform}
spec:
  rollout: {waves: [100%], soak: 200ms, progressDeadline: 20s}
---
apiVersion: holdfast/v1
kind: Environment
metadata: {name: production, owner: platform}
spec:
  rollout: {waves: [100%], soak: 200ms, progressDeadline: 20s}
";

/// Longest time from a revocation to the end of a live connection: the promise is one second; the
/// rest is for a busy machine.
const REVOCATION_MAX: Duration = Duration::from_secs(3);
