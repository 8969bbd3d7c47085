//! A small disk in memory that tests fill and give room again. Only root may mount one.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small disk of its own, mounted while this lives.
#[derive(Debug)]
pub struct Disk(PathBuf);

/// What takes the room.
const FILLER: &str = "filler";

impl Disk {
    /// A disk of `size`, as `mount` reads it (`512k`, `8m`), over the directory `at`. Nothing where this
    /// machine does not allow it.
    #[must_use]
    pub fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=711");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "holdfast-test"]);
        let mounted = mount.arg(at).output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        mounted.then(|| Self(at.to_owned()))
    }

    /// Has `size` from now on.
    pub fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-o", &options]).arg(&self.0).status();
        assert!(mounted.is_ok_and(|status| status.success()));
    }

    /// Takes every byte that is left.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.0.join(FILLER)).unwrap();
        for size in [64 * 1024, 512, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Gives back what [`Self::fill`] took.
    pub fn free(&self) {
        fs::remove_file(self.0.join(FILLER)).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Programs that still have files there keep it alive; it is gone for everybody else.
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}
