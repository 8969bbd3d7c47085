//! What of a track is worth a write.
//!
//! A check that is asked every few seconds and answers as before changes only times: when it was asked,
//! when it answered, when it will be asked next. After a restart they start anew, so a track of which
//! nothing else has changed need not be written again.

use holdfast_protocol::api::wait::Wait;

use super::check::CheckState;
use super::{Deployment, Track};

/// Whether `after` has to be written where `before` was. Placements are kept elsewhere.
#[must_use]
pub fn differs(before: &Track, after: &Track) -> bool {
    let Track {
        name,
        stable,
        earlier,
        proven,
        passed_over,
        current,
        paused,
        pinned,
        asked,
        watched,
        sent_back,
        elected,
        batch,
        waits,
        placements: _,
    } = before;
    let rests = (name, stable, earlier, proven, passed_over)
        == (
            &after.name,
            &after.stable,
            &after.earlier,
            &after.proven,
            &after.passed_over,
        )
        && (paused, pinned, asked) == (&after.paused, &after.pinned, &after.asked)
        && (sent_back, elected, batch) == (&after.sent_back, &after.elected, &after.batch);
    let deployment = match (current, &after.current) {
        (None, None) => true,
        (Some(before), Some(after)) => same_deployment(before, after),
        (None, Some(_)) | (Some(_), None) => false,
    };
    !(rests
        && deployment
        && alike(watched, &after.watched, same_check)
        && alike(waits, &after.waits, same_wait))
}

/// Whether two waits say the same, whenever time alone may end them.
#[must_use]
pub fn same_wait(before: &Wait, after: &Wait) -> bool {
    let Wait {
        kind,
        subject,
        message,
        since,
        ends_by,
        until: _,
    } = before;
    (kind, subject, message, since, ends_by)
        == (
            &after.kind,
            &after.subject,
            &after.message,
            &after.since,
            &after.ends_by,
        )
}

fn same_deployment(before: &Deployment, after: &Deployment) -> bool {
    let Deployment {
        id,
        point,
        previous,
        trigger,
        phase,
        reason,
        started_at,
        finished_at,
        hotfix,
        checks,
        results,
        approvals,
        skipped,
    } = before;
    (id, point, previous, trigger) == (&after.id, &after.point, &after.previous, &after.trigger)
        && (phase, reason, hotfix) == (&after.phase, &after.reason, &after.hotfix)
        && (started_at, finished_at) == (&after.started_at, &after.finished_at)
        && (results, approvals, skipped) == (&after.results, &after.approvals, &after.skipped)
        && alike(checks, &after.checks, same_check)
}

fn same_check(before: &CheckState, after: &CheckState) -> bool {
    let said = match (&before.verdict, &after.verdict) {
        (None, None) => true,
        (Some(before), Some(after)) => before.says(after),
        (None, Some(_)) | (Some(_), None) => false,
    };
    (&before.name, before.when, before.failures, before.notified)
        == (&after.name, after.when, after.failures, after.notified)
        && before.since == after.since
        && said
}

fn alike<T>(before: &[T], after: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
    before.len() == after.len()
        && before
            .iter()
            .zip(after)
            .all(|(before, after)| same(before, after))
}
