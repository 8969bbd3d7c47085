//! Secrets of a compiled revision: which value each track uses.
//!
//! Manifests name secrets, and the store knows the newest value's number of each. The number is put into
//! the configuration, and into what it is instead on other targets, so a new value is a new configuration,
//! and spreads as any other does. Of what only fetches, whether there is a value: each fetch takes the
//! newest, and what runs is not touched by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_protocol::name::{EnvironmentName, SecretName, ServiceName};

use super::{Compiled, Configuration, Credentials, Variant};
use crate::track::TrackName;

impl Compiled {
    /// Puts the number of the newest value of each secret into every configuration that names it; 0
    /// where there is none. Gives the tracks that this changed.
    pub fn stamp(
        &mut self,
        newest: &dyn Fn(&EnvironmentName, &SecretName) -> u64,
    ) -> Vec<TrackName> {
        let mut changed = Vec::new();
        for (track, spec) in &mut self.tracks {
            let stamped = spec
                .configuration
                .stamped(&|name| newest(&track.environment, name));
            let Some(stamped) = stamped else {
                continue;
            };
            let spec = Arc::make_mut(spec);
            spec.configuration = Arc::new(stamped);
            spec.digest = spec.configuration.digest();
            changed.push(track.clone());
        }
        changed
    }

    /// Whether [`Compiled::stamp`] would change nothing.
    #[must_use]
    pub fn is_stamped(&self, newest: &dyn Fn(&EnvironmentName, &SecretName) -> u64) -> bool {
        self.tracks.iter().all(|(track, spec)| {
            let newest = |name: &SecretName| newest(&track.environment, name);
            spec.configuration.is_stamped(&newest)
        })
    }

    /// The services whose manifests name a secret in an environment.
    #[must_use]
    pub fn users_of(&self, environment: &EnvironmentName, name: &SecretName) -> Vec<ServiceName> {
        let users = self.tracks.iter().filter(|(track, spec)| {
            track.environment == *environment && spec.configuration.uses(name)
        });
        users.map(|(track, _)| track.service.clone()).collect()
    }
}

impl Configuration {
    /// The secrets that its template names, or that of one of its variants, each with the number of the
    /// value that is used.
    #[must_use]
    pub fn secrets_anywhere(&self) -> BTreeMap<&SecretName, u64> {
        let all = self.each().flat_map(|one| &one.secrets);
        all.map(|(name, version)| (name, *version)).collect()
    }

    /// The secrets that it names anywhere and that have no value yet.
    #[must_use]
    pub fn unset(&self) -> BTreeSet<&SecretName> {
        let of_templates = self.secrets_anywhere().into_iter();
        let of_templates = of_templates.filter(|(_, version)| *version == 0);
        let to_fetch = self.credentials_anywhere().filter(|known| !known.is_set);
        let of_templates = of_templates.map(|(name, _)| name);
        of_templates
            .chain(to_fetch.map(|known| &known.secret))
            .collect()
    }

    /// Whether anything on its own targets, not on those of its variants, is done with a secret.
    #[must_use]
    pub fn has_secrets(&self) -> bool {
        !self.secrets.is_empty() || !self.credentials.is_empty()
    }

    fn credentials_anywhere(&self) -> impl Iterator<Item = &Credentials> {
        self.each().flat_map(|one| one.credentials.values())
    }

    fn uses(&self, name: &SecretName) -> bool {
        self.secrets_anywhere().contains_key(name)
            || self
                .credentials_anywhere()
                .any(|known| known.secret == *name)
    }

    fn is_stamped(&self, newest: &dyn Fn(&SecretName) -> u64) -> bool {
        let mut secrets = self.secrets_anywhere().into_iter();
        secrets.all(|(name, version)| version == newest(name))
            && self
                .credentials_anywhere()
                .all(|known| known.is_set == (newest(&known.secret) > 0))
    }

    /// The same with the newest numbers; nothing where it has them.
    fn stamped(&self, newest: &dyn Fn(&SecretName) -> u64) -> Option<Self> {
        if self.is_stamped(newest) {
            return None;
        }
        let mut stamped = self.clone();
        for (name, version) in &mut stamped.secrets {
            *version = newest(name);
        }
        for known in stamped.credentials.values_mut() {
            known.is_set = newest(&known.secret) > 0;
        }
        for Variant { configuration, .. } in stamped.variants.values_mut() {
            if let Some(there) = configuration.stamped(newest) {
                *configuration = Arc::new(there);
            }
        }
        Some(stamped)
    }
}
