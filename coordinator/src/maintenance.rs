//! What is done to the data while nobody serves it: copies and checks.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::serve::{ADMIN_TOKEN, ARTIFACTS, DATABASE};
use crate::store::Store;
use crate::world::{Trust, World};
use crate::{clock, history};

/// Copies database, keys and artifacts into a new directory. May run beside a serving coordinator.
///
/// # Errors
/// When there is no installation, the directory exists, or something cannot be copied.
pub async fn backup(data: &Path, directory: &Path) -> anyhow::Result<()> {
    demand_installation(data)?;
    std::fs::create_dir(directory)
        .with_context(|| format!("cannot make {}: name a new directory", directory.display()))?;
    let store = Store::open(&data.join(DATABASE)).await?;
    store.copy_to(&directory.join(DATABASE)).await?;
    store.close().await;
    for name in ["ca.pem", "ca", ADMIN_TOKEN, ARTIFACTS] {
        copy(&data.join(name), &directory.join(name))?;
    }
    say(&format!(
        "copied {} to {}",
        data.display(),
        directory.display()
    ))
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
    let world = World::restore(store.load().await?, trust)?;
    say(&format!(
        "state      ok, revision {}, {} tracks, {} targets",
        world.revision,
        world.tracks.len(),
        world.targets.len()
    ))?;
    store.close().await;
    Ok(())
}

fn demand_installation(data: &Path) -> anyhow::Result<()> {
    if data.join(DATABASE).exists() {
        return Ok(());
    }
    bail!(
        "there is no installation in {}: name its directory with --data",
        data.display()
    )
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copying = || -> std::io::Result<()> {
        if from.is_dir() {
            std::fs::create_dir(to)?;
            std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
            for entry in std::fs::read_dir(from)? {
                let name = entry?.file_name();
                copy(&from.join(&name), &to.join(&name)).map_err(std::io::Error::other)?;
            }
            return Ok(());
        }
        std::fs::copy(from, to).map(|_| ())
    };
    copying().with_context(|| format!("cannot copy {}", from.display()))
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
