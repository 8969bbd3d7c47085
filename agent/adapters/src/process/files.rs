//! Rendered files in a workload's directory: laid down, compared, repaired.
//!
//! The workload may own its directory and put links into it, so every path is resolved inside it.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::workload::BODY_MAX_BYTES;
use rustix::fs::{Gid, Uid};

use crate::durable;
use crate::process::launch::User;

/// Makes the workload's directory, owned by its user.
pub(crate) fn make_directory(path: &Path, user: Option<&User>) -> io::Result<()> {
    durable::make_directory(path, 0o755)?;
    let owner = user.map(|u| (Uid::from_raw(u.uid), Gid::from_raw(u.gid)));
    if let Some((uid, gid)) = owner {
        rustix::fs::chown(path, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// Makes the files `wanted` be there with their contents, and those of `before` that are no longer
/// wanted be gone. Gives what had to be written or removed.
pub(crate) fn lay(
    directory: &Path,
    wanted: &BTreeMap<String, String>,
    before: &BTreeMap<String, Digest>,
    user: Option<&User>,
) -> io::Result<Vec<String>> {
    let root = Dir::open_ambient_dir(directory, ambient_authority())?;
    let mut changed = Vec::new();
    for path in before.keys().filter(|path| !wanted.contains_key(*path)) {
        match root.remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map(|()| changed.push(path.clone()))?,
        }
    }
    for (path, content) in wanted {
        if digest(&root, path).ok().flatten() != Some(Digest::of(content.as_bytes())) {
            write(&root, path, content.as_bytes(), user)
                .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
            changed.push(path.clone());
        }
    }
    Ok(changed)
}

/// What differs from what was laid down, for people.
pub(crate) fn drift(directory: &Path, placed: &BTreeMap<String, Digest>) -> Option<String> {
    if placed.is_empty() {
        return None;
    }
    let Ok(root) = Dir::open_ambient_dir(directory, ambient_authority()) else {
        return Some("its directory was removed".to_owned());
    };
    placed
        .iter()
        .find_map(|(path, expected)| match digest(&root, path) {
            Ok(Some(found)) if found == *expected => None,
            Ok(Some(_)) => Some(format!("file {path} was changed")),
            Ok(None) => Some(format!("file {path} was removed")),
            Err(error) => Some(format!("file {path} cannot be read: {error}")),
        })
}

/// Digests of contents, by path.
pub(crate) fn digests(files: &BTreeMap<String, String>) -> BTreeMap<String, Digest> {
    files
        .iter()
        .map(|(path, content)| (path.clone(), Digest::of(content.as_bytes())))
        .collect()
}

/// The digest of a file; a file longer than any rendered one has that of its beginning, which
/// differs from all of theirs.
fn digest(root: &Dir, path: &str) -> io::Result<Option<Digest>> {
    let file = match root.open_with(path, OpenOptions::new().read(true).custom_flags(NONBLOCK)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(BODY_MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(Some(Digest::of(&bytes)))
}

/// Opening a pipe that somebody put there must not wait for its other end.
#[expect(clippy::cast_possible_wrap, reason = "flags of open(2) are small")]
pub(crate) const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;

fn write(root: &Dir, path: &str, content: &[u8], user: Option<&User>) -> io::Result<()> {
    let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
    if parent != "." {
        root.create_dir_all(parent)?;
    }
    let fresh = format!("{parent}/.{name}.new");
    let _ = root.remove_file(&fresh);
    let mode = if user.is_some() { 0o640 } else { 0o644 };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let mut file = root.open_with(&fresh, &options)?;
    let exact = std::os::unix::fs::PermissionsExt::from_mode(mode);
    file.set_permissions(cap_std::fs::Permissions::from_std(exact))?;
    if let Some(user) = user {
        rustix::fs::fchown(&file, None, Some(Gid::from_raw(user.gid)))?;
    }
    file.write_all(content)?;
    file.sync_all()?;
    root.rename(&fresh, root, path)
}
