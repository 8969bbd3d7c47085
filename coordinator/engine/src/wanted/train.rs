//! Release trains: each release in turn, several in flight, each in another stage.
//!
//! *Expected flow:* a track takes the releases after its stable one in their order, each when it is
//! stable in all environments before. On a track where nothing is stable yet, the newest proven one
//! comes first: what lies before it has nothing to prove there.
//! *Guarantees:* none overtakes another: a release is waited for as long as it may still come, even
//! where a newer one is proven already; one that is under way is neither superseded nor interrupted
//! by a newer one.
//! *Left out* is what was passed over here, what `admits` does not let through, and what some
//! environment before went past without it: it proved a newer one, so this one failed there, was
//! rolled back there or never started there. No more than what upstream has proven is needed to know
//! that, since a train upstream proves a newer release only after it gave the older one up. A release
//! that was left out stays so here, once a newer one is stable here.

use crate::compiled::TrackSpec;
use crate::input::{Inputs, ReleaseRef};
use crate::track::Track;
use crate::wanted::{eligible, is_admitted, is_proven};

/// The release whose turn it is, if it is proven; none where it is still on its way, or there is none.
pub(crate) fn next<'i>(
    track: &Track,
    inputs: &'i Inputs<'_>,
    spec: &TrackSpec,
    free: &dyn Fn(&ReleaseRef) -> bool,
) -> Option<&'i ReleaseRef> {
    let proven = |release: &&ReleaseRef| is_proven(inputs, spec, release.sequence);
    if let Some(under_way) = under_way(track, inputs, spec).filter(|release| free(release)) {
        return Some(under_way);
    }
    if track.stable.is_none() {
        return eligible(track, inputs, spec).find(|release| free(release));
    }
    turn(track, inputs, spec, free).filter(proven)
}

/// The release whose turn it is, proven or not: the first one after the stable one that may still
/// come.
pub(crate) fn turn<'i>(
    track: &Track,
    inputs: &'i Inputs<'_>,
    spec: &TrackSpec,
    free: &dyn Fn(&ReleaseRef) -> bool,
) -> Option<&'i ReleaseRef> {
    queue(track, inputs, spec).find(|release| free(release))
}

/// The releases that may still come, in their turn.
pub(crate) fn queue<'i>(
    track: &Track,
    inputs: &'i Inputs<'_>,
    spec: &TrackSpec,
) -> impl Iterator<Item = &'i ReleaseRef> {
    let stable = track.stable.as_ref().map_or(0, |stable| stable.sequence);
    let start = inputs
        .releases
        .partition_point(|release| release.sequence <= stable);
    inputs.releases[start..]
        .iter()
        .filter(move |release| is_admitted(spec, release) && !was_left_out(inputs, release))
}

/// What the train is bringing now, as long as it may.
fn under_way<'i>(
    track: &Track,
    inputs: &'i Inputs<'_>,
    spec: &TrackSpec,
) -> Option<&'i ReleaseRef> {
    let current = track
        .current
        .as_ref()
        .filter(|current| !current.is_final())?;
    let sequence = current.point.sequence;
    let mut releases = eligible(track, inputs, spec);
    releases.find(|release| release.sequence == sequence)
}

/// Whether an environment before went past this release without proving it.
fn was_left_out(inputs: &Inputs<'_>, release: &ReleaseRef) -> bool {
    inputs.upstream.iter().any(|upstream| {
        let newest = upstream.proven.last();
        newest.is_some_and(|newest| *newest > release.sequence)
            && upstream.proven.binary_search(&release.sequence).is_err()
    })
}
