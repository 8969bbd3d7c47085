//! The world as the store and the key files tell it.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_certs::keystore::KeystoreError;
use holdfast_certs::keystore::coordinator::Authorities;
use holdfast_certs::registry::{Anchors, MAX_OFFLINE, Registry};
use holdfast_engine::compile::Known;
use holdfast_engine::compiled::Compiled;
use holdfast_engine::manifest::{self, ManifestSet};
use holdfast_engine::track::Placement;
use holdfast_engine::wake::Index;
use holdfast_protocol::api::apply::{ManifestFile, default_set};
use holdfast_protocol::api::release::Release;
use holdfast_protocol::assignment::SignedAssignment;
use holdfast_protocol::name::{InputSetName, ServiceName, TargetName};
use holdfast_protocol::time::Timestamp;

use super::notice::Outbox;
use super::secret::Secrets;
use super::{Assigned, Link, Target, Targets, Trust, World};
use super::{apply, freeze};
use crate::history::Head;
use crate::store::load::Loaded;
use crate::store::row;

/// Why what is stored does not make a world.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Keys on disk.
    #[error(transparent)]
    Keys(#[from] KeystoreError),
    /// The revision in force does not compile any more.
    #[error(
        "the manifests in force do not compile with this version: {0}; start the version that \
         applied them and mend them there"
    )]
    Manifests(String),
    /// Something stored contradicts something else stored.
    #[error("the database contradicts itself: {0}")]
    Contradiction(String),
}

impl Trust {
    /// The authorities below a data directory; new ones where there are none.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn open(data: &std::path::Path, now: Timestamp) -> Result<Self, KeystoreError> {
        let authorities = Authorities::open(data)?;
        let root = Arc::new(authorities.root(now)?);
        let mut registry = Registry::new(root.trust_domain().clone());
        let mut environments = BTreeMap::new();
        for name in authorities.environments()? {
            let environment = authorities.environment(&root, &name, now)?;
            let anchors = Anchors {
                authorities: vec![environment.authority.certificate().clone()],
                max_offline: MAX_OFFLINE,
            };
            registry.environments.insert(name.clone(), anchors);
            environments.insert(name, environment);
        }
        Ok(Self {
            vault: authorities.vault()?,
            authorities,
            root,
            environments,
            registry: registry.shared(),
        })
    }
}

impl World {
    /// Everything as it was when the last round was committed. Nobody is connected, since `now`.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore(mut loaded: Loaded, trust: Trust, now: Timestamp) -> Result<Self, RestoreError> {
        let manifests = restore_sets(std::mem::take(&mut loaded.sets))?;
        let mut compiled = compile(&manifests)?;
        let secrets = Secrets::restored(std::mem::take(&mut loaded.secrets));
        compiled.stamp(&|environment, name| secrets.newest(environment, name));
        let mut tracks: BTreeMap<_, _> = loaded
            .tracks
            .into_iter()
            .map(|track| (track.name.clone(), track))
            .collect();
        let mut targets = restore_targets(loaded.targets, &loaded.assignments, now)?;
        for (target, service, placed) in loaded.placements {
            restore_placement(&mut targets, &mut tracks, &target, service, placed);
        }
        for (target, observed) in loaded.observed {
            if let Some(there) = targets.get_mut(&target) {
                there.observed.insert(observed.service.clone(), observed);
            }
        }
        let mut certificates = BTreeMap::new();
        for certificate in loaded.certificates {
            let serial = certificate.serial.parse().map_err(|_| {
                RestoreError::Contradiction(format!("serial {}", certificate.serial))
            })?;
            certificates.insert(serial, certificate);
        }
        let revoked = certificates.iter().filter(|(_, c)| c.revoked_at.is_some());
        let revoked: Vec<_> = revoked.map(|(serial, _)| *serial).collect();
        trust.registry.rcu(|registry| {
            let mut registry = Registry::clone(registry);
            registry.revoked.extend(revoked.iter().copied());
            registry
        });
        Ok(Self {
            revision: loaded.revision,
            manifests: Arc::new(manifests),
            index: Index::of(&compiled),
            compiled: Arc::new(compiled),
            configurations: share(loaded.configurations),
            releases: by_service(loaded.releases),
            freezes: freeze::restored(loaded.freezes),
            outbox: Outbox::restored(loaded.notices),
            tracks,
            removals: loaded.removals,
            wakes: BTreeMap::new(),
            targets,
            bodies: share(loaded.bodies),
            artifacts: loaded.artifacts,
            removing: std::collections::BTreeSet::new(),
            tokens: keyed(loaded.tokens, |token| token.about.id.clone()),
            joins: keyed(loaded.joins, |join| (join.token.clone(), join.public_key)),
            certificates,
            secrets,
            users: loaded
                .users
                .into_iter()
                .map(|user| (user.token_hash, user))
                .collect(),
            roles: keyed(loaded.roles, |role| role.name.clone()),
            head: Head::after(loaded.head.as_ref()),
            last_deployment: loaded.last_deployment,
            trust,
            forget_at: Timestamp::default(),
            offences: super::link::Offences::default(),
            asked: super::last::Asked::default(),
        })
    }
}

fn keyed<K: Ord, V>(rows: Vec<V>, key: impl Fn(&V) -> K) -> BTreeMap<K, V> {
    rows.into_iter().map(|row| (key(&row), row)).collect()
}

fn share<K: Eq + std::hash::Hash, V>(map: BTreeMap<K, V>) -> std::collections::HashMap<K, Arc<V>> {
    map.into_iter()
        .map(|(key, value)| (key, Arc::new(value)))
        .collect()
}

fn by_service(releases: Vec<Release>) -> BTreeMap<ServiceName, Vec<Arc<Release>>> {
    let mut grouped: BTreeMap<ServiceName, Vec<Arc<Release>>> = BTreeMap::new();
    for release in releases {
        grouped
            .entry(release.service.clone())
            .or_default()
            .push(Arc::new(release));
    }
    grouped
}

fn restore_sets(
    sets: BTreeMap<InputSetName, String>,
) -> Result<BTreeMap<InputSetName, ManifestSet>, RestoreError> {
    let one = |(name, files): (InputSetName, String)| {
        let files: Vec<ManifestFile> = serde_json::from_str(&files)
            .map_err(|error| RestoreError::Contradiction(format!("input set {name}: {error}")))?;
        let (set, diagnostics) = manifest::parse(&files);
        match diagnostics.first() {
            None => Ok((name, set)),
            Some(first) => Err(RestoreError::Manifests(describe(first))),
        }
    };
    sets.into_iter().map(one).collect()
}

fn compile(manifests: &BTreeMap<InputSetName, ManifestSet>) -> Result<Compiled, RestoreError> {
    // What has become of targets and people since must not keep a revision from its force.
    apply::compile(manifests, &default_set(), &Known::default()).map_err(|diagnostics| {
        let first = diagnostics.first().map(describe);
        RestoreError::Manifests(first.unwrap_or_default())
    })
}

fn describe(diagnostic: &holdfast_protocol::api::Diagnostic) -> String {
    format!(
        "{}:{}: {}",
        diagnostic.file, diagnostic.line, diagnostic.message
    )
}

fn restore_targets(
    rows: Vec<row::Target>,
    assignments: &BTreeMap<TargetName, SignedAssignment>,
    now: Timestamp,
) -> Result<Targets, RestoreError> {
    let one = |mut kept: row::Target| {
        kept.since = now;
        let assigned = assignments
            .get(&kept.name)
            .map(|signed| assigned(&kept.name, signed));
        Ok(Target {
            labels: Target::merge_labels(&kept),
            link: Link::Down,
            assigned: assigned.transpose()?,
            outdated: std::collections::VecDeque::new(),
            placed: BTreeMap::new(),
            observed: BTreeMap::new(),
            kept,
        })
    };
    rows.into_iter().map(one).collect()
}

fn assigned(target: &TargetName, signed: &SignedAssignment) -> Result<Assigned, RestoreError> {
    let assignment = signed.open_unverified().map_err(|error| {
        RestoreError::Contradiction(format!("the assignment of {target}: {error}"))
    })?;
    Ok(Assigned {
        assignment,
        digest: signed.digest(),
        signed: Arc::new(signed.clone()),
    })
}

fn restore_placement(
    targets: &mut Targets,
    tracks: &mut BTreeMap<holdfast_engine::track::TrackName, holdfast_engine::track::Track>,
    target: &TargetName,
    service: ServiceName,
    placed: row::Placed,
) {
    let Some(there) = targets.get_mut(target) else {
        return;
    };
    let name = holdfast_engine::track::TrackName {
        service: service.clone(),
        environment: there.kept.environment.clone(),
    };
    if let Some(track) = tracks.get_mut(&name) {
        track
            .placements
            .insert(target.clone(), Placement::from(&placed));
    }
    there.placed.insert(service, placed);
}
