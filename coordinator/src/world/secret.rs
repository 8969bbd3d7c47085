//! Secrets: which values there are, who may have them. Their bytes are here only encrypted.
//!
//! *Guarantees:* a number is given once, also when a secret was deleted in between, since targets keep
//! what they were given under its number; a value is sealed for a target of its own environment only,
//! and only while a body that names it is placed there.

mod change;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_certs::seal::{Owner, SealingPublicKey};
use holdfast_certs::vault::{Plain, Vault};
use holdfast_engine::compiled::Compiled;
use holdfast_protocol::api::Code;
use holdfast_protocol::api::secret::Secret;
use holdfast_protocol::api::steer::Steered;
use holdfast_protocol::name::{EnvironmentName, SecretName, TargetName};
use holdfast_protocol::secret::{self, SECRETS_MAX, SecretRef, VALUE_MAX_BYTES};
use holdfast_protocol::workload::Workload;

pub use change::Change;

use super::{After, Round, SessionId, World};
use crate::event::Refused;
use crate::history::Entry;
use crate::store::row;
use crate::store::write::Write;

/// Values of one secret that are kept at least, so that a deployment can go back to one.
const KEPT: usize = 5;
/// Most bytes of all values of an installation, encrypted: they are held in memory.
const HELD_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Every value that is kept.
#[derive(Debug, Default)]
pub struct Secrets {
    values: BTreeMap<(EnvironmentName, SecretName), BTreeMap<u64, row::Secret>>,
}

/// Everything that it takes to seal one value for one target.
#[derive(Debug)]
pub struct Sealing {
    /// What encrypted the value.
    pub vault: Vault,
    /// Which value it is, also where the newest was asked for.
    pub value: SecretRef,
    /// The value, encrypted.
    pub closed: Vec<u8>,
    /// For whom.
    pub owner: Owner,
    /// Under which key.
    pub key: SealingPublicKey,
}

/// Why a target is not given a secret. It is told the same in both cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// Its assignment does not name it now, though its environment knows it.
    Unplaced,
    /// It is none of its environment's business.
    Strange,
}

impl Secrets {
    /// What was kept.
    #[must_use]
    pub fn restored(rows: Vec<row::Secret>) -> Self {
        let mut secrets = Self::default();
        for row in rows {
            secrets.insert(row);
        }
        secrets
    }

    /// The number of the newest value; 0 where there is none.
    #[must_use]
    pub fn newest(&self, environment: &EnvironmentName, name: &SecretName) -> u64 {
        let newest = self.last(environment, name);
        newest.map_or(
            0,
            |(version, row)| {
                if row.closed.is_some() { version } else { 0 }
            },
        )
    }

    /// Every value, deleted ones left out.
    pub fn rows(&self) -> impl Iterator<Item = (&row::Secret, &Vec<u8>)> {
        let all = self.values.values().flat_map(BTreeMap::values);
        all.filter_map(|row| Some((row, row.closed.as_ref()?)))
    }

    fn last(
        &self,
        environment: &EnvironmentName,
        name: &SecretName,
    ) -> Option<(u64, &row::Secret)> {
        let values = self.values.get(&(environment.clone(), name.clone()))?;
        values
            .last_key_value()
            .map(|(version, row)| (*version, row))
    }

    fn value(&self, environment: &EnvironmentName, which: &SecretRef) -> Option<&row::Secret> {
        let key = (environment.clone(), which.name.clone());
        self.values.get(&key)?.get(&which.version)
    }

    /// A value that is there, or the newest where that is asked for: its number, and it, encrypted.
    pub(super) fn closed(
        &self,
        environment: &EnvironmentName,
        which: &SecretRef,
    ) -> Option<(SecretRef, Vec<u8>)> {
        let version = if which.is_newest() {
            self.newest(environment, &which.name)
        } else {
            which.version
        };
        let name = which.name.clone();
        let which = SecretRef { name, version };
        let closed = self.value(environment, &which)?.closed.clone()?;
        Some((which, closed))
    }

    fn insert(&mut self, row: row::Secret) {
        let key = (row.environment.clone(), row.name.clone());
        let values = self.values.entry(key).or_default();
        values.insert(row.version, row);
    }

    fn count(&self, environment: &EnvironmentName) -> usize {
        let names = self.values.keys().filter(|(of, _)| of == environment);
        names.filter(|(of, name)| self.newest(of, name) > 0).count()
    }

    fn held_bytes(&self) -> usize {
        self.rows().map(|(_, closed)| closed.len()).sum()
    }
}

impl World {
    /// What is told of secrets: of one environment, or of all.
    #[must_use]
    pub fn secret_list(&self, environment: Option<&EnvironmentName>) -> Vec<Secret> {
        let keys = self.secrets.values.keys();
        let here = keys.filter(|(of, _)| environment.is_none_or(|only| only == of));
        here.filter_map(|(of, name)| self.secret(of, name))
            .collect()
    }

    /// What is told of one secret; nothing where it has no value.
    #[must_use]
    pub fn secret(&self, environment: &EnvironmentName, name: &SecretName) -> Option<Secret> {
        let key = (environment.clone(), name.clone());
        let values = self.secrets.values.get(&key)?;
        let (version, newest) = values.last_key_value()?;
        newest.closed.as_ref()?;
        let kept = values.iter().filter(|(_, row)| row.closed.is_some());
        Some(Secret {
            name: name.clone(),
            environment: environment.clone(),
            version: *version,
            updated_at: newest.set_at,
            updated_by: newest.set_by.clone(),
            used_by: self.compiled.users_of(environment, name),
            kept: kept.map(|(version, _)| *version).collect(),
        })
    }

    /// Puts the newest numbers of secrets into a compiled revision; the same where it has them.
    pub fn stamp(&self, compiled: &mut Arc<Compiled>) {
        let newest = |environment: &EnvironmentName, name: &SecretName| {
            self.secrets.newest(environment, name)
        };
        if !compiled.is_stamped(&newest) {
            Arc::make_mut(compiled).stamp(&newest);
        }
    }

    /// What a target needs to be given a secret.
    ///
    /// # Errors
    /// [`Withheld`] where no body that may run there names it, or the target has told no key.
    pub fn sealing_for(&self, target: &TargetName, which: &SecretRef) -> Result<Sealing, Withheld> {
        let there = self.targets.get(target).ok_or(Withheld::Strange)?;
        let environment = &there.kept.environment;
        let named = there
            .entitled()
            .filter_map(|body| self.bodies.get(body))
            .any(|body| names(body, which));
        let key = there.kept.sealing_key.as_deref();
        let closed = self.secrets.closed(environment, which);
        match (closed, key.and_then(SealingPublicKey::from_hex)) {
            (Some((value, closed)), Some(key)) if named && there.kept.revoked_at.is_none() => {
                Ok(Sealing {
                    vault: self.trust.vault.clone(),
                    value,
                    closed,
                    owner: Owner {
                        environment: environment.clone(),
                        target: target.clone(),
                    },
                    key,
                })
            }
            (Some(_) | None, Some(_) | None) if self.is_known(environment, &which.name) => {
                Err(Withheld::Unplaced)
            }
            (Some(_) | None, Some(_) | None) => Err(Withheld::Strange),
        }
    }

    /// The newest value, in the clear, for what the coordinator itself sends.
    ///
    /// # Errors
    /// In words, without a part of it, where there is none or it does not open.
    pub fn newest_value(
        &self,
        environment: &EnvironmentName,
        name: &SecretName,
    ) -> Result<Plain, String> {
        let last = self.secrets.last(environment, name);
        let newest = last.and_then(|(_, row)| Some((row.which(), row.closed.as_ref()?)));
        let Some((which, closed)) = newest else {
            return Err(format!(
                "secret {name} is not set in {environment}: holdfast secret set {name} -e {environment}"
            ));
        };
        let opened = self.trust.vault.open(environment, &which, closed);
        opened.map_err(|error| format!("secret {which} of {environment}: {error}"))
    }

    /// Refuses to let go of a secret that a manifest names.
    fn check_unused(&self, told: &Secret) -> Result<(), Refused> {
        let (environment, name) = (&told.environment, &told.name);
        if !told.used_by.is_empty() {
            let users: Vec<&str> = told.used_by.iter().map(AsRef::as_ref).collect();
            let detail = format!("{} in {environment} use secret {name}", users.join(", "));
            return Err(Refused::new(Code::Conflict, detail)
                .help("take it out of their manifests first, and apply them"));
        }
        let mut notifiers = self.compiled.notifiers.values();
        let naming = notifiers.find(|notifier| notifier.names(environment, name));
        let Some(notifier) = naming else {
            return Ok(());
        };
        let detail = format!(
            "notifier {} uses secret {name} of {environment}",
            notifier.name
        );
        Err(Refused::new(Code::Conflict, detail)
            .help("take it out of its manifest first, and apply that"))
    }

    /// Every value under another key.
    fn recrypted(&self, vault: &Vault) -> Result<Vec<row::Secret>, String> {
        let before = &self.trust.vault;
        let recrypt = |(row, closed): (&row::Secret, &Vec<u8>)| {
            let which = row.which();
            let opened = before.open(&row.environment, &which, closed);
            let closed = opened.and_then(|value| vault.close(&row.environment, &which, &value));
            let closed = closed
                .map_err(|error| format!("secret {which} in {}: {error}", row.environment))?;
            Ok(row::Secret {
                closed: Some(closed),
                ..row.clone()
            })
        };
        self.secrets.rows().map(recrypt).collect()
    }

    fn is_known(&self, environment: &EnvironmentName, name: &SecretName) -> bool {
        self.secrets.last(environment, name).is_some()
            || !self.compiled.users_of(environment, name).is_empty()
    }

    /// Whether every value opens under the keys that are here; how many there are.
    ///
    /// # Errors
    /// The first that does not, in words.
    pub fn check_secrets(&self) -> Result<usize, String> {
        let mut checked = 0;
        for (row, closed) in self.secrets.rows() {
            let opened = self
                .trust
                .vault
                .open(&row.environment, &row.which(), closed);
            opened.map_err(|error| {
                format!("secret {} in {}: {error}", row.which(), row.environment)
            })?;
            checked += 1;
        }
        Ok(checked)
    }
}

impl Round<'_> {
    /// Keeps a new value. The same value again changes nothing.
    ///
    /// # Errors
    /// [`Refused`] for an environment that is not there, a value that is too long, too many secrets,
    /// and a rotation of what has no value.
    pub fn set_secret(
        &mut self,
        (environment, name): (&EnvironmentName, &SecretName),
        value: &Plain,
        rotate: bool,
        by: &str,
    ) -> Result<Secret, Refused> {
        self.check_secret(environment, name, value, rotate)?;
        if self.has_value(environment, name, value) {
            return Ok(self.about_secret(environment, name));
        }
        let last = self.world.secrets.last(environment, name);
        let which = SecretRef {
            name: name.clone(),
            version: last.map_or(1, |(version, _)| version + 1),
        };
        let closed = self.world.trust.vault.close(environment, &which, value);
        let closed = closed.map_err(|error| Refused::new(Code::Internal, error.to_string()))?;
        self.keep_secret(row::Secret {
            environment: environment.clone(),
            name: name.clone(),
            version: which.version,
            closed: Some(closed),
            set_at: self.now,
            set_by: by.to_owned(),
        });
        self.forget_values(environment, name);
        self.restamp();
        let message = format!("secret {which} of {environment} was set");
        self.record_secret("secret.set", by, message, Some(environment));
        Ok(self.about_secret(environment, name))
    }

    /// Forgets every value of a secret that no manifest names.
    ///
    /// # Errors
    /// [`Refused`] where there is none, or a service uses it.
    pub fn delete_secret(
        &mut self,
        environment: &EnvironmentName,
        name: &SecretName,
        by: &str,
    ) -> Result<Secret, Refused> {
        let Some(told) = self.world.secret(environment, name) else {
            return Err(unknown(environment, name));
        };
        self.world.check_unused(&told)?;
        let gone = row::Secret {
            environment: environment.clone(),
            name: name.clone(),
            version: told.version + 1,
            closed: None,
            set_at: self.now,
            set_by: by.to_owned(),
        };
        for version in &told.kept {
            self.drop_value(environment, name, *version);
        }
        self.keep_secret(gone);
        let message = format!("secret {name} of {environment} was deleted");
        self.record_secret("secret.deleted", by, message, Some(environment));
        Ok(told)
    }

    /// Puts every value under a new key. The keys before are kept until that is on disk.
    ///
    /// # Errors
    /// [`Refused`] when a value does not open, or the keys cannot be kept.
    pub fn rekey_secrets(&mut self, by: &str) -> Result<Steered, Refused> {
        let failed = |error: String| Refused::new(Code::Internal, error);
        let both = self.world.trust.vault.add_key();
        let both = both.map_err(|error| failed(format!("no key can be added: {error}")))?;
        let moved = self.world.recrypted(&both).map_err(failed)?;
        let authorities = self.world.trust.authorities.clone();
        let kept = authorities.keep_vault(&both);
        kept.map_err(|error| failed(crate::chain(&error)))?;
        self.world.trust.vault = both.clone();
        let count = moved.len();
        for row in moved {
            self.keep_secret(row);
        }
        let message = format!("{count} values of secrets are under a new key");
        self.record_secret("secret.rekeyed", by, message.clone(), None);
        // Old keys go once nothing is under them; after a crash before that, at the next rotation.
        self.after.push(After::Answer(Box::new(move || {
            if let Err(error) = authorities.keep_vault(&both.retire()) {
                tracing::error!(error = crate::chain(&error), "old keys of secrets are kept");
            }
        })));
        Ok(Steered {
            message,
            changed: true,
            deployment: None,
        })
    }

    /// Notes what a target's secrets are sealed to.
    pub fn sealing_key(&mut self, name: &TargetName, session: SessionId, key: &[u8]) {
        let Some(there) = self.world.targets.get_mut(name) else {
            return;
        };
        if !there.is_session(session) {
            return;
        }
        let Ok(key) = SealingPublicKey::from_bytes(key) else {
            let what = format!("{name} told a key that nothing can be sealed to");
            return self.offence("security.refused", Some(name.clone()), what);
        };
        let key = Some(key.to_hex());
        if there.kept.sealing_key == key {
            return;
        }
        there.kept.sealing_key = key;
        let environment = there.kept.environment.clone();
        self.keep_target(name);
        self.environment_moved(&environment);
    }

    fn check_secret(
        &self,
        environment: &EnvironmentName,
        name: &SecretName,
        value: &Plain,
        rotate: bool,
    ) -> Result<(), Refused> {
        let world = &self.world;
        let known = world.compiled.environments.contains_key(environment)
            || world.trust.environments.contains_key(environment);
        if !known {
            let detail = format!("no environment {environment}");
            return Err(Refused::new(Code::NotFound, detail)
                .help("list them: holdfast get environments; apply its manifest first"));
        }
        if value.bytes().is_empty() || value.bytes().len() > VALUE_MAX_BYTES {
            let length = value.bytes().len();
            let detail = format!("a secret has 1 to {VALUE_MAX_BYTES} bytes, not {length}");
            return Err(
                Refused::new(Code::BadRequest, detail).help("put large files into an artifact")
            );
        }
        let is_new = world.secrets.newest(environment, name) == 0;
        if is_new && rotate {
            return Err(unknown(environment, name));
        }
        let full = world.secrets.count(environment) >= SECRETS_MAX
            || world.secrets.held_bytes() + value.bytes().len() > HELD_MAX_BYTES;
        if is_new && full || world.secrets.held_bytes() > HELD_MAX_BYTES {
            let detail = format!(
                "there are {SECRETS_MAX} secrets in {environment} already, or all values together \
                 have more than {HELD_MAX_BYTES} bytes"
            );
            return Err(Refused::new(Code::TooLarge, detail)
                .help("delete those that nobody uses: holdfast secret list"));
        }
        Ok(())
    }

    fn has_value(&self, environment: &EnvironmentName, name: &SecretName, value: &Plain) -> bool {
        let last = self.world.secrets.last(environment, name);
        let newest = last.and_then(|(_, row)| Some((row.which(), row.closed.as_ref()?)));
        newest.is_some_and(|(which, closed)| {
            let opened = self.world.trust.vault.open(environment, &which, closed);
            opened.is_ok_and(|before| before == *value)
        })
    }

    /// Forgets values that are not among the newest, and that nothing runs or may go back to.
    fn forget_values(&mut self, environment: &EnvironmentName, name: &SecretName) {
        let needed = self.needed_values(environment, name);
        let key = (environment.clone(), name.clone());
        let Some(values) = self.world.secrets.values.get(&key) else {
            return;
        };
        let old = values.keys().rev().skip(KEPT);
        let gone: Vec<u64> = old
            .filter(|version| !needed.contains(version))
            .copied()
            .collect();
        for version in gone {
            self.drop_value(environment, name, version);
        }
    }

    /// Numbers of the values that tracks of the environment stand on or have placed.
    fn needed_values(&self, environment: &EnvironmentName, name: &SecretName) -> BTreeSet<u64> {
        let world = &self.world;
        let tracks = world.tracks.values();
        let here = tracks.filter(|track| track.name.environment == *environment);
        let points = here.flat_map(|track| {
            let placed = track.placements.values().map(|placement| &placement.point);
            let current = track.current.as_ref().map(|current| &current.point);
            placed.chain(&track.stable).chain(current)
        });
        points
            .filter_map(|point| world.configurations.get(&point.configuration))
            .filter_map(|configuration| configuration.secrets_anywhere().get(name).copied())
            .collect()
    }

    /// Brings the newest numbers into the revision in force; the tracks that this changes are stepped.
    fn restamp(&mut self) {
        let mut compiled = Arc::clone(&self.world.compiled);
        self.world.stamp(&mut compiled);
        let before = std::mem::replace(&mut self.world.compiled, compiled);
        let after = &self.world.compiled.tracks;
        let changed = after.iter().filter(|(name, spec)| {
            before.tracks.get(*name).map(|spec| spec.digest) != Some(spec.digest)
        });
        self.moved.extend(changed.map(|(name, _)| name.clone()));
        self.keep_configurations();
    }

    fn keep_secret(&mut self, row: row::Secret) {
        self.writes.push(Write::Secret(Box::new(row.clone())));
        self.world.secrets.insert(row);
    }

    fn drop_value(&mut self, environment: &EnvironmentName, name: &SecretName, version: u64) {
        let key = (environment.clone(), name.clone());
        if let Some(values) = self.world.secrets.values.get_mut(&key) {
            values.remove(&version);
        }
        self.writes.push(Write::DropSecret {
            environment: environment.clone(),
            name: name.clone(),
            version,
        });
    }

    fn about_secret(&self, environment: &EnvironmentName, name: &SecretName) -> Secret {
        let told = self.world.secret(environment, name);
        told.expect("it was just looked up")
    }

    fn record_secret(
        &mut self,
        kind: &'static str,
        by: &str,
        message: String,
        environment: Option<&EnvironmentName>,
    ) {
        self.record(Entry {
            kind,
            actor: Some(by.to_owned()),
            message,
            environment: environment.cloned(),
            ..Entry::default()
        });
    }
}

/// Whether a body names this value in its template, or, where the newest is asked for, fetches with it.
fn names(body: &[u8], which: &SecretRef) -> bool {
    let Ok(workload) = Workload::open(body) else {
        return false;
    };
    if which.is_newest() {
        let mut logins = workload.logins.iter();
        return logins.any(|login| login.secret == which.name);
    }
    // Most bodies name none, and need not be read for that.
    workload.template.contains(which.name.as_str())
        && serde_json::from_str(&workload.template)
            .is_ok_and(|template| secret::references(&template).contains(which))
}

fn unknown(environment: &EnvironmentName, name: &SecretName) -> Refused {
    Refused::new(Code::NotFound, format!("no secret {name} in {environment}")).help(format!(
        "set it: holdfast secret set {name} -e {environment}"
    ))
}
