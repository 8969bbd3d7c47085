//! Unit files, and the links by which systemd starts them at boot.

use std::fs;
use std::path::Path;

use crate::durable::{self, failed};
use crate::failure::Failure;
use crate::systemd::sight::{self, DROP_INS, File};
use crate::systemd::unit::UNITS;

/// Writes a unit, unless it is so already.
pub(super) fn write_unit(unit: &str, text: &str) -> Result<bool, Failure> {
    let path = sight::path_of(unit);
    if sight::read(&path)? == File::Text(text.to_owned()) {
        return Ok(false);
    }
    durable::replace(&path, text.as_bytes(), 0o644)
        .map_err(failed(format!("cannot write {}", path.display())))?;
    Ok(true)
}

/// Removes a unit and its link.
pub(super) fn remove_unit(unit: &str) -> Result<(), Failure> {
    set_enabled(unit, false)?;
    let path = sight::path_of(unit);
    durable::remove_all(&path)
        .and_then(|()| durable::sync_directory(Path::new(UNITS)))
        .map_err(failed(format!("cannot remove {}", path.display())))
}

/// Has a unit started at boot, or not. Not by systemd's own call for it, which syncs nothing: a
/// power cut right after a deployment must not undo it. Gives whether that had to be changed.
pub(super) fn set_enabled(unit: &str, enabled: bool) -> Result<bool, Failure> {
    if enabled == sight::is_enabled(unit) {
        return Ok(false);
    }
    let link = sight::link_of(unit);
    let parent = link.parent().unwrap_or_else(|| Path::new(UNITS));
    durable::remove_all(&link)
        .and_then(|()| {
            if enabled {
                durable::make_directory(parent, 0o755)?;
                std::os::unix::fs::symlink(sight::path_of(unit), &link)?;
            }
            if parent.is_dir() {
                durable::sync_directory(parent)?;
            }
            Ok(true)
        })
        .map_err(failed(format!("cannot change {}", link.display())))
}

/// Removes a drop-in, and its directory where that held nothing else.
pub(super) fn remove_drop_in(path: &Path) -> Result<(), Failure> {
    debug_assert!(DROP_INS.iter().any(|directory| path.starts_with(directory)));
    durable::remove_all(path).map_err(failed(format!("cannot remove {}", path.display())))?;
    if let Some(directory) = path.parent() {
        // It stays where there is more in it.
        let _ = fs::remove_dir(directory);
    }
    Ok(())
}
