//! What programs that tests started leave mounted.

use std::path::Path;
use std::process::{Command, Stdio};

/// Unmounts everything below a directory, which could not be removed otherwise.
pub(crate) fn unmount(below: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut own: Vec<&str> = places
        .filter(|place| Path::new(place).starts_with(below))
        .collect();
    // What lies within another one goes first.
    own.sort_unstable();
    for place in own.iter().rev() {
        let _ = Command::new("umount")
            .args(["-l", place])
            .stderr(Stdio::null())
            .status();
    }
}
