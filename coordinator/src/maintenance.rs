//! What is done to the data as a whole: copies, checks, schema.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use thiserror::Error;

use crate::serve::{ADMIN_TOKEN, ARTIFACTS, DATABASE};
use crate::store::Store;
use crate::world::{Trust, World};
use crate::{clock, history};

/// What a backup holds besides the database, where it is there.
const KEPT: [&str; 4] = ["ca.pem", "ca", ADMIN_TOKEN, ARTIFACTS];

/// Why nothing can be done in a place that a person named.
#[derive(Debug, Error)]
pub enum Misplaced {
    /// There is no database in this directory.
    #[error("there is no installation in {}", .0.display())]
    NoInstallation(PathBuf),
    /// The directory to restore into holds something.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// The file for the backup cannot be made.
    #[error("cannot make the backup {}", file.display())]
    NoBackupMade {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file that is to be restored cannot be read.
    #[error("cannot read the backup {}", file.display())]
    NoBackupRead {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What is to be restored is not what [`backup`] makes.
    #[error("{} is not a backup, or is damaged", file.display())]
    NoBackup {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: anyhow::Error,
    },
    /// A coordinator runs on this directory.
    #[error("another coordinator serves {}", .0.display())]
    Served(PathBuf),
}

/// Writes database, keys and artifacts into one new file that only its owner can read. May run beside
/// a serving coordinator: the database is copied as of one moment, and artifacts never change.
///
/// # Errors
/// When there is no installation, the file exists, or something cannot be copied.
pub async fn backup(data: &Path, file: &Path) -> anyhow::Result<()> {
    demand_installation(data)?;
    let archive = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(|source| Misplaced::NoBackupMade {
            file: file.to_owned(),
            source,
        })?;
    let written = write_backup(data, archive).await;
    if written.is_err() {
        // Half a backup is none; the failure that matters is the one that is reported.
        drop(std::fs::remove_file(file));
    }
    written?;
    say(&format!("{} is in {}", data.display(), file.display()))
}

async fn write_backup(data: &Path, archive: File) -> anyhow::Result<()> {
    let scratch = data.join(format!(".backup-{:016x}", rand::random::<u64>()));
    let store = Store::open(&data.join(DATABASE)).await?;
    let copied = store.copy_to(&scratch).await;
    store.close().await;
    let archived = copied.map_err(anyhow::Error::from).and_then(|()| {
        let mut archive = tar::Builder::new(archive);
        archive.follow_symlinks(false);
        archive.append_path_with_name(&scratch, DATABASE)?;
        for name in KEPT {
            let path = data.join(name);
            if path.is_dir() {
                archive.append_dir_all(name, &path)?;
            } else if path.exists() {
                archive.append_path_with_name(&path, name)?;
            }
        }
        Ok(archive.into_inner()?.sync_all()?)
    });
    drop(std::fs::remove_file(&scratch));
    archived.context("cannot write the backup")
}

/// Puts the content of a backup into a data directory that is new or empty. Targets that have moved
/// on since then refuse what is older; their names are in the history when they connect.
///
/// # Errors
/// When the directory holds something, or the file is not a backup.
pub async fn restore(data: &Path, file: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let archive = File::open(file).map_err(|source| Misplaced::NoBackupRead {
        file: file.to_owned(),
        source,
    })?;
    let empty = std::fs::read_dir(data).map_or(true, |mut entries| entries.next().is_none());
    if !empty {
        bail!(Misplaced::NotEmpty(data.to_owned()));
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)?;
    let checked = match unpack(archive, data) {
        Ok(()) => check(data).await,
        Err(source) => Err(Misplaced::NoBackup {
            file: file.to_owned(),
            source,
        }
        .into()),
    };
    checked.with_context(|| format!("nothing is in force; remove {}", data.display()))
}

/// A backup holds what [`backup`] puts into one: files and folders with plain relative names.
fn unpack(archive: File, data: &Path) -> anyhow::Result<()> {
    let mut archive = tar::Archive::new(archive);
    archive.set_preserve_permissions(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let plain = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let kind = entry.header().entry_type();
        if !plain || !(kind.is_file() || kind.is_dir()) {
            bail!("it holds {}", path.display());
        }
        entry.unpack_in(data)?;
    }
    Ok(())
}

/// Verifies everything that can be verified.
///
/// # Errors
/// What is wrong, at the first thing that is.
pub async fn check(data: &Path) -> anyhow::Result<()> {
    demand_installation(data)?;
    let store = Store::open(&data.join(DATABASE)).await?;
    let integrity = store.integrity().await?;
    if integrity != "ok" {
        bail!("the database is damaged: {integrity}");
    }
    say("database   ok")?;
    let audit = history::audit(&store).await?;
    if !audit.valid {
        bail!("the history is broken: {}", audit.message);
    }
    say(&format!("history    ok, {}", audit.message))?;
    let trust = Trust::open(data, clock::now())?;
    say(&format!(
        "authority  ok, {} environments",
        trust.environments.len()
    ))?;
    let world = World::restore(store.load().await?, trust, clock::now())?;
    say(&format!(
        "state      ok, revision {}, {} tracks, {} targets",
        world.revision,
        world.tracks.len(),
        world.targets.len()
    ))?;
    let values = world.check_secrets();
    let values = values.map_err(|problem| anyhow::anyhow!("secrets are damaged: {problem}"))?;
    say(&format!("secrets    ok, {values} values open"))?;
    store.close().await;
    Ok(())
}

/// Brings the database's schema to a version; `serve` does so by itself. Only the newest can be had.
///
/// # Errors
/// When there is no installation or no such version.
pub async fn migrate(data: &Path, to: Option<i64>) -> anyhow::Result<()> {
    demand_installation(data)?;
    let store = Store::open(&data.join(DATABASE)).await?;
    let version = store.schema_version().await?;
    store.close().await;
    match to {
        Some(wanted) if wanted != version => {
            bail!("this program knows schema version {version} only, not {wanted}")
        }
        Some(_) | None => say(&format!("schema version {version}")),
    }
}

fn demand_installation(data: &Path) -> anyhow::Result<()> {
    if data.join(DATABASE).exists() {
        return Ok(());
    }
    bail!(Misplaced::NoInstallation(data.to_owned()))
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}
