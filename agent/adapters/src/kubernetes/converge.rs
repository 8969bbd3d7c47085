//! Brings one service's set of objects to one body.
//!
//! *Expected flow*: everything is read, named and looked up; what can be refused is refused, by a dry
//! run where the server can; what will be there is noted; objects are applied in order; what has left
//! the set is deleted the other way round; what came of it is noted. *Guarantees*: what is as it should
//! be is not written to. What exists and is not of this service is refused. A step that is cut off
//! leaves a note of everything that may be there. *Assumptions*: one operation a service at a time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use holdfast_protocol::digest::Digest;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::adapter::Inner;
use super::apply::Trouble;
use super::cluster::{Cluster, Place};
use super::definition::{definition, new_kind};
use super::field;
use super::job;
use super::kind::Kind;
use super::object::Object;
use super::order::rank;
use super::readiness::{self, Readiness};
use super::record::{AGENT_LABEL, Entry, Left, SERVICE_LABEL, Set};
use super::spec::{self, Template};
use crate::clock;
use crate::failure::Failure;
use crate::fields;
use crate::run::Wanted;
use crate::turns::Say;

/// Objects that are looked at at the same time.
pub(super) const LOOKS_MAX: usize = 8;
/// How long a new kind may take until it can be used.
const KIND_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks at something that is to come or to go.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// One service on its way to one body.
pub(super) struct Way<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) cluster: Cluster,
    pub(super) wanted: &'a Wanted,
    pub(super) template: Template,
    pub(super) say: &'a Say<'a>,
    pub(super) cancel: &'a CancellationToken,
}

/// One object, where it belongs, and what is there.
pub(super) struct Placed {
    pub(super) place: Place,
    pub(super) object: Object,
    /// Digest of what is to be applied.
    pub(super) manifest: Digest,
    pub(super) live: Option<Value>,
    pub(super) step: Step,
}

/// What an object needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// It is as it should be, and as it was left.
    Keep(Left),
    /// It is to be applied; `given`, as it was left before.
    Apply { given: Option<Left> },
    /// It ran and is to run again: the one there is deleted first.
    Again,
}

impl Inner {
    pub(super) async fn converge(
        self: &Arc<Self>,
        wanted: &Wanted,
        say: &Say<'_>,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        let template = fields::arrived(&wanted.workload, spec::parse)?;
        let objects = self.read_objects(wanted, &template, cancel)?;
        let cluster = self.cluster().await?;
        self.engage();
        let way = Way {
            inner: self,
            cluster,
            wanted,
            template,
            say,
            cancel,
        };
        let outcome = way.run(objects).await;
        self.watch.stir();
        outcome
    }
}

impl Way<'_> {
    async fn run(&self, objects: Vec<Object>) -> Result<(), Failure> {
        let service = &self.wanted.workload.service;
        let set = self.inner.read_record(&self.cluster, service).await?;
        let set = set.unwrap_or_else(|| Set::empty(clock::now()));
        let mut placed = self.place(objects).await?;
        self.look(&mut placed, &set).await?;
        let left: Vec<Entry> = set
            .objects
            .iter()
            .filter(|entry| !placed.iter().any(|p| p.place.name.means(&entry.name)))
            .cloned()
            .collect();
        let kept = placed.iter().all(|p| matches!(p.step, Step::Keep(_)));
        if !kept || !left.is_empty() || set.body != Some(self.wanted.body) {
            self.change(&placed, set, left).await?;
        }
        for placed in &placed {
            let Place { kind, name } = &placed.place;
            self.inner.watch.cover(&self.cluster, kind, name);
        }
        Ok(())
    }

    /// Finds the kind and the namespace of every object.
    async fn place(&self, objects: Vec<Object>) -> Result<Vec<Placed>, Failure> {
        let defined: Vec<Kind> = objects.iter().filter_map(definition).collect();
        let mut placed: Vec<Placed> = Vec::with_capacity(objects.len());
        for mut object in objects {
            let kind = match self.cluster.kind(&object.name).await? {
                Some(kind) => kind,
                None => new_kind(&defined, &object.name)?,
            };
            self.settle_namespace(&kind, &mut object)?;
            let name = object.name.clone();
            if placed.iter().any(|other| other.place.name.means(&name)) {
                return Err(Failure::Permanent(format!("the set holds {name} twice")));
            }
            placed.push(Placed {
                place: Place { kind, name },
                manifest: Digest::of(object.body.to_string().as_bytes()),
                object,
                live: None,
                step: Step::Apply { given: None },
            });
        }
        Ok(placed)
    }

    fn settle_namespace(&self, kind: &Kind, object: &mut Object) -> Result<(), Failure> {
        let allowed = &self.inner.settings.namespaces;
        if !kind.namespaced {
            if object.name.namespace.is_some() {
                let why = format!("{}: a {} is in no namespace", object.name, kind.kind);
                return Err(Failure::Permanent(why));
            }
            // A namespace that is allowed may be made, too.
            let own = kind.kind == "Namespace" && allowed.contains(&object.name.name);
            return match allowed.is_empty() || own {
                true => Ok(()),
                false => Err(Failure::Permanent(format!(
                    "{} is outside of the namespaces that agent.toml allows",
                    object.name
                ))),
            };
        }
        let namespace = object
            .name
            .namespace
            .get_or_insert_with(|| self.template.namespace.clone());
        object.body["metadata"]["namespace"] = Value::String(namespace.clone());
        if allowed.is_empty() || allowed.contains(namespace) {
            return Ok(());
        }
        Err(Failure::Permanent(format!(
            "{}: agent.toml allows the namespaces {} alone",
            object.name,
            allowed.join(", ")
        )))
    }

    /// Looks at every object, and decides what it needs.
    async fn look(&self, placed: &mut [Placed], set: &Set) -> Result<(), Failure> {
        let cluster = &self.cluster;
        let places: Vec<Place> = placed.iter().map(|p| p.place.clone()).collect();
        let found: Vec<Option<Value>> = futures_util::stream::iter(places)
            .map(|place| async move { cluster.get(&place).await })
            .buffered(LOOKS_MAX)
            .try_collect()
            .await?;
        for (placed, live) in placed.iter_mut().zip(found) {
            let left = set.entry(&placed.place.name).and_then(|e| e.left.clone());
            if let Some(live) = &live {
                self.refuse_foreign(placed, live, left.as_ref())?;
            }
            placed.step = step(placed, live.as_ref(), left);
            placed.live = live;
            if self.wanted.workload.job.is_some() && job::is_job(&placed.place.name) {
                placed.step = job::judge(placed, self.wanted.body);
            }
        }
        Ok(())
    }

    /// What is there and was not made for this service is never touched.
    fn refuse_foreign(
        &self,
        placed: &Placed,
        live: &Value,
        left: Option<&Left>,
    ) -> Result<(), Failure> {
        let name = &placed.place.name;
        let uid = live.pointer("/metadata/uid").and_then(Value::as_str);
        let made = left.is_some_and(|left| Some(left.uid.as_str()) == uid);
        let service = self.wanted.workload.service.as_str();
        let label = |key: &str| live.pointer("/metadata/labels")?.get(key)?.as_str();
        let whose = match (label(AGENT_LABEL), label(SERVICE_LABEL)) {
            _ if made => return Ok(()),
            (Some(agent), Some(own)) if agent == self.inner.agent && own == service => {
                return Ok(());
            }
            (Some(agent), Some(other)) if agent == self.inner.agent => {
                format!("it belongs to service {other}")
            }
            (Some(_), Some(other)) => format!("it belongs to service {other} of another agent"),
            _ => "it was not made by this agent".to_owned(),
        };
        Err(Failure::Permanent(format!(
            "{name} exists and {whose}: give it another name, or delete it first"
        )))
    }

    async fn change(
        &self,
        placed: &[Placed],
        mut set: Set,
        left: Vec<Entry>,
    ) -> Result<(), Failure> {
        self.go_on()?;
        self.try_all(placed).await?;
        self.go_on()?;
        let runs = self.wanted.workload.job.is_some();
        let turned = set.job != runs;
        if turned {
            (set.job, set.body) = (runs, None);
        }
        let unknown = placed.iter().any(|p| set.entry(&p.place.name).is_none());
        if unknown || turned {
            self.note_coming(placed, &mut set).await?;
        }
        let (others, job) = placed.split_at(placed.len() - usize::from(runs));
        let mut entries = Vec::with_capacity(placed.len());
        self.bring_all(others, &mut entries).await?;
        self.prune(&entries, left).await?;
        self.bring_all(job, &mut entries).await?;
        let set = Set {
            body: Some(self.wanted.body),
            since: clock::now(),
            job: runs,
            objects: entries,
        };
        let service = &self.wanted.workload.service;
        self.inner.write_record(&self.cluster, service, set).await
    }

    /// Notes everything that may be there from now on, so that it is found whatever happens.
    async fn note_coming(&self, placed: &[Placed], set: &mut Set) -> Result<(), Failure> {
        for placed in placed {
            if set.entry(&placed.place.name).is_none() {
                set.objects.push(Entry {
                    name: placed.place.name.clone(),
                    left: None,
                });
            }
        }
        let service = &self.wanted.workload.service;
        self.inner
            .write_record(&self.cluster, service, set.clone())
            .await
    }

    async fn bring_all(&self, placed: &[Placed], entries: &mut Vec<Entry>) -> Result<(), Failure> {
        for placed in placed {
            self.go_on()?;
            let left = self.bring(placed).await?;
            entries.push(Entry {
                name: placed.place.name.clone(),
                left: Some(left),
            });
        }
        Ok(())
    }

    /// Brings one object about, and waits for it where others need it.
    async fn bring(&self, placed: &Placed) -> Result<Left, Failure> {
        let name = &placed.place.name;
        match &placed.step {
            Step::Keep(left) => return Ok(left.clone()),
            Step::Apply { .. } => (self.say)(format!("applying {name}")),
            Step::Again => {
                (self.say)(format!("running {name} again"));
                self.retire(&placed.place, placed.live.as_ref()).await?;
            }
        }
        let begun = clock::monotonic();
        let live = loop {
            match self.apply(placed, false).await {
                Ok(live) => break live,
                Err(Trouble::Failed(failure)) => return Err(failure),
                // A kind that is new is served a moment after it is established.
                Err(Trouble::Untried) => {
                    if clock::monotonic().saturating_sub(begun) > KIND_MAX {
                        let why = format!("the cluster does not serve {name} yet");
                        return Err(Failure::Retryable(why));
                    }
                }
            }
            self.pause(LOOK).await?;
        };
        let service = &self.wanted.workload.service;
        self.inner.watch.remember(service, name, &live);
        if name.kind == "CustomResourceDefinition" {
            self.await_definition(&placed.place).await?;
        }
        left(&live, placed.manifest).ok_or_else(|| {
            Failure::Retryable(format!("the cluster did not say who manages {name}"))
        })
    }

    async fn await_definition(&self, place: &Place) -> Result<(), Failure> {
        let begun = clock::monotonic();
        loop {
            let why = match self.cluster.get(place).await?.as_ref().map(readiness::of) {
                Some(Readiness::Ready) => break,
                Some(Readiness::Failed(why)) => {
                    return Err(Failure::Permanent(format!("{}: {why}", place.name)));
                }
                Some(Readiness::Coming(why)) => why,
                None => "it was removed".to_owned(),
            };
            if clock::monotonic().saturating_sub(begun) > KIND_MAX {
                return Err(Failure::Retryable(format!("{}: {why}", place.name)));
            }
            self.pause(LOOK).await?;
        }
        // Its group may serve more kinds now.
        self.cluster.kinds.forget_all();
        Ok(())
    }

    /// Deletes what has left the set, last things first.
    async fn prune(&self, entries: &[Entry], mut left: Vec<Entry>) -> Result<(), Failure> {
        left.sort_by_key(|entry| std::cmp::Reverse(rank(&entry.name.kind)));
        let uid = |entry: &Entry| entry.left.as_ref().map(|left| left.uid.clone());
        let kept: Vec<String> = entries.iter().filter_map(uid).collect();
        for entry in left {
            // The same object may be served by two groups.
            if uid(&entry).is_some_and(|uid| kept.contains(&uid)) {
                continue;
            }
            (self.say)(format!("deleting {}", entry.name));
            let service = &self.wanted.workload.service;
            self.inner
                .delete(&self.cluster, service, &entry, self.cancel)
                .await?;
        }
        Ok(())
    }

    async fn retire(&self, place: &Place, live: Option<&Value>) -> Result<(), Failure> {
        let uid = live.and_then(|live| live.pointer("/metadata/uid")?.as_str());
        if let Some(uid) = uid {
            self.cluster.delete(place, uid).await?;
            self.inner
                .await_gone(&self.cluster, place, uid, self.cancel)
                .await?;
        }
        Ok(())
    }

    async fn pause(&self, pause: Duration) -> Result<(), Failure> {
        tokio::select! {
            () = self.cancel.cancelled() => Err(Failure::Cancelled),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    fn go_on(&self) -> Result<(), Failure> {
        match self.cancel.is_cancelled() {
            true => Err(Failure::Cancelled),
            false => Ok(()),
        }
    }
}

/// How an object was left, by the server's answer.
pub(super) fn left(live: &Value, manifest: Digest) -> Option<Left> {
    Some(Left {
        uid: live.pointer("/metadata/uid")?.as_str()?.to_owned(),
        manifest,
        values: field::digest(live)?,
        fields: field::owned(live).cloned(),
    })
}

fn step(placed: &Placed, live: Option<&Value>, given: Option<Left>) -> Step {
    let as_left = |left: &Left| {
        live.and_then(|live| self::left(live, placed.manifest))
            .is_some_and(|now| {
                now.uid == left.uid && now.values == left.values && now.manifest == left.manifest
            })
    };
    match (live, given) {
        (Some(_), Some(left)) if as_left(&left) => Step::Keep(left),
        (Some(_), given) => Step::Apply { given },
        (None, _) => Step::Apply { given: None },
    }
}
