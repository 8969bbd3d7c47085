//! Consequence 3: what failed or was rolled back on a track is given to no target of it again, unless
//! a person says so; nor is anything older than what is stable, but by the rules that may go back.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_engine::effect::Effect;
use holdfast_engine::input::{Declared, Inputs};
use holdfast_engine::steer::Wish;
use holdfast_engine::track::{Deployment, Phase, Point, Track, TrackName};
use holdfast_protocol::api::deployment::TriggerKind;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::Version;

use super::model::Stepped;

/// A release with a configuration.
pub(crate) type Key = (u64, Digest);

/// What failed on each track.
#[derive(Default)]
pub(crate) struct Failed(BTreeMap<TrackName, BTreeSet<Key>>);

pub(crate) const fn key(point: &Point) -> Key {
    (point.sequence, point.configuration)
}

impl Failed {
    pub(crate) fn look(&mut self, stepped: &Stepped<'_>) -> Result<(), String> {
        let failed = self.0.entry(stepped.before.name.clone()).or_default();
        forgive(failed, stepped);
        sent_back(failed, stepped);
        for effect in &stepped.outcome.effects {
            placed(failed, stepped, effect)?;
        }
        for effect in &stepped.outcome.effects {
            if let Effect::Save(deployment) = effect
                && has_failed(deployment)
                && !runs_by_schedule(stepped.inputs)
            {
                failed.insert(key(&deployment.point));
            }
        }
        Ok(())
    }
}

/// What a person asks for may be tried again.
fn forgive(failed: &mut BTreeSet<Key>, stepped: &Stepped<'_>) {
    let track = &stepped.outcome.track;
    let Declared::Runs(spec) = stepped.inputs.declared else {
        return;
    };
    let mut named = |version: &Version| {
        let mut releases = stepped.inputs.releases.iter();
        if let Some(release) = releases.find(|release| release.version == *version) {
            failed.remove(&(release.sequence, spec.digest));
        }
    };
    match stepped.wish {
        Some(Wish::Deploy { version, .. } | Wish::Pin { version }) => named(version),
        Some(Wish::Promote { .. } | Wish::Retry) => {
            if let Some(asked) = &track.asked {
                named(&asked.version);
            }
            if let Some(current) = &track.current {
                failed.remove(&key(&current.point));
            }
        }
        Some(Wish::Rollback { .. }) => {
            let begun = begun(stepped);
            if let Some(manual) = begun.filter(|begun| begun.is_urgent()) {
                let to = manual.point.sequence;
                let newer = stepped.inputs.releases.iter();
                let newer = newer.filter(|release| release.sequence > to);
                failed.extend(newer.map(|release| (release.sequence, spec.digest)));
                failed.remove(&key(&manual.point));
            }
        }
        Some(Wish::Halt | Wish::Pause | Wish::Resume | Wish::Unpin) | None => {}
    }
}

/// What a check has sent back has failed.
fn sent_back(failed: &mut BTreeSet<Key>, stepped: &Stepped<'_>) {
    let begun = begun(stepped);
    let sent_back = begun.filter(|begun| begun.trigger.kind == TriggerKind::Protection);
    if let (Some(sent_back), Some(stable)) = (sent_back, &stepped.before.stable) {
        failed.insert(key(stable));
        failed.remove(&key(&sent_back.point));
    }
}

/// The deployment that was made in this step, if it is still the newest.
pub(crate) fn begun<'s>(stepped: &Stepped<'s>) -> Option<&'s Deployment> {
    let before = stepped.before.current.as_ref().map(|current| current.id);
    let after = stepped.outcome.track.current.as_ref()?;
    (before != Some(after.id)).then_some(after)
}

fn placed(failed: &BTreeSet<Key>, stepped: &Stepped<'_>, effect: &Effect) -> Result<(), String> {
    let Effect::Place { target, point } = effect else {
        return Ok(());
    };
    let track = &stepped.outcome.track;
    let version = &point.version;
    if failed.contains(&key(point)) && !is_stable(track, point) {
        return Err(format!("{target} was given {version}, which failed here"));
    }
    let before = stepped.before.stable.as_ref();
    let older = before.is_some_and(|stable| point.sequence < stable.sequence);
    if older && !is_stable(track, point) && !may_go_back(track, point) {
        return Err(format!("{target} was given {version}, which is older"));
    }
    Ok(())
}

fn is_stable(track: &Track, point: &Point) -> bool {
    track.stable.as_ref().is_some_and(|stable| stable.is(point))
}

/// Whether the newest deployment brings it by a rule that may go back.
fn may_go_back(track: &Track, point: &Point) -> bool {
    let current = track.current.as_ref();
    current.is_some_and(|current| {
        let kind = current.trigger.kind;
        let back = [TriggerKind::Pin, TriggerKind::Mirror, TriggerKind::Retry];
        current.point.is(point) && (current.is_urgent() || back.contains(&kind))
    })
}

fn runs_by_schedule(inputs: &Inputs<'_>) -> bool {
    let Declared::Runs(spec) = inputs.declared else {
        return false;
    };
    spec.job.as_ref().is_some_and(|job| job.schedule.is_some())
}

pub(crate) fn has_failed(deployment: &Deployment) -> bool {
    let failed = matches!(
        deployment.phase,
        Phase::RollingBack { .. } | Phase::RolledBack | Phase::RollbackFailed | Phase::Halted
    );
    // What goes back because its window closed is tried again by the next opening.
    let closed = deployment.reason.contains("the window closed");
    failed && !closed && !deployment.is_urgent()
}
