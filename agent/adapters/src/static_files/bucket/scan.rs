//! An unpacked archive, as the objects that it becomes.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use holdfast_protocol::digest::{Digest, Hasher};

use crate::durable::failed;
use crate::failure::Failure;
use crate::static_files::headers::{self, Rules};

/// Longest key of an object, in bytes, in every storage.
const KEY_MAX_BYTES: usize = 1024;
/// Bytes read at a time.
const BUFFER_BYTES: usize = 128 << 10;

/// One object to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// Below the prefix.
    pub(super) key: String,
    pub(super) content: Content,
    /// In bytes.
    pub(super) size: u64,
    pub(super) what: Digest,
    pub(super) content_type: String,
    pub(super) cache_control: Option<String>,
    pub(super) wave: Wave,
}

/// Where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    File(PathBuf),
    Bytes(Vec<u8>),
}

/// In which order objects are put: what is led to comes before what leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wave {
    Asset,
    Page,
    /// The page that all visits begin with, or what names the current release.
    Index,
}

impl Wave {
    /// In order.
    pub(super) const ALL: [Self; 3] = [Self::Asset, Self::Page, Self::Index];
}

/// Every file below `root`, with `above` before its path.
pub(super) fn scan(
    root: &Path,
    above: &str,
    rules: &Rules,
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<Object>, Failure> {
    let mut objects = Vec::new();
    let mut directories = vec![(root.to_owned(), String::new())];
    while let Some((directory, path)) = directories.pop() {
        let unreadable = || format!("cannot read {}", directory.display());
        for entry in fs::read_dir(&directory).map_err(failed(unreadable()))? {
            if cancelled() {
                return Err(Failure::Cancelled);
            }
            let entry = entry.map_err(failed(unreadable()))?;
            let name = entry.file_name().into_string().map_err(|name| {
                Failure::Permanent(format!("{} cannot be an object's name", name.display()))
            })?;
            let path = if path.is_empty() {
                name
            } else {
                format!("{path}/{name}")
            };
            let kind = entry.file_type().map_err(failed(unreadable()))?;
            if kind.is_dir() {
                directories.push((entry.path(), path));
                continue;
            }
            objects.push(object(&entry.path(), &path, above, rules, cancelled)?);
        }
    }
    Ok(objects)
}

/// One file. A link to a file becomes what it leads to; the archive's reader keeps it inside.
fn object(
    place: &Path,
    path: &str,
    above: &str,
    rules: &Rules,
    cancelled: &dyn Fn() -> bool,
) -> Result<Object, Failure> {
    let key = format!("{above}{path}");
    if path.split('/').next() == Some(super::OWN) {
        let message = format!("{path}: what begins with {} is Holdfast's own", super::OWN);
        return Err(Failure::Permanent(message));
    }
    if key.len() > KEY_MAX_BYTES {
        let message = format!("{path}: an object's name has at most {KEY_MAX_BYTES} bytes");
        return Err(Failure::Permanent(message));
    }
    let unreadable = || format!("cannot read {}", place.display());
    let found = fs::metadata(place).map_err(failed(unreadable()))?;
    if found.is_dir() {
        let message =
            format!("{path} is a link to a directory, which object storage does not have");
        return Err(Failure::Permanent(message));
    }
    let content_type = rules.content_type(path);
    let cache_control = rules.cache_control(path).map(str::to_owned);
    let told = (content_type.as_str(), cache_control.as_deref());
    let what = digest(place, told, cancelled).map_err(failed(unreadable()))?;
    let what = what.ok_or(Failure::Cancelled)?;
    let wave = match headers::is_document(&content_type) {
        true if path == "index.html" => Wave::Index,
        true => Wave::Page,
        false => Wave::Asset,
    };
    Ok(Object {
        key,
        content: Content::File(place.to_owned()),
        size: found.len(),
        what,
        content_type,
        cache_control,
        wave,
    })
}

/// An object that no file is.
pub(super) fn made(key: &str, bytes: Vec<u8>) -> Object {
    let (content_type, cache_control) = ("application/json", "no-cache");
    let mut hasher = Hasher::default();
    hasher.update(&bytes);
    told(&mut hasher, (content_type, Some(cache_control)));
    Object {
        key: key.to_owned(),
        size: bytes.len() as u64,
        what: hasher.finish(),
        content: Content::Bytes(bytes),
        content_type: content_type.to_owned(),
        cache_control: Some(cache_control.to_owned()),
        wave: Wave::Index,
    }
}

/// Digest of a file and of what is said of it; none when nobody wants it any more.
fn digest(
    place: &Path,
    said: (&str, Option<&str>),
    cancelled: &dyn Fn() -> bool,
) -> io::Result<Option<Digest>> {
    let mut file = File::open(place)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
        if cancelled() {
            return Ok(None);
        }
    }
    told(&mut hasher, said);
    Ok(Some(hasher.finish()))
}

fn told(hasher: &mut Hasher, (content_type, cache_control): (&str, Option<&str>)) {
    hasher.update(b"\0");
    hasher.update(content_type.as_bytes());
    hasher.update(b"\0");
    hasher.update(cache_control.unwrap_or("\0").as_bytes());
}
