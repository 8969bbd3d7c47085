//! What must survive the coordinator: the store's questions in domain words.
//!
//! The driver keeps everything it decides from in memory; the store is its log. One commit holds
//! everything that one round of the driver changed ([`write::Write`]s, in order), so a crash leaves the
//! state before or after a round, never between. Statements keep to what SQLite and PostgreSQL both
//! understand; only `migrations/` differs.

pub mod load;
pub mod row;
pub mod write;

use std::path::Path;
use std::time::Duration;

use holdfast_protocol::api::apply::ManifestFile;
use holdfast_protocol::api::deployment::{Deployment, LastLines};
use holdfast_protocol::api::event::Event;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{EnvironmentName, InputSetName, ServiceName};
use holdfast_protocol::time::Timestamp;
use serde_json::Value;
use sqlx::migrate::MigrateError;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{Connection as _, Row, Sqlite};

use write::Write;

/// How long a statement waits for another writer before it fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that only read.
const READERS: u32 = 4;
/// Most rows that one page of a listing holds.
pub const PAGE_MAX_ROWS: u32 = 1_000;
/// How long an answer to a request with an idempotency key is kept: a day, in milliseconds.
const ANSWERS_KEPT_MILLIS: u64 = 24 * 60 * 60 * 1_000;
/// Most such answers that are kept.
const ANSWERS_MAX_ROWS: i64 = 10_000;

/// Why the store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused.
    #[error("the database failed to {attempt}")]
    Database {
        /// What was attempted.
        attempt: &'static str,
        /// What it said.
        source: sqlx::Error,
    },
    /// The schema could not be brought up to date.
    #[error("the database's schema could not be brought up to date")]
    Migrate(#[source] MigrateError),
    /// A newer program has changed the schema.
    #[error("the database was made or changed by a newer program: it has schema version {version}")]
    Newer {
        /// The version that this program does not know.
        version: i64,
    },
    /// A row does not say what this program wrote.
    #[error("{table} row {key} is damaged: {problem}")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// Which row.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What is to be expected of a failed commit that is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// It may succeed: the disk was full, or somebody else held the database.
    Passing,
    /// It will not, or nobody can say what is on disk: only reading everything again helps. A sync
    /// that failed may have dropped what it should have written, so trying again proves nothing.
    Lasting,
}

impl StoreError {
    /// Whether trying again can help.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        match self {
            Self::Database { source, .. } => outlook(source),
            Self::Migrate(_) | Self::Newer { .. } | Self::Damaged { .. } => Outlook::Lasting,
        }
    }
}

fn outlook(error: &sqlx::Error) -> Outlook {
    let passing = match error {
        sqlx::Error::Database(refused) => refused
            .code()
            .and_then(|code| code.parse::<i32>().ok())
            .is_some_and(|code| {
                PASSING_CODES.contains(&(code & 0xff)) && !SYNC_CODES.contains(&code)
            }),
        sqlx::Error::PoolTimedOut => true,
        // The pool's own faults, and mistakes of this program.
        _ => false,
    };
    if passing {
        Outlook::Passing
    } else {
        Outlook::Lasting
    }
}

/// SQLite's result codes that pass: busy, locked, out of memory, read-only, input or output failed,
/// full, cannot open.
const PASSING_CODES: [i32; 7] = [5, 6, 7, 8, 10, 13, 14];
/// SQLite's codes for a sync that failed, of a file or of a directory.
const SYNC_CODES: [i32; 2] = [1034, 1290];

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    write: SqlitePool,
    read: SqlitePool,
}

impl Store {
    /// Opens or makes the database at `path` and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be opened or is newer than this program.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let failed = |attempt| move |source| StoreError::Database { attempt, source };
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(failed("open for writing"))?;
        let migrated = sqlx::migrate!("migrations/sqlite").run(&write).await;
        migrated.map_err(|error| match error {
            MigrateError::VersionMissing(version) => StoreError::Newer { version },
            other => StoreError::Migrate(other),
        })?;
        let read = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.read_only(true))
            .await
            .map_err(failed("open for reading"))?;
        Ok(Self { write, read })
    }

    /// Commits all of `writes` or nothing; returns after the disk has them.
    ///
    /// # Errors
    /// [`StoreError::Database`]: nothing was kept, and the same writes may be tried again.
    pub async fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let failed = |source| StoreError::Database {
            attempt: "commit",
            source,
        };
        let mut connection = self.write.acquire().await.map_err(failed)?;
        let done = execute_all(&mut connection, writes).await;
        give_back(connection, done).await.map_err(failed)
    }

    /// Deployments, newest first: of one track, one service, one environment or all, before `before`
    /// where that is given.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails or a row is damaged.
    pub async fn deployments(&self, page: &DeploymentPage) -> Result<Vec<Deployment>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, body FROM deployments \
             WHERE ($1 = '' OR service = $1) AND ($2 = '' OR environment = $2) AND id < $3 \
             ORDER BY id DESC LIMIT $4",
        )
        .bind(
            page.service
                .as_ref()
                .map_or("", ServiceName::as_str)
                .to_owned(),
        )
        .bind(
            page.environment
                .as_ref()
                .map_or("", EnvironmentName::as_str)
                .to_owned(),
        )
        .bind(integer(page.before.unwrap_or(u64::MAX)))
        .bind(i64::from(page.limit.min(PAGE_MAX_ROWS)))
        .fetch_all(&self.read)
        .await
        .map_err(|source| StoreError::Database {
            attempt: "list deployments",
            source,
        })?;
        rows.iter()
            .map(|row| load::parse("deployments", &row.get::<i64, _>(0), row.get(1)))
            .collect()
    }

    /// One deployment.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails or the row is damaged.
    pub async fn deployment(&self, id: u64) -> Result<Option<Deployment>, StoreError> {
        let row = sqlx::query("SELECT id, body FROM deployments WHERE id = $1")
            .bind(integer(id))
            .fetch_optional(&self.read)
            .await
            .map_err(|source| StoreError::Database {
                attempt: "read a deployment",
                source,
            })?;
        row.map(|row| load::parse("deployments", &row.get::<i64, _>(0), row.get(1)))
            .transpose()
    }

    /// The last lines that are kept of a deployment, by target.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails or a row is damaged.
    pub async fn last_lines(&self, deployment: u64) -> Result<Vec<LastLines>, StoreError> {
        let sql = "SELECT deployment, body FROM last_lines WHERE deployment = $1 ORDER BY target";
        let rows = sqlx::query(sql)
            .bind(integer(deployment))
            .fetch_all(&self.read)
            .await
            .map_err(|source| StoreError::Database {
                attempt: "read last lines",
                source,
            })?;
        rows.iter()
            .map(|row| load::parse("last_lines", &row.get::<i64, _>(0), row.get(1)))
            .collect()
    }

    /// Entries of the history after `after`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails or a row is damaged.
    pub async fn events(&self, after: u64, limit: u32) -> Result<Vec<Event>, StoreError> {
        let rows = sqlx::query(
            "SELECT sequence, body FROM events WHERE sequence > $1 ORDER BY sequence LIMIT $2",
        )
        .bind(integer(after))
        .bind(i64::from(limit.min(PAGE_MAX_ROWS)))
        .fetch_all(&self.read)
        .await
        .map_err(|source| StoreError::Database {
            attempt: "list events",
            source,
        })?;
        rows.iter()
            .map(|row| load::parse("events", &row.get::<i64, _>(0), row.get(1)))
            .collect()
    }

    /// Revisions, newest first, without the files, before `before` where that is given.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails or a row is damaged.
    pub async fn revisions(
        &self,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<holdfast_protocol::api::apply::Revision>, StoreError> {
        let rows = sqlx::query(
            "SELECT number, input_set, created_at, created_by, changes FROM revisions \
             WHERE number < $1 ORDER BY number DESC LIMIT $2",
        )
        .bind(integer(before.unwrap_or(u64::MAX)))
        .bind(i64::from(limit.min(PAGE_MAX_ROWS)))
        .fetch_all(&self.read)
        .await
        .map_err(|source| StoreError::Database {
            attempt: "list revisions",
            source,
        })?;
        rows.iter().map(load::revision_summary).collect()
    }

    /// The files of an input set as they were in force in a revision; none where the set was not
    /// there yet.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails or the row is damaged.
    pub async fn files(
        &self,
        set: &InputSetName,
        revision: u64,
    ) -> Result<Vec<ManifestFile>, StoreError> {
        let row = sqlx::query(
            "SELECT number, files FROM revisions WHERE input_set = $1 AND number <= $2 \
             ORDER BY number DESC LIMIT 1",
        )
        .bind(set.as_str().to_owned())
        .bind(integer(revision))
        .fetch_optional(&self.read)
        .await
        .map_err(|source| StoreError::Database {
            attempt: "read the files of a set",
            source,
        })?;
        row.map_or_else(
            || Ok(Vec::new()),
            |row| load::parse("revisions", &row.get::<i64, _>(0), row.get(1)),
        )
    }

    /// A configuration, by its digest.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails or the row is damaged.
    pub async fn configuration(&self, digest: Digest) -> Result<Option<Value>, StoreError> {
        let row = sqlx::query("SELECT body FROM configurations WHERE digest = $1")
            .bind(digest.to_string())
            .fetch_optional(&self.read)
            .await
            .map_err(|source| StoreError::Database {
                attempt: "read a configuration",
                source,
            })?;
        row.map(|row| load::parse("configurations", &digest.to_string(), row.get(0)))
            .transpose()
    }

    /// What was answered to the same request before, by its idempotency key: the digest of the
    /// request, the status and the body.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn answer(&self, key: &str) -> Result<Option<(String, u16, String)>, StoreError> {
        let row =
            sqlx::query("SELECT request, status, body FROM answers WHERE idempotency_key = $1")
                .bind(key.to_owned())
                .fetch_optional(&self.read)
                .await
                .map_err(|source| StoreError::Database {
                    attempt: "read an answer",
                    source,
                })?;
        Ok(row.map(|row| {
            let status = u16::try_from(row.get::<i64, _>(1)).unwrap_or(500);
            (row.get(0), status, row.get(2))
        }))
    }

    /// Keeps the answer to a request that carried an idempotency key. Answers older than a day go,
    /// and the oldest where there are too many.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn keep_answer(
        &self,
        key: &str,
        request: &str,
        status: u16,
        body: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let failed = |source| StoreError::Database {
            attempt: "keep an answer",
            source,
        };
        let row = Answered {
            key,
            request,
            status,
            body,
            at: now,
        };
        let mut connection = self.write.acquire().await.map_err(failed)?;
        let done = replace_answers(&mut connection, &row).await;
        give_back(connection, done).await.map_err(failed)
    }

    /// Writes a complete, consistent copy of the database to a file that must not exist yet.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        sqlx::query("VACUUM INTO $1")
            .bind(file.to_string_lossy().into_owned())
            .execute(&self.write)
            .await
            .map_err(|source| StoreError::Database {
                attempt: "copy itself",
                source,
            })?;
        Ok(())
    }

    /// The version of the schema.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn schema_version(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations")
            .fetch_one(&self.read)
            .await
            .map_err(|source| StoreError::Database {
                attempt: "read its version",
                source,
            })?;
        Ok(row.get(0))
    }

    /// Asks the database to check itself; what it says when all is well is `ok`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn integrity(&self) -> Result<String, StoreError> {
        let failed = |source| StoreError::Database {
            attempt: "check itself",
            source,
        };
        let row = sqlx::query("PRAGMA integrity_check")
            .fetch_one(&self.read)
            .await
            .map_err(failed)?;
        Ok(row.get(0))
    }

    /// Closes every connection; what was committed is on disk.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

/// Which deployments.
#[derive(Debug, Clone, Default)]
pub struct DeploymentPage {
    /// Only of this service.
    pub service: Option<ServiceName>,
    /// Only of this environment.
    pub environment: Option<EnvironmentName>,
    /// Only with a smaller number.
    pub before: Option<u64>,
    /// At most so many; see [`PAGE_MAX_ROWS`].
    pub limit: u32,
}

/// A connection whose transaction has failed is never used again: what is left open on it would take
/// in the next transaction, whose end would then commit nothing.
async fn give_back(
    connection: PoolConnection<Sqlite>,
    done: Result<(), sqlx::Error>,
) -> Result<(), sqlx::Error> {
    if done.is_err() {
        // Its own failure tells nothing that is not known.
        drop(connection.close().await);
    }
    done
}

async fn execute_all(db: &mut SqliteConnection, writes: &[Write]) -> Result<(), sqlx::Error> {
    // Named, so that it fails where a transaction is open already instead of becoming part of it.
    let mut transaction = db.begin_with("BEGIN").await?;
    for write in writes {
        write::execute(&mut transaction, write).await?;
    }
    transaction.commit().await
}

/// An answer to a request that carried an idempotency key.
struct Answered<'a> {
    key: &'a str,
    request: &'a str,
    status: u16,
    body: &'a str,
    at: Timestamp,
}

/// Keeps an answer and drops those that are too old or too many.
async fn replace_answers(
    db: &mut SqliteConnection,
    answered: &Answered<'_>,
) -> Result<(), sqlx::Error> {
    let day = answered.at.as_millis().saturating_sub(ANSWERS_KEPT_MILLIS);
    let mut transaction = db.begin_with("BEGIN").await?;
    for (sql, bound) in [
        ("DELETE FROM answers WHERE at < $1", integer(day)),
        (
            "DELETE FROM answers WHERE idempotency_key IN \
             (SELECT idempotency_key FROM answers ORDER BY at DESC LIMIT 1000 OFFSET $1)",
            ANSWERS_MAX_ROWS - 1,
        ),
    ] {
        sqlx::query(sql)
            .bind(bound)
            .execute(&mut *transaction)
            .await?;
    }
    sqlx::query(
        "INSERT INTO answers (idempotency_key, request, status, body, at) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (idempotency_key) DO NOTHING",
    )
    .bind(answered.key.to_owned())
    .bind(answered.request.to_owned())
    .bind(i64::from(answered.status))
    .bind(answered.body.to_owned())
    .bind(integer(answered.at.as_millis()))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

/// Numbers in the database are signed; ours stay far below half the range.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
