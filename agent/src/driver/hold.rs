//! Being left alone for a while: what ran when the hold began is what is wanted until it ends.
//!
//! `Driver::desired` says what to bring about now. While a hold lasts that is what is kept, and what
//! the newest assignment asks for waits in the hold; when it ends, the one takes the other's place.

use std::collections::BTreeMap;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::observed::{Hold, State};
use tokio::sync::oneshot;

use super::Driver;
use crate::clock::{Moment, Now};
use crate::desired::{Desired, standings_after};
use crate::diff::{self, Difference};
use crate::event::Ask;
use crate::hold::{Holding, Wish};
use crate::link::Command;
use crate::plan::{self, Plan, Status};

impl Driver {
    /// Takes up a hold that was kept on disk, where it still lasts.
    pub(super) fn resume_hold(&mut self, now: Now) {
        let kept = match self.parts.cache.hold() {
            Ok(kept) => kept,
            Err(error) => {
                let error = crate::chain(&error);
                tracing::error!(error, "it is not known whether this target is held");
                return;
            }
        };
        let Some(kept) = kept else { return };
        if kept.is_over(now.wall) {
            tracing::info!("a hold ended while the agent was not running");
            return self.forget_hold();
        }
        for body in kept.wanted().into_values() {
            if let Some(intent) = self.parts.cache.intent(body) {
                self.bodies.entry(body).or_insert(intent);
            }
        }
        tracing::info!(until = %kept.until, reason = kept.reason, "this target is held");
        let holding = Holding::new(kept, self.wanted(), now);
        self.put_hold_in_force(holding);
    }

    /// Answers somebody on this machine.
    pub(super) fn hold(&mut self, ask: Ask, now: Now) {
        let (answer, done): (_, oneshot::Sender<_>) = match ask {
            Ask::Hold { wish, done } => (self.begin_hold(wish, now).map(Some), done),
            Ask::Unhold { done } => {
                let before = self.holding.as_ref().map(Holding::said);
                (self.end_hold().map(|()| before), done)
            }
        };
        // Whoever asked may have gone.
        let _ = done.send(answer);
    }

    fn begin_hold(&mut self, wish: Wish, now: Now) -> Result<Hold, String> {
        if self.is_leaving() {
            return Err("this target is leaving".to_owned());
        }
        let (keeps, awaited) = match &self.holding {
            // A second wish moves the end; what is kept is what was kept.
            Some(holding) => (holding.wanted(), holding.awaited.clone()),
            None => (self.kept_now(), self.wanted()),
        };
        let kept = wish.begin(keeps, now);
        self.parts
            .cache
            .keep_hold(&kept)
            .map_err(|error| format!("the hold could not be stored: {}", crate::chain(&error)))?;
        tracing::info!(until = %kept.until, reason = kept.reason, "this target is held");
        let holding = Holding::new(kept, awaited, now);
        let said = holding.said();
        self.put_hold_in_force(holding);
        self.say_hold();
        Ok(said)
    }

    /// Ends the hold that there is.
    fn end_hold(&mut self) -> Result<(), String> {
        let Some(holding) = self.holding.take() else {
            return Ok(());
        };
        if let Err(error) = self.parts.cache.end_hold() {
            self.holding = Some(holding);
            let error = crate::chain(&error);
            return Err(format!(
                "the hold could not be taken from the disk: {error}"
            ));
        }
        self.release(holding);
        Ok(())
    }

    /// Ends a hold whose time has come.
    pub(super) fn end_hold_if_over(&mut self, now: Now) {
        if let Some(holding) = self.holding.take_if(|holding| holding.is_over(now)) {
            self.forget_hold();
            self.release(holding);
        }
    }

    /// A hold that is over needs no file; one that stays is seen to be over the next time.
    fn forget_hold(&self) {
        if let Err(error) = self.parts.cache.end_hold() {
            tracing::warn!(
                error = crate::chain(&error),
                "a hold that is over stays on disk"
            );
        }
    }

    /// What has waited is wanted now.
    fn release(&mut self, holding: Holding) {
        tracing::info!("this target is held no more");
        let standings = standings_after(&self.standings, &holding.awaited);
        if let Desired::Known { wanted, .. } = &mut self.desired {
            self.standings_unsaved |= standings != self.standings;
            self.standings = standings;
            *wanted = holding.awaited;
        }
        self.say_hold();
    }

    /// Leaving ends a hold: who removes everything here has decided.
    pub(super) fn drop_hold(&mut self) {
        if let Some(holding) = self.holding.take() {
            self.forget_hold();
            self.release(holding);
        }
    }

    fn put_hold_in_force(&mut self, holding: Holding) {
        if let Desired::Known { wanted, .. } = &mut self.desired {
            *wanted = holding.wanted();
        }
        self.holding = Some(holding);
    }

    /// A newer assignment is in force: while a hold lasts, what it changes waits.
    pub(super) fn wait_while_held(&mut self) {
        if let (Some(holding), Desired::Known { wanted, .. }) =
            (&mut self.holding, &mut self.desired)
        {
            holding.awaited = std::mem::replace(wanted, holding.wanted());
        }
    }

    fn wanted(&self) -> BTreeMap<ServiceName, Digest> {
        match &self.desired {
            Desired::Known { wanted, .. } => wanted.clone(),
            Desired::Unknown => BTreeMap::new(),
        }
    }

    /// The body that each service keeps if a hold begins now: what is wanted, except where its
    /// bringing about has not begun. Then what runs stays, and what does not run is not started.
    fn kept_now(&self) -> BTreeMap<ServiceName, Digest> {
        let wanted = self.wanted();
        let selected = plan::selection(&wanted, &self.standings, &self.bodies);
        let differences = diff::differences(&selected, &self.bodies, &self.sights);
        let keeps = |(service, body): (&ServiceName, &Digest)| {
            let begun = self.busy.contains_key(service) || self.attempts.has_begun(service);
            let was_good =
                self.standings.get(service).and_then(|s| s.good) == Some(selected[service]);
            match &differences[service] {
                Difference::Other {
                    body: Some(running),
                    running: true,
                } if !begun && self.bodies.contains_key(running) => Some(*running),
                Difference::Missing if !begun && !was_good => None,
                Difference::Missing
                | Difference::Other { .. }
                | Difference::Unknown(_)
                | Difference::NoAdapter(_)
                | Difference::Ended(_)
                | Difference::Altered(_)
                | Difference::Running(_)
                | Difference::Unready { .. } => Some(*body),
            }
            .map(|body| (service.clone(), body))
        };
        wanted.iter().filter_map(keeps).collect()
    }

    /// Tells the coordinator whether this target is held.
    pub(super) fn say_hold(&mut self) {
        let hold = self.holding.as_ref().map(Holding::said);
        self.reporter.say(Command::Hold(hold));
    }

    /// When a hold ends.
    pub(super) fn hold_wake(&self, now: Now) -> Option<Moment> {
        self.holding.as_ref().map(|holding| holding.wake_at(now))
    }

    /// How the services stand whose changes wait for the end of the hold: by the body that is asked
    /// for, not by the one that is kept.
    pub(super) fn waiting(&self, plan: &Plan) -> BTreeMap<ServiceName, Status> {
        let Some(holding) = &self.holding else {
            return BTreeMap::new();
        };
        let kept = holding.wanted();
        let changed = holding.awaited.iter();
        let changed = changed.filter(|(service, body)| kept.get(*service) != Some(*body));
        let waits = |(service, body): (&ServiceName, &Digest)| {
            let now = plan.statuses.get(service);
            let intent = self.bodies.get(body);
            let status = Status {
                wanted: *body,
                running: now.and_then(|status| status.running),
                version: now.and_then(|status| status.version.clone()),
                runtime: intent.map(|intent| intent.workload.runtime.clone()),
                state: State::Pending,
                message: holding.message(),
                restarts: now.map_or(0, |status| status.restarts),
                running_since: now.and_then(|status| status.running_since),
            };
            (service.clone(), status)
        };
        changed.map(waits).collect()
    }

    /// Whether the newest assignment asks for something else than what is kept.
    pub(super) fn something_waits(&self) -> bool {
        let holding = self.holding.as_ref();
        holding.is_some_and(|holding| holding.wanted() != holding.awaited)
    }
}
