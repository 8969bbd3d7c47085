//! What this target must know to go on without the coordinator: the assignment in force and the one
//! before it, their bodies, the highest number ever taken, and how bodies fared.
//!
//! ```text
//! DATA/cache/current     the newest assignment           DATA/cache/highest    number and digest
//! DATA/cache/previous    the one before it               DATA/cache/standings  last good, given up
//! DATA/cache/bodies/HEX  bodies, named by their SHA-256   DATA/cache/hold       what is kept until when
//! ```
//!
//! *Guarantees:* a record is the old one or the new one, never part of each. A newest assignment that
//! cannot be read, or lacks a body, is passed over for the one before it, as a whole; what is known to
//! have been good since then is wanted in its place ([`remembered`]). With neither, what is wanted is
//! **unknown**, which asks for nothing. After a failed write the old state stays in
//! force on disk and in memory.

pub mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bincode::{Decode, Encode};
use holdfast_certs::identity::Identity;
use holdfast_protocol::assignment::{ASSIGNMENT_MAX_BYTES, Assignment, Held, SignedAssignment};
use holdfast_protocol::codec;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::workload::BODY_MAX_BYTES;

use crate::accept::{self, Verify};
use crate::desired::{Bodies, Desired, Intent, Standing, Standings};
use crate::hold;

use record::RecordError;

/// The cache of one target.
#[derive(Debug)]
pub struct Cache {
    directory: PathBuf,
}

/// Why the cache could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A directory could not be made.
    #[error("could not make the directory {path}")]
    Directory {
        /// Which.
        path: String,
        /// What the file system said.
        source: io::Error,
    },
    /// A record could not be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Everything that the cache holds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What is wanted.
    pub desired: Desired,
    /// When the assignment in force was made, by the coordinator's clock: no earlier can it be now.
    pub issued_at: Option<holdfast_protocol::time::Timestamp>,
    /// Every body that could be read.
    pub bodies: Bodies,
    /// Bodies of the assignment before the one in force.
    pub previous: BTreeSet<Digest>,
    /// How bodies fared.
    pub standings: Standings,
    /// The highest number ever taken, as far as is known.
    pub highest: Option<Held>,
    /// What could not be read, for people; nothing when all is well.
    pub damage: Option<String>,
}

impl Cache {
    /// Opens the cache in `directory`, made where it is not there.
    ///
    /// # Errors
    /// [`CacheError::Directory`].
    pub fn open(directory: &Path) -> Result<Self, CacheError> {
        let bodies = directory.join("bodies");
        fs::create_dir_all(&bodies).map_err(|source| CacheError::Directory {
            path: bodies.display().to_string(),
            source,
        })?;
        // A record is durable only where its directory is.
        for made in [Some(directory), directory.parent()].into_iter().flatten() {
            record::sync_directory(made).map_err(|source| CacheError::Directory {
                path: made.display().to_string(),
                source,
            })?;
        }
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// Reads everything; what is damaged is passed over and named.
    #[must_use]
    pub fn load(&self, identity: &Identity, verify: Verify<'_>) -> Loaded {
        if self.is_of_another(identity) {
            // This target joined anew and was interrupted before it forgot. The numbers of another
            // environment would make every assignment of this one look old.
            self.forget();
            return Loaded::default();
        }
        let mut damage = Vec::new();
        let mut read = |name: &str| {
            self.assignment(name, identity, verify)
                .unwrap_or_else(|problem| {
                    damage.push(problem);
                    None
                })
        };
        let (current, previous) = (read("current"), read("previous"));
        let highest = note(&mut damage, self.read_value::<Held>("highest", 1024)).flatten();
        let standings = note(&mut damage, self.standings()).unwrap_or_default();
        let in_force = current.as_ref().or(previous.as_ref());
        let highest = in_force
            .map(|a| a.held)
            .into_iter()
            .chain(highest)
            .max_by_key(|h| h.generation);
        let newest = in_force.map(|a| a.held.generation) >= highest.map(|h| h.generation);
        if !newest && damage.is_empty() {
            damage.push("the newest assignment is not there".to_owned());
        }
        let at_hand = |body| self.intent(body).is_some();
        let mut loaded = Loaded {
            desired: in_force
                .map(|a| match desired(&a.assignment, a.held) {
                    Desired::Known { held, wanted } if !newest => Desired::Known {
                        held,
                        wanted: remembered(wanted, &standings, &at_hand),
                    },
                    whole @ (Desired::Known { .. } | Desired::Unknown) => whole,
                })
                .unwrap_or_default(),
            issued_at: in_force.map(|a| a.assignment.issued_at),
            previous: previous
                .iter()
                .flat_map(|a| a.bodies.keys().copied())
                .collect(),
            bodies: Bodies::new(),
            highest,
            standings,
            damage: (!damage.is_empty()).then(|| damage.join("; ")),
        };
        loaded
            .bodies
            .extend(current.into_iter().chain(previous).flat_map(|a| a.bodies));
        for good in loaded
            .standings
            .values()
            .filter_map(|standing| standing.good)
        {
            if let Some(intent) = self.intent(good) {
                loaded.bodies.entry(good).or_insert(intent);
            }
        }
        loaded
    }

    /// The bytes of a body, if they are here and whole.
    #[must_use]
    pub fn body(&self, digest: Digest) -> Option<Vec<u8>> {
        let bytes = fs::read(self.body_path(digest)).ok()?;
        (bytes.len() <= BODY_MAX_BYTES && Digest::of(&bytes) == digest).then_some(bytes)
    }

    /// Makes an accepted assignment the newest one. `bodies` are those that may not be here yet.
    ///
    /// # Errors
    /// [`CacheError::Record`]; what was in force still is.
    pub fn store(
        &self,
        signed: &SignedAssignment,
        held: Held,
        bodies: &BTreeMap<Digest, Vec<u8>>,
    ) -> Result<(), CacheError> {
        for (digest, bytes) in bodies {
            if self.body(*digest).is_none() {
                record::replace_raw(&self.body_path(*digest), bytes)?;
            }
        }
        // A newest record that is damaged must not push out the good one before it.
        let payload = codec::encode(signed);
        match record::read(&self.path("current")) {
            Ok(Some(current)) if current != payload => {
                record::replace(&self.path("previous"), &current)?;
            }
            Ok(Some(_) | None) | Err(_) => {}
        }
        record::replace(&self.path("current"), &payload)?;
        record::replace(&self.path("highest"), &codec::encode(&held))?;
        Ok(())
    }

    /// Remembers how bodies fared.
    ///
    /// # Errors
    /// [`CacheError::Record`]; what was remembered before still is.
    pub fn remember(&self, standings: &Standings) -> Result<(), CacheError> {
        let lines = standings.iter();
        let lines = lines.map(|(service, s)| StandingLine {
            service: service.clone(),
            standing: *s,
        });
        let payload = codec::encode(&lines.collect::<Vec<_>>());
        Ok(record::replace(&self.path("standings"), &payload)?)
    }

    /// The hold that was kept, if there is one.
    ///
    /// # Errors
    /// [`CacheError::Record`] where it cannot be read.
    pub fn hold(&self) -> Result<Option<hold::Kept>, CacheError> {
        let path = self.path("hold");
        let Some(payload) = record::read(&path)? else {
            return Ok(None);
        };
        let limit = payload.len();
        let kept = codec::decode(&payload, limit).map_err(|_| RecordError::Damaged {
            path: path.display().to_string(),
            problem: "it is no hold that this release knows",
        })?;
        Ok(Some(kept))
    }

    /// Keeps a hold over restarts.
    ///
    /// # Errors
    /// [`CacheError::Record`]; what was kept before still is.
    pub fn keep_hold(&self, kept: &hold::Kept) -> Result<(), CacheError> {
        Ok(record::replace(&self.path("hold"), &codec::encode(kept))?)
    }

    /// Ends the hold that is kept, for good.
    ///
    /// # Errors
    /// [`CacheError::Record`]; it may still be kept.
    pub fn end_hold(&self) -> Result<(), CacheError> {
        Ok(record::remove(&self.path("hold"))?)
    }

    /// Removes the bodies that nothing needs: all but `keep`.
    pub fn collect(&self, keep: &BTreeSet<Digest>) {
        let kept: BTreeSet<String> = keep.iter().map(Digest::hex).collect();
        let Ok(entries) = fs::read_dir(self.directory.join("bodies")) else {
            return;
        };
        for entry in entries.flatten() {
            if !entry
                .file_name()
                .to_str()
                .is_some_and(|name| kept.contains(name))
            {
                // One that stays is removed the next time.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Whether the newest assignment was taken by another target than this one.
    fn is_of_another(&self, identity: &Identity) -> bool {
        let payload = record::read(&self.path("current")).ok().flatten();
        let signed: Option<SignedAssignment> =
            payload.and_then(|payload| codec::decode(&payload, ASSIGNMENT_MAX_BYTES + 1024).ok());
        let assignment = signed.and_then(|signed| signed.open_unverified().ok());
        assignment.is_some_and(|assignment| {
            assignment.environment != identity.environment || assignment.target != identity.target
        })
    }

    /// Forgets everything.
    pub fn forget(&self) {
        // By the newest assignment it is seen whose all of this is, so that goes last.
        for name in ["previous", "highest", "standings", "hold", "current"] {
            // What stays is for a target that no longer exists, and is not used by another one.
            let _ = fs::remove_file(self.path(name));
        }
        // So is what comes back when the power fails.
        let _ = record::sync_directory(&self.directory);
        self.collect(&BTreeSet::new());
    }

    fn assignment(
        &self,
        name: &str,
        identity: &Identity,
        verify: Verify<'_>,
    ) -> Result<Option<Readable>, String> {
        let path = self.path(name);
        let say = |problem: String| format!("{}: {problem}", path.display());
        let Some(payload) = record::read(&path).map_err(|error| crate::chain(&error))? else {
            return Ok(None);
        };
        let signed: SignedAssignment = codec::decode(&payload, ASSIGNMENT_MAX_BYTES + 1024)
            .map_err(|error| say(error.to_string()))?;
        let offer = accept::signed_for(&signed, identity, verify)
            .map_err(|refusal| say(refusal.to_string()))?;
        let raw = offer.assignment.workloads.iter();
        let raw = raw
            .filter_map(|e| Some((e.body, self.body(e.body)?)))
            .collect();
        let bodies =
            accept::bodies(&offer.assignment, &raw).map_err(|refusal| say(refusal.to_string()))?;
        Ok(Some(Readable {
            assignment: offer.assignment,
            held: offer.held,
            bodies,
        }))
    }

    fn standings(&self) -> Result<Standings, String> {
        let lines: Option<Vec<StandingLine>> = self.read_value(
            "standings",
            usize::try_from(record::PAYLOAD_MAX_BYTES).unwrap_or(0),
        )?;
        Ok(lines
            .unwrap_or_default()
            .into_iter()
            .map(|l| (l.service, l.standing))
            .collect())
    }

    fn read_value<T: Decode<()> + Encode>(
        &self,
        name: &str,
        limit: usize,
    ) -> Result<Option<T>, String> {
        let path = self.path(name);
        let payload = record::read(&path).map_err(|error| crate::chain(&error))?;
        payload
            .map(|payload| codec::decode(&payload, limit))
            .transpose()
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    /// A body, opened, if it is here and whole.
    #[must_use]
    pub fn intent(&self, digest: Digest) -> Option<Arc<Intent>> {
        Intent::open(&self.body(digest)?).ok().map(Arc::new)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn body_path(&self, digest: Digest) -> PathBuf {
        self.directory.join("bodies").join(digest.hex())
    }
}

/// An assignment with everything that it needs.
struct Readable {
    assignment: Assignment,
    held: Held,
    bodies: Bodies,
}

#[derive(Encode, Decode)]
struct StandingLine {
    service: ServiceName,
    standing: Standing,
}

/// What an assignment wants.
#[must_use]
pub fn desired(assignment: &Assignment, held: Held) -> Desired {
    let wanted = assignment
        .workloads
        .iter()
        .map(|e| (e.service.clone(), e.body))
        .collect();
    Desired::Known { held, wanted }
}

/// What an earlier assignment wants, corrected by what is remembered of the newest, which cannot be
/// read: a service that became ready since then stays in that body, and one of which nothing is
/// remembered was taken away, so it is not brought back.
#[must_use]
pub fn remembered(
    earlier: BTreeMap<ServiceName, Digest>,
    standings: &Standings,
    at_hand: &dyn Fn(Digest) -> bool,
) -> BTreeMap<ServiceName, Digest> {
    if standings.is_empty() {
        return earlier;
    }
    let good = |(service, standing): (&ServiceName, &Standing)| {
        let good = standing.good.filter(|good| at_hand(*good));
        let body = good.or_else(|| earlier.get(service).copied())?;
        Some((service.clone(), body))
    };
    standings.iter().filter_map(good).collect()
}

fn note<T>(damage: &mut Vec<String>, read: Result<T, String>) -> Option<T> {
    read.map_err(|problem| damage.push(problem)).ok()
}

#[cfg(test)]
mod tests;
