//! A control group (cgroup v2) for one run: what holds every process that it starts, also those that
//! leave its session.
//!
//! *Assumptions:* only the superuser makes groups, and only where the system lets it: where it does not,
//! a run has none, and is ended by its group of processes alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::scratch::{PREFIX, lives, maker};

/// Looks at whether a group that was ended is empty, before it is left to the next sweep.
const LOOKS_MAX: u32 = 20;
/// Time between two such looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// One run's control group, ended and removed with it.
#[derive(Debug)]
pub(crate) struct Group(PathBuf);

impl Group {
    /// Makes one with this process in it, which waits for its order; none where that cannot be.
    pub(crate) fn around(process: u32) -> Option<Self> {
        let unique: u64 = rand::random();
        let name = format!("{PREFIX}{}-{unique:016x}", std::process::id());
        let group = Self(own()?.join(name));
        fs::create_dir(&group.0).ok()?;
        // Without this file, a group could not be ended at once.
        let able = group.0.join("cgroup.kill").exists();
        let joins = || fs::write(group.0.join("cgroup.procs"), process.to_string());
        (able && joins().is_ok()).then_some(group)
    }

    /// Ends everything in it.
    pub(crate) fn kill(&self) {
        drop(fs::write(self.0.join("cgroup.kill"), "1"));
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        drop(remove(&self.0));
    }
}

/// Ends and removes the groups of processes that are gone.
pub(crate) fn sweep() {
    let Some(entries) = own().and_then(|own| fs::read_dir(own).ok()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name
            .to_str()
            .and_then(maker)
            .is_some_and(|maker| !lives(maker))
        {
            drop(Group(entry.path()));
        }
    }
}

/// Processes that were killed are in it until they are gone.
fn remove(group: &Path) -> io::Result<()> {
    for _ in 1..LOOKS_MAX {
        if fs::remove_dir(group).is_ok() {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    fs::remove_dir(group)
}

/// The directory of the group that this process is in.
fn own() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    place(&groups, &mounts)
}

/// cgroups(7), proc(5): `0::/path` below where the whole hierarchy of version 2 is mounted.
fn place(groups: &str, mounts: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mount = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, mount) = (fields.next()?, fields.next()?);
        (after.starts_with("cgroup2 ") && root == "/").then_some(mount)
    })?;
    Some(Path::new(mount).join(path))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    #[test]
    fn who_leaves_the_session_ends_with_the_group() {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "read go; setsid sleep 1000 & echo $!; wait"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let group = Group::around(shell.id());
        drop(shell.stdin.take());
        let mut word = String::new();
        let mut output = BufReader::new(shell.stdout.take().unwrap());
        output.read_line(&mut word).unwrap();
        let Some(group) = group else {
            // Nobody here may make groups: it has to be ended by hand.
            let escaped = word.trim().parse().ok().and_then(Pid::from_raw).unwrap();
            kill_process(escaped, Signal::KILL).unwrap();
            shell.wait().unwrap();
            return;
        };
        let path = group.0.clone();
        drop(group);
        // The end of the output is the end of everybody who could write to it.
        assert_eq!(output.read_line(&mut word).unwrap(), 0);
        assert_eq!(shell.wait().unwrap().signal(), Some(9));
        assert!(!path.exists());
    }

    #[test]
    fn the_group_of_this_process_is_found_on_systems_of_both_kinds() {
        let mounts = "24 1 0:22 / /proc rw - proc proc rw\n\
                      30 24 0:26 /docker /mnt/part rw - cgroup2 cgroup2 rw\n\
                      31 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "5:pids:/x\n0::/system.slice/holdfast-agent.service\n";
        let expected = "/sys/fs/cgroup/system.slice/holdfast-agent.service";
        assert_eq!(place(own, mounts), Some(expected.into()));
        assert_eq!(place("1:cpu:/\n", mounts), None);
        assert_eq!(
            place(own, "31 24 0:26 / /x rw - cgroup cgroup rw,cpu\n"),
            None
        );
    }
}
