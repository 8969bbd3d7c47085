//! What is seen of a set, from what is seen of its objects. Pure.

use holdfast_protocol::name::ServiceName;

use super::job::Attempt;
use super::object::Name;
use super::readiness::Readiness;
use super::record::{Entry, Set};
use super::watch::Seen;
use crate::run::{Exit, Live, Observed};

/// One object of a set, and what is seen of it.
pub(super) struct Pair<'a> {
    pub(super) entry: &'a Entry,
    pub(super) seen: Option<Seen>,
}

impl Pair<'_> {
    /// Whether it is not as it was left.
    pub(super) fn differs(&self) -> bool {
        let Some(left) = &self.entry.left else {
            return true;
        };
        self.seen
            .as_ref()
            .is_none_or(|seen| seen.uid != left.uid || seen.values != Some(left.values))
    }
}

impl Pair<'_> {
    /// Which attempt of a job this is.
    fn attempt(&self) -> Option<Attempt> {
        self.seen.as_ref()?.attempt
    }
}

/// The newest attempt of a set that is a job, and what it is seen by.
pub(super) fn attempt<'p, 'e>(pairs: &'p [Pair<'e>]) -> Option<(&'p Pair<'e>, &'p Seen, Attempt)> {
    let newest = pairs
        .iter()
        .max_by_key(|pair| pair.attempt().map(|attempt| attempt.since))?;
    Some((newest, newest.seen.as_ref()?, newest.attempt()?))
}

/// What is seen of a set that runs to completion. `exit` is how it ended, where it failed.
pub(super) fn job(service: ServiceName, pairs: &[Pair<'_>], exit: Option<Exit>) -> Observed {
    let Some((_, seen, attempt)) = attempt(pairs) else {
        let what = "its Job is not there".to_owned();
        return Observed {
            service,
            body: None,
            live: Live::Altered { what },
        };
    };
    let at = attempt.ended.unwrap_or(attempt.since);
    let live = match seen.readiness {
        Readiness::Ready => Live::Ended {
            exit: Exit::Code(0),
            at,
        },
        Readiness::Failed(_) => Live::Ended {
            exit: exit.unwrap_or(Exit::Unknown),
            at,
        },
        Readiness::Coming(_) => Live::Running {
            since: attempt.since,
            pid: None,
        },
    };
    Observed {
        service,
        body: Some(attempt.body),
        live,
    }
}

/// What is seen of a set. `what` are the objects that are not as they were left, in words.
pub(super) fn observed(
    service: ServiceName,
    set: &Set,
    pairs: &[Pair<'_>],
    what: &[String],
) -> Observed {
    let live = if what.is_empty() {
        live(set, pairs)
    } else {
        Live::Altered {
            what: what.join("; "),
        }
    };
    Observed {
        service,
        body: set.body,
        live,
    }
}

fn live(set: &Set, pairs: &[Pair<'_>]) -> Live {
    let since = set.since;
    let readiness = |pair: &Pair<'_>| {
        let seen = pair.seen.as_ref();
        seen.map(|seen| (pair.entry.name.clone(), seen.readiness.clone()))
    };
    let all: Vec<(Name, Readiness)> = pairs.iter().filter_map(readiness).collect();
    let unready = |failing: bool| {
        let why = |(name, readiness): &(Name, Readiness)| match readiness {
            Readiness::Failed(why) if failing => Some(format!("{name}: {why}")),
            Readiness::Coming(why) if !failing => Some(format!("{name}: {why}")),
            Readiness::Ready | Readiness::Failed(_) | Readiness::Coming(_) => None,
        };
        let why = all.iter().find_map(why)?;
        Some(Live::Unready {
            since,
            pid: None,
            why,
            failing,
        })
    };
    unready(true)
        .or_else(|| unready(false))
        .unwrap_or(Live::Running { since, pid: None })
}
