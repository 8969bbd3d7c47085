//! Which release a track wants.
//!
//! The first rule that applies says so:
//!
//! | rule | what is wanted |
//! | --- | --- |
//! | `rollback` | what a person goes back to, for as long as that is under way |
//! | `deploy` | what a person asked for once (`deploy`, `promote`), until that deployment is at an end or another wish takes its place |
//! | `pin` | one version, a person's before the manifest's; also an older one, also one that is still to come |
//! | `follow` | the release that is stable in the environment that is mirrored, with the configuration from here; also an older one |
//! | `train` | each release in turn, see [`train`] |
//! | `manual` | nothing, until a person promotes it |
//! | `after` | the newest that is stable in all environments before |
//! | `newest` | the newest |
//!
//! A range of versions (`admits`) filters the releases of every rule but `deploy` and a person's pin.
//! Passed over by every rule is what failed or was rolled back here with the configuration in force:
//! then the stable release stays. What is older than the stable one is wanted only by `rollback`,
//! `pin` and `follow`. A release that is stable here is proven here, whatever became of it upstream,
//! and takes on a new configuration by every rule but `pin`.
//!
//! *Assumption:* whether the release that is wanted may start is the gates' concern, not this file's.

pub(crate) mod supply;
pub(crate) mod train;

use crate::batch;
use crate::compiled::{Promotion, TrackSpec};
use crate::input::{Inputs, ReleaseRef};
use crate::step::spec;
use crate::track::{Deployment, PassedOver, Point, Track};

/// The rule by which a release is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The newest release.
    Newest,
    /// The newest that is stable in the environments before.
    After,
    /// Each in turn.
    Train,
    /// None before a person promotes it.
    Manual,
    /// What is stable in the environment that is mirrored.
    Follow,
    /// One version.
    Pin,
    /// A person asked for it, once.
    Deploy,
    /// A person asked for an earlier one.
    Rollback,
}

impl Rule {
    /// Its name, as in the JSON of `status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::After => "after",
            Self::Train => "train",
            Self::Manual => "manual",
            Self::Follow => "follow",
            Self::Pin => "pin",
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
        }
    }
}

/// The point that the track wants, and why; the stable one where nothing better may be tried. None
/// where it wants nothing: it is declared no more, or there is no release for it yet.
#[must_use]
pub fn wanted(track: &Track, inputs: &Inputs<'_>) -> Option<(Point, Rule)> {
    let spec = spec(inputs)?;
    if let Some(deployment) = &track.current
        && deployment.is_urgent()
        && !deployment.is_final()
    {
        return Some((deployment.point.clone(), Rule::Rollback));
    }
    let rule = rule(track, spec);
    if let Some(running) = batch::running(track, spec) {
        return Some((running.clone(), rule));
    }
    let free = |release: &ReleaseRef| {
        batch::is_scheduled(spec) || !is_passed_over(track, spec, release.sequence)
    };
    let release = picked(track, inputs, spec, &free);
    let point = release.and_then(|release| batch::due(track, spec, point(spec, inputs, release)));
    let point = point.or_else(|| track.stable.clone())?;
    Some((point, rule))
}

/// The release that the rule picks, were none passed over, with the configuration in force.
pub(crate) fn admitted(track: &Track, inputs: &Inputs<'_>, spec: &TrackSpec) -> Option<Point> {
    let any = |_: &ReleaseRef| true;
    picked(track, inputs, spec, &any).map(|release| point(spec, inputs, release))
}

/// What would be brought, had it not failed or been rolled back here: what the rule picks, or what a
/// person asked for last.
pub(crate) fn failed_point(track: &Track, inputs: &Inputs<'_>, spec: &TrackSpec) -> Option<Point> {
    if batch::is_scheduled(spec) {
        return None;
    }
    let rests = |point: &Point| track.stable.as_ref().is_some_and(|stable| stable.is(point));
    let failed = |point: &Point| is_passed_over(track, spec, point.sequence) && !rests(point);
    let wish = || {
        let asked = |current: &&Deployment| {
            current.is_final() && !current.is_urgent() && current.trigger.by.is_some()
        };
        let sequence = track.current.as_ref().filter(asked)?.point.sequence;
        let mut releases = inputs.releases.iter();
        let release = releases.find(|release| release.sequence == sequence)?;
        Some(point(spec, inputs, release))
    };
    let picked = admitted(track, inputs, spec).filter(failed);
    picked.or_else(|| wish().filter(failed))
}

/// Whether a release with the configuration in force is passed over.
pub(crate) fn is_passed_over(track: &Track, spec: &TrackSpec, sequence: u64) -> bool {
    let covers = |passed: &PassedOver| {
        passed.configuration == spec.digest && (passed.first..=passed.last).contains(&sequence)
    };
    track.passed_over.iter().any(covers)
}

/// A release with the configuration in force.
pub(crate) fn point(spec: &TrackSpec, inputs: &Inputs<'_>, release: &ReleaseRef) -> Point {
    Point {
        version: release.version.clone(),
        sequence: release.sequence,
        configuration: spec.digest,
        revision: inputs.revision,
        run: None,
    }
}

/// The rule in force, where no person goes back.
pub(crate) fn rule(track: &Track, spec: &TrackSpec) -> Rule {
    if track.asked.is_some() {
        return Rule::Deploy;
    }
    if pin(track, spec).is_some() {
        return Rule::Pin;
    }
    if spec.follow.is_some() {
        return Rule::Follow;
    }
    match spec.promotion {
        Promotion::Every => Rule::Train,
        Promotion::Manual => Rule::Manual,
        Promotion::Latest if spec.after.is_empty() => Rule::Newest,
        Promotion::Latest => Rule::After,
    }
}

/// The version that is pinned: a person's pin before the manifest's.
pub(crate) fn pin<'t>(
    track: &'t Track,
    spec: &'t TrackSpec,
) -> Option<&'t holdfast_protocol::name::Version> {
    let person = track.pinned.as_ref().map(|pinned| &pinned.version);
    person.or(spec.pin.as_ref())
}

/// Whether releases of this version may come at all, where no person says so.
pub(crate) fn is_admitted(spec: &TrackSpec, release: &ReleaseRef) -> bool {
    let admits = spec.admits.as_ref();
    admits.is_none_or(|range| range.admits(&release.version))
}

/// Whether a release is stable in every environment before this one.
pub(crate) fn is_proven(inputs: &Inputs<'_>, spec: &TrackSpec, sequence: u64) -> bool {
    spec.after.iter().all(|environment| {
        let mut upstream = inputs.upstream.iter();
        upstream
            .any(|up| up.environment == environment && up.proven.binary_search(&sequence).is_ok())
    })
}

/// The release that the rule picks among those that are `free`.
fn picked<'i>(
    track: &Track,
    inputs: &'i Inputs<'_>,
    spec: &TrackSpec,
    free: &dyn Fn(&ReleaseRef) -> bool,
) -> Option<&'i ReleaseRef> {
    let numbered = |sequence: u64| {
        let mut releases = inputs.releases.iter();
        releases.find(|release| release.sequence == sequence && free(release))
    };
    let stable = || numbered(track.stable.as_ref()?.sequence);
    match rule(track, spec) {
        Rule::Deploy => numbered(track.asked.as_ref()?.sequence),
        Rule::Pin => {
            let version = pin(track, spec)?;
            let mut releases = inputs.releases.iter();
            releases.find(|release| release.version == *version && free(release))
        }
        Rule::Follow => {
            let followed = followed(inputs, spec).filter(|release| is_admitted(spec, release));
            match followed {
                Some(followed) => Some(followed).filter(|followed| free(followed)),
                None => stable(),
            }
        }
        Rule::Train => train::next(track, inputs, spec, free).or_else(stable),
        // Going back is decided before any rule is asked.
        Rule::Manual | Rule::Rollback => stable(),
        Rule::After | Rule::Newest => eligible(track, inputs, spec).find(|release| free(release)),
    }
}

/// The release that is stable in the environment that is mirrored, if it gives every artifact that
/// the configuration uses.
pub(crate) fn followed<'i>(inputs: &'i Inputs<'_>, spec: &TrackSpec) -> Option<&'i ReleaseRef> {
    let environment = spec.follow.as_ref()?;
    let mut upstreams = inputs.upstream.iter();
    let upstream = upstreams.find(|upstream| upstream.environment == environment)?;
    let sequence = upstream.stable?.sequence;
    let mut releases = inputs.releases.iter();
    releases.find(|release| release.sequence == sequence)
}

/// The releases that are stable everywhere before and no older than what is stable here, newest
/// first.
pub(crate) fn eligible<'i>(
    track: &Track,
    inputs: &'i Inputs<'_>,
    spec: &TrackSpec,
) -> impl Iterator<Item = &'i ReleaseRef> {
    let stable = track.stable.as_ref().map(|stable| stable.sequence);
    let lowest = stable.unwrap_or(0);
    let releases = inputs.releases.iter().rev();
    let newer = releases.take_while(move |release| release.sequence >= lowest);
    // What is stable here is proven here, whatever became of it upstream.
    newer.filter(move |release| {
        let new = is_proven(inputs, spec, release.sequence) && is_admitted(spec, release);
        Some(release.sequence) == stable || new
    })
}
