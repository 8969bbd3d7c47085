//! What homes of artifacts are told when the coordinator itself asks them: at a release, and for targets
//! that cannot go there.
//!
//! *Guarantees:* a value is opened when it is needed and kept by nobody; it is told to the host that a
//! manifest or the value itself names, never to one that only a release names. What a manifest names goes
//! to targets only past the protections of its environment, so at a release it counts no sooner: else
//! whoever writes manifests and makes releases could have any secret sent to himself.

use std::fmt;

use holdfast_certs::vault::Vault;
use holdfast_engine::compiled;
use holdfast_engine::track::Track;
use holdfast_homes::credentials::{self, Credentials};
use holdfast_protocol::name::{ArtifactName, EnvironmentName, ServiceName};
use holdfast_protocol::secret::SecretRef;
use holdfast_protocol::workload::Workload;

use super::World;

/// A secret that a home is told, as it is kept: encrypted.
#[derive(Clone)]
pub struct Told {
    vault: Vault,
    environment: EnvironmentName,
    secret: SecretRef,
    closed: Option<Vec<u8>>,
    host: Option<String>,
    was_placed: bool,
}

/// Which secret, and nothing of it.
impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Told({} of {})", self.secret, self.environment)
    }
}

impl Told {
    /// Whether it may be for `host`: the manifest says so, or leaves it to the value.
    #[must_use]
    pub fn may_be_for(&self, host: &str) -> bool {
        let bound = self.host.as_ref();
        bound.is_none_or(|bound| bound.eq_ignore_ascii_case(host))
    }

    /// The environment whose value it is.
    #[must_use]
    pub const fn environment(&self) -> &EnvironmentName {
        &self.environment
    }

    /// Whether a deployment that fetches with it was let through.
    #[must_use]
    pub const fn was_placed(&self) -> bool {
        self.was_placed
    }

    /// The same, told to no host but those that the value itself names.
    #[must_use]
    pub fn by_itself(self) -> Self {
        Self { host: None, ..self }
    }

    /// Whether there is a value.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.closed.is_some()
    }

    /// What sets a value.
    #[must_use]
    pub fn set_by(&self) -> String {
        format!(
            "holdfast secret set {} -e {}",
            self.secret.name, self.environment
        )
    }

    /// What `host` is told; nothing where the value is for others.
    ///
    /// # Errors
    /// In words, without any of the value.
    pub fn open(&self, host: &str) -> Result<Option<Credentials>, String> {
        let (environment, secret) = (&self.environment, &self.secret);
        let Some(closed) = &self.closed else {
            let name = &secret.name;
            return Err(format!(
                "secret {name} is not set in {environment}: {}",
                self.set_by()
            ));
        };
        let refused = |why: String| {
            format!("secret {secret} of {environment} cannot be told to {host}: {why}")
        };
        let value = self.vault.open(environment, secret, closed);
        let value = value.map_err(|error| refused(error.to_string()))?;
        let read = credentials::of_value(value.bytes(), host, self.host.as_deref());
        read.map_err(|error| refused(error.to_string()))
    }
}

impl World {
    /// What the home of a body's artifact is told.
    pub(super) fn told(&self, workload: &Workload, artifact: &ArtifactName) -> Option<Told> {
        let (login, host) = workload.login_of(artifact)?;
        let credentials = compiled::Credentials {
            secret: login.secret.clone(),
            host: host.map(str::to_owned),
            is_set: true,
        };
        Some(self.kept(&workload.environment, &credentials, true))
    }

    /// What the manifests of a service name for an artifact's home: the newest values, each environment's
    /// once, in the order of their names.
    #[must_use]
    pub fn told_at_release(&self, service: &ServiceName, artifact: &ArtifactName) -> Vec<Told> {
        let mut all: Vec<Told> = Vec::new();
        for (track, spec) in &self.compiled.tracks {
            if track.service != *service {
                continue;
            }
            let named = spec.configuration.each();
            for known in named.filter_map(|one| one.credentials.get(artifact)) {
                let is_there = |told: &Told| {
                    told.environment == track.environment
                        && told.secret.name == known.secret
                        && told.host == known.host
                };
                if !all.iter().any(is_there) {
                    let of = self.tracks.get(track);
                    let was_placed = of.is_some_and(|of| self.placed(of, (artifact, known)));
                    all.push(self.kept(&track.environment, known, was_placed));
                }
            }
        }
        all.sort_by(|one, other| one.environment.cmp(&other.environment));
        all
    }

    /// Whether something was placed that fetches so.
    fn placed(
        &self,
        track: &Track,
        (artifact, wanted): (&ArtifactName, &compiled::Credentials),
    ) -> bool {
        let placed = track.placements.values().map(|placement| &placement.point);
        let configurations = placed
            .chain(&track.stable)
            .filter_map(|point| self.configurations.get(&point.configuration));
        let mut known = configurations
            .flat_map(|configuration| configuration.each())
            .filter_map(|one| one.credentials.get(artifact));
        known.any(|known| known.secret == wanted.secret && known.host == wanted.host)
    }

    fn kept(
        &self,
        environment: &EnvironmentName,
        known: &compiled::Credentials,
        was_placed: bool,
    ) -> Told {
        let newest = SecretRef::newest(known.secret.clone());
        let (secret, closed) = match self.secrets.closed(environment, &newest) {
            Some((secret, closed)) => (secret, Some(closed)),
            None => (newest, None),
        };
        Told {
            vault: self.trust.vault.clone(),
            environment: environment.clone(),
            secret,
            closed,
            host: known.host.clone(),
            was_placed,
        }
    }
}
