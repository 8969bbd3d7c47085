//! Unpacks an archive from somebody else into an empty directory, and never outside of it.
//!
//! Two independent walls: every name is checked before anything is written, and everything is
//! written through a `cap_std` directory, which the kernel keeps from resolving above itself. What
//! is laid down is regular files, directories and relative symbolic links that end inside; all else
//! is refused, with the entry's name. Links are made last, so that nothing is written through one,
//! and followed once, so that no chain of them leaves.
//!
//! Modes are not taken from the archive but for one bit: 0755 for what its owner may execute, else
//! 0644. Owners and times are not taken at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _, OpenOptions, OpenOptionsExt as _};
use holdfast_protocol::workload::Form;

use crate::failure::Failure;

mod name;
mod tar;
mod zip;

/// Most entries of an archive.
pub(crate) const ENTRIES_MAX: usize = 100_000;
/// Most bytes that an archive may unpack to.
pub(crate) const BYTES_MAX: u64 = 4 << 30;
/// Most bytes unpacked for each byte of the archive.
pub(crate) const RATIO_MAX: u64 = 100;
/// Bytes that any archive may unpack to, however small it is.
pub(crate) const RATIO_FLOOR_BYTES: u64 = 1 << 20;

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// One of its entries is refused.
    #[error("entry {name:?} {problem}")]
    Entry { name: String, problem: String },
    /// It cannot be read as what its name says it is.
    #[error("not a readable archive: {0}")]
    Archive(String),
    /// It is too much.
    #[error("{0}")]
    TooMuch(String),
    /// This machine failed.
    #[error("cannot write {name:?}: {error}")]
    Write { name: String, error: io::Error },
    /// Nobody wants it any more.
    #[error("cancelled")]
    Cancelled,
}

/// A directory being filled.
pub(super) struct Tree<'a> {
    root: Dir,
    /// Lower-case path of everything there, to its exact path and whether it is a directory.
    seen: BTreeMap<String, (String, bool)>,
    links: Vec<(String, String)>,
    link_names: BTreeSet<String>,
    entries: usize,
    bytes: u64,
    bytes_max: u64,
    cancelled: &'a dyn Fn() -> bool,
}

/// Unpacks the archive `blob` into the empty directory `into`. What is there after a failure is for
/// the caller to remove.
pub(crate) fn unpack(
    blob: &Path,
    form: Form,
    into: &Path,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), UnpackError> {
    let unreadable = |error: io::Error| UnpackError::Archive(error.to_string());
    let file = File::open(blob).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let root = Dir::open_ambient_dir(into, ambient_authority()).map_err(at("."))?;
    let bytes_max = BYTES_MAX.min(length.saturating_mul(RATIO_MAX).max(RATIO_FLOOR_BYTES));
    let mut tree = Tree {
        root,
        seen: BTreeMap::new(),
        links: Vec::new(),
        link_names: BTreeSet::new(),
        entries: 0,
        bytes: 0,
        bytes_max,
        cancelled,
    };
    // Headers count too: a stream that is all headers must end as well.
    let stream_max = bytes_max
        .saturating_mul(2)
        .saturating_add(RATIO_FLOOR_BYTES);
    match form {
        Form::Tar => tar::unpack(BufReader::new(file), &mut tree)?,
        Form::TarGz => {
            let plain = flate2::read::MultiGzDecoder::new(BufReader::new(file));
            tar::unpack(plain.take(stream_max), &mut tree)?;
        }
        Form::TarZst => {
            let plain = zstd::stream::read::Decoder::new(file).map_err(unreadable)?;
            tar::unpack(plain.take(stream_max), &mut tree)?;
        }
        Form::Zip => zip::unpack(file, &mut tree)?,
        Form::File => return Err(UnpackError::Archive("it is one file".to_owned())),
    }
    tree.finish()
}

impl From<UnpackError> for Failure {
    fn from(error: UnpackError) -> Self {
        match &error {
            UnpackError::Entry { .. } | UnpackError::Archive(_) | UnpackError::TooMuch(_) => {
                Self::Permanent(error.to_string())
            }
            UnpackError::Write { .. } => Self::Retryable(error.to_string()),
            UnpackError::Cancelled => Self::Cancelled,
        }
    }
}

impl Tree<'_> {
    /// Counts an entry, whatever it turns out to be.
    fn count(&mut self) -> Result<(), UnpackError> {
        self.entries += 1;
        if (self.cancelled)() {
            return Err(UnpackError::Cancelled);
        }
        if self.entries > ENTRIES_MAX {
            return Err(UnpackError::TooMuch(format!(
                "holds more than {ENTRIES_MAX} entries"
            )));
        }
        Ok(())
    }

    /// Lays down a directory.
    fn directory(&mut self, name: &[u8], mode: u32) -> Result<(), UnpackError> {
        let path = name::checked(name)?;
        refuse_privileges(&path, mode)?;
        if path.is_empty() {
            return Ok(());
        }
        self.parents(&path)?;
        self.claim(&path, true)?;
        self.make_directory(&path)
    }

    /// Lays down a regular file of exactly `size` bytes.
    fn file(
        &mut self,
        name: &[u8],
        mode: u32,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), UnpackError> {
        let path = name::checked(name)?;
        refuse_privileges(&path, mode)?;
        self.parents(&path)?;
        self.claim(&path, false)?;
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.bytes_max {
            return Err(self.too_large());
        }
        let mode = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(mode);
        let mut file = self.root.open_with(&path, &options).map_err(at(&path))?;
        // The mask of the agent must not decide whether a program can be executed.
        let exact = std::os::unix::fs::PermissionsExt::from_mode(mode);
        file.set_permissions(cap_std::fs::Permissions::from_std(exact))
            .map_err(at(&path))?;
        let copied = self.copy(&path, content, &mut file)?;
        if copied != size {
            return Err(entry(
                &path,
                format!("has {copied} bytes where its header says {size}"),
            ));
        }
        Ok(())
    }

    /// Remembers a symbolic link, to be made when everything else is there.
    fn link(&mut self, name: &[u8], target: &[u8]) -> Result<(), UnpackError> {
        let path = name::checked(name)?;
        let target = name::checked_target(&path, target)?;
        self.parents(&path)?;
        self.claim(&path, false)?;
        self.link_names.insert(path.clone());
        self.links.push((path, target));
        Ok(())
    }

    fn copy(
        &self,
        path: &str,
        content: &mut dyn Read,
        file: &mut cap_std::fs::File,
    ) -> Result<u64, UnpackError> {
        let mut buffer = vec![0; 64 << 10];
        let mut copied: u64 = 0;
        loop {
            if (self.cancelled)() {
                return Err(UnpackError::Cancelled);
            }
            let read = content
                .read(&mut buffer)
                .map_err(|e| entry(path, e.to_string()))?;
            if read == 0 {
                return Ok(copied);
            }
            copied += read as u64;
            if copied > self.bytes_max {
                return Err(self.too_large());
            }
            let piece = buffer.get(..read).unwrap_or_default();
            io::Write::write_all(file, piece).map_err(at(path))?;
        }
    }

    fn too_large(&self) -> UnpackError {
        UnpackError::TooMuch(format!(
            "unpacks to more than {} bytes, which is the most for an archive of its size",
            self.bytes_max
        ))
    }

    /// Makes the directories above `path`; none of them may be a link.
    fn parents(&mut self, path: &str) -> Result<(), UnpackError> {
        for (end, _) in path.match_indices('/') {
            let above = path.get(..end).unwrap_or_default();
            if self.link_names.contains(above) {
                return Err(entry(path, format!("lies below the link {above:?}")));
            }
            let known = self.seen.get(&above.to_lowercase());
            if known.is_none_or(|(exact, _)| exact != above) {
                self.claim(above, true)?;
                self.make_directory(above)?;
            }
        }
        Ok(())
    }

    /// Takes a path for one entry. A directory may be named again; nothing else may.
    fn claim(&mut self, path: &str, directory: bool) -> Result<(), UnpackError> {
        match self.seen.get(&path.to_lowercase()) {
            None => {}
            Some((exact, true)) if directory && exact == path => return Ok(()),
            Some((exact, _)) if exact == path => {
                return Err(entry(path, "is there twice".to_owned()));
            }
            Some((exact, _)) => {
                return Err(entry(path, format!("differs from {exact:?} only in case")));
            }
        }
        self.seen
            .insert(path.to_lowercase(), (path.to_owned(), directory));
        Ok(())
    }

    fn make_directory(&self, path: &str) -> Result<(), UnpackError> {
        let mut builder = DirBuilder::new();
        builder.mode(0o755);
        match self.root.create_dir_with(path, &builder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at(path)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn finish(self) -> Result<(), UnpackError> {
        if self.seen.is_empty() {
            return Err(UnpackError::Archive("it is empty".to_owned()));
        }
        for (path, target) in &self.links {
            self.root.symlink(target, path).map_err(at(path))?;
        }
        // Each is followed only now, so that every link of a chain is there.
        for (path, target) in &self.links {
            if let Err(error) = self.root.metadata(path) {
                return Err(entry(
                    path,
                    format!("links to {target:?}, which is not inside: {error}"),
                ));
            }
        }
        Ok(())
    }
}

fn refuse_privileges(path: &str, mode: u32) -> Result<(), UnpackError> {
    if mode & 0o6000 != 0 {
        return Err(entry(path, "is setuid or setgid".to_owned()));
    }
    Ok(())
}

fn entry(name: &str, problem: impl Into<String>) -> UnpackError {
    UnpackError::Entry {
        name: name.to_owned(),
        problem: problem.into(),
    }
}

fn at(name: &str) -> impl FnOnce(io::Error) -> UnpackError {
    move |error| UnpackError::Write {
        name: name.to_owned(),
        error,
    }
}
