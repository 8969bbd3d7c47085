//! Zip, entry by entry, by its central directory; local headers must agree with it.

use std::fs::File;
use std::io::Read as _;

use ::zip::ZipArchive;
use ::zip::result::ZipError;

use super::{ENTRIES_MAX, Tree, UnpackError, entry};

const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
/// Longest target of a link, in bytes.
const TARGET_MAX_BYTES: u64 = 4096;

pub(super) fn unpack(file: File, tree: &mut Tree<'_>) -> Result<(), UnpackError> {
    let mut archive = ZipArchive::new(file).map_err(unreadable)?;
    if archive.len() > ENTRIES_MAX {
        return Err(UnpackError::TooMuch(format!(
            "holds more than {ENTRIES_MAX} entries"
        )));
    }
    if archive.has_duplicate_names() {
        return Err(UnpackError::Archive("it holds a name twice".to_owned()));
    }
    if archive.has_overlapping_files().map_err(unreadable)? {
        return Err(UnpackError::Archive("its entries overlap".to_owned()));
    }
    archive.validate_header_consistency().map_err(unreadable)?;
    for i in 0..archive.len() {
        tree.count()?;
        lay(&mut archive, i, tree)?;
    }
    Ok(())
}

fn lay(archive: &mut ZipArchive<File>, i: usize, tree: &mut Tree<'_>) -> Result<(), UnpackError> {
    let mut found = archive.by_index(i).map_err(unreadable)?;
    let name = found.name_raw().to_vec();
    let shown = String::from_utf8_lossy(&name)
        .chars()
        .take(80)
        .collect::<String>();
    if found.encrypted() {
        return Err(entry(&shown, "is encrypted"));
    }
    let mode = found.unix_mode().unwrap_or(0);
    let size = found.size();
    match mode & KIND {
        0 if name.ends_with(b"/") => tree.directory(&name, mode),
        DIRECTORY => tree.directory(&name, mode),
        0 | REGULAR => tree.file(&name, mode, size, &mut found),
        LINK => {
            let mut target = Vec::new();
            let read = (&mut found)
                .take(TARGET_MAX_BYTES + 1)
                .read_to_end(&mut target);
            read.map_err(|error| entry(&shown, error.to_string()))?;
            tree.link(&name, &target)
        }
        _ => Err(entry(&shown, "is a device, a pipe or a socket")),
    }
}

fn unreadable(error: ZipError) -> UnpackError {
    UnpackError::Archive(error.to_string())
}
