//! Judging a target: how it does with the point that it was given.
//!
//! Judged is the *new* release's observed state, never old health. In sync, ready and connected are
//! kept apart: a target that is away has not failed, and silence fails only while it is connected.

use std::time::Duration;

use holdfast_protocol::name::TargetName;
use holdfast_protocol::time::{Timestamp, friendly};

use crate::compiled::Rollout;
use crate::gates::presence;
use crate::input::{Seen, View};
use crate::step::Turn;
use crate::track::{Deployment, Placement};

/// How long a target that went away is taken to be on its way back: it keeps its place in a wave, and
/// is not yet given what it would get without care for the others. Long enough for a fleet to come
/// back after the coordinator was started again.
pub(crate) const RETURN_GRACE: Duration = Duration::from_secs(15);

/// How a target does with what it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is not connected, and was not known to have failed.
    Away {
        /// Whether it may be back any moment, and until when that is assumed.
        returning_until: Option<Timestamp>,
    },
    /// It is not ready yet.
    UnderWay {
        /// What it said last.
        message: String,
        /// When this becomes a failure.
        until: Timestamp,
    },
    /// It is ready, but not for long enough.
    Settling {
        /// When it will have been.
        until: Timestamp,
    },
    /// It is ready and has been for long enough.
    Done,
    /// It failed, or was silent for too long.
    Failed {
        /// Why.
        message: String,
    },
}

/// What a target is judged by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// How long it has to be ready.
    pub(crate) min_ready: Duration,
    /// How long it may take to become ready.
    pub(crate) progress_deadline: Duration,
    /// Before this, no target's time began to run.
    pub(crate) since: Timestamp,
    /// What a target reports of something that it was given before this is of an earlier attempt, so
    /// a failure counts only once it had time to try again.
    pub(crate) began: Timestamp,
}

impl Terms {
    /// Those of a deployment whose phase began at `since`.
    pub(crate) const fn of(rollout: &Rollout, deployment: &Deployment, since: Timestamp) -> Self {
        Self {
            min_ready: rollout.min_ready,
            progress_deadline: rollout.progress_deadline,
            since,
            began: deployment.started_at,
        }
    }
}

/// How the target does with `placement`.
pub(crate) fn standing(
    turn: &Turn<'_>,
    name: &TargetName,
    view: &View,
    placement: &Placement,
    terms: Terms,
) -> Standing {
    let silent = Seen::Unknown;
    let seen = if turn.fresh.contains(name) {
        &silent
    } else {
        &view.seen
    };
    let until = placement
        .since
        .max(view.since)
        .max(terms.since)
        .after(terms.progress_deadline);
    match seen {
        Seen::Failed { message } if placement.since >= terms.began => Standing::Failed {
            message: message.clone(),
        },
        _ if !view.connected => away(view, turn.now),
        Seen::Failed { .. } | Seen::Progressing { .. } | Seen::Unknown
            if presence::hold(view, turn.now).is_some() =>
        {
            // It may not begin before its site lets it: as little to be waited for as one far away.
            Standing::Away {
                returning_until: None,
            }
        }
        Seen::Ready { since } => settling(since.after(terms.min_ready), turn.now),
        Seen::Failed { message } => under_way(message, until, turn.now, terms),
        Seen::Progressing { message } => under_way(message, until, turn.now, terms),
        Seen::Unknown => under_way("nothing heard yet", until, turn.now, terms),
    }
}

/// Until when a target that is away is taken to be on its way back, if it still is.
pub(crate) fn returning_until(view: &View, now: Timestamp) -> Option<Timestamp> {
    let until = view.since.after(RETURN_GRACE);
    (!view.connected && now < until).then_some(until)
}

fn away(view: &View, now: Timestamp) -> Standing {
    Standing::Away {
        returning_until: returning_until(view, now),
    }
}

fn settling(until: Timestamp, now: Timestamp) -> Standing {
    if now < until {
        Standing::Settling { until }
    } else {
        Standing::Done
    }
}

fn under_way(message: &str, until: Timestamp, now: Timestamp, terms: Terms) -> Standing {
    if now < until {
        return Standing::UnderWay {
            message: message.to_owned(),
            until,
        };
    }
    let limit = friendly(terms.progress_deadline);
    Standing::Failed {
        message: format!("not ready within {limit}: {message}"),
    }
}
