//! Brings one service to one body, and takes one away.
//!
//! *Expected flow*: what can be refused is refused; the image and the artifacts come; the new
//! container is made; the old one is stopped and the new one started, or the other way round; the old
//! one is removed; what nobody needs is cleaned up. *Guarantees*: a step that is cut off leaves
//! labelled containers of which the next look tells the truth and the next converge makes one.
//! Requests that change something are never dropped half way, but for a stop. *Assumptions*: one
//! operation a service at a time.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use bollard::models::{NetworkCreateRequest, NetworkDisconnectRequest};
use bollard::query_parameters::ListNetworksOptionsBuilder;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::workload::PLACEHOLDER_OPEN;
use tokio_util::sync::CancellationToken;

use super::adapter::Inner;
use super::body::{self, AGENT_LABEL};
use super::engine::{ANSWER_MAX, Engine, EngineError, WORK_MAX, within};
use super::image;
use super::record::{Current, Need, Record};
use super::sight::{Seen, State};
use super::spec::{self, Template, Update};
use super::wiring::{Network, Source};
use crate::clock;
use crate::failure::Failure;
use crate::fields;
use crate::run::Wanted;
use crate::secret::Secret;
use crate::unpacked::Store;

mod job;
mod ready;
mod secret;

/// One service on its way to one body.
struct Way<'a> {
    inner: &'a Inner,
    engine: Engine,
    wanted: &'a Wanted,
    template: Template,
    /// What is mounted, in the order of the template's volumes.
    sources: Vec<String>,
    /// What secrets stand for in its environment.
    variables: Vec<(String, Secret)>,
    say: &'a (dyn Fn(String) + Sync),
    cancel: &'a CancellationToken,
}

impl Inner {
    pub(super) async fn converge(
        self: &Arc<Self>,
        wanted: &Wanted,
        say: &(dyn Fn(String) + Sync),
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        // All that can be refused is refused before the engine is asked for anything.
        let template = fields::arrived(&wanted.workload, spec::parse)?;
        let sources = self.sources(wanted, &template)?;
        let variables = self.variables(wanted, &template)?;
        let engine = self.engine().await?;
        self.engage();
        let way = Way {
            inner: self,
            engine,
            wanted,
            template,
            sources,
            variables,
            say,
            cancel,
        };
        let outcome = way.run().await;
        self.watch.stir();
        outcome?;
        way.sweep_secrets().await
    }

    /// Removes all that was made for a service. Named volumes stay: they are data.
    pub(super) async fn remove(
        self: &Arc<Self>,
        service: &ServiceName,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        let record = self.records.read(service);
        let engine = match self.engine().await {
            Ok(engine) => engine,
            // Where nothing was made, no engine is needed to remove it.
            Err(EngineError::Absent(_)) if record.is_none() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let found = self.containers(Some(service), false).await?;
        for seen in found.values().flatten() {
            retire(&engine, seen, cancel).await?;
        }
        let needs = record.map(|record| record.needs).unwrap_or_default();
        let others = self.needs_of_others(service)?;
        self.drop_images(&engine, &needs, &others).await?;
        self.memory.sweep(service, None)?;
        self.records.forget(service)?;
        self.store.sweep(|| self.artifacts_needed());
        self.drop_networks(&engine).await?;
        self.watch.stir();
        Ok(())
    }

    /// Paths and names to mount, all of which may be.
    fn sources(&self, wanted: &Wanted, template: &Template) -> Result<Vec<String>, Failure> {
        let refused = |i: usize, why: String| {
            Failure::Permanent(format!("the template is refused: volumes[{i}]: {why}"))
        };
        let source = |(i, volume): (usize, &super::wiring::Volume)| match &volume.source {
            Source::Named(name) => Ok(name.clone()),
            Source::Memory => Ok(String::new()),
            Source::Path(path) if path.contains(PLACEHOLDER_OPEN) => self
                .fill(&wanted.workload, path)
                .map_err(|unknown| refused(i, format!("{unknown:?} has no path on the host"))),
            Source::Path(path) => {
                let checked = self.mounts.check(Path::new(path));
                checked
                    .map(|()| path.clone())
                    .map_err(|why| refused(i, why))
            }
        };
        template.volumes.iter().enumerate().map(source).collect()
    }

    fn needs_of_others(&self, service: &ServiceName) -> Result<Vec<Need>, Failure> {
        let others = self.records.services()?;
        let others = others.iter().filter(|other| *other != service);
        let records = others.filter_map(|other| self.records.read(other));
        Ok(records.flat_map(|record| record.needs).collect())
    }

    /// Keys of all unpacked artifacts that are still needed; nothing where that is not certain.
    fn artifacts_needed(&self) -> Option<BTreeSet<String>> {
        let needs = self.records.needs().ok()?;
        Some(needs.into_iter().flat_map(|need| need.artifacts).collect())
    }

    /// Removes the images of `left` that were pulled for it and that no one in `needed` needs.
    async fn drop_images(
        &self,
        engine: &Engine,
        left: &[Need],
        needed: &[Need],
    ) -> Result<(), Failure> {
        let pulled: BTreeSet<&str> = left
            .iter()
            .filter(|need| need.pulled && !needed.iter().any(|other| other.image == need.image))
            .map(|need| need.image.as_str())
            .collect();
        for image in pulled {
            if !image::remove(engine, image).await? {
                tracing::debug!(image, "an image that was pulled here is needed by others");
            }
        }
        Ok(())
    }

    /// Removes the networks that this agent made and that none of its containers is on.
    async fn drop_networks(&self, engine: &Engine) -> Result<(), Failure> {
        let filters = HashMap::from([("label", vec![format!("{AGENT_LABEL}={}", self.agent)])]);
        let options = ListNetworksOptionsBuilder::default()
            .filters(&filters)
            .build();
        let call = engine.api.list_networks(Some(options));
        let made = within("list its networks", ANSWER_MAX, call).await?;
        if made.is_empty() {
            return Ok(());
        }
        let containers = self.containers(None, true).await?;
        let used: BTreeSet<&String> = containers
            .values()
            .flatten()
            .flat_map(|seen| &seen.shape.networks)
            .collect();
        for name in made.iter().filter_map(|network| network.name.as_ref()) {
            if used.contains(name) {
                continue;
            }
            let call = engine.api.remove_network(name);
            match within(format!("remove network {name}"), WORK_MAX, call).await {
                // Somebody else's container is on it.
                Ok(()) | Err(EngineError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Way<'_> {
    async fn run(&self) -> Result<(), Failure> {
        let service = &self.wanted.workload.service;
        let mut found = self.inner.containers(Some(service), false).await?;
        let found = found.remove(service).unwrap_or_default();
        if self.is_job() {
            return self.run_job(&found).await;
        }
        let same = |seen: &&Seen| seen.body == Some(self.wanted.body);
        let kept = found
            .iter()
            .filter(same)
            .max_by_key(|seen| (seen.is_running(), seen.made));
        if let Some(kept) = kept
            && (kept.is_running() || found.len() == 1)
            && self.repair(kept).await?
        {
            let others: Vec<&Seen> = found.iter().filter(|seen| seen.id != kept.id).collect();
            self.take_up(kept, &others).await?;
            return self.settle(&kept.id, &others).await;
        }
        self.replace(&found).await
    }

    /// Puts right what is there in the right body. False where only a new container can.
    async fn repair(&self, seen: &Seen) -> Result<bool, Failure> {
        match &seen.state {
            State::Running { .. } => self.mend(seen).await,
            State::Paused => {
                self.tell(format!("letting {} go on", seen.name));
                self.engine.unpause(&seen.id).await?;
                self.mend(seen).await
            }
            State::Made | State::Ended { .. } => {
                self.lay_secrets().await?;
                self.tell(format!("starting {} again", seen.name));
                self.inner.watch.begins(&seen.id);
                match self.engine.start(&seen.id, &seen.name).await {
                    Ok(()) => self.mend(seen).await,
                    Err(EngineError::Refused { message, .. }) => {
                        self.tell(format!("{} cannot be started again: {message}", seen.name));
                        Ok(false)
                    }
                    Err(error) => Err(error.into()),
                }
            }
            State::Changing(_) => Ok(false),
        }
    }

    /// Gives a container back what was changed of it, without a restart where the engine can.
    async fn mend(&self, seen: &Seen) -> Result<bool, Failure> {
        let record = self.inner.records.read(&self.wanted.workload.service);
        let current = record.and_then(|record| record.current);
        let Some(left) = current.filter(|current| current.container == seen.id) else {
            return Ok(true);
        };
        let Some(what) = left.shape.difference(&seen.shape) else {
            return Ok(true);
        };
        self.tell(format!("putting right: {what}"));
        if left.shape.name != seen.shape.name {
            self.engine.rename(&seen.id, &left.shape.name).await?;
        }
        if let Some(limits) = left.shape.update(&seen.shape) {
            match self.engine.update(&seen.id, limits).await {
                // Some limits cannot be taken back while it runs.
                Ok(()) | Err(EngineError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for network in seen.shape.networks.difference(&left.shape.networks) {
            self.leave_network(&seen.id, network).await?;
        }
        let now = self.inner.look(&self.engine, &seen.id).await?;
        Ok(now.is_some_and(|now| left.shape.difference(&now.shape).is_none()))
    }

    async fn leave_network(&self, id: &str, network: &str) -> Result<(), Failure> {
        let request = NetworkDisconnectRequest {
            container: id.to_owned(),
            force: Some(true),
        };
        let call = self.engine.api.disconnect_network(network, request);
        match within(format!("leave network {network}"), ANSWER_MAX, call).await {
            Ok(()) | Err(EngineError::Refused { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts a new container in the place of all that are there.
    async fn replace(&self, found: &[Seen]) -> Result<(), Failure> {
        self.prepare().await?;
        for stale in found.iter().filter(|seen| seen.state == State::Made) {
            self.engine.remove(&stale.id).await?;
        }
        let old: Vec<&Seen> = found
            .iter()
            .filter(|seen| seen.state != State::Made)
            .collect();
        let service = &self.wanted.workload.service;
        let unique = format!("{} {:?}", self.wanted.body, clock::monotonic());
        let name = body::name(service, &unique);
        let (_, secrets) = self.lay_secrets().await?;
        let create = self.create(&name, &secrets);
        let id = self.engine.create(&name, create).await?;
        if let Err(failure) = self.put_in_place(&id, &name, &old).await {
            // It is nobody's yet; what cannot be removed now is found by its labels.
            if let Err(error) = self.engine.remove(&id).await {
                tracing::warn!(%error, name, "a container that did not start is left");
            }
            return Err(failure);
        }
        let old = if self.is_job() { Vec::new() } else { old };
        self.settle(&id, &old).await
    }

    /// Everything that a new container needs.
    async fn prepare(&self) -> Result<(), Failure> {
        let image = &self.template.image;
        let here = image::is_here(&self.engine, image).await?;
        let artifacts = self.wanted.workload.artifacts.iter();
        let name = image.to_string();
        let before = self.inner.records.needs()?;
        let need = Need {
            body: self.wanted.body,
            pulled: !here || before.iter().any(|n| n.pulled && n.image == name),
            image: name,
            artifacts: artifacts.map(Store::key).collect(),
        };
        let service = &self.wanted.workload.service;
        let record = self
            .inner
            .records
            .read(service)
            .unwrap_or_else(Record::empty);
        self.inner.records.write(service, &record.with(need))?;
        self.lay_artifacts()?;
        if !here {
            let login = image::login(&self.inner.settings, self.wanted, image)?;
            let how = self.template.pull;
            image::pull(&self.engine, image, how, login, self.say, self.cancel).await?;
        }
        if let Network::Named(name) = &self.template.network {
            self.make_network(name).await?;
        }
        self.go_on()
    }

    fn lay_artifacts(&self) -> Result<(), Failure> {
        for artifact in &self.wanted.workload.artifacts {
            let blob = self.wanted.artifacts.get(&artifact.name).ok_or_else(|| {
                Failure::Retryable(format!("artifact {} is not here yet", artifact.name))
            })?;
            let cancelled = || self.cancel.is_cancelled();
            if self.inner.store.lay(artifact, blob, &cancelled)? {
                self.tell(format!(
                    "laid down artifact {} ({})",
                    artifact.name, artifact.file
                ));
            }
        }
        Ok(())
    }

    async fn make_network(&self, name: &str) -> Result<(), Failure> {
        let call = self.engine.api.inspect_network(name, None);
        match within(format!("look for network {name}"), ANSWER_MAX, call).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_unknown() => {}
            Err(error) => return Err(error.into()),
        }
        self.tell(format!("making network {name}"));
        let labels = HashMap::from([(AGENT_LABEL.to_owned(), self.inner.agent.clone())]);
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            labels: Some(labels),
            ..NetworkCreateRequest::default()
        };
        let call = self.engine.api.create_network(request);
        match within(format!("make network {name}"), WORK_MAX, call).await {
            // Another service made it meanwhile.
            Ok(_) | Err(EngineError::Refused { status: 409, .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn put_in_place(&self, id: &str, name: &str, old: &[&Seen]) -> Result<(), Failure> {
        self.go_on()?;
        let version = &self.wanted.workload.version;
        let running = old.iter().any(|seen| seen.is_running());
        match self.template.update {
            Update::Recreate | Update::StartFirst if self.is_job() => {
                // With nothing else there, what is there from now on is this job.
                for seen in old {
                    retire(&self.engine, seen, self.cancel).await?;
                }
                self.go_on()?;
                self.tell(format!("running version {version}"));
                Ok(self.engine.start(id, name).await?)
            }
            Update::Recreate => {
                if running {
                    self.tell("stopping what runs".to_owned());
                }
                for seen in old {
                    stop(&self.engine, seen, self.cancel).await?;
                }
                self.go_on()?;
                self.tell(format!("starting version {version}"));
                Ok(self.engine.start(id, name).await?)
            }
            Update::StartFirst => {
                self.tell(format!("starting version {version} beside what runs"));
                self.engine.start(id, name).await?;
                if running {
                    self.becomes_ready(id).await
                } else {
                    Ok(())
                }
            }
        }
    }

    /// One container is in place: it is noted, the others go, and so does what nobody needs.
    async fn settle(&self, id: &str, others: &[&Seen]) -> Result<(), Failure> {
        let service = &self.wanted.workload.service;
        let record = self
            .inner
            .records
            .read(service)
            .unwrap_or_else(Record::empty);
        let known = record
            .current
            .as_ref()
            .is_some_and(|current| current.container == id && current.body == self.wanted.body);
        if known && others.is_empty() {
            return Ok(());
        }
        let seen = self.inner.look(&self.engine, id).await?.ok_or_else(|| {
            Failure::Retryable("the new container was removed at once".to_owned())
        })?;
        let current = Current {
            body: self.wanted.body,
            container: id.to_owned(),
            shape: seen.shape,
            job: self.is_job(),
        };
        let (settled, left) = record.settled(current);
        // What is left over is forgotten only when it is gone.
        let needs = [settled.needs.clone(), left.clone()].concat();
        let noted = Record {
            needs,
            ..settled.clone()
        };
        self.inner.records.write(service, &noted)?;
        for seen in others {
            retire(&self.engine, seen, self.cancel).await?;
        }
        let mut needed = self.inner.needs_of_others(service)?;
        needed.extend(settled.needs.iter().cloned());
        self.inner.drop_images(&self.engine, &left, &needed).await?;
        self.inner.records.write(service, &settled)?;
        self.inner.store.sweep(|| self.inner.artifacts_needed());
        self.inner.drop_networks(&self.engine).await
    }

    const fn is_job(&self) -> bool {
        self.wanted.workload.job.is_some()
    }

    fn go_on(&self) -> Result<(), Failure> {
        if self.cancel.is_cancelled() {
            Err(Failure::Cancelled)
        } else {
            Ok(())
        }
    }

    fn tell(&self, text: String) {
        (self.say)(text);
    }
}

/// Stops a container that runs.
async fn stop(engine: &Engine, seen: &Seen, cancel: &CancellationToken) -> Result<(), Failure> {
    if !seen.is_running() {
        return Ok(());
    }
    if seen.state == State::Paused {
        engine.unpause(&seen.id).await?;
    }
    tokio::select! {
        () = cancel.cancelled() => Err(Failure::Cancelled),
        stopped = engine.stop(&seen.id, seen.grace) => Ok(stopped?),
    }
}

/// Stops a container and removes it.
async fn retire(engine: &Engine, seen: &Seen, cancel: &CancellationToken) -> Result<(), Failure> {
    stop(engine, seen, cancel).await?;
    Ok(engine.remove(&seen.id).await?)
}
