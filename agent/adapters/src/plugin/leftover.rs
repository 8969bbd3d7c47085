//! Processes that a call left behind: known by a variable in their environment, and ended.
//!
//! A process that leaves its group keeps its environment; one that also overwrites that is not found,
//! and goes on with the rights of the plugin's user.

use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The variable by which a call's processes are known.
pub(super) const MARK: &str = "HOLDFAST_CALL";
/// Most looks for processes that were started while others were ended.
const ROUNDS_MAX: usize = 16;

/// Ends every process whose mark begins with `mark`.
pub(super) fn end(mark: &str) {
    let wanted = format!("{MARK}={mark}");
    for _ in 0..ROUNDS_MAX {
        if round(wanted.as_bytes()) == 0 {
            return;
        }
    }
}

/// One look at all processes; how many were told to end.
fn round(wanted: &[u8]) -> usize {
    let Ok(entries) = fs::read_dir("/proc") else {
        return 0;
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| end_one(*number, wanted).is_some())
        .count()
}

fn end_one(number: i32, wanted: &[u8]) -> Option<()> {
    if !is_marked(number, wanted) {
        return None;
    }
    let process = pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()?;
    // The number may have become another's before it was held.
    is_marked(number, wanted).then_some(())?;
    pidfd_send_signal(process, Signal::KILL).ok()
}

fn is_marked(number: i32, wanted: &[u8]) -> bool {
    // Of a process that has ended this is empty.
    let environment = fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
    environment
        .split(|byte| *byte == 0)
        .any(|variable| variable.starts_with(wanted))
}
