//! The kernel's table of processes, read from `/proc`: who lives, and who belongs to a workload.

use std::fs;
use std::io;
use std::sync::OnceLock;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::time::Timestamp;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::process::spec::MARKER;

/// One process for all time: a number is used again, a number with its start time and boot is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Identity {
    /// Process number.
    pub(crate) pid: i32,
    /// Start time in clock ticks since boot: field 22 of proc_pid_stat(5).
    pub(crate) start: u64,
    /// The kernel's id of this boot.
    pub(crate) boot: String,
}

/// What the kernel says of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: i32,
    /// `Z` and `X` are dead and not yet reaped.
    pub(crate) state: u8,
    pub(crate) session: i32,
    pub(crate) start: u64,
}

/// A live process that carries a workload's mark in its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) stat: Stat,
    pub(crate) service: ServiceName,
    pub(crate) body: Digest,
}

impl Identity {
    /// The identity of a process that lives now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        stat(pid).filter(Stat::lives).map(|s| s.identity())
    }

    /// Whether that very process still lives.
    pub(crate) fn lives(&self) -> bool {
        self.boot == boot() && stat(self.pid).is_some_and(|s| s.start == self.start && s.lives())
    }

    pub(crate) const fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.pid)
    }
}

impl Stat {
    pub(crate) const fn lives(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            pid: self.pid,
            start: self.start,
            boot: boot().to_owned(),
        }
    }

    /// When it was started, by the clock of the machine; to a hundredth of a second.
    pub(crate) fn started_at(&self) -> Timestamp {
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        let millis = boot_seconds().saturating_mul(1000);
        Timestamp::from_millis(millis.saturating_add(self.start.saturating_mul(1000) / ticks))
    }
}

/// The mark of one workload: `ID/SERVICE/BODY`.
pub(crate) fn mark(home: &str, service: &ServiceName, body: &Digest) -> String {
    format!("{home}/{service}/{}", body.hex())
}

/// The kernel's id of this boot; empty where it cannot be read, which then equals itself.
pub(crate) fn boot() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let read = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        read.trim().to_owned()
    })
}

/// What the kernel says of a process, if there is one of that number.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// All processes.
pub(crate) fn all() -> io::Result<Vec<Stat>> {
    let pids = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    Ok(pids.filter_map(stat).collect())
}

/// Whether nothing is left of the session that a dead process led; not where nobody can tell.
pub(crate) fn is_session_over(leader: &Identity) -> bool {
    if leader.boot != boot() || stat(leader.pid).is_some_and(|s| s.start != leader.start) {
        return true;
    }
    all().is_ok_and(|all| !all.iter().any(|s| s.session == leader.pid && s.lives()))
}

/// All live processes that carry a mark of the agent directory `home`.
pub(crate) fn marked(home: &str) -> io::Result<Vec<Marked>> {
    marked_among(home, Stat::lives)
}

/// Those of them that lead a session, as each workload does at first. No environment of another process
/// is read.
pub(crate) fn marked_leaders(home: &str) -> io::Result<Vec<Marked>> {
    marked_among(home, |stat| stat.lives() && stat.session == stat.pid)
}

fn marked_among(home: &str, wanted: impl Fn(&Stat) -> bool) -> io::Result<Vec<Marked>> {
    Ok(all()?
        .into_iter()
        .filter(wanted)
        .filter_map(|s| marked_process(s, home))
        .collect())
}

fn marked_process(stat: Stat, home: &str) -> Option<Marked> {
    // A process of another user, or one that ended meanwhile, cannot be read and is not ours.
    let environment = fs::read(format!("/proc/{}/environ", stat.pid)).ok()?;
    let value = environment
        .split(|b| *b == 0)
        .filter_map(|v| std::str::from_utf8(v).ok())
        .find_map(|v| v.strip_prefix(MARKER)?.strip_prefix('='))?;
    let (service, body) = value
        .strip_prefix(home)?
        .strip_prefix('/')?
        .split_once('/')?;
    Some(Marked {
        stat,
        service: ServiceName::parse(service).ok()?,
        body: format!("sha256:{body}").parse().ok()?,
    })
}

/// Fields 3, 6 and 22 of proc_pid_stat(5). The program's name, field 2, may hold anything, so what
/// follows is counted from its last closing bracket.
fn parse_stat(pid: i32, text: &str) -> Option<Stat> {
    let (_, after) = text.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace();
    let state = fields.next()?.bytes().next()?;
    let session = fields.nth(2)?.parse().ok()?;
    let start = fields.nth(15)?.parse().ok()?;
    Some(Stat {
        pid,
        state,
        session,
        start,
    })
}

fn boot_seconds() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|seconds| seconds.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_call_itself_anything() {
        let text = "7 (a) Z 1 2) S 1 7 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 2 3";
        let expected = Stat {
            pid: 7,
            state: b'S',
            session: 9,
            start: 4242,
        };
        assert_eq!(parse_stat(7, text), Some(expected));
        assert_eq!(parse_stat(7, "7 (x"), None);
    }

    #[test]
    fn this_very_process_lives_and_its_number_with_another_start_does_not() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let own = Identity::of(pid).unwrap();
        assert!(own.lives());
        assert!(
            !Identity {
                start: own.start + 1,
                ..own.clone()
            }
            .lives()
        );
        assert!(
            !Identity {
                boot: "another".to_owned(),
                ..own
            }
            .lives()
        );
        let age = crate::clock::now().since(stat(pid).unwrap().started_at());
        assert!(age < std::time::Duration::from_secs(600), "{age:?}");
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let dead = || stat(pid).is_some_and(|s| s.state == b'Z');
        let patience = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            dead()
        });
        assert!(patience, "the child became a zombie");
        assert_eq!(Identity::of(pid), None);
        child.wait().unwrap();
    }
}
