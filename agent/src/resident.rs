//! Gives back what is resident of the program itself and was needed once: the start, a handshake, a
//! deployment each map pages of it that an agent at rest never looks at again.
//!
//! Those pages are the file's, unchanged, in the kernel's page cache, where they stay; what is given back
//! is this process's hold on them. One that is needed again is mapped again, from memory, in about a
//! microsecond. So this costs little, and what it saves counts where memory is limited or measured for
//! each service. *Guarantee*: no page that was ever written to is touched.

use std::fs;
use std::io;

use rustix::mm::{Advice, madvise};

/// Resident pages of files, in bytes, from which on they are given back.
pub const KEPT_MAX_BYTES: u64 = 5 << 20;

/// Gives back all pages of the program and its libraries, where they are more than
/// [`KEPT_MAX_BYTES`]. Where the kernel does not tell which, they are kept.
pub fn give_back() {
    if let Err(error) = above(KEPT_MAX_BYTES) {
        tracing::debug!(%error, "resident pages of the program are kept");
    }
}

fn above(most_bytes: u64) -> io::Result<()> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let bytes = of_files(&statm).unwrap_or(0) * rustix::param::page_size() as u64;
    if bytes <= most_bytes {
        return Ok(());
    }
    for (start, end) in unwritten(&fs::read_to_string("/proc/self/smaps")?) {
        forget(start, end)?;
    }
    Ok(())
}

#[expect(
    unsafe_code,
    reason = "the kernel cannot know that nothing is lost with these pages"
)]
fn forget(start: usize, end: usize) -> io::Result<()> {
    let address = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: `unwritten` names mappings of files that cannot be written to and hold no page of this
    // process's own, so that what is read there later is what the file holds, as it is now.
    unsafe { madvise(address, end - start, Advice::LinuxDontNeed) }?;
    Ok(())
}

/// Resident pages that are a file's, of a line like proc_pid_statm(5).
fn of_files(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// The mappings of files, of a text like proc_pid_smaps(5), that nobody may write to and nobody has
/// written to. What the loader has relocated and sealed since looks the same but for pages that are no
/// longer the file's.
fn unwritten(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        if let Some(mapping) = mapping(line) {
            current = mapping.is_fixed.then_some(mapping.span);
        } else if let Some(anonymous) = line.strip_prefix("Anonymous:") {
            found.extend(current.take().filter(|_| anonymous.trim() == "0 kB"));
        }
    }
    found
}

struct Mapping {
    span: (usize, usize),
    /// Whether it is a file, and may not be written to.
    is_fixed: bool,
}

/// A line that begins a mapping: `START-END PERMISSIONS OFFSET DEVICE INODE PATH`.
fn mapping(line: &str) -> Option<Mapping> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let hexadecimal = |text| usize::from_str_radix(text, 16).ok();
    let permissions = words.next()?;
    let path = words.nth(3).unwrap_or_default();
    Some(Mapping {
        span: (hexadecimal(start)?, hexadecimal(end)?),
        is_fixed: matches!(permissions, "r-xp" | "r--p") && path.starts_with('/'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
5000-6000 r--p 00000000 fe:00 17 /usr/bin/agent
Rss:                   4 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
6000-9000 r-xp 00001000 fe:00 17 /usr/bin/agent
Anonymous:             0 kB
9000-a000 r--p 00004000 fe:00 17 /usr/bin/agent
Anonymous:             4 kB
a000-b000 rw-p 00005000 fe:00 17 /usr/bin/agent
Anonymous:             0 kB
b000-c000 r--s 00000000 fe:00 18 /run/shared
Anonymous:             0 kB
c000-d000 r--p 00000000 00:00 0
Anonymous:             0 kB
d000-e000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
";

    #[test]
    fn only_what_is_a_file_s_and_was_never_written_is_given_back() {
        assert_eq!(unwritten(SMAPS), [(0x5000, 0x6000), (0x6000, 0x9000)]);
    }

    #[test]
    fn a_program_goes_on_after_it_gave_itself_back() {
        let resident = || {
            let statm = fs::read_to_string("/proc/self/statm").unwrap();
            of_files(&statm).unwrap() * rustix::param::page_size() as u64
        };
        let before = resident();
        above(0).unwrap();
        let after = resident();
        assert!(after < before, "{before} before, {after} after");
    }
}
