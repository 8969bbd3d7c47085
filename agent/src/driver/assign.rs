//! Assignments: from an offer to one that is in force, or a refusal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_protocol::assignment::{Generation, Held, SignedAssignment};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::message::Refusal;
use holdfast_protocol::observed::TargetConditionKind;

use super::{DAMAGE_SHOWN, Driver};
use crate::accept::{self, Offer};
use crate::cache;
use crate::clock::{Moment, Now};
use crate::desired::{Bodies, Desired, standings_after};
use crate::diff::Sight;
use crate::link::Command;

/// Pause between two tries to write an assignment that could not be stored.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(5);

/// An assignment that was good and could not be written.
#[derive(Debug)]
pub(super) struct Unstored {
    signed: SignedAssignment,
    raw: RawBodies,
    again_at: Moment,
}

/// Bodies as they travelled, by digest.
type RawBodies = BTreeMap<Digest, Vec<u8>>;

impl Driver {
    /// An assignment is offered: ask for what is lacking, or refuse.
    pub(super) fn offered(&mut self, signed: SignedAssignment, now: Now) {
        match self.judge(&signed) {
            Ok(offer) => {
                let bodies = offer.assignment.workloads.iter().map(|entry| entry.body);
                let missing: BTreeSet<Digest> = bodies
                    .filter(|body| self.parts.cache.body(*body).is_none())
                    .collect();
                self.reporter.say(Command::Want { signed, missing });
            }
            Err(reason) => self.refuse(generation_of(&signed), reason, now),
        }
    }

    /// An offered assignment is complete: store it, put it in force, say so.
    pub(super) fn complete(&mut self, signed: SignedAssignment, raw: RawBodies, now: Now) {
        let (offer, raw, bodies) = match self.check(&signed, raw) {
            Ok(checked) => checked,
            Err(reason) => return self.refuse(generation_of(&signed), reason, now),
        };
        if let Err(error) = self.parts.cache.store(&signed, offer.held, &raw) {
            self.unwritable(&error, now);
            let reason = Refusal::NotStored(crate::chain(&error));
            self.reporter.say(Command::Refuse {
                generation: offer.held.generation,
                reason,
            });
            let again_at = now.at.after(STORE_RETRY);
            self.unstored = Some(Unstored {
                signed,
                raw,
                again_at,
            });
            return;
        }
        self.unstored = None;
        self.put_in_force(&offer, bodies, now);
        self.reporter.say(Command::Accepted(offer.held));
    }

    /// Tries again to write what could not be written: space may have been freed.
    pub(super) fn retry_unstored(&mut self, now: Now) {
        if self
            .unstored
            .as_ref()
            .is_some_and(|unstored| unstored.again_at <= now.at)
        {
            let unstored = self.unstored.take().expect("it was just seen");
            self.complete(unstored.signed, unstored.raw, now);
        }
        let shown = |mended: Moment| now.at.since(mended) >= DAMAGE_SHOWN;
        if self.mended_at.is_some_and(shown) {
            self.mended_at = None;
            self.reporter
                .conditions
                .clear(TargetConditionKind::CacheDamaged);
        }
    }

    /// When to try again to write.
    pub(super) fn store_wake(&self, now: Now) -> Option<Moment> {
        let standings = self.standings_unsaved.then(|| now.at.after(STORE_RETRY));
        let unstored = self.unstored.as_ref().map(|unstored| unstored.again_at);
        let mended = self.mended_at.map(|at| at.after(DAMAGE_SHOWN));
        standings.into_iter().chain(unstored).chain(mended).min()
    }

    fn judge(&self, signed: &SignedAssignment) -> Result<Offer, Refusal> {
        let keys = &self.parts.signing_keys;
        let verify = |signed: &_| holdfast_certs::sign::open(signed, keys).is_ok();
        accept::offer(signed, &self.parts.identity, self.highest, &verify)
    }

    fn check(
        &self,
        signed: &SignedAssignment,
        mut raw: RawBodies,
    ) -> Result<(Offer, RawBodies, Bodies), Refusal> {
        let offer = self.judge(signed)?;
        for entry in &offer.assignment.workloads {
            if let Some(bytes) = self.parts.cache.body(entry.body) {
                raw.entry(entry.body).or_insert(bytes);
            }
        }
        let bodies = accept::bodies(&offer.assignment, &raw)?;
        Ok((offer, raw, bodies))
    }

    fn put_in_force(&mut self, offer: &Offer, bodies: Bodies, now: Now) {
        let generation = offer.held.generation;
        tracing::info!(%generation, workloads = bodies.len(), "an assignment is in force");
        let before = std::mem::take(&mut self.desired);
        self.desired = cache::desired(&offer.assignment, offer.held);
        self.highest = Some(offer.held);
        self.wait_while_held();
        self.hear_time(offer.assignment.issued_at, now);
        if let Desired::Known { wanted, .. } = &self.desired {
            let standings = standings_after(&self.standings, wanted);
            self.standings_unsaved |= standings != self.standings;
            self.standings = standings;
        }
        self.bodies.extend(bodies);
        let needed = self.needed_bodies(&before);
        self.bodies.retain(|digest, _| needed.contains(digest));
        self.reporter
            .conditions
            .clear(TargetConditionKind::CacheUnwritable);
        self.reporter
            .conditions
            .clear(TargetConditionKind::AssignmentRefused);
        if self
            .reporter
            .conditions
            .has(TargetConditionKind::CacheDamaged)
        {
            self.mended_at.get_or_insert(now.at);
        }
        self.collect();
    }

    /// The bodies of the assignment in force and of the one `before`, the last good ones, and those
    /// that run.
    fn needed_bodies(&self, before: &Desired) -> BTreeSet<Digest> {
        let wanted = |desired: &Desired| match desired {
            Desired::Known { wanted, .. } => wanted.values().copied().collect(),
            Desired::Unknown => Vec::new(),
        };
        let seen = self.sights.values().flat_map(|sight| match sight {
            Sight::Known(services) => services.values().filter_map(|o| o.body).collect(),
            Sight::Unknown(_) => Vec::new(),
        });
        let good = self.standings.values().filter_map(|standing| standing.good);
        let awaited = self
            .holding
            .iter()
            .flat_map(|h| h.awaited.values().copied());
        wanted(&self.desired)
            .into_iter()
            .chain(wanted(before))
            .chain(seen)
            .chain(good)
            .chain(awaited)
            .collect()
    }

    fn refuse(&mut self, generation: Generation, reason: Refusal, now: Now) {
        tracing::error!(%generation, %reason, "an assignment is refused");
        let message = format!("assignment {generation} is refused: {reason}");
        let kind = TargetConditionKind::AssignmentRefused;
        self.reporter.conditions.set(kind, message, now.wall);
        self.reporter.say(Command::Refuse { generation, reason });
    }

    /// The assignment in force.
    pub(super) const fn held(&self) -> Option<Held> {
        self.desired.held()
    }
}

/// The number that an assignment claims, to name it in a refusal.
fn generation_of(signed: &SignedAssignment) -> Generation {
    signed
        .open_unverified()
        .map(|assignment| assignment.generation)
        .unwrap_or_default()
}
