//! Secrets of a compiled revision: which value each track uses.
//!
//! Manifests name secrets, and the store knows the newest value's number of each. The number is put into
//! the configuration, so a new value is a new configuration, and spreads as any other does.

use std::sync::Arc;

use holdfast_protocol::name::{EnvironmentName, SecretName, ServiceName};

use super::Compiled;
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
            let mut secrets = spec.configuration.secrets.clone();
            for (name, version) in &mut secrets {
                *version = newest(&track.environment, name);
            }
            if secrets == spec.configuration.secrets {
                continue;
            }
            let spec = Arc::make_mut(spec);
            Arc::make_mut(&mut spec.configuration).secrets = secrets;
            spec.digest = spec.configuration.digest();
            changed.push(track.clone());
        }
        changed
    }

    /// Whether [`Compiled::stamp`] would change anything.
    #[must_use]
    pub fn is_stamped(&self, newest: &dyn Fn(&EnvironmentName, &SecretName) -> u64) -> bool {
        self.tracks.iter().all(|(track, spec)| {
            let mut secrets = spec.configuration.secrets.iter();
            secrets.all(|(name, version)| *version == newest(&track.environment, name))
        })
    }

    /// The services whose manifests name a secret in an environment.
    #[must_use]
    pub fn users_of(&self, environment: &EnvironmentName, name: &SecretName) -> Vec<ServiceName> {
        let users = self.tracks.iter().filter(|(track, spec)| {
            track.environment == *environment && spec.configuration.secrets.contains_key(name)
        });
        users.map(|(track, _)| track.service.clone()).collect()
    }
}
