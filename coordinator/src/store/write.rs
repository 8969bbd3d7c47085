//! What can be kept: one kind of write, one statement.

use holdfast_engine::track::{Track, TrackName};
use holdfast_protocol::api::deployment::{Deployment, LastLines};
use holdfast_protocol::api::event::Event;
use holdfast_protocol::api::freeze::Freeze;
use holdfast_protocol::api::release::Release;
use holdfast_protocol::assignment::SignedAssignment;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{
    EnvironmentName, NotifierName, RoleName, SecretName, ServiceName, TargetName,
};
use holdfast_protocol::time::Timestamp;
use serde::Serialize;
use sqlx::sqlite::SqliteConnection;

use super::{integer, row};

/// Newest deployments of which last lines are kept; of those that failed, 128 KiB each.
const LAST_LINES_DEPLOYMENTS_MAX: u64 = 1_000;

/// One change to be kept.
#[derive(Debug, Clone)]
pub enum Write {
    /// A new revision, with the whole content of its input set.
    Revision(row::Revision),
    /// A configuration that a track refers to.
    Configuration {
        /// Its digest.
        digest: Digest,
        /// Its canonical JSON.
        body: String,
    },
    /// A rendered workload body.
    Body {
        /// Its digest.
        digest: Digest,
        /// Its canonical bytes.
        bytes: Vec<u8>,
    },
    /// A new release.
    Release(Release),
    /// A track, new or changed.
    Track(Box<Track>),
    /// A track that is gone.
    DropTrack(TrackName),
    /// A removal that waits for a person or was confirmed; none when there is no removal any more.
    Removal(TrackName, Option<row::Removal>),
    /// What a target is assigned of a service; none when nothing.
    Placement {
        /// The target.
        target: TargetName,
        /// The service.
        service: ServiceName,
        /// What is placed there.
        placed: Option<row::Placed>,
    },
    /// A deployment, new or changed.
    Deployment(Box<Deployment>),
    /// The last lines of a service on a target where a deployment failed.
    LastLines {
        /// The deployment.
        deployment: u64,
        /// The target and what was written there.
        lines: LastLines,
    },
    /// A target, new or changed.
    Target(Box<row::Target>),
    /// A target that has left.
    DropTarget(TargetName),
    /// A certificate that was issued.
    Certificate(row::Certificate),
    /// Every certificate of a target is void from now on.
    RevokeCertificates {
        /// Whose.
        target: TargetName,
        /// When.
        at: Timestamp,
    },
    /// A target's newest assignment.
    Assignment {
        /// The target.
        target: TargetName,
        /// The assignment.
        signed: SignedAssignment,
    },
    /// What was observed of a service on a target; none when nothing is there.
    Observed {
        /// The target.
        target: TargetName,
        /// The service.
        service: ServiceName,
        /// What was observed.
        observed: Option<row::Observed>,
    },
    /// One value of a secret.
    Secret(Box<row::Secret>),
    /// A value that is not kept any more.
    DropSecret {
        /// Of which environment.
        environment: EnvironmentName,
        /// The secret.
        name: SecretName,
        /// The value's number.
        version: u64,
    },
    /// A join token, new or changed.
    Token(row::Token),
    /// Somebody whom a token let in.
    Join(row::Join),
    /// A workload body that nobody needs any more.
    DropBody(Digest),
    /// A join that cannot be repeated any more.
    DropJoin {
        /// The token's public part.
        token: String,
        /// Digest of the public key.
        public_key: Digest,
    },
    /// A join token that expired long ago.
    DropToken(String),
    /// A certificate, by serial number, that nobody could renew any more.
    DropCertificate(String),
    /// An artifact whose content is complete.
    Artifact {
        /// Its digest.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
    },
    /// An artifact whose content is removed.
    DropArtifact(Digest),
    /// An entry of the history.
    Event(Box<Event>),
    /// Somebody who may use the API.
    User(row::User),
    /// A bearer token, by its hash, that is void.
    DropUser(Digest),
    /// A role that somebody declared, new or changed.
    Role(Box<row::Role>),
    /// A role that is gone.
    DropRole(RoleName),
    /// A freeze, new or with another reason.
    Freeze(Box<Freeze>),
    /// A freeze that is over: of this environment, or of all.
    DropFreeze(Option<EnvironmentName>),
    /// An event that a notifier has to tell.
    Notice(Box<row::Notice>),
    /// One that it has told, or never will.
    DropNotice {
        /// The event's number.
        sequence: u64,
        /// The notifier.
        notifier: NotifierName,
    },
    /// A fact about the installation.
    Installation {
        /// Which.
        key: &'static str,
        /// What.
        value: String,
    },
}

/// The one place where each kind of write becomes a statement.
#[expect(
    clippy::too_many_lines,
    reason = "a flat list of statements, one for each kind of write"
)]
pub(super) async fn execute(db: &mut SqliteConnection, write: &Write) -> Result<(), sqlx::Error> {
    let query = match write {
        Write::Revision(revision) => sqlx::query(
            "INSERT INTO revisions \
             (number, input_set, files, digest, changes, created_at, created_by) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (number) DO NOTHING",
        )
        .bind(integer(revision.number))
        .bind(revision.set.to_string())
        .bind(revision.files.clone())
        .bind(Digest::of(revision.files.as_bytes()).to_string())
        .bind(json(&revision.changes))
        .bind(integer(revision.created_at.as_millis()))
        .bind(revision.created_by.clone()),
        Write::Configuration { digest, body } => sqlx::query(
            "INSERT INTO configurations (digest, body) VALUES ($1, $2) \
             ON CONFLICT (digest) DO NOTHING",
        )
        .bind(digest.to_string())
        .bind(body.clone()),
        Write::Body { digest, bytes } => sqlx::query(
            "INSERT INTO bodies (digest, bytes) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING",
        )
        .bind(digest.to_string())
        .bind(bytes.clone()),
        Write::Release(release) => sqlx::query(
            "INSERT INTO releases (service, version, sequence, body) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (service, version) DO NOTHING",
        )
        .bind(release.service.to_string())
        .bind(release.version.to_string())
        .bind(integer(release.sequence))
        .bind(json(release)),
        Write::Track(track) => sqlx::query(
            "INSERT INTO tracks (service, environment, body) VALUES ($1, $2, $3) \
             ON CONFLICT (service, environment) DO UPDATE SET body = excluded.body",
        )
        .bind(track.name.service.to_string())
        .bind(track.name.environment.to_string())
        .bind(json(track)),
        Write::DropTrack(name) => {
            sqlx::query("DELETE FROM tracks WHERE service = $1 AND environment = $2")
                .bind(name.service.to_string())
                .bind(name.environment.to_string())
        }
        Write::Removal(name, Some(removal)) => sqlx::query(
            "INSERT INTO removals (service, environment, revision, confirmed) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (service, environment) \
             DO UPDATE SET revision = excluded.revision, confirmed = excluded.confirmed",
        )
        .bind(name.service.to_string())
        .bind(name.environment.to_string())
        .bind(integer(removal.revision))
        .bind(i64::from(removal.confirmed)),
        Write::Removal(name, None) => {
            sqlx::query("DELETE FROM removals WHERE service = $1 AND environment = $2")
                .bind(name.service.to_string())
                .bind(name.environment.to_string())
        }
        Write::Placement {
            target,
            service,
            placed: Some(placed),
        } => sqlx::query(
            "INSERT INTO placements (target, service, point, since, body, problem) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (target, service) \
             DO UPDATE SET point = excluded.point, since = excluded.since, \
             body = excluded.body, problem = excluded.problem",
        )
        .bind(target.to_string())
        .bind(service.to_string())
        .bind(json(&placed.point))
        .bind(integer(placed.since.as_millis()))
        .bind(placed.body.as_ref().ok().map(ToString::to_string))
        .bind(placed.body.as_ref().err().cloned()),
        Write::Placement {
            target,
            service,
            placed: None,
        } => sqlx::query("DELETE FROM placements WHERE target = $1 AND service = $2")
            .bind(target.to_string())
            .bind(service.to_string()),
        Write::Deployment(deployment) => sqlx::query(
            "INSERT INTO deployments (id, service, environment, body) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (id) DO UPDATE SET body = excluded.body",
        )
        .bind(integer(deployment.id))
        .bind(deployment.service.to_string())
        .bind(deployment.environment.to_string())
        .bind(json(deployment)),
        Write::LastLines { deployment, lines } => {
            sqlx::query("DELETE FROM last_lines WHERE deployment <= $1")
                .bind(integer(
                    deployment.saturating_sub(LAST_LINES_DEPLOYMENTS_MAX),
                ))
                .execute(&mut *db)
                .await?;
            sqlx::query(
                "INSERT INTO last_lines (deployment, target, body) VALUES ($1, $2, $3) \
                 ON CONFLICT (deployment, target) DO UPDATE SET body = excluded.body",
            )
            .bind(integer(*deployment))
            .bind(lines.target.to_string())
            .bind(json(lines))
        }
        Write::Target(target) => sqlx::query(
            "INSERT INTO targets (name, environment, body) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET environment = excluded.environment, \
             body = excluded.body",
        )
        .bind(target.name.to_string())
        .bind(target.environment.to_string())
        .bind(json(target)),
        Write::DropTarget(name) => {
            for sql in [
                "DELETE FROM placements WHERE target = $1",
                "DELETE FROM observed WHERE target = $1",
                "DELETE FROM assignments WHERE target = $1",
            ] {
                sqlx::query(sql)
                    .bind(name.to_string())
                    .execute(&mut *db)
                    .await?;
            }
            sqlx::query("DELETE FROM targets WHERE name = $1").bind(name.to_string())
        }
        Write::Certificate(certificate) => sqlx::query(
            "INSERT INTO certificates (serial, target, environment, not_after, revoked_at) \
             VALUES ($1, $2, $3, $4, NULL) ON CONFLICT (serial) DO NOTHING",
        )
        .bind(certificate.serial.clone())
        .bind(certificate.target.to_string())
        .bind(certificate.environment.to_string())
        .bind(integer(certificate.not_after.as_millis())),
        Write::RevokeCertificates { target, at } => sqlx::query(
            "UPDATE certificates SET revoked_at = $2 WHERE target = $1 AND revoked_at IS NULL",
        )
        .bind(target.to_string())
        .bind(integer(at.as_millis())),
        Write::Assignment { target, signed } => sqlx::query(
            "INSERT INTO assignments (target, bytes, signature) VALUES ($1, $2, $3) \
             ON CONFLICT (target) DO UPDATE SET bytes = excluded.bytes, \
             signature = excluded.signature",
        )
        .bind(target.to_string())
        .bind(signed.bytes.clone())
        .bind(signed.signature.clone()),
        Write::Observed {
            target,
            service,
            observed: Some(observed),
        } => sqlx::query(
            "INSERT INTO observed (target, service, body) VALUES ($1, $2, $3) \
             ON CONFLICT (target, service) DO UPDATE SET body = excluded.body",
        )
        .bind(target.to_string())
        .bind(service.to_string())
        .bind(json(observed)),
        Write::Observed {
            target,
            service,
            observed: None,
        } => sqlx::query("DELETE FROM observed WHERE target = $1 AND service = $2")
            .bind(target.to_string())
            .bind(service.to_string()),
        Write::Secret(secret) => sqlx::query(
            "INSERT INTO secrets (environment, name, version, closed, set_at, set_by) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (environment, name, version) \
             DO UPDATE SET closed = excluded.closed, set_at = excluded.set_at, \
             set_by = excluded.set_by",
        )
        .bind(secret.environment.to_string())
        .bind(secret.name.to_string())
        .bind(integer(secret.version))
        .bind(secret.closed.clone())
        .bind(integer(secret.set_at.as_millis()))
        .bind(secret.set_by.clone()),
        Write::DropSecret {
            environment,
            name,
            version,
        } => {
            sqlx::query("DELETE FROM secrets WHERE environment = $1 AND name = $2 AND version = $3")
                .bind(environment.to_string())
                .bind(name.to_string())
                .bind(integer(*version))
        }
        Write::Token(token) => sqlx::query(
            "INSERT INTO tokens (id, body) VALUES ($1, $2) \
             ON CONFLICT (id) DO UPDATE SET body = excluded.body",
        )
        .bind(token.about.id.clone())
        .bind(json(token)),
        Write::Join(join) => sqlx::query(
            "INSERT INTO joins (token, public_key, body) VALUES ($1, $2, $3) \
             ON CONFLICT (token, public_key) DO UPDATE SET body = excluded.body",
        )
        .bind(join.token.clone())
        .bind(join.public_key.to_string())
        .bind(json(join)),
        Write::DropBody(digest) => {
            sqlx::query("DELETE FROM bodies WHERE digest = $1").bind(digest.to_string())
        }
        Write::DropJoin { token, public_key } => {
            sqlx::query("DELETE FROM joins WHERE token = $1 AND public_key = $2")
                .bind(token.clone())
                .bind(public_key.to_string())
        }
        Write::DropToken(id) => sqlx::query("DELETE FROM tokens WHERE id = $1").bind(id.clone()),
        Write::DropCertificate(serial) => {
            sqlx::query("DELETE FROM certificates WHERE serial = $1").bind(serial.clone())
        }
        Write::Artifact { digest, size } => sqlx::query(
            "INSERT INTO artifacts (digest, size) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING",
        )
        .bind(digest.to_string())
        .bind(integer(*size)),
        Write::DropArtifact(digest) => {
            sqlx::query("DELETE FROM artifacts WHERE digest = $1").bind(digest.to_string())
        }
        Write::Event(event) => sqlx::query(
            "INSERT INTO events (sequence, body, hash) VALUES ($1, $2, $3) \
             ON CONFLICT (sequence) DO NOTHING",
        )
        .bind(integer(event.sequence))
        .bind(json(event))
        .bind(event.hash.to_string()),
        Write::User(user) => sqlx::query(
            "INSERT INTO users (token_hash, body) VALUES ($1, $2) \
             ON CONFLICT (token_hash) DO UPDATE SET body = excluded.body",
        )
        .bind(user.token_hash.to_string())
        .bind(json(user)),
        Write::DropUser(token_hash) => {
            sqlx::query("DELETE FROM users WHERE token_hash = $1").bind(token_hash.to_string())
        }
        Write::Role(role) => sqlx::query(
            "INSERT INTO roles (name, body) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET body = excluded.body",
        )
        .bind(role.name.to_string())
        .bind(json(role)),
        Write::DropRole(name) => {
            sqlx::query("DELETE FROM roles WHERE name = $1").bind(name.to_string())
        }
        Write::Freeze(freeze) => sqlx::query(
            "INSERT INTO freezes (environment, body) VALUES ($1, $2) \
             ON CONFLICT (environment) DO UPDATE SET body = excluded.body",
        )
        .bind(everywhere(freeze.environment.as_ref()))
        .bind(json(freeze)),
        Write::DropFreeze(environment) => sqlx::query("DELETE FROM freezes WHERE environment = $1")
            .bind(everywhere(environment.as_ref())),
        Write::Notice(notice) => sqlx::query(
            "INSERT INTO notices (sequence, notifier, body) VALUES ($1, $2, $3) \
             ON CONFLICT (sequence, notifier) DO NOTHING",
        )
        .bind(integer(notice.event.sequence))
        .bind(notice.notifier.to_string())
        .bind(json(notice)),
        Write::DropNotice { sequence, notifier } => {
            sqlx::query("DELETE FROM notices WHERE sequence = $1 AND notifier = $2")
                .bind(integer(*sequence))
                .bind(notifier.to_string())
        }
        Write::Installation { key, value } => sqlx::query(
            "INSERT INTO installation (key, value) VALUES ($1, $2) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .bind(*key)
        .bind(value.clone()),
    };
    query.execute(&mut *db).await.map(|_| ())
}

/// All environments are the one without a name.
fn everywhere(environment: Option<&EnvironmentName>) -> String {
    environment.map(ToString::to_string).unwrap_or_default()
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("our own types serialise")
}
