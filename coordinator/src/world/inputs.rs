//! What the engine is told of one track: built from the world for each step.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_engine::compiled::{Compiled, TrackSpec};
use holdfast_engine::input::{
    Declared, Dependency, Elsewhere, Freeze, Held, Inputs, ReleaseRef, Seen, Upstream, View,
};
use holdfast_engine::track::{Track, TrackName};
use holdfast_engine::wake::Change;
use holdfast_protocol::name::{EnvironmentName, ServiceName, TargetName};
use holdfast_protocol::observed::{Labels, State};

use super::{Target, World};
use crate::store::row;

/// Owns what [`Inputs`] borrows.
#[derive(Debug)]
pub struct Context<'w> {
    world: &'w World,
    spec: Option<&'w TrackSpec>,
    removal: Option<row::Removal>,
    releases: Vec<ReleaseRef>,
    targets: BTreeMap<TargetName, View>,
    freezes: Vec<Freeze>,
    name: TrackName,
    compiled: &'w Compiled,
}

impl World {
    /// Everything that a step of `name` is told.
    #[must_use]
    pub fn context(&self, name: &TrackName) -> Context<'_> {
        self.context_under(name, &self.compiled)
    }

    /// The same under another revision, to ask what would be.
    #[must_use]
    pub fn context_under<'w>(&'w self, name: &TrackName, compiled: &'w Compiled) -> Context<'w> {
        let spec = compiled.tracks.get(name).map(AsRef::as_ref);
        Context {
            world: self,
            spec,
            removal: self.removals.get(name).copied(),
            releases: spec
                .map(|spec| self.usable_releases(&spec.configuration))
                .unwrap_or_default(),
            targets: self.views(name, spec),
            freezes: self.freezes_of(&name.environment),
            name: name.clone(),
            compiled,
        }
    }

    /// The targets of a track's environment that its selector matches. Where the track is declared no
    /// more, those that still have something of it.
    fn views(&self, name: &TrackName, spec: Option<&TrackSpec>) -> BTreeMap<TargetName, View> {
        let here = self.targets.of(&name.environment);
        let here = here.filter(|(_, target)| target.kept.revoked_at.is_none());
        let meant = here.filter(|(_, target)| match spec {
            Some(spec) => spec.selector.matches(&target.labels),
            None => target.placed.contains_key(&name.service),
        });
        let named = |labels: &Labels| {
            spec.is_some_and(|spec| spec.configuration.on(labels).1.has_secrets())
        };
        let one = |target: &Target| {
            let view = view(target, &name.service);
            let keyless =
                view.connected && target.kept.sealing_key.is_none() && named(&target.labels);
            View {
                connected: view.connected && !keyless,
                keyless,
                ..view
            }
        };
        meant
            .map(|(target_name, target)| (target_name.clone(), one(target)))
            .collect()
    }

    fn freezes_of(&self, environment: &EnvironmentName) -> Vec<Freeze> {
        let here = |freeze: &&Freeze| {
            let only = freeze.environment.as_ref();
            only.is_none_or(|only| only == environment)
        };
        self.freezes.iter().filter(here).cloned().collect()
    }

    /// The tracks that read something of `name`, and so may move when it has.
    #[must_use]
    pub fn touched_by(&self, name: &TrackName) -> Vec<TrackName> {
        self.index
            .touched(Change::Progress(name))
            .into_iter()
            .cloned()
            .collect()
    }

    fn track(&self, service: &ServiceName, environment: &EnvironmentName) -> Option<&Track> {
        let name = TrackName {
            service: service.clone(),
            environment: environment.clone(),
        };
        self.tracks.get(&name)
    }
}

impl Context<'_> {
    /// The inputs of one step; the targets are handed over, so once only.
    #[must_use]
    pub fn inputs(&mut self) -> Inputs<'_> {
        let targets = std::mem::take(&mut self.targets);
        let declared = match self.spec {
            Some(spec) => Declared::Runs(spec),
            None => Declared::Removed {
                confirmed: self.removal.is_some_and(|removal| removal.confirmed),
            },
        };
        Inputs {
            declared,
            // A removal is confirmed by the revision that made it.
            revision: self
                .removal
                .map_or(self.world.revision, |removal| removal.revision),
            releases: &self.releases,
            upstream: self.upstream(),
            dependencies: self.dependencies(),
            targets,
            next_deployment: self.world.last_deployment + 1,
            freezes: &self.freezes,
            elsewhere: self.elsewhere(),
        }
    }

    fn upstream(&self) -> Vec<Upstream<'_>> {
        let Some(spec) = self.spec else {
            return Vec::new();
        };
        let one = |environment| {
            let name = TrackName {
                service: self.name.service.clone(),
                environment: EnvironmentName::clone(environment),
            };
            let declared = self.compiled.tracks.get(&name).map(AsRef::as_ref);
            Upstream::of(environment, self.world.tracks.get(&name), declared)
        };
        spec.upstream().map(one).collect()
    }

    /// The tracks that checks of kind `stable` ask about.
    fn elsewhere(&self) -> Vec<Elsewhere<'_>> {
        let guards = self.spec.map_or(&[][..], |spec| &spec.guards);
        let named = guards
            .iter()
            .filter_map(|guard| guard.protection.check.stable_elsewhere(&self.name));
        let one = |(service, environment)| {
            let track = self.world.track(service, environment);
            Elsewhere::of((service, environment), track)
        };
        named.map(one).collect()
    }

    fn dependencies(&self) -> Vec<Dependency<'_>> {
        let Some(spec) = self.spec else {
            return Vec::new();
        };
        let one = |service| {
            let track = self.world.track(service, &self.name.environment);
            Dependency::of(service, track)
        };
        spec.depends_on.iter().map(one).collect()
    }
}

/// What a step of a track of `service` is told of a target.
pub(super) fn view(target: &Target, service: &ServiceName) -> View {
    let seen = match (target.placed.get(service), target.observed.get(service)) {
        (None, _) => Seen::Unknown,
        (Some(placed), observed) => seen(placed, observed),
    };
    View {
        // One that nothing is sent to is as far from here as one that is away.
        connected: target.is_connected() && target.kept.ahead.is_none(),
        since: target.kept.since,
        seen,
        labels: Arc::clone(&target.labels),
        held: target.kept.hold.as_ref().map(|hold| Held {
            until: hold.until,
            reason: hold.reason.clone(),
        }),
        keyless: false,
    }
}

/// How a target does with what is placed on it: what it said of another body says nothing.
fn seen(placed: &row::Placed, observed: Option<&row::Observed>) -> Seen {
    let expected = match &placed.body {
        Ok(digest) => digest,
        Err(problem) => {
            return Seen::Failed {
                message: problem.clone(),
            };
        }
    };
    let Some(observed) = observed.filter(|o| o.wanted.as_ref() == Some(expected)) else {
        return Seen::Unknown;
    };
    let message = observed.message.clone();
    match observed.state {
        State::Unknown | State::Removed => Seen::Unknown,
        State::Pending | State::Progressing => Seen::Progressing { message },
        State::Ready => Seen::Ready {
            since: observed.heard_at,
        },
        State::NotReady | State::Failed => Seen::Failed { message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_engine::track::Point;
    use holdfast_protocol::digest::Digest;
    use holdfast_protocol::name::Version;
    use holdfast_protocol::time::Timestamp;

    fn placed(body: Result<Digest, String>) -> row::Placed {
        let point = Point {
            version: Version::parse("1").unwrap(),
            sequence: 1,
            configuration: Digest::of(b"configuration"),
            revision: 1,
            run: None,
        };
        row::Placed {
            point,
            since: Timestamp::from_millis(1),
            body,
        }
    }

    fn observed(wanted: Digest, state: State) -> row::Observed {
        row::Observed {
            service: ServiceName::parse("web").unwrap(),
            wanted: Some(wanted),
            running: Some(wanted),
            version: None,
            state,
            message: "why".to_owned(),
            since: Timestamp::from_millis(5),
            heard_at: Timestamp::from_millis(7),
            restarts: 0,
        }
    }

    #[test]
    fn what_was_said_of_another_body_is_not_known_of_this_one() {
        let (new, old) = (Digest::of(b"new"), Digest::of(b"old"));
        let ready = observed(old, State::Ready);
        assert_eq!(seen(&placed(Ok(new)), Some(&ready)), Seen::Unknown);
        assert_eq!(seen(&placed(Ok(new)), None), Seen::Unknown);
        let since = Timestamp::from_millis(7);
        assert_eq!(seen(&placed(Ok(old)), Some(&ready)), Seen::Ready { since });
    }

    #[test]
    fn a_workload_that_cannot_be_rendered_has_failed() {
        let message = "no label port".to_owned();
        let seen = seen(&placed(Err(message.clone())), None);
        assert_eq!(seen, Seen::Failed { message });
    }
}
