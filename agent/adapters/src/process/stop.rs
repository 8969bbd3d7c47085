//! Ends a workload: asks, waits, kills, and leaves nothing of it behind.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use holdfast_protocol::name::ServiceName;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::clock::monotonic;
use crate::failure::Failure;
use crate::process::record::Record;
use crate::process::spec::{Stop, StopSignal};
use crate::process::table::{self, Stat};

/// How long a killed process may take to be gone: it may sit in the kernel, waiting for a disk.
const KILL_MAX: Duration = Duration::from_secs(10);
/// Longest wait before looking for a cancellation or for processes born meanwhile.
const SLICE: Duration = Duration::from_millis(100);

/// Everything that belongs to one workload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family<'a> {
    /// The id of the agent's directory, in the mark of its processes.
    pub(crate) home: &'a str,
    pub(crate) service: &'a ServiceName,
    /// The process that leads its session, alive or not.
    pub(crate) record: Option<&'a Record>,
    /// Nothing was left of that session when its leader was seen to have ended.
    pub(crate) session_over: bool,
}

/// Asks every process of the workload to end, and kills those that have not when the grace period
/// is over. Blocks; looks at `cancelled` at least every [`SLICE`]. Done when nothing is left.
pub(crate) fn stop(
    family: Family<'_>,
    how: Stop,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let asked = signal(how.signal);
    if wait(family, how.grace, cancelled, &mut Once::new(asked))? {
        return Ok(());
    }
    if wait(family, KILL_MAX, cancelled, &mut Always(Signal::KILL))? {
        return Ok(());
    }
    Err(Failure::Retryable(format!(
        "{} has processes that cannot be killed",
        family.service
    )))
}

impl Family<'_> {
    /// Its live processes: those of its session, and those that carry its mark. A leader whose
    /// number was used again is somebody else, and so is all of that session.
    pub(crate) fn members(self) -> io::Result<Vec<Stat>> {
        let marked = table::marked(self.home)?;
        let mut members: Vec<Stat> = marked
            .into_iter()
            .filter(|m| m.service == *self.service)
            .map(|m| m.stat)
            .collect();
        let current = |r: &&Record| !self.session_over && r.process.boot == table::boot();
        let Some(record) = self.record.filter(current) else {
            return Ok(members);
        };
        let leader = record.process.pid;
        if table::stat(leader).is_some_and(|s| s.start != record.process.start) {
            return Ok(members);
        }
        for stat in table::all()? {
            let born_after = stat.start >= record.process.start;
            let known = members.iter().any(|m| m.pid == stat.pid);
            if stat.session == leader && stat.lives() && born_after && !known {
                members.push(stat);
            }
        }
        Ok(members)
    }
}

/// What members are sent each time they are looked at.
trait Sends {
    fn to(&mut self, stat: &Stat) -> Option<Signal>;
}

/// Each process once.
struct Once(Signal, Vec<Stat>);

/// Each process each time.
struct Always(Signal);

impl Once {
    const fn new(signal: Signal) -> Self {
        Self(signal, Vec::new())
    }
}

impl Sends for Once {
    fn to(&mut self, stat: &Stat) -> Option<Signal> {
        let seen = self
            .1
            .iter()
            .any(|s| s.pid == stat.pid && s.start == stat.start);
        self.1.push(*stat);
        (!seen).then_some(self.0)
    }
}

impl Sends for Always {
    fn to(&mut self, _stat: &Stat) -> Option<Signal> {
        Some(self.0)
    }
}

/// Gives whether all are gone before `span` is over.
fn wait(
    family: Family<'_>,
    span: Duration,
    cancelled: &dyn Fn() -> bool,
    sends: &mut dyn Sends,
) -> Result<bool, Failure> {
    let begun = monotonic();
    loop {
        let members = family.members().map_err(crate::durable::failed(format!(
            "cannot look for {}",
            family.service
        )))?;
        if members.is_empty() {
            return Ok(true);
        }
        if cancelled() {
            return Err(Failure::Cancelled);
        }
        let pidfds: Vec<OwnedFd> = members
            .iter()
            .filter_map(|member| send(member, sends.to(member)))
            .collect();
        let left = span.saturating_sub(monotonic().saturating_sub(begun));
        if left.is_zero() {
            return Ok(false);
        }
        rest(&pidfds, left.min(SLICE));
    }
}

/// Sends through a descriptor that was checked after it was opened, so that no other process of the
/// same number can be hit.
fn send(member: &Stat, signal: Option<Signal>) -> Option<OwnedFd> {
    let pidfd =
        rustix::process::pidfd_open(Pid::from_raw(member.pid)?, PidfdFlags::empty()).ok()?;
    if table::stat(member.pid).is_none_or(|now| now.start != member.start) {
        return None;
    }
    if let Some(signal) = signal {
        let _ = rustix::process::pidfd_send_signal(&pidfd, signal);
        // A stopped process cannot act on what it was sent.
        let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::CONT);
    }
    Some(pidfd)
}

/// Until one of them ends, or `span` is over.
fn rest(pidfds: &[OwnedFd], span: Duration) {
    let mut polled: Vec<PollFd<'_>> = pidfds
        .iter()
        .map(|fd| PollFd::new(fd, PollFlags::IN))
        .collect();
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(span.subsec_nanos()),
    };
    let _ = rustix::event::poll(&mut polled, Some(&timeout));
}

const fn signal(named: StopSignal) -> Signal {
    match named {
        StopSignal::Term => Signal::TERM,
        StopSignal::Int => Signal::INT,
        StopSignal::Quit => Signal::QUIT,
        StopSignal::Hup => Signal::HUP,
        StopSignal::Usr1 => Signal::USR1,
        StopSignal::Usr2 => Signal::USR2,
        StopSignal::Kill => Signal::KILL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_protocol::digest::Digest;
    use holdfast_protocol::time::Timestamp;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};

    /// A process that leads a group of this test's session, and is in no session of its own.
    fn stranger() -> Child {
        let mut command = Command::new("/bin/sleep");
        command.arg("60").process_group(0).spawn().unwrap()
    }

    #[test]
    fn a_session_that_was_over_has_no_members_though_its_number_is_used_again() {
        let mut child = stranger();
        let pid = i32::try_from(child.id()).unwrap();
        let session = table::stat(pid).unwrap().session;
        // As if the leader of the session that the child is in had been a workload of long ago.
        let mut process = table::stat(pid).unwrap().identity();
        process.pid = session;
        process.start = table::stat(session).map_or(0, |leader| leader.start);
        let record = Record {
            process,
            body: Digest::of(b"web"),
            started_at: Timestamp::default(),
        };
        let service = ServiceName::parse("web").unwrap();
        let family = |session_over| Family {
            home: "0000",
            service: &service,
            record: Some(&record),
            session_over,
        };
        let is_member = |session_over| {
            let members = family(session_over).members().unwrap();
            members.iter().any(|member| member.pid == pid)
        };
        let found = (is_member(false), is_member(true));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, (true, false));
    }
}
