//! A minimal Debian file tree with systemd, made once by mmdebstrap from the packages that this
//! machine's own apt is configured for, and kept below the target directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::FlockOperation;

/// Packages beyond the essential ones. They name the cached tree: another list is another tree.
const PACKAGES: [&str; 3] = ["systemd", "systemd-sysv", "dbus"];

/// The tree's directory, below `cache`. Never written to: hosts lay an overlay over it.
pub(crate) fn debian(cache: &Path) -> PathBuf {
    let (mirror, suite) = mirror_and_suite();
    let tree = cache.join(format!("{suite}-{}", PACKAGES.join("-")));
    fs::create_dir_all(cache).unwrap();
    // Tests run side by side, in several processes at times; one of them makes the tree.
    let lock = File::create(cache.join("lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    if !tree.exists() {
        let unfinished = tree.with_extension("new");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).unwrap();
        }
        let output = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase"])
            .arg(format!("--include={}", PACKAGES.join(",")))
            .args([&suite, unfinished.to_str().unwrap(), &mirror])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::rename(&unfinished, &tree).unwrap();
    }
    tree
}

/// Where this machine takes the packages of its own release from.
fn mirror_and_suite() -> (String, String) {
    let release = fs::read_to_string("/etc/os-release").unwrap();
    let suite = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .expect("Debian names its release")
        .to_owned();
    let output = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(SITE) $(RELEASE)",
            "Created-By: Packages",
        ])
        .output()
        .unwrap();
    let targets = String::from_utf8(output.stdout).unwrap();
    let mirror = targets
        .lines()
        .find_map(|line| line.strip_suffix(&format!(" {suite}")))
        .expect("apt has a source for its own release");
    (mirror.trim_end_matches('/').to_owned(), suite)
}
