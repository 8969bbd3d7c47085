//! Secrets of a compiled revision: which value each track uses.
//!
//! Manifests name secrets, and the store knows the newest value's number of each. The number is put into
//! the configuration, and into what it is instead on other targets, so a new value is a new configuration,
//! and spreads as any other does.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_protocol::name::{EnvironmentName, SecretName, ServiceName};

use super::{Compiled, Configuration, Variant};
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
            let secrets = spec.configuration.secrets_anywhere();
            let mut secrets = secrets.into_iter();
            secrets.all(|(name, version)| version == newest(&track.environment, name))
        })
    }

    /// The services whose manifests name a secret in an environment.
    #[must_use]
    pub fn users_of(&self, environment: &EnvironmentName, name: &SecretName) -> Vec<ServiceName> {
        let users = self.tracks.iter().filter(|(track, spec)| {
            track.environment == *environment
                && spec.configuration.secrets_anywhere().contains_key(name)
        });
        users.map(|(track, _)| track.service.clone()).collect()
    }
}

impl Configuration {
    /// The secrets that it names, or one of its variants does, each with the number of the value that is
    /// used.
    #[must_use]
    pub fn secrets_anywhere(&self) -> BTreeMap<&SecretName, u64> {
        let all = self.each().flat_map(|one| &one.secrets);
        all.map(|(name, version)| (name, *version)).collect()
    }

    /// The same with the newest numbers; nothing where it has them.
    fn stamped(&self, newest: &dyn Fn(&SecretName) -> u64) -> Option<Self> {
        let current = |(name, version): (&SecretName, u64)| version == newest(name);
        if self.secrets_anywhere().into_iter().all(current) {
            return None;
        }
        let mut stamped = self.clone();
        for (name, version) in &mut stamped.secrets {
            *version = newest(name);
        }
        for Variant { configuration, .. } in stamped.variants.values_mut() {
            if let Some(there) = configuration.stamped(newest) {
                *configuration = Arc::new(there);
            }
        }
        Some(stamped)
    }
}
