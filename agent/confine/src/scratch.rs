//! A temporary directory for one run, gone with it.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::user::User;

/// What every such directory's name begins with; the number of its maker's process follows.
pub(crate) const PREFIX: &str = "holdfast-check-";

/// A directory that nobody else may enter.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one for `owner`; for the caller where there is none.
    pub(crate) fn make(owner: Option<&User>) -> io::Result<Self> {
        let unique: u64 = rand::random();
        let name = format!("{PREFIX}{}-{unique:016x}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // What is there already is not taken, whoever made it.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let made = Self(path);
        if let Some(User { uid, gid, .. }) = owner {
            std::os::unix::fs::lchown(&made.0, Some(*uid), Some(*gid))?;
        }
        Ok(made)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is swept at the next start.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Removes the directories of processes that are gone: what a killed coordinator or agent left.
pub(crate) fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name
            .to_str()
            .and_then(maker)
            .is_some_and(|maker| !lives(maker))
        {
            // Somebody else's stays.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// The number of the process that made what has this name.
pub(crate) fn maker(name: &str) -> Option<u32> {
    let number = name.strip_prefix(PREFIX)?.split('-').next();
    number?.parse().ok()
}

/// Whether there is a process of this number.
pub(crate) fn lives(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}
