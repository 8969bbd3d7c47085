//! Which release a track wants.
//!
//! Without an environment before it, the newest release; with some, the newest that is stable in all
//! of them. Passed over is what failed or was rolled back here with the configuration in force; what
//! is older than the stable release is wanted only where a person asked for it.

use crate::compiled::TrackSpec;
use crate::input::{Inputs, ReleaseRef};
use crate::step::spec;
use crate::track::{PassedOver, Point, Track};

/// The rule by which a release is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The newest release.
    Newest,
    /// The newest that is stable in the environments before.
    After,
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
        && deployment.is_manual_rollback()
        && !deployment.is_final()
    {
        return Some((deployment.point.clone(), Rule::Rollback));
    }
    let free = |release: &&ReleaseRef| !is_passed_over(track, spec, release.sequence);
    let best = admitted(track, inputs, spec).find(free);
    let point = best.map(|release| point(spec, inputs, release));
    let point = point.or_else(|| track.stable.clone())?;
    Some((point, rule(spec)))
}

/// The newest point that the rules admit, also if it is passed over.
pub(crate) fn admitted_newest(
    track: &Track,
    inputs: &Inputs<'_>,
    spec: &TrackSpec,
) -> Option<Point> {
    admitted(track, inputs, spec)
        .next()
        .map(|release| point(spec, inputs, release))
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

/// The rule in force, where no person asked for anything else.
pub(crate) const fn rule(spec: &TrackSpec) -> Rule {
    if spec.after.is_empty() {
        Rule::Newest
    } else {
        Rule::After
    }
}

/// The releases that the rules admit, newest first.
fn admitted<'i>(
    track: &Track,
    inputs: &'i Inputs<'_>,
    spec: &TrackSpec,
) -> impl Iterator<Item = &'i ReleaseRef> {
    let stable = track.stable.as_ref().map(|stable| stable.sequence);
    let lowest = stable.unwrap_or(0);
    inputs
        .releases
        .iter()
        .rev()
        .take_while(move |release| release.sequence >= lowest)
        // What is stable here is proven here, whatever became of it upstream.
        .filter(move |release| {
            Some(release.sequence) == stable || is_proven(inputs, spec, release.sequence)
        })
}

/// Whether a release is stable in every environment before this one.
fn is_proven(inputs: &Inputs<'_>, spec: &TrackSpec, sequence: u64) -> bool {
    spec.after.iter().all(|environment| {
        let mut upstream = inputs.upstream.iter();
        upstream
            .any(|up| up.environment == environment && up.proven.binary_search(&sequence).is_ok())
    })
}
