//! The few steps that change what a link leads to, each whole or not at all.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::durable::{self, failed};
use crate::failure::Failure;
use crate::static_files::owner::{Owner, Site};

/// Refuses to touch a link's place when something is there that is not ours. `ours` says that a
/// link there was ours once: somebody who pointed it elsewhere is put right.
pub(crate) fn refuse_foreign(site: &Site, ours: bool) -> Result<(), Failure> {
    let link = site.link.display();
    match fs::symlink_metadata(&site.link) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::Retryable(format!(
            "cannot look at {link}: {error}"
        ))),
        Ok(found) if !found.is_symlink() => Err(Failure::Permanent(format!(
            "{link} is there already and is not a link of Holdfast's; move it away first"
        ))),
        Ok(_) if ours => Ok(()),
        Ok(_) => Err(Failure::Permanent(format!(
            "{link} is a link that Holdfast did not make; move it away first"
        ))),
    }
}

/// Refuses a place for versions that is not ours: all that is not a version is swept from it. A link
/// there could lead anywhere. `marked` says that it has our marker, or had it once.
pub(crate) fn refuse_foreign_versions(site: &Site, marked: bool) -> Result<(), Failure> {
    let versions = site.versions.display();
    let found = match fs::symlink_metadata(&site.versions) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(failed(format!("cannot look at {versions}")))?,
    };
    let is_empty = || {
        let names = durable::names(&site.versions);
        names.map(|names| names.iter().all(|name| name == ".owner.json.new"))
    };
    let ours = found.is_dir()
        && (marked || is_empty().map_err(failed(format!("cannot look at {versions}")))?);
    if ours {
        return Ok(());
    }
    Err(Failure::Permanent(format!(
        "{versions} is there already and is not a directory of Holdfast's; move it away first"
    )))
}

pub(crate) fn make_versions(site: &Site) -> Result<(), Failure> {
    let attempt = format!("cannot make {}", site.versions.display());
    durable::make_directory(&site.versions, 0o755)
        .and_then(|()| fs::set_permissions(&site.versions, fs::Permissions::from_mode(0o755)))
        .map_err(failed(attempt))
}

/// Puts a fresh directory in the place of another one, which may be there.
pub(crate) fn exchange(fresh: &Path, place: &Path) -> io::Result<()> {
    if !place.exists() {
        return fs::rename(fresh, place);
    }
    let root = rustix::fs::CWD;
    rustix::fs::renameat_with(root, fresh, root, place, rustix::fs::RenameFlags::EXCHANGE)?;
    durable::remove_all(fresh)
}

/// Makes the link lead to a version; gives whether it did not before.
pub(crate) fn switch(site: &Site, name: &str) -> Result<bool, Failure> {
    let target = site.target(name);
    if fs::read_link(&site.link).is_ok_and(|now| now == target) {
        return Ok(false);
    }
    let fresh = site.versions.join(".link");
    let attempt = format!("cannot switch {}", site.link.display());
    durable::remove_all(&fresh)
        .and_then(|()| std::os::unix::fs::symlink(&target, &fresh))
        .and_then(|()| fs::rename(&fresh, &site.link))
        .and_then(|()| durable::sync_directory(site.parent()))
        .map_err(failed(attempt))?;
    Ok(true)
}

/// Removes versions that need not stay, and what an interrupted step left.
pub(crate) fn sweep(site: &Site, owner: &Owner) {
    let kept = |name: &str| {
        name == "owner.json"
            || owner
                .current
                .iter()
                .chain(&owner.earlier)
                .any(|v| v.name == name)
    };
    for name in durable::names(&site.versions).unwrap_or_default() {
        if !kept(&name)
            && let Err(error) = durable::remove_all(&site.versions.join(&name))
        {
            tracing::warn!(%name, %error, "an earlier version could not be removed");
        }
    }
}
