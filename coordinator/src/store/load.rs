//! Reading everything back at start. Rows that carry a digest are checked against it.

use std::collections::BTreeMap;

use holdfast_engine::compiled::Configuration;
use holdfast_engine::track::{Track, TrackName};
use holdfast_protocol::api::event::Event;
use holdfast_protocol::api::freeze::Freeze;
use holdfast_protocol::api::release::Release;
use holdfast_protocol::assignment::SignedAssignment;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{EnvironmentName, InputSetName, ServiceName, TargetName};
use holdfast_protocol::time::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, row};

/// Everything that the driver decides from.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Facts about the installation.
    pub installation: row::Installation,
    /// The newest revision's number; 0 before the first.
    pub revision: u64,
    /// The files of each input set as JSON.
    pub sets: BTreeMap<InputSetName, String>,
    /// Configurations by digest.
    pub configurations: BTreeMap<Digest, Configuration>,
    /// Workload bodies by digest.
    pub bodies: BTreeMap<Digest, Vec<u8>>,
    /// Releases, ascending by service and sequence.
    pub releases: Vec<Release>,
    /// Tracks, without their placements.
    pub tracks: Vec<Track>,
    /// Removals under way.
    pub removals: BTreeMap<TrackName, row::Removal>,
    /// What is placed where.
    pub placements: Vec<(TargetName, ServiceName, row::Placed)>,
    /// Targets.
    pub targets: Vec<row::Target>,
    /// Certificates that have not expired or were revoked.
    pub certificates: Vec<row::Certificate>,
    /// The newest assignment of each target.
    pub assignments: BTreeMap<TargetName, SignedAssignment>,
    /// What was last observed.
    pub observed: Vec<(TargetName, row::Observed)>,
    /// Join tokens.
    pub tokens: Vec<row::Token>,
    /// Whom tokens let in.
    pub joins: Vec<row::Join>,
    /// Artifacts and their lengths.
    pub artifacts: BTreeMap<Digest, u64>,
    /// Users.
    pub users: Vec<row::User>,
    /// Declared roles.
    pub roles: Vec<row::Role>,
    /// The freezes in force.
    pub freezes: Vec<Freeze>,
    /// What notifiers have not told yet.
    pub notices: Vec<row::Notice>,
    /// Every value of a secret that is kept.
    pub secrets: Vec<row::Secret>,
    /// The last entry of the history.
    pub head: Option<Event>,
    /// The greatest number of a deployment; 0 before the first.
    pub last_deployment: u64,
}

impl Store {
    /// Reads everything.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails or a row is damaged.
    pub async fn load(&self) -> Result<Loaded, StoreError> {
        let mut loaded = Loaded::default();
        self.load_declared(&mut loaded).await?;
        self.load_tracks(&mut loaded).await?;
        self.load_targets(&mut loaded).await?;
        self.load_access(&mut loaded).await?;
        self.load_history(&mut loaded).await?;
        self.load_outside(&mut loaded).await?;
        self.load_secrets(&mut loaded).await?;
        Ok(loaded)
    }

    async fn rows(&self, sql: &'static str) -> Result<Vec<SqliteRow>, StoreError> {
        sqlx::query(sql)
            .fetch_all(&self.write)
            .await
            .map_err(|source| StoreError::Database {
                attempt: "load",
                source,
            })
    }

    async fn load_declared(&self, loaded: &mut Loaded) -> Result<(), StoreError> {
        for row in self.rows("SELECT key, value FROM installation").await? {
            loaded.installation.insert(row.get(0), row.get(1));
        }
        let newest = "SELECT number, input_set, files, digest FROM revisions r WHERE number = \
             (SELECT MAX(number) FROM revisions s WHERE s.input_set = r.input_set)";
        for row in self.rows(newest).await? {
            let number = row.get::<i64, _>(0);
            let files: String = row.get(2);
            checked("revisions", &number, files.as_bytes(), row.get(3))?;
            loaded.revision = loaded.revision.max(unsigned(number));
            loaded
                .sets
                .insert(name("revisions", &number, row.get(1))?, files);
        }
        for row in self.rows("SELECT digest, body FROM configurations").await? {
            let (digest, body): (String, String) = (row.get(0), row.get(1));
            let digest = checked("configurations", &digest.clone(), body.as_bytes(), digest)?;
            loaded
                .configurations
                .insert(digest, parse("configurations", &digest, body)?);
        }
        for row in self.rows("SELECT digest, bytes FROM bodies").await? {
            let (digest, bytes): (String, Vec<u8>) = (row.get(0), row.get(1));
            loaded
                .bodies
                .insert(checked("bodies", &digest.clone(), &bytes, digest)?, bytes);
        }
        for row in self
            .rows("SELECT version, body FROM releases ORDER BY service, sequence")
            .await?
        {
            loaded
                .releases
                .push(parse("releases", &row.get::<String, _>(0), row.get(1))?);
        }
        for row in self.rows("SELECT digest, size FROM artifacts").await? {
            let digest: String = row.get(0);
            loaded.artifacts.insert(
                name("artifacts", &digest.clone(), digest)?,
                unsigned(row.get(1)),
            );
        }
        Ok(())
    }

    async fn load_tracks(&self, loaded: &mut Loaded) -> Result<(), StoreError> {
        for row in self.rows("SELECT service, body FROM tracks").await? {
            loaded
                .tracks
                .push(parse("tracks", &row.get::<String, _>(0), row.get(1))?);
        }
        for row in self
            .rows("SELECT service, environment, revision, confirmed FROM removals")
            .await?
        {
            let key: String = row.get(0);
            let track = TrackName {
                service: name("removals", &key, key.clone())?,
                environment: name("removals", &key, row.get(1))?,
            };
            let removal = row::Removal {
                revision: unsigned(row.get(2)),
                confirmed: row.get::<i64, _>(3) != 0,
            };
            loaded.removals.insert(track, removal);
        }
        let placed = "SELECT target, service, point, since, body, problem FROM placements";
        for row in self.rows(placed).await? {
            let key: String = row.get(0);
            let body = match row.get::<Option<String>, _>(4) {
                Some(digest) => Ok(name("placements", &key, digest)?),
                None => Err(row.get::<Option<String>, _>(5).unwrap_or_default()),
            };
            let placed = row::Placed {
                point: parse("placements", &key, row.get(2))?,
                since: Timestamp::from_millis(unsigned(row.get(3))),
                body,
            };
            loaded.placements.push((
                name("placements", &key, key.clone())?,
                name("placements", &key, row.get(1))?,
                placed,
            ));
        }
        Ok(())
    }

    async fn load_targets(&self, loaded: &mut Loaded) -> Result<(), StoreError> {
        for row in self.rows("SELECT name, body FROM targets").await? {
            loaded
                .targets
                .push(parse("targets", &row.get::<String, _>(0), row.get(1))?);
        }
        let certificates =
            "SELECT serial, target, environment, not_after, revoked_at FROM certificates";
        for row in self.rows(certificates).await? {
            let serial: String = row.get(0);
            loaded.certificates.push(row::Certificate {
                target: name("certificates", &serial, row.get(1))?,
                environment: name::<EnvironmentName>("certificates", &serial, row.get(2))?,
                not_after: Timestamp::from_millis(unsigned(row.get(3))),
                revoked_at: row
                    .get::<Option<i64>, _>(4)
                    .map(|at| Timestamp::from_millis(unsigned(at))),
                serial,
            });
        }
        for row in self
            .rows("SELECT target, bytes, signature FROM assignments")
            .await?
        {
            let target: String = row.get(0);
            let signed = SignedAssignment {
                bytes: row.get(1),
                signature: row.get(2),
            };
            loaded
                .assignments
                .insert(name("assignments", &target.clone(), target)?, signed);
        }
        for row in self.rows("SELECT target, body FROM observed").await? {
            let target: String = row.get(0);
            let observed = parse("observed", &target, row.get(1))?;
            loaded
                .observed
                .push((name("observed", &target.clone(), target)?, observed));
        }
        Ok(())
    }

    async fn load_access(&self, loaded: &mut Loaded) -> Result<(), StoreError> {
        for row in self.rows("SELECT id, body FROM tokens").await? {
            loaded
                .tokens
                .push(parse("tokens", &row.get::<String, _>(0), row.get(1))?);
        }
        for row in self.rows("SELECT token, body FROM joins").await? {
            loaded
                .joins
                .push(parse("joins", &row.get::<String, _>(0), row.get(1))?);
        }
        for row in self.rows("SELECT token_hash, body FROM users").await? {
            loaded
                .users
                .push(parse("users", &row.get::<String, _>(0), row.get(1))?);
        }
        for row in self.rows("SELECT name, body FROM roles").await? {
            loaded
                .roles
                .push(parse("roles", &row.get::<String, _>(0), row.get(1))?);
        }
        Ok(())
    }

    async fn load_outside(&self, loaded: &mut Loaded) -> Result<(), StoreError> {
        for row in self.rows("SELECT environment, body FROM freezes").await? {
            let freeze = parse("freezes", &row.get::<String, _>(0), row.get(1))?;
            loaded.freezes.push(freeze);
        }
        for row in self.rows("SELECT sequence, body FROM notices").await? {
            let notice = parse("notices", &row.get::<i64, _>(0), row.get(1))?;
            loaded.notices.push(notice);
        }
        Ok(())
    }

    async fn load_secrets(&self, loaded: &mut Loaded) -> Result<(), StoreError> {
        let all = "SELECT environment, name, version, closed, set_at, set_by FROM secrets";
        for row in self.rows(all).await? {
            let key: String = row.get(1);
            loaded.secrets.push(row::Secret {
                environment: name("secrets", &key, row.get(0))?,
                name: name("secrets", &key, key.clone())?,
                version: unsigned(row.get(2)),
                closed: row.get(3),
                set_at: Timestamp::from_millis(unsigned(row.get(4))),
                set_by: row.get(5),
            });
        }
        Ok(())
    }

    async fn load_history(&self, loaded: &mut Loaded) -> Result<(), StoreError> {
        let last = "SELECT sequence, body FROM events ORDER BY sequence DESC LIMIT 1";
        for row in self.rows(last).await? {
            loaded.head = Some(parse("events", &row.get::<i64, _>(0), row.get(1))?);
        }
        for row in self
            .rows("SELECT COALESCE(MAX(id), 0) FROM deployments")
            .await?
        {
            loaded.last_deployment = unsigned(row.get(0));
        }
        Ok(())
    }
}

/// A revision without its files.
pub(super) fn revision_summary(
    row: &SqliteRow,
) -> Result<holdfast_protocol::api::apply::Revision, StoreError> {
    let number = row.get::<i64, _>(0);
    Ok(holdfast_protocol::api::apply::Revision {
        number: unsigned(number),
        set: name("revisions", &number, row.get(1))?,
        created_at: Timestamp::from_millis(unsigned(row.get(2))),
        created_by: row.get(3),
        changes: parse("revisions", &number, row.get(4))?,
    })
}

/// Reads a JSON body.
pub(super) fn parse<T: DeserializeOwned>(
    table: &'static str,
    key: &dyn ToString,
    body: String,
) -> Result<T, StoreError> {
    serde_json::from_str(&body).map_err(|error| damaged(table, key, &error))
}

fn name<T: std::str::FromStr>(
    table: &'static str,
    key: &dyn ToString,
    text: String,
) -> Result<T, StoreError>
where
    T::Err: ToString,
{
    text.parse()
        .map_err(|error: T::Err| damaged(table, key, &error))
}

/// Checks content against the digest it is stored under.
fn checked(
    table: &'static str,
    key: &dyn ToString,
    content: &[u8],
    digest: String,
) -> Result<Digest, StoreError> {
    let expected: Digest = name(table, key, digest)?;
    if Digest::of(content) == expected {
        Ok(expected)
    } else {
        Err(damaged(
            table,
            key,
            &"its content does not match its digest",
        ))
    }
}

fn damaged(table: &'static str, key: &dyn ToString, problem: &dyn ToString) -> StoreError {
    StoreError::Damaged {
        table,
        key: key.to_string(),
        problem: problem.to_string(),
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
