//! Makes a workload's units be there as they are wanted, and has systemd run them.
//!
//! *Expected flow:* everything that can be refused is; artifacts are laid down; units are written and
//! read by systemd, which refuses a bad one while the old one still runs; files are laid down; the
//! workload is started, restarted or told to read its files again, whichever is the least that is
//! enough. *Guarantees:* a record says before the first write that a change is under way, and after
//! the last job that it is done, so a cut at any moment is seen and gone over again.

use std::collections::BTreeMap;

use holdfast_protocol::name::ServiceName;

use crate::failure::Failure;
use crate::run::Wanted;
use crate::systemd::adapter::Inner;
use crate::systemd::bus::Line;
use crate::systemd::change::Change;
use crate::systemd::place::Record;
use crate::systemd::plan::{self, Plan};
use crate::systemd::sight::{self, Drift, Listing};
use crate::systemd::{job, mark, unit};

/// What to do once everything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    Start,
    Restart,
    Reload,
}

/// What decides that.
#[derive(Debug, Clone, Copy)]
struct Situation {
    /// It runs, or its timer does.
    active: bool,
    /// Nothing of it runs, and nothing is on its way to.
    idle: bool,
    /// What runs may not be what was last settled.
    uncertain: bool,
    /// What systemd makes of the unit is another thing than before.
    content_changed: bool,
    /// Only the workload's own files are others than before.
    files_changed: bool,
    /// Its body is another one than before.
    new_body: bool,
    /// It can be told to read its files again.
    reloads: bool,
}

/// The least that brings about what is written.
const fn decide(now: Situation) -> Act {
    // A start that is under way began from what was written before.
    if !now.idle && (now.uncertain || now.content_changed) {
        return Act::Restart;
    }
    if !now.active {
        return Act::Start;
    }
    match (now.files_changed, now.reloads, now.new_body) {
        (true, true, _) => Act::Reload,
        // What it read at its start was replaced.
        (true, false, true) => Act::Restart,
        // A foreign edit that was taken back is not what it read at its start.
        (true, false, false) | (false, ..) => Act::Nothing,
    }
}

impl Inner {
    pub(super) fn converge(
        &self,
        wanted: &Wanted,
        say: &dyn Fn(String),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), Failure> {
        let service = &wanted.workload.service;
        let place = self.place(service);
        let plan = plan::plan(wanted, &place, &self.store, (&self.home, &self.memory))?;
        let line = self.bus.line()?;
        let before = place.record();
        self.refuse_foreign(&plan, before.as_ref())?;
        let listing = sight::listing(&line)?;
        if plan.job && job::is_done(service, &place, plan.body, &listing, &line)? {
            return Ok(());
        }
        let drift = match &before {
            Some(record) => sight::drift(&place, record, &listing, &line)?,
            None => Drift::default(),
        };
        let situation = situation(service, &plan, before.as_ref(), &drift, &listing, &line)?;
        let same = before.as_ref().is_some_and(|record| {
            record.settled.is_some()
                && record.units == plan.units
                && record.files == plan.digests()
                && record.secrets == plan.laid
        });
        // What is not done of a job is an attempt that is to begin.
        let act = if plan.job {
            Act::Restart
        } else {
            decide(situation)
        };
        if same && drift.what.is_empty() && act == Act::Nothing {
            return Ok(());
        }
        let change = Change {
            service,
            place: &place,
            plan: &plan,
            before: before.as_ref(),
            memory: &self.memory,
            line: &line,
            stale: situation.uncertain || drift.stale,
            say,
            cancelled,
        };
        change.make(act, wanted, &self.store)?;
        self.store.sweep(|| self.needed());
        Ok(())
    }
}

fn situation(
    service: &ServiceName,
    plan: &Plan,
    before: Option<&Record>,
    drift: &Drift,
    listing: &Listing,
    line: &Line,
) -> Result<Situation, Failure> {
    let unit = if plan.is_scheduled() {
        unit::timer_unit(service)
    } else {
        unit::service_unit(service)
    };
    let (state, began) = match listing.get(&unit) {
        Some(loaded) if plan.is_scheduled() => (loaded.active.clone(), 0),
        Some(loaded) => {
            let (loaded, run) = sight::settled_run(loaded, line)?;
            (loaded.active, run.since_micros)
        }
        None => (String::new(), 0),
    };
    let content = |units: &BTreeMap<String, String>| {
        units.get(&unit).map(|text| mark::content(text).to_owned())
    };
    let written = before.and_then(|record| content(&record.units));
    Ok(Situation {
        active: matches!(state.as_str(), "active" | "reloading"),
        idle: matches!(state.as_str(), "" | "inactive" | "failed"),
        uncertain: before.is_none_or(|record| record.settled.is_none())
            || drift.touched.is_some_and(|touched| touched <= began),
        content_changed: written != content(&plan.units),
        files_changed: before.is_none_or(|record| record.files != plan.digests()) || drift.files,
        new_body: before.is_none_or(|record| record.body != plan.body),
        reloads: plan.template.reload.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLED: Situation = Situation {
        active: true,
        idle: false,
        uncertain: false,
        content_changed: false,
        files_changed: false,
        new_body: false,
        reloads: false,
    };

    #[test]
    fn what_is_as_wanted_is_left_alone() {
        assert_eq!(decide(SETTLED), Act::Nothing);
        // A release that differs in nothing that runs.
        let new_body = Situation {
            new_body: true,
            ..SETTLED
        };
        assert_eq!(decide(new_body), Act::Nothing);
    }

    #[test]
    fn what_does_not_run_is_started_and_what_runs_something_else_is_restarted() {
        let stopped = Situation {
            active: false,
            idle: true,
            content_changed: true,
            ..SETTLED
        };
        assert_eq!(decide(stopped), Act::Start);
        let starting = Situation {
            active: false,
            ..SETTLED
        };
        assert_eq!(decide(starting), Act::Start, "it is waited for");
        for restarted in [
            Situation {
                content_changed: true,
                reloads: true,
                files_changed: true,
                ..SETTLED
            },
            Situation {
                uncertain: true,
                ..SETTLED
            },
            // What is just starting, or stopping, is not what is written now.
            Situation {
                active: false,
                content_changed: true,
                ..SETTLED
            },
            Situation {
                files_changed: true,
                new_body: true,
                ..SETTLED
            },
        ] {
            assert_eq!(decide(restarted), Act::Restart, "{restarted:?}");
        }
    }

    #[test]
    fn files_alone_are_read_again_where_that_is_known_how() {
        for new_body in [true, false] {
            let changed = Situation {
                files_changed: true,
                reloads: true,
                new_body,
                ..SETTLED
            };
            assert_eq!(decide(changed), Act::Reload);
        }
        let taken_back = Situation {
            files_changed: true,
            ..SETTLED
        };
        assert_eq!(decide(taken_back), Act::Nothing);
    }
}
