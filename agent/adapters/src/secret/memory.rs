//! Files of secrets, in a file system that is in memory: they are gone with the power, and the agent
//! lays them down again from what it keeps sealed.
//!
//! ```text
//! DIRECTORY/AGENT/RUNTIME/SERVICE/KEY/NAME   one value: 0400, its workload's user's
//! ```
//! KEY stands for the numbers of the values, so that the files of one release are never another's.
//! *Guarantees:* nothing is written where the file system is not in memory, or where somebody else
//! could have made the directory; files of a service that it needs no more are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use holdfast_protocol::name::{SecretName, ServiceName};
use rustix::fs::{Gid, Uid};
use serde::{Deserialize, Serialize};

use super::values::{Secret, Secrets};
use crate::durable;
use crate::failure::Failure;

/// Where the files of one runtime's workloads lie.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    /// The one that was named, or those that are looked at in turn.
    directories: Vec<PathBuf>,
    /// Agent and runtime.
    own: PathBuf,
}

/// The files of one workload.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Where they shall lie; nothing where there are none.
    directory: Option<PathBuf>,
    contents: BTreeMap<String, Secret>,
    owner: Option<Owner>,
}

/// Whose they are, where that is not the agent's own user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What was laid down, without any of its content.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Laid {
    /// The files in memory.
    pub(crate) files: BTreeSet<PathBuf>,
    /// Links in the workload's own directory, and where they lead.
    pub(crate) links: BTreeMap<String, PathBuf>,
}

/// Kinds of file systems that are in memory (statfs(2)).
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

impl Memory {
    /// For the workloads of `runtime` of the agent with this id; in `directory`, where one is named.
    pub(crate) fn new(directory: Option<&Path>, agent: &str, runtime: &str) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let directories = match directory {
            Some(directory) => vec![directory.to_owned()],
            None if uid == 0 => vec!["/run/holdfast-secrets".into(), shared(uid)],
            None => vec![
                format!("/run/user/{uid}/holdfast-secrets").into(),
                shared(uid),
            ],
        };
        Self {
            directories,
            own: Path::new(agent).join(runtime),
        }
    }

    /// The files that a workload needs, none yet. Where it needs some, this machine must have a place
    /// for them.
    ///
    /// # Errors
    /// There is no file system in memory, or the directory in it is not to be trusted.
    pub(crate) fn files(
        &self,
        service: &ServiceName,
        secrets: &Secrets,
        owner: Option<Owner>,
    ) -> Result<Files, Failure> {
        let directory = if secrets.is_empty() {
            None
        } else {
            let of_service = self.directory()?.join(&self.own).join(service.as_str());
            let owner = owner.map(|owner| (owner.uid, owner.gid));
            Some(of_service.join(secrets.key(owner)))
        };
        Ok(Files {
            directory,
            contents: BTreeMap::new(),
            owner,
        })
    }

    /// Lays files down, each whole or not at all. What lies there already stays.
    ///
    /// # Errors
    /// Retryable: what the file system said.
    pub(crate) fn lay(&self, files: &Files) -> Result<(), Failure> {
        let Some(directory) = files.used() else {
            return Ok(());
        };
        let failed = |error: io::Error| {
            Failure::Retryable(format!(
                "cannot lay secrets down in {}: {error}",
                directory.display()
            ))
        };
        make(directory).map_err(failed)?;
        for (name, content) in &files.contents {
            write(&directory.join(name), content.bytes(), files.owner).map_err(failed)?;
        }
        Ok(())
    }

    /// Removes all of a service's files but those that it needs.
    ///
    /// # Errors
    /// Retryable: what the file system said.
    pub(crate) fn sweep(
        &self,
        service: &ServiceName,
        needed: Option<&Files>,
    ) -> Result<(), Failure> {
        let needed = needed.and_then(Files::used);
        let failed = durable::failed("cannot remove secrets that are not needed");
        let all = self.directories.iter();
        let swept = all.map(|directory| {
            let of_service = directory.join(&self.own).join(service.as_str());
            for name in durable::names(&of_service)? {
                let path = of_service.join(name);
                if needed != Some(path.as_path()) {
                    durable::remove_all(&path)?;
                }
            }
            // It stays where there is more in it, and so do those above.
            let above = of_service.ancestors().take(3);
            above.for_each(|path| drop(fs::remove_dir(path)));
            Ok(())
        });
        swept.collect::<io::Result<()>>().map_err(failed)
    }

    /// The directories in which files may lie: nothing else may be led there.
    #[cfg(feature = "container")]
    pub(crate) fn guarded(&self) -> &[PathBuf] {
        &self.directories
    }

    fn directory(&self) -> Result<PathBuf, Failure> {
        let mut problem = None;
        for directory in &self.directories {
            match is_usable(directory) {
                Ok(true) => return Ok(directory.clone()),
                Ok(false) => {}
                Err(error) => problem = Some(format!("{}: {error}", directory.display())),
            }
        }
        let looked: Vec<String> = self
            .directories
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let problem =
            problem.unwrap_or_else(|| format!("{} is not on a tmpfs", looked.join(" nor ")));
        Err(Failure::Retryable(format!(
            "there is no place in memory for its secrets: {problem}; name a directory on a tmpfs as \
             secrets-directory in agent.toml"
        )))
    }
}

impl Files {
    /// Adds the file of a secret, and says where it will lie.
    ///
    /// # Errors
    /// Retryable where the value is not here.
    pub(crate) fn add(&mut self, name: &SecretName, secrets: &Secrets) -> Result<PathBuf, Failure> {
        let value = Secret::copy(secrets.value(name)?);
        Ok(self.put(name.as_str(), value))
    }

    /// Adds a file that is made of secrets. A name that begins with a dot is no secret's.
    pub(crate) fn put(&mut self, name: &str, content: Secret) -> PathBuf {
        self.contents.insert(name.to_owned(), content);
        self.directory
            .as_deref()
            .unwrap_or(Path::new(""))
            .join(name)
    }

    /// Where they lie, all of them.
    pub(crate) fn paths(&self) -> BTreeSet<PathBuf> {
        let directory = self.used();
        let all = self.contents.keys();
        directory.map_or_else(BTreeSet::new, |directory| {
            all.map(|name| directory.join(name)).collect()
        })
    }

    fn used(&self) -> Option<&Path> {
        let directory = self.directory.as_deref();
        directory.filter(|_| !self.contents.is_empty())
    }
}

impl Laid {
    /// Makes the links be there, and those of `before` that are no longer wanted be gone.
    pub(crate) fn link(&self, directory: &Path, before: &Self) -> io::Result<()> {
        if self.links.is_empty() && before.links.is_empty() {
            return Ok(());
        }
        let root = Dir::open_ambient_dir(directory, ambient_authority())?;
        for (path, target) in &before.links {
            let ours = root.read_link_contents(path).ok().as_ref() == Some(target);
            if ours && !self.links.contains_key(path) {
                root.remove_file(path)?;
            }
        }
        for (path, target) in &self.links {
            if root.read_link_contents(path).ok().as_ref() == Some(target) {
                continue;
            }
            let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
            if parent != "." {
                root.create_dir_all(parent)?;
            }
            let fresh = format!("{parent}/.{name}.new");
            let _ = root.remove_file(&fresh);
            root.symlink_contents(target, &fresh)?;
            root.rename(&fresh, &root, path)?;
        }
        Ok(())
    }

    /// What differs from what was laid down, for people.
    pub(crate) fn drift(&self, directory: &Path) -> Option<String> {
        if self
            .files
            .iter()
            .any(|path| fs::symlink_metadata(path).is_err())
        {
            return Some("a file of a secret is gone from memory".to_owned());
        }
        if self.links.is_empty() {
            return None;
        }
        let Ok(root) = Dir::open_ambient_dir(directory, ambient_authority()) else {
            return Some("its directory was removed".to_owned());
        };
        let lost = |(path, target): (&String, &PathBuf)| {
            (root.read_link_contents(path).ok().as_ref() != Some(target))
                .then(|| format!("the link {path} to a secret was changed"))
        };
        self.links.iter().find_map(lost)
    }
}

/// Where every user may make files, in memory.
fn shared(uid: u32) -> PathBuf {
    format!("/dev/shm/holdfast-secrets-{uid}").into()
}

/// Whether a directory, or the one that it would be made in, is in memory.
fn is_usable(directory: &Path) -> io::Result<bool> {
    let Some(parent) = directory.parent().filter(|parent| parent.is_dir()) else {
        return Ok(false);
    };
    let there = fs::symlink_metadata(directory).is_ok_and(|found| found.is_dir());
    let kind = rustix::fs::statfs(if there { directory } else { parent })?.f_type;
    #[expect(
        clippy::useless_conversion,
        reason = "the type of the field differs between architectures"
    )]
    let in_memory = i64::try_from(kind).is_ok_and(|kind| IN_MEMORY.contains(&kind));
    if !in_memory {
        return Ok(false);
    }
    make(directory)?;
    let found = fs::symlink_metadata(directory)?;
    let own = rustix::process::geteuid().as_raw();
    if !found.is_dir() || found.uid() != own || found.mode() & 0o022 != 0 {
        return Err(io::Error::other(
            "it is somebody else's, or others may write to it",
        ));
    }
    Ok(true)
}

/// A directory that others may pass through and not read.
fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(directory)
}

fn write(path: &Path, content: &[u8], owner: Option<Owner>) -> io::Result<()> {
    if is_there(path, content, owner) {
        return Ok(());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = path.with_file_name(format!(".{name}.new"));
    durable::remove_all(&fresh)?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(&fresh)?;
    if let Some(owner) = owner {
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        rustix::fs::fchown(&file, Some(uid), Some(gid))?;
    }
    file.write_all(content)?;
    fs::rename(&fresh, path)
}

fn is_there(path: &Path, content: &[u8], owner: Option<Owner>) -> bool {
    let Ok(found) = fs::symlink_metadata(path) else {
        return false;
    };
    let uid = owner.map_or_else(|| rustix::process::geteuid().as_raw(), |owner| owner.uid);
    let same = found.is_file() && found.uid() == uid && found.mode() & 0o7777 == 0o400;
    // It is as long as it should be before it is read.
    same && found.len() == content.len() as u64
        && fs::read(path).is_ok_and(|bytes| *zeroize::Zeroizing::new(bytes) == *content)
}
