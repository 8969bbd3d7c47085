//! From a service as it is wanted and as it is to the next step, and what is told of it. Pure.
//!
//! *Expected flow*: create; or offer a template, which becomes a revision that no calls go to; wait
//! until it is ready; give it a part of the calls; lead all calls to it; wait until they are led.
//! *Guarantees*: calls go to whole revisions that were ready, at any moment; the switch is one call;
//! a revision that is there already is switched to without making it again; every change names the
//! version that it was decided on, so that a change by somebody else in between is not overwritten.
//! *Assumptions*: revisions never change, and are named by what they are made of.

use holdfast_protocol::digest::Digest;

use super::seen::{OWNER_LABEL, Part, Ready, Revision, Seen};
use super::template::{Canary, Service};
use crate::{Failure, State};

/// What is wanted, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Whose it is, as a label has it.
    pub(super) owner: String,
    /// Of everything that is wanted.
    pub(super) body: Digest,
    /// The template.
    pub(super) service: Service,
}

/// What a converge has done by itself and no look at Cloud Run shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tried {
    /// A template was offered, so that its failure is news.
    pub(super) offered: bool,
    /// The revision that has soaked.
    pub(super) soaked: Option<String>,
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Have a revision of that name made; calls stay where they are.
    Offer {
        revision: String,
        traffic: Vec<Part>,
    },
    /// Look again in a moment: Cloud Run is at it.
    Wait { at: String },
    /// Give a revision a part of the calls, for a time.
    Soak {
        revision: String,
        canary: Canary,
        /// With that part taken from whoever has most.
        traffic: Vec<Part>,
    },
    /// Lead all calls to a revision, in one step.
    Lead {
        revision: String,
        traffic: Vec<Part>,
    },
    /// It is as wanted.
    Done,
}

impl Wanted {
    /// What names of revisions of what is wanted begin with.
    pub(super) fn first_name(&self) -> String {
        let service = &self.service;
        format!("{}-{}", service.place.service, service.settings.mark())
    }

    /// Whether a revision of that name is made of what is wanted; a failed one is followed by
    /// another with a number.
    fn names(&self, revision: &str) -> bool {
        let rest = revision.strip_prefix(&self.first_name());
        rest.is_some_and(|rest| {
            let number = rest.strip_prefix('-').unwrap_or("0");
            rest.is_empty() || number.bytes().all(|byte| byte.is_ascii_digit())
        })
    }

    /// The first name that no revision has.
    fn next_name(&self, seen: &Seen) -> Result<String, Failure> {
        let first = self.first_name();
        let later = (2..=NAMES_MAX).map(|number| format!("{first}-{number}"));
        let taken = |name: &String| {
            *name == seen.latest.name || seen.revisions.iter().any(|one| one.name == *name)
        };
        let mut names = std::iter::once(first.clone()).chain(later);
        names.find(|name| !taken(name)).ok_or_else(|| {
            let why = format!("{NAMES_MAX} revisions {first} have failed; delete them");
            Failure::Permanent(why)
        })
    }

    /// What somebody made different in a template or a revision.
    fn differences(&self, seen: &Revision) -> Vec<String> {
        let mut all = self.service.settings.differences(&seen.settings);
        all.extend(seen.strange.iter().cloned());
        all
    }

    fn what(&self) -> String {
        let place = &self.service.place;
        format!("service {} of project {}", place.service, place.project)
    }
}

/// The next step of a service that is there.
///
/// # Errors
/// Why there is none.
pub(super) fn step(wanted: &Wanted, seen: &Seen, tried: &Tried) -> Result<Step, Failure> {
    mine(wanted, seen).map_err(Failure::Permanent)?;
    if seen.is_going {
        let at = format!("Cloud Run deletes {}", wanted.what());
        return Ok(Step::Wait { at });
    }
    match good(wanted, seen) {
        Some(revision) => switch(wanted, seen, revision, tried),
        None => prepare(wanted, seen, tried),
    }
}

/// Whether the service may be touched.
///
/// # Errors
/// Whose it is, and how it is handed over.
pub(super) fn mine(wanted: &Wanted, seen: &Seen) -> Result<(), String> {
    let (what, own) = (wanted.what(), &wanted.owner);
    let hand_over = format!("hand it over by its label {OWNER_LABEL}={own}");
    match &seen.owner {
        Some(owner) if owner == own => Ok(()),
        Some(owner) => Err(format!(
            "{what} is there already and is of {owner}; choose another name, or {hand_over}"
        )),
        None => Err(format!(
            "{what} is there already and is not ours; choose another name, or {hand_over}"
        )),
    }
}

/// A revision that is ready and made of what is wanted: the one that calls go to already, or the
/// newest.
fn good<'a>(wanted: &Wanted, seen: &'a Seen) -> Option<&'a Revision> {
    let good = |one: &&Revision| {
        one.ready == Ready::Yes && wanted.names(&one.name) && wanted.differences(one).is_empty()
    };
    let leads = |one: &&Revision| good(one) && elsewhere(seen, &one.name).is_empty();
    let mut newest = seen.revisions.iter().rev();
    newest.clone().find(leads).or_else(|| newest.find(good))
}

/// Whether the next revision is what is wanted.
fn fits(wanted: &Wanted, seen: &Seen) -> bool {
    wanted.names(&seen.latest.name) && wanted.differences(&seen.latest).is_empty()
}

/// A revision is made, and waited for.
fn prepare(wanted: &Wanted, seen: &Seen, tried: &Tried) -> Result<Step, Failure> {
    let offer = || {
        wanted.next_name(seen).map(|revision| Step::Offer {
            revision,
            traffic: seen.held(),
        })
    };
    if !fits(wanted, seen) {
        return offer();
    }
    let name = &seen.latest.name;
    let made = seen.revisions.iter().find(|one| one.name == *name);
    let said = match (made.map(|one| &one.ready), &seen.ready) {
        // A service can fail before there is a revision.
        (None | Some(Ready::No(_)), Ready::No(why)) | (Some(Ready::No(why)), _) => Err(why),
        (Some(Ready::NotYet(at)), _) | (None, Ready::NotYet(at)) => Ok(at.as_str()),
        (Some(Ready::Yes) | None, Ready::Yes) => Ok("Cloud Run makes it"),
        (Some(Ready::Yes), Ready::NotYet(_) | Ready::No(_)) => Ok("it is another one"),
    };
    match said {
        Ok(at) => Ok(Step::Wait {
            at: format!("revision {name}: {at}"),
        }),
        Err(why) if tried.offered => Err(Failure::Permanent(format!(
            "Cloud Run gave up revision {name}: {why}"
        ))),
        Err(_) => offer(),
    }
}

/// All calls are led to a revision that is ready, and everything else is put in order after that.
fn switch(wanted: &Wanted, seen: &Seen, to: &Revision, tried: &Tried) -> Result<Step, Failure> {
    let revision = to.name.clone();
    let part = Part {
        revision: Some(revision.clone()),
        percent: 100,
        tag: None,
    };
    let traffic: Vec<Part> = std::iter::once(part).chain(seen.tagged()).collect();
    let leads = elsewhere(seen, &revision).is_empty();
    if !leads && let Some(step) = soak(wanted, seen, &revision, tried) {
        return Ok(step);
    }
    if !leads || seen.body != Some(wanted.body) || seen.ingress != wanted.service.ingress {
        return Ok(Step::Lead { revision, traffic });
    }
    // Also where another of the same content failed after it.
    if !fits(wanted, seen) || seen.latest.name != revision {
        return Ok(Step::Offer { revision, traffic });
    }
    settled(seen, &revision)
}

/// What is left when everything is asked for.
fn settled(seen: &Seen, revision: &str) -> Result<Step, Failure> {
    match &seen.ready {
        Ready::NotYet(at) => Ok(Step::Wait { at: at.clone() }),
        Ready::No(why) => Err(Failure::Retryable(format!(
            "Cloud Run does not lead calls to revision {revision}: {why}"
        ))),
        Ready::Yes if all_led(seen, revision) => Ok(Step::Done),
        Ready::Yes => Ok(Step::Wait {
            at: format!("Cloud Run leads calls to revision {revision}"),
        }),
    }
}

fn all_led(seen: &Seen, revision: &str) -> bool {
    let to = |part: &&Part| part.revision.as_deref() == Some(revision);
    seen.led
        .iter()
        .filter(to)
        .map(|part| part.percent)
        .sum::<u64>()
        == 100
}

/// A canary, where one is asked for and calls go to something else by now.
fn soak(wanted: &Wanted, seen: &Seen, revision: &str, tried: &Tried) -> Option<Step> {
    let canary = wanted.service.canary?;
    // Calls that somebody led elsewhere come back at once.
    if seen.body == Some(wanted.body) {
        return None;
    }
    let mut traffic = seen.held();
    traffic.retain(|part| part.revision.as_deref() != Some(revision));
    let most = traffic
        .iter()
        .filter(|part| part.revision.is_some() && part.percent > 0)
        .max_by_key(|part| part.percent)?
        .clone();
    if tried.soaked.as_deref() == Some(revision) {
        return None;
    }
    // One that was cut off begins anew, from whoever has most of the calls.
    traffic.retain(|part| part.tag.is_some());
    let part = |revision: Option<String>, percent: u8| Part {
        revision,
        percent: percent.into(),
        tag: None,
    };
    traffic.iter_mut().for_each(|part| part.percent = 0);
    traffic.push(part(most.revision, 100 - canary.percent));
    traffic.push(part(Some(revision.to_owned()), canary.percent));
    Some(Step::Soak {
        revision: revision.to_owned(),
        canary,
        traffic,
    })
}

/// Calls that are to go to another revision, in words.
fn elsewhere(seen: &Seen, revision: &str) -> Vec<String> {
    let other = |part: &&Part| part.percent > 0 && part.revision.as_deref() != Some(revision);
    let word = |part: &Part| {
        let percent = part.percent;
        match &part.revision {
            Some(name) => format!("{percent}% of the calls go to revision {name}"),
            None => format!("{percent}% of the calls go to whichever revision is newest"),
        }
    };
    let others: Vec<String> = seen.traffic.iter().filter(other).map(word).collect();
    if others.is_empty() && seen.traffic.iter().all(|part| part.percent == 0) {
        return vec!["no calls are led anywhere".to_owned()];
    }
    others
}

/// What is told of what was seen.
pub(super) fn sight(wanted: &Wanted, seen: Option<&Seen>) -> (State, Option<String>) {
    let Some(seen) = seen else {
        return (State::Absent, None);
    };
    if let Err(why) = mine(wanted, seen) {
        return (State::Altered, Some(why));
    }
    if seen.is_going {
        return (State::Altered, Some("somebody deletes it".to_owned()));
    }
    let differs = differences(wanted, seen);
    // Until calls were led to anything, nobody can have led them elsewhere.
    if seen.body.is_some() && !differs.is_empty() {
        return (State::Altered, Some(differs.join("; ")));
    }
    match &seen.ready {
        Ready::Yes => (State::Running, None),
        Ready::NotYet(at) => (State::Starting, Some(at.clone())),
        Ready::No(why) => (State::Failing, Some(why.clone())),
    }
}

/// What is not as it was left, in words.
fn differences(wanted: &Wanted, seen: &Seen) -> Vec<String> {
    let ours = |one: &&Revision| wanted.names(&one.name);
    let serving = seen
        .revisions
        .iter()
        .rev()
        .find(|one| ours(one) && elsewhere(seen, &one.name).is_empty());
    let mut all = match serving {
        Some(_) => Vec::new(),
        None => elsewhere(seen, &wanted.first_name()),
    };
    if serving.is_none() && all.is_empty() {
        all.push(format!("revision {} is not there", wanted.first_name()));
    }
    let newest = seen
        .revisions
        .iter()
        .find(|one| one.name == seen.latest.name);
    if let (None, Some(Ready::No(why))) = (serving, newest.map(|one| &one.ready)) {
        all.push(format!("revision {}: {why}", seen.latest.name));
    }
    let ingress = &wanted.service.ingress;
    if seen.ingress != *ingress {
        all.push(format!("ingress is {} instead of {ingress}", seen.ingress));
    }
    all.extend(wanted.differences(&seen.latest));
    if !wanted.names(&seen.latest.name) && all.is_empty() {
        all.push(format!(
            "its template makes revision {:?}",
            seen.latest.name
        ));
    }
    all
}

/// Most revisions of one content: all but the last of them failed.
const NAMES_MAX: u32 = 99;
