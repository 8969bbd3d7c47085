//! Tar, entry by entry. Extensions are read here, not by the library, so that each has a bound and
//! none can say something else than the header it belongs to.

use std::io::Read;

use ::tar::{Archive, Entry, EntryType};

use super::{Tree, UnpackError, entry};

/// Longest extension of an entry, in bytes.
const EXTENSION_MAX_BYTES: u64 = 64 << 10;

/// What extensions say about the entry after them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

pub(super) fn unpack(stream: impl Read, tree: &mut Tree<'_>) -> Result<(), UnpackError> {
    let mut archive = Archive::new(stream);
    let unreadable = |error: std::io::Error| UnpackError::Archive(error.to_string());
    let mut extended = Extended::default();
    for entry in archive.entries().map_err(unreadable)?.raw(true) {
        let mut entry = entry.map_err(unreadable)?;
        tree.count()?;
        if !extend(&mut entry, &mut extended)? {
            lay(&mut entry, std::mem::take(&mut extended), tree)?;
        }
    }
    Ok(())
}

/// Takes an entry that only describes the next one; gives whether it was one.
fn extend(entry: &mut Entry<'_, impl Read>, extended: &mut Extended) -> Result<bool, UnpackError> {
    match entry.header().entry_type() {
        EntryType::GNULongName => extended.path = Some(long_name(entry)?),
        EntryType::GNULongLink => extended.link = Some(long_name(entry)?),
        EntryType::XHeader => pax(&content(entry)?, extended)?,
        EntryType::XGlobalHeader => {
            let mut global = Extended::default();
            pax(&content(entry)?, &mut global)?;
            if global.path.is_some() || global.link.is_some() || global.size.is_some() {
                return Err(refused(
                    entry,
                    "is a global header that names or sizes entries",
                ));
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn lay(
    found: &mut Entry<'_, impl Read>,
    extended: Extended,
    tree: &mut Tree<'_>,
) -> Result<(), UnpackError> {
    let name = extended
        .path
        .unwrap_or_else(|| found.header().path_bytes().into_owned());
    let shown = String::from_utf8_lossy(&name)
        .chars()
        .take(80)
        .collect::<String>();
    let size = found.size();
    if extended.size.is_some_and(|said| said != size) {
        return Err(entry(
            &shown,
            "has one size in its header and another in its extension",
        ));
    }
    let mode = found
        .header()
        .mode()
        .map_err(|e| entry(&shown, e.to_string()))?;
    let kind = found.header().entry_type();
    let empty = |kind: &str| {
        if size == 0 {
            Ok(())
        } else {
            Err(entry(&shown, format!("is a {kind} with content")))
        }
    };
    match kind {
        EntryType::Regular if name.ends_with(b"/") => {
            empty("directory")?;
            tree.directory(&name, mode)
        }
        EntryType::Regular | EntryType::Continuous => tree.file(&name, mode, size, found),
        EntryType::Directory => {
            empty("directory")?;
            tree.directory(&name, mode)
        }
        EntryType::Symlink => {
            empty("link")?;
            let target = extended
                .link
                .or_else(|| found.header().link_name_bytes().map(Vec::from));
            tree.link(&name, &target.unwrap_or_default())
        }
        EntryType::Link => Err(entry(&shown, "is a hard link")),
        EntryType::Char | EntryType::Block => Err(entry(&shown, "is a device")),
        EntryType::Fifo => Err(entry(&shown, "is a pipe")),
        EntryType::GNUSparse => Err(entry(&shown, "is sparse")),
        other => Err(entry(
            &shown,
            format!("is of the unknown kind {:#04x}", other.as_byte()),
        )),
    }
}

/// Records of the form `LENGTH KEY=VALUE\n` (POSIX.1-2001, pax interchange format).
fn pax(bytes: &[u8], extended: &mut Extended) -> Result<(), UnpackError> {
    let malformed = || UnpackError::Archive("a pax extension is malformed".to_owned());
    let mut rest = bytes;
    while !rest.is_empty() && rest.iter().any(|b| *b != 0) {
        let space = rest.iter().position(|b| *b == b' ').ok_or_else(malformed)?;
        let length: usize = rest
            .get(..space)
            .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
            .ok_or_else(malformed)?;
        let record = rest
            .get(space + 1..length.saturating_sub(1))
            .ok_or_else(malformed)?;
        let equals = record
            .iter()
            .position(|b| *b == b'=')
            .ok_or_else(malformed)?;
        let (key, value) = record.split_at(equals);
        let value = value.get(1..).unwrap_or_default();
        match key {
            b"path" => extended.path = Some(value.to_vec()),
            b"linkpath" => extended.link = Some(value.to_vec()),
            b"size" => {
                let text = std::str::from_utf8(value).map_err(|_| malformed())?;
                extended.size = Some(text.parse().map_err(|_| malformed())?);
            }
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(UnpackError::Archive("it holds sparse files".to_owned()));
            }
            // Times, owners and comments are not taken over.
            _ => {}
        }
        rest = rest.get(length..).ok_or_else(malformed)?;
    }
    Ok(())
}

/// The content of a GNU extension: a name with a zero byte after it.
fn long_name(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, UnpackError> {
    let mut name = content(entry)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn content(found: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, UnpackError> {
    if found.size() > EXTENSION_MAX_BYTES {
        return Err(refused(found, "is an extension of more than 64 KiB"));
    }
    let mut bytes = Vec::new();
    found
        .take(EXTENSION_MAX_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| UnpackError::Archive(error.to_string()))?;
    Ok(bytes)
}

fn refused(found: &Entry<'_, impl Read>, problem: &str) -> UnpackError {
    entry(
        &String::from_utf8_lossy(&found.header().path_bytes()),
        problem,
    )
}
