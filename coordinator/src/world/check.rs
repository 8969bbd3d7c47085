//! Checks: what each asks of whom, and what their answers lead to.

use std::panic::{AssertUnwindSafe, catch_unwind};

use holdfast_engine::check::{self, Answer};
use holdfast_engine::compiled::protection::{Place, When};
use holdfast_engine::effect::Ask;
use holdfast_engine::request::{self, Request};
use holdfast_engine::track::TrackName;
use holdfast_protocol::name::TargetName;
use holdfast_protocol::version;

use super::{After, Round, World};
use crate::perform::check::Work;
use crate::perform::{Job, target};

impl Round<'_> {
    /// Takes the answer of a check into account.
    pub fn checked(&mut self, name: &TrackName, answer: &Answer) {
        let Some(track) = self.world.tracks.get(name) else {
            return;
        };
        let mut context = self.world.context(name);
        let inputs = context.inputs();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            check::answer(track, answer, &inputs, self.now)
        }));
        match outcome {
            Ok(outcome) => self.take_outcome(name, outcome),
            Err(_) => self.fault(name),
        }
    }

    /// Asks again what was asked and not answered: after a restart, and where the revision changed
    /// what is asked.
    pub fn ask_outstanding(&mut self) {
        let mut asks = Vec::new();
        for (name, track) in &self.world.tracks {
            let mut context = self.world.context(name);
            let inputs = context.inputs();
            // A fault of the engine must not stop any other track.
            let outstanding = catch_unwind(AssertUnwindSafe(|| check::outstanding(track, &inputs)));
            let outstanding = outstanding.unwrap_or_default();
            asks.extend(outstanding.into_iter().map(|ask| (name.clone(), ask)));
        }
        let asks = asks.into_iter();
        self.after
            .extend(asks.map(|(track, ask)| After::Check { track, ask }));
    }
}

impl World {
    /// What has to be done for an ask, or why nothing can be.
    #[must_use]
    pub fn job(&self, track: TrackName, ask: Ask) -> Job {
        let work = self.work(&track, &ask);
        Job { track, ask, work }
    }

    fn work(&self, track: &TrackName, ask: &Ask) -> Result<Work, String> {
        let spec = self.compiled.tracks.get(track);
        let spec = spec.ok_or_else(|| format!("{track} is declared no more"))?;
        let guard = spec.guards.iter().find(|guard| guard.name == ask.guard);
        let guard =
            guard.ok_or_else(|| format!("{} is not asked on {track} any more", ask.guard))?;
        let releases = self.releases.get(&track.service);
        let mut releases = releases.into_iter().flatten();
        let release = releases.find(|release| release.version == ask.point.version);
        let kept = self.configurations.get(&ask.point.configuration);
        let context = request::Context {
            track,
            point: &ask.point,
            deployment: ask.deployment,
            release: release.map(AsRef::as_ref),
            configuration: Some(kept.unwrap_or(&spec.configuration)),
        };
        match request::render(guard, &context)? {
            Request::Program(program) if program.on == Place::Target => Ok(Work::There {
                program,
                on: self.place_for(track, ask)?,
            }),
            here => Ok(Work::Here(here)),
        }
    }

    /// The target that a program of a check runs on: a connected one that the track runs on; for what
    /// is asked after a wave, one that has the new release already.
    fn place_for(&self, track: &TrackName, ask: &Ask) -> Result<target::Place, String> {
        let selector = self.compiled.tracks.get(track).map(|spec| &spec.selector);
        let here = self.targets.of(&track.environment);
        let meant = here.filter(|(_, target)| {
            let alive = target.kept.revoked_at.is_none() && target.kept.ahead.is_none();
            alive && selector.is_none_or(|selector| selector.matches(&target.labels))
        });
        let connected = meant.filter_map(|(name, target)| Some((name, target, target.up()?)));
        let best = connected.min_by_key(|(name, target, (_, version))| {
            let placed = target.placed.get(&track.service);
            let proven = placed.is_some_and(|placed| placed.point.is(&ask.point));
            let late = ask.when != When::Pre && !proven;
            let able = *version >= version::CHECKS;
            (!able, late, placed.is_none(), TargetName::clone(name))
        });
        match best {
            Some((name, _, (connection, version))) if version >= version::CHECKS => {
                Ok(target::Place {
                    target: name.clone(),
                    connection: connection.clone(),
                })
            }
            Some((name, ..)) => Err(format!(
                "the agent on {name} is too old to run checks, and no other target of {track} is \
                 connected; upgrade it"
            )),
            None => Err(format!("no target of {track} is connected")),
        }
    }
}
