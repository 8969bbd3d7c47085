//! The kinds that a cluster serves, asked for by group and version when one is needed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use super::object::Name;

/// One kind, as the cluster serves it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Kind {
    /// `apps/v1`.
    pub(super) api: String,
    /// `Deployment`.
    pub(super) kind: String,
    /// `deployments`.
    pub(super) plural: String,
    /// Whether its objects are in namespaces.
    pub(super) namespaced: bool,
}

/// What the server lists of one group and version.
#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Debug, Deserialize)]
struct Resource {
    name: String,
    kind: String,
    namespaced: bool,
    #[serde(default)]
    verbs: Vec<String>,
}

/// Kinds that were asked for, by group and version.
#[derive(Default)]
pub(super) struct Kinds {
    known: Mutex<BTreeMap<String, Arc<Vec<Kind>>>>,
}

impl Kind {
    /// The path of its objects, or of those in one namespace.
    pub(super) fn path(&self, namespace: Option<&str>) -> String {
        let root = match self.api.contains('/') {
            true => format!("/apis/{}", self.api),
            false => format!("/api/{}", self.api),
        };
        match namespace {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{}", self.plural),
            None => format!("{root}/{}", self.plural),
        }
    }

    /// The kind of every cluster for what is secret.
    pub(super) fn secret() -> Self {
        Self {
            api: "v1".to_owned(),
            kind: "Secret".to_owned(),
            plural: "secrets".to_owned(),
            namespaced: true,
        }
    }

    /// The kind of every cluster for pods.
    pub(super) fn pod() -> Self {
        Self {
            api: "v1".to_owned(),
            kind: "Pod".to_owned(),
            plural: "pods".to_owned(),
            namespaced: true,
        }
    }

    /// Whether objects of this kind make others, which are to be gone before they are.
    pub(super) fn has_dependents(&self) -> bool {
        let group = self.api.split_once('/').map_or("", |(group, _)| group);
        group == "apps" || group == "batch"
    }

    /// What one version of a group holds: kinds that can be listed, watched and changed.
    pub(super) fn of(api: &str, listing: Listing) -> Vec<Self> {
        let whole = |resource: &Resource| {
            let has = |verb: &str| resource.verbs.iter().any(|known| known == verb);
            !resource.name.contains('/') && has("list") && has("watch") && has("patch")
        };
        let resources = listing.resources.into_iter().filter(whole);
        resources
            .map(|resource| Self {
                api: api.to_owned(),
                kind: resource.kind,
                plural: resource.name,
                namespaced: resource.namespaced,
            })
            .collect()
    }
}

impl Kinds {
    /// A kind that was asked for before.
    pub(super) fn recall(&self, name: &Name) -> Option<Kind> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let kinds = known.get(&name.api)?;
        kinds.iter().find(|kind| kind.kind == name.kind).cloned()
    }

    pub(super) fn remember(&self, api: &str, kinds: Vec<Kind>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(api.to_owned(), Arc::new(kinds));
    }

    /// Forgets what is known: the cluster may serve other kinds now.
    pub(super) fn forget_all(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.clear();
    }
}
