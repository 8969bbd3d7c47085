//! What a failure leads to: to what the track goes back, and what is not tried again by itself.

use holdfast_protocol::api::deployment::{Trigger, TriggerKind};

use crate::batch;
use crate::compiled::OnFailure;
use crate::step::{Turn, spec};
use crate::track::{Deployment, PASSED_OVER_MAX, PassedOver, Phase, Point, Track};
use crate::wanted;

/// Ends the current deployment as failed. Its point is passed over from now on.
pub(crate) fn fail(turn: &mut Turn<'_>, reason: String) {
    let Some(deployment) = turn.track.current.clone() else {
        return;
    };
    if deployment.is_urgent() {
        // What it went back from is what a person did not want: there is nothing to put back.
        turn.enter(Phase::RollbackFailed, "deployment.rollbackFailed", reason);
        return;
    }
    if batch::is_job(turn) {
        return batch::fail(turn, reason);
    }
    pass_over_failed(&mut turn.track, &deployment.point);
    let on_failure = spec(turn.inputs).map(|spec| spec.rollout.on_failure);
    match on_failure.unwrap_or_default() {
        OnFailure::Rollback => go_back(turn, reason, None),
        OnFailure::Halt => {
            stop(turn, &deployment.point);
            turn.enter(Phase::Halted, "deployment.halted", reason);
        }
    }
}

/// Puts the stable release back, because of a failure or because a person asked. A job stays where it
/// stands: to run an older one takes nothing back.
pub(crate) fn go_back(turn: &mut Turn<'_>, reason: String, by: Option<String>) {
    if batch::is_job(turn) {
        return batch::fail(turn, reason);
    }
    let since = turn.now;
    turn.enter_for(
        Phase::RollingBack { since },
        "deployment.failed",
        reason,
        by,
    );
}

/// Ends the current deployment as not let through, by a policy or by a person. Its point is passed
/// over from now on.
pub(crate) fn reject(turn: &mut Turn<'_>, reason: String, by: Option<String>) {
    let Some(deployment) = turn.track.current.clone() else {
        return;
    };
    let point = &deployment.point;
    pass_over(&mut turn.track, point.sequence, point);
    turn.enter_for(Phase::Rejected, "deployment.rejected", reason, by);
}

/// Puts back the stable point before this one, because a check says that this one does not hold. Only
/// this one is passed over.
pub(crate) fn send_back(turn: &mut Turn<'_>, reason: &str) {
    let (Some(failed), Some(to)) = (turn.track.stable.clone(), before(&turn.track)) else {
        return;
    };
    let under_way = |current: &Deployment| !current.is_final();
    if turn.track.current.as_ref().is_some_and(under_way) {
        let reason = format!("{} is put back: {reason}", to.version);
        turn.enter(Phase::Superseded, "deployment.superseded", reason);
    }
    let trigger = Trigger {
        kind: TriggerKind::Protection,
        by: None,
        reason: Some(reason.to_owned()),
    };
    turn.begin(to.clone(), trigger);
    let track = &mut turn.track;
    track.stable = Some(to.clone());
    track.sent_back = true;
    pass_over_failed(track, &failed);
    let_again(track, &to);
    // It is proven no more, and no place to go back to.
    track
        .proven
        .retain(|sequence| *sequence != failed.sequence || failed.sequence == to.sequence);
    track
        .earlier
        .retain(|earlier| earlier.sequence < to.sequence);
}

/// The point that was stable before the one that is.
pub(crate) fn before(track: &Track) -> Option<Point> {
    let stable = track.stable.as_ref()?;
    let mut earlier = track.earlier.iter().rev();
    earlier.find(|point| !point.is(stable)).cloned()
}

/// Passes over what failed; and its configuration for the stable release, too, or going back to the
/// release with the configuration it was stable with would at once be followed by the other one.
pub(crate) fn pass_over_failed(track: &mut Track, point: &Point) {
    pass_over(track, point.sequence, point);
    if let Some(stable) = &track.stable
        && stable.configuration != point.configuration
    {
        let sequence = stable.sequence;
        let stable_too = Point {
            sequence,
            ..point.clone()
        };
        pass_over(track, sequence, &stable_too);
    }
}

/// Passes over `point` and every release that is newer than the stable one now: after a stop, none
/// of them may start instead before a person, a new release or a new configuration says so. What a
/// person asked for before is stopped with them, or it would stand before every newer release.
pub(crate) fn stop(turn: &mut Turn<'_>, point: &Point) {
    turn.track.asked = None;
    pass_over(&mut turn.track, point.sequence, point);
    let Some(spec) = spec(turn.inputs) else {
        return;
    };
    let stable = turn
        .track
        .stable
        .as_ref()
        .map_or(0, |stable| stable.sequence);
    let newest = turn.inputs.releases.last();
    if let Some(newest) = newest.filter(|newest| newest.sequence > stable) {
        let last = wanted::point(spec, turn.inputs, newest);
        pass_over(&mut turn.track, stable.saturating_add(1), &last);
    }
}

/// Passes over the releases from `first` to that of `last`, with its configuration.
pub(crate) fn pass_over(track: &mut Track, first: u64, last: &Point) {
    let passed = PassedOver {
        first,
        last: last.sequence.max(first),
        configuration: last.configuration,
    };
    let covered = |old: &PassedOver| {
        old.configuration == passed.configuration
            && passed.first <= old.first
            && old.last <= passed.last
    };
    track.passed_over.retain(|old| !covered(old));
    track.passed_over.push(passed);
    let surplus = track.passed_over.len().saturating_sub(PASSED_OVER_MAX);
    track.passed_over.drain(..surplus);
}

/// Lets a point be tried again.
pub(crate) fn let_again(track: &mut Track, point: &Point) {
    let mut kept = Vec::with_capacity(track.passed_over.len() + 1);
    for passed in track.passed_over.drain(..) {
        let meant = passed.configuration == point.configuration
            && (passed.first..=passed.last).contains(&point.sequence);
        if !meant {
            kept.push(passed);
            continue;
        }
        if passed.first < point.sequence {
            kept.push(PassedOver {
                last: point.sequence - 1,
                ..passed.clone()
            });
        }
        if passed.last > point.sequence {
            kept.push(PassedOver {
                first: point.sequence + 1,
                ..passed
            });
        }
    }
    track.passed_over = kept;
}

/// What a failed deployment went back to, for people.
pub(crate) fn restored(track: &Track, deployment: &Deployment) -> String {
    match &track.stable {
        Some(stable) => format!("{} is back after: {}", stable.version, deployment.reason),
        None => format!(
            "no earlier release, so it was removed after: {}",
            deployment.reason
        ),
    }
}

#[cfg(test)]
mod tests {
    use holdfast_protocol::digest::Digest;

    use super::*;
    use crate::track::TrackName;

    fn track() -> Track {
        Track::new(TrackName {
            service: "web".parse().unwrap(),
            environment: "production".parse().unwrap(),
        })
    }

    fn point(sequence: u64) -> Point {
        Point {
            version: format!("1.{sequence}").parse().unwrap(),
            sequence,
            configuration: Digest::of(b"configuration"),
            revision: 1,
            run: None,
        }
    }

    fn ranges(track: &Track) -> Vec<(u64, u64)> {
        track
            .passed_over
            .iter()
            .map(|passed| (passed.first, passed.last))
            .collect()
    }

    #[test]
    fn one_of_many_releases_is_let_again_and_the_others_are_not() {
        let mut track = track();
        pass_over(&mut track, 3, &point(9));
        let_again(&mut track, &point(5));
        assert_eq!(ranges(&track), [(3, 4), (6, 9)]);
        let_again(&mut track, &point(3));
        let_again(&mut track, &point(4));
        let_again(&mut track, &point(9));
        assert_eq!(ranges(&track), [(6, 8)]);
    }

    #[test]
    fn what_a_wider_range_covers_is_not_remembered_twice() {
        let mut track = track();
        pass_over(&mut track, 4, &point(4));
        pass_over(&mut track, 6, &point(6));
        pass_over(&mut track, 2, &point(5));
        assert_eq!(ranges(&track), [(6, 6), (2, 5)]);
    }

    #[test]
    fn another_configuration_is_not_passed_over() {
        let mut track = track();
        let other = Point {
            configuration: Digest::of(b"other"),
            ..point(4)
        };
        pass_over(&mut track, 4, &point(4));
        let_again(&mut track, &other);
        assert_eq!(ranges(&track), [(4, 4)]);
    }

    #[test]
    fn what_is_passed_over_is_bounded() {
        let mut track = track();
        for sequence in 0..2 * PASSED_OVER_MAX as u64 {
            pass_over(&mut track, 2 * sequence, &point(2 * sequence));
        }
        assert_eq!(track.passed_over.len(), PASSED_OVER_MAX);
        let newest = 4 * PASSED_OVER_MAX as u64 - 2;
        assert_eq!(
            track.passed_over.last().map(|passed| passed.last),
            Some(newest)
        );
    }
}
