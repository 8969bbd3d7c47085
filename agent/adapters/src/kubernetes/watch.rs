//! Watches over the kinds that sets are made of: what is seen of every object, and which services to
//! look at again.
//!
//! *Expected flow*: with the first set of a kind, one watch over all objects of that kind with this
//! agent's label begins, or one for each namespace where the agent may see no more. *Guarantees*: what
//! is seen is believed only while its watch flows; when a watch breaks and when it flows again, every
//! service is to be looked at. What this agent wrote itself is seen at once, and nothing older than it
//! afterwards. *Assumptions*: versions of an object grow as numbers, as etcd's do; where they are none,
//! the newest word counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use kube::Api;
use kube::api::DynamicObject;
use kube::discovery::ApiResource;
use kube::runtime::watcher::{self, Event};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::cluster::{Cluster, labels};
use super::field;
use super::job::{self, Attempt};
use super::kind::Kind;
use super::object::Name;
use super::readiness::{self, Readiness};
use super::record::{AGENT_LABEL, SERVICE_LABEL};

/// Changes that may wait to be looked at; more come with the next look.
const CHANGES_MAX: usize = 256;
/// Watches at a time; what is beyond is looked at by asking.
const WATCHES_MAX: usize = 128;
/// The first pause before a watch is tried again; each is twice the one before.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// One watch: a kind, and the namespace where it is not over all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Scope {
    pub(super) kind: Kind,
    pub(super) namespace: Option<String>,
}

/// What is seen of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) uid: String,
    version: String,
    /// Digest of this agent's fields and their values.
    pub(super) values: Option<Digest>,
    pub(super) readiness: Readiness,
    /// Where it is a Job: which attempt of what.
    pub(super) attempt: Option<Attempt>,
}

/// How a watch is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flow {
    /// It has not listed everything yet.
    Beginning,
    /// What is seen is what there is.
    Flowing,
    /// The cluster does not serve the kind: there are no objects of it.
    Unserved,
    /// It broke: why.
    Broken(String),
}

/// All watches of one agent.
pub(super) struct Watch {
    agent: String,
    known: Mutex<Known>,
    changes: mpsc::Sender<ServiceName>,
    /// Grows with every change.
    stirred: watch::Sender<u64>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Known {
    flows: BTreeMap<Scope, Flow>,
    seen: HashMap<Name, (ServiceName, Seen)>,
    /// Kinds that may be watched only namespace by namespace.
    narrow: BTreeSet<Kind>,
    /// Every service that has a set.
    services: BTreeSet<ServiceName>,
}

impl Seen {
    /// What a live object shows; nothing where it has no id.
    pub(super) fn of(live: &Value) -> Option<Self> {
        let text = |key: &str| live.pointer(key).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            uid: text("/metadata/uid")?,
            version: text("/metadata/resourceVersion").unwrap_or_default(),
            values: field::digest(live),
            readiness: readiness::of(live),
            attempt: job::attempt(live),
        })
    }

    /// Whether this is of an earlier version of the same object than `other`.
    fn is_older_than(&self, other: &Self) -> bool {
        let number = |seen: &Self| seen.version.parse::<u64>().ok();
        self.uid == other.uid
            && matches!((number(self), number(other)), (Some(one), Some(two)) if one < two)
    }
}

impl Watch {
    pub(super) fn new(agent: &str, stop: CancellationToken) -> (Self, mpsc::Receiver<ServiceName>) {
        let (changes, receiver) = mpsc::channel(CHANGES_MAX);
        let watch = Self {
            agent: agent.to_owned(),
            known: Mutex::new(Known::default()),
            changes,
            stirred: watch::Sender::new(0),
            stop,
        };
        (watch, receiver)
    }

    pub(super) fn stirred(&self) -> watch::Receiver<u64> {
        self.stirred.subscribe()
    }

    /// Every service that has a set, by the records.
    pub(super) fn set_services(&self, services: BTreeSet<ServiceName>) {
        self.lock().services = services;
    }

    /// Makes sure that objects of a kind in a namespace are watched. False where no more watches may
    /// be.
    pub(super) fn cover(self: &Arc<Self>, cluster: &Cluster, kind: &Kind, name: &Name) -> bool {
        let scope = {
            let mut known = self.lock();
            let scope = known.scope(kind, name);
            if known.flows.contains_key(&scope) {
                return true;
            }
            if known.flows.len() >= WATCHES_MAX {
                return false;
            }
            known.flows.insert(scope.clone(), Flow::Beginning);
            scope
        };
        let (watch, cluster) = (Arc::clone(self), cluster.clone());
        let stop = self.stop.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            watch.keep(&cluster, scope).await;
        }));
        true
    }

    /// How the watch over an object is doing, and what it shows of it.
    pub(super) fn look(&self, kind: &Kind, name: &Name) -> (Flow, Option<Seen>) {
        let known = self.lock();
        let flow = known.flows.get(&known.scope(kind, name)).cloned();
        let seen = known.seen.get(name).map(|(_, seen)| seen.clone());
        (flow.unwrap_or(Flow::Beginning), seen)
    }

    /// Keeps what this agent wrote, or asked for.
    pub(super) fn remember(&self, service: &ServiceName, name: &Name, live: &Value) {
        if let Some(seen) = Seen::of(live) {
            self.lock().take(service, name, seen);
        }
    }

    /// An object is gone, since this agent deleted it.
    pub(super) fn forget(&self, name: &Name) {
        self.lock().seen.remove(name);
    }

    /// Follows one scope for as long as the adapter is open, or until it proves too wide.
    async fn keep(&self, cluster: &Cluster, scope: Scope) {
        let mut failures: u32 = 0;
        loop {
            let broken = self.follow(cluster, &scope, &mut failures).await;
            if broken.is_narrow() {
                let mut known = self.lock();
                known.narrow.insert(scope.kind.clone());
                known.flows.remove(&scope);
                drop(known);
                return self.announce_all();
            }
            self.flow(&scope, broken.flow());
            let pause = pause(failures);
            failures = failures.saturating_add(1);
            tokio::time::sleep(pause).await;
        }
    }

    /// Follows one scope until its watch breaks.
    async fn follow(&self, cluster: &Cluster, scope: &Scope, failures: &mut u32) -> Broken {
        let kind = &scope.kind;
        let (group, version) = kind.api.split_once('/').unwrap_or(("", &kind.api));
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: kind.api.clone(),
            kind: kind.kind.clone(),
            plural: kind.plural.clone(),
        };
        let client = cluster.client();
        let api: Api<DynamicObject> = match &scope.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let own = labels(AGENT_LABEL, &self.agent);
        let config = watcher::Config::default().labels(&own);
        let mut events = std::pin::pin!(watcher::watcher(api, config));
        let mut fresh = HashMap::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => fresh.clear(),
                Ok(Event::InitApply(object)) => {
                    if let Some((name, service, live)) = self.read(kind, &object)
                        && let Some(seen) = Seen::of(&live)
                    {
                        fresh.insert(name, (service, seen));
                    }
                }
                Ok(Event::InitDone) => {
                    *failures = 0;
                    self.lock().replace(scope, std::mem::take(&mut fresh));
                    self.flow(scope, Flow::Flowing);
                }
                Ok(Event::Apply(object)) => self.changed(kind, &object),
                Ok(Event::Delete(object)) => self.deleted(kind, &object),
                Err(error) => return Broken::of(scope, cluster, error),
            }
        }
        Broken::Other("its watch ended".to_owned())
    }

    fn changed(&self, kind: &Kind, object: &DynamicObject) {
        let Some((name, service, live)) = self.read(kind, object) else {
            return;
        };
        let Some(seen) = Seen::of(&live) else { return };
        let news = self.lock().take(&service, &name, seen);
        if news {
            self.announce(&service);
        }
    }

    fn deleted(&self, kind: &Kind, object: &DynamicObject) {
        let Some((name, service, live)) = self.read(kind, object) else {
            return;
        };
        let uid = live.pointer("/metadata/uid").and_then(Value::as_str);
        let mut known = self.lock();
        // One that was made anew since is another.
        let same = known
            .seen
            .get(&name)
            .is_some_and(|(_, seen)| Some(seen.uid.as_str()) == uid);
        if same {
            known.seen.remove(&name);
        }
        drop(known);
        if same {
            self.announce(&service);
        }
    }

    /// A watched object in its own words.
    fn read(&self, kind: &Kind, object: &DynamicObject) -> Option<(Name, ServiceName, Value)> {
        let labels = object.metadata.labels.as_ref()?;
        let service = ServiceName::parse(labels.get(SERVICE_LABEL)?).ok()?;
        let name = Name {
            api: kind.api.clone(),
            kind: kind.kind.clone(),
            namespace: object.metadata.namespace.clone(),
            name: object.metadata.name.clone()?,
        };
        let mut live = serde_json::to_value(object).ok()?;
        // Items of a list do not say of which kind they are.
        live["apiVersion"] = Value::String(kind.api.clone());
        live["kind"] = Value::String(kind.kind.clone());
        Some((name, service, live))
    }

    fn flow(&self, scope: &Scope, flow: Flow) {
        let before = self.lock().flows.insert(scope.clone(), flow.clone());
        if before.as_ref() != Some(&flow) {
            if let Flow::Broken(why) = &flow {
                tracing::info!(kind = scope.kind.kind, why, "a watch broke; trying again");
            }
            self.announce_all();
        }
    }

    /// Names a service that is to be looked at.
    fn announce(&self, service: &ServiceName) {
        // Where the queue is full a look is due anyway.
        let _ = self.changes.try_send(service.clone());
        self.stir();
    }

    fn announce_all(&self) {
        let services = self.lock().services.clone();
        for service in &services {
            let _ = self.changes.try_send(service.clone());
        }
        self.stir();
    }

    /// Something was done here: readers of output look again.
    pub(super) fn stir(&self) {
        self.stirred.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn scope(&self, kind: &Kind, name: &Name) -> Scope {
        let narrow = kind.namespaced && self.narrow.contains(kind);
        Scope {
            kind: kind.clone(),
            namespace: name.namespace.clone().filter(|_| narrow),
        }
    }

    /// Takes what was seen, unless something newer is known. Gives whether it is new.
    fn take(&mut self, service: &ServiceName, name: &Name, seen: Seen) -> bool {
        let before = self.seen.get(name).map(|(_, before)| before);
        if before.is_some_and(|before| seen.is_older_than(before)) {
            return false;
        }
        let same = before.is_some_and(|before| {
            before.uid == seen.uid
                && before.values == seen.values
                && before.readiness == seen.readiness
                && before.attempt == seen.attempt
        });
        self.seen.insert(name.clone(), (service.clone(), seen));
        !same
    }

    /// Everything that a scope holds was listed.
    fn replace(&mut self, scope: &Scope, fresh: HashMap<Name, (ServiceName, Seen)>) {
        let inside = |name: &Name| {
            name.api == scope.kind.api
                && name.kind == scope.kind.kind
                && (scope.namespace.is_none() || scope.namespace == name.namespace)
        };
        self.seen
            .retain(|name, _| !inside(name) || fresh.contains_key(name));
        for (name, (service, seen)) in fresh {
            self.take(&service, &name, seen);
        }
    }
}

/// Why a watch broke.
enum Broken {
    /// The agent may not see all namespaces.
    TooWide,
    /// The cluster does not serve the kind.
    Unserved,
    /// Anything else, in words.
    Other(String),
}

impl Broken {
    fn of(scope: &Scope, cluster: &Cluster, error: watcher::Error) -> Self {
        let attempt = format!("watch {}", scope.kind.plural);
        let error = match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => cluster.failed(&attempt, error),
            watcher::Error::WatchError(status) => {
                super::refusal::ClusterError::Refused { attempt, status }
            }
            watcher::Error::NoResourceVersion => {
                return Self::Other(format!("cannot {attempt}: it has no versions"));
            }
        };
        let narrowable = scope.namespace.is_none() && scope.kind.namespaced;
        if error.is_forbidden() && narrowable {
            Self::TooWide
        } else if error.is_absent() {
            Self::Unserved
        } else {
            Self::Other(error.to_string())
        }
    }

    const fn is_narrow(&self) -> bool {
        match self {
            Self::TooWide => true,
            Self::Unserved | Self::Other(_) => false,
        }
    }

    fn flow(self) -> Flow {
        match self {
            Self::TooWide => Flow::Beginning,
            Self::Unserved => Flow::Unserved,
            Self::Other(why) => Flow::Broken(why),
        }
    }
}

/// The pause before a watch is tried again, after `failures` in a row.
fn pause(failures: u32) -> Duration {
    PAUSE_FIRST
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(PAUSE_MAX)
}
