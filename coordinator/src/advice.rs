//! What to do about what keeps the program from its work.

use std::io;

use holdfast_certs::keystore::KeystoreError;

use crate::config::ConfigError;
use crate::maintenance::Misplaced;
use crate::store::StoreError;
use crate::world::restore::RestoreError;

/// What a person can do about a failure: the advice for the first of its causes that there is advice
/// for.
#[must_use]
pub fn advice(error: &anyhow::Error) -> &'static str {
    error.chain().find_map(known).unwrap_or(
        "HOLDFAST_LOG=debug says more; `holdfast-coordinator check` looks for what is damaged",
    )
}

fn known(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        return Some(of_config(error));
    }
    if let Some(error) = error.downcast_ref::<Misplaced>() {
        return Some(of_place(error));
    }
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return of_store(error);
    }
    if let Some(error) = error.downcast_ref::<KeystoreError>() {
        return of_keys(error);
    }
    if let Some(error) = error.downcast_ref::<RestoreError>() {
        return of_restored(error);
    }
    of_io(error.downcast_ref::<io::Error>()?.kind())
}

const fn of_config(error: &ConfigError) -> &'static str {
    match error {
        ConfigError::Read { .. } => "name the file with --config, or leave that out",
        ConfigError::Parse { .. } => {
            "the file is TOML with the keys data, listen, api, host and store"
        }
        ConfigError::Store(_) => "leave --store out",
    }
}

fn of_place(error: &Misplaced) -> &'static str {
    match error {
        Misplaced::NoInstallation(_) => "name the coordinator's data directory with --data",
        Misplaced::NotEmpty(_) => "restore into a new directory: --data DIR",
        Misplaced::NoBackupMade { source, .. } => match source.kind() {
            io::ErrorKind::AlreadyExists => "name a file that does not exist yet",
            kind => of_io(kind).unwrap_or("name a new file in a directory that exists"),
        },
        Misplaced::NoBackupRead { .. } | Misplaced::NoBackup { .. } => {
            "name a file that `holdfast-coordinator backup FILE` made"
        }
        Misplaced::Served(_) => "stop that one first, or name another directory with --data",
    }
}

const RESTORE: &str =
    "put a backup into a new directory: holdfast-coordinator restore FILE --data DIR";

fn of_store(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::Newer { .. } => {
            Some("start the newer program, or restore a backup that this one made")
        }
        StoreError::Damaged { .. } => Some(RESTORE),
        StoreError::Migrate(_) => Some("free space, or restore a backup"),
        StoreError::Database { source, .. } => match source {
            sqlx::Error::Database(refused) => {
                let code = refused.code()?.parse::<i32>().ok()? & 0xff;
                of_sqlite(code)
            }
            _ => None,
        },
    }
}

/// By SQLite's primary result codes.
fn of_sqlite(code: i32) -> Option<&'static str> {
    match code {
        3 | 8 | 14 | 23 => Some(PERMISSION),
        10 | 13 => Some(SPACE),
        11 | 26 => Some(RESTORE),
        _ => None,
    }
}

const fn of_keys(error: &KeystoreError) -> Option<&'static str> {
    match error {
        KeystoreError::Exposed { .. } => {
            Some("take the permission away, and ask who has read the key meanwhile")
        }
        KeystoreError::Missing { .. }
        | KeystoreError::Authority { .. }
        | KeystoreError::Signing { .. } => Some(RESTORE),
        // What the system said is further down the chain.
        _ => None,
    }
}

const fn of_restored(error: &RestoreError) -> Option<&'static str> {
    match error {
        RestoreError::Keys(_) => None,
        RestoreError::Manifests(_) => Some("start the version that applied them"),
        RestoreError::Contradiction(_) => Some(RESTORE),
    }
}

const PERMISSION: &str =
    "run it as the user who owns the data directory, or name another one with --data";
const SPACE: &str = "free space on the disk of the data directory";

fn of_io(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::AddrInUse => Some(
            "something else listens there: stop it, or choose another address with --listen and \
             --api; port 0 takes a free one",
        ),
        io::ErrorKind::AddrNotAvailable => Some("use an address of this machine, or 0.0.0.0"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Some(PERMISSION),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(SPACE),
        io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::IsADirectory => Some("name a directory with --data"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_is_that_for_the_cause_that_is_known() {
        let taken = io::Error::from(io::ErrorKind::AddrInUse);
        let error = anyhow::Error::new(taken).context("cannot listen");
        assert!(advice(&error).contains("choose another address"));
        let newer = anyhow::Error::new(StoreError::Newer { version: 7 });
        assert!(advice(&newer).contains("newer program"));
        let served = anyhow::Error::new(Misplaced::Served("data".into())).context("cannot start");
        assert!(advice(&served).contains("stop that one"));
        let file = "old.tar".into();
        let source = io::ErrorKind::AlreadyExists.into();
        let twice = anyhow::Error::new(Misplaced::NoBackupMade { file, source });
        assert!(advice(&twice).contains("does not exist yet"));
        let (file, source) = ("x".into(), anyhow::anyhow!("it holds a link"));
        let other = anyhow::Error::new(Misplaced::NoBackup { file, source });
        assert!(advice(&other.context("nothing is in force")).contains("backup FILE"));
        assert!(advice(&anyhow::anyhow!("what is this")).contains("check"));
    }
}
