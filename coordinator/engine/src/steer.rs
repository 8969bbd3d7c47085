//! What people ask of one track. Each wish is idempotent: what is so already stays so, and says so.

pub mod human;
mod pin;
mod release;

use holdfast_protocol::api::deployment::{Trigger, TriggerKind};
use holdfast_protocol::name::Version;
use holdfast_protocol::time::Timestamp;

use crate::batch;
use crate::compiled::TrackSpec;
use crate::input::Inputs;
use crate::rollback::{go_back, let_again, pass_over, pass_over_failed, stop};
use crate::step::{Outcome, Turn, spec, step};
use crate::track::{Deployment, Pause, Phase, Point, Track, TrackName};
use crate::wanted::{self, admitted, failed_point};

/// What a person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// An earlier release back, at once, on every target.
    Rollback {
        /// Which; the stable one before where none is named.
        to: Option<Version>,
    },
    /// What failed, once more.
    Retry,
    /// One release, once, through the gates.
    Deploy {
        /// Which.
        version: Version,
        /// Whether order, windows and checks that may be skipped do not apply. Needs a reason.
        hotfix: bool,
    },
    /// A release that is stable in the environments before.
    Promote {
        /// Which; the newest where none is named.
        version: Option<Version>,
    },
    /// One version and nothing else, until it is unpinned.
    Pin {
        /// Which; it need not exist yet.
        version: Version,
    },
    /// What the manifest says, again.
    Unpin,
    /// What is under way to stay where it stands.
    Halt,
    /// Nothing new to start.
    Pause,
    /// New things to start again.
    Resume,
}

/// What came of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steered {
    /// The track after it, and what is to be done.
    pub outcome: Outcome,
    /// What was done, or that it was so already, in one sentence.
    pub message: String,
    /// Whether the wish changed anything.
    pub changed: bool,
}

/// Why a wish cannot be granted. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is in the way.
    pub message: String,
    /// What the person can do instead.
    pub help: String,
}

/// Grants a person's wish and takes the next step. `by` is who wishes it, `reason` why; it may be
/// empty.
///
/// # Errors
/// [`Refusal`] where it cannot be granted.
pub fn steer(
    track: &Track,
    wish: &Wish,
    by: &str,
    reason: &str,
    inputs: &Inputs<'_>,
    now: Timestamp,
) -> Result<Steered, Refusal> {
    let reason = (!reason.is_empty()).then_some(reason);
    let person = Person { by, reason };
    let mut turn = Turn::new(track.clone(), inputs, now);
    let granted = match wish {
        Wish::Rollback { to } => rollback(&mut turn, to.as_ref(), &person),
        Wish::Retry => retry(&mut turn, &person),
        Wish::Deploy { version, hotfix } => release::deploy(&mut turn, (version, *hotfix), &person),
        Wish::Promote { version } => release::promote(&mut turn, version.as_ref(), &person),
        Wish::Pin { version } => pin::pin(&mut turn, version, &person),
        Wish::Unpin => Ok(pin::unpin(&mut turn, &person)),
        Wish::Halt => halt(&mut turn, &person),
        Wish::Pause => Ok(pause(&mut turn, &person)),
        Wish::Resume => Ok(resume(&mut turn, &person)),
    }?;
    let (outcome, message, changed) = match granted {
        Granted::Changed(message) => (turn.run(&track.waits), message, true),
        Granted::Already(message) => (step(track, inputs, now), message, false),
    };
    Ok(Steered {
        outcome,
        message,
        changed,
    })
}

enum Granted {
    Changed(String),
    Already(String),
}

struct Person<'p> {
    by: &'p str,
    reason: Option<&'p str>,
}

impl Person<'_> {
    /// `halted by alice: too many errors`
    fn did(&self, what: &str) -> String {
        match self.reason {
            Some(reason) => format!("{what} by {}: {reason}", self.by),
            None => format!("{what} by {}", self.by),
        }
    }

    fn trigger(&self, kind: TriggerKind) -> Trigger {
        Trigger {
            kind,
            by: Some(self.by.to_owned()),
            reason: self.reason.map(ToOwned::to_owned),
        }
    }
}

fn pause(turn: &mut Turn<'_>, person: &Person<'_>) -> Granted {
    let name = &turn.track.name;
    if let Some(pause) = &turn.track.paused {
        return Granted::Already(format!("{name} was paused by {} already", pause.by));
    }
    let message = format!("{name} is paused: nothing new starts on it");
    turn.track.paused = Some(Pause {
        by: person.by.to_owned(),
        reason: person.reason.unwrap_or_default().to_owned(),
        since: turn.now,
    });
    let text = format!("{} {}", turn.track.name, person.did("paused"));
    turn.record("track.paused", text, Some(person.by.to_owned()));
    Granted::Changed(message)
}

fn resume(turn: &mut Turn<'_>, person: &Person<'_>) -> Granted {
    let name = turn.track.name.clone();
    if turn.track.paused.take().is_none() {
        return Granted::Already(format!("{name} is not paused"));
    }
    let text = format!("{name} {}", person.did("resumed"));
    turn.record("track.resumed", text, Some(person.by.to_owned()));
    Granted::Changed(format!("{name} goes on"))
}

fn halt(turn: &mut Turn<'_>, person: &Person<'_>) -> Result<Granted, Refusal> {
    let name = turn.track.name.clone();
    let Some(deployment) = turn.track.current.clone() else {
        return Err(nothing_to_halt(&turn.track));
    };
    if deployment.phase == Phase::Halted {
        let message = format!("{} is halted on {name} already", deployment.point.version);
        return Ok(Granted::Already(message));
    }
    if deployment.is_final() {
        return Err(nothing_to_halt(&turn.track));
    }
    turn.track.asked = None;
    if !deployment.is_urgent() && !batch::is_scheduled(declared(turn)?) {
        stop(turn, &deployment.point);
    }
    let by = Some(person.by.to_owned());
    turn.enter_for(Phase::Halted, "deployment.halted", person.did("halted"), by);
    Ok(Granted::Changed(format!(
        "{} is halted on {name}",
        deployment.point.version
    )))
}

fn nothing_to_halt(track: &Track) -> Refusal {
    let name = &track.name;
    Refusal {
        message: format!("nothing is under way on {name}"),
        help: format!(
            "to keep new releases from starting: holdfast pause {} -e {}",
            name.service, name.environment
        ),
    }
}

fn retry(turn: &mut Turn<'_>, person: &Person<'_>) -> Result<Granted, Refusal> {
    let name = turn.track.name.clone();
    let spec = declared(turn)?;
    if let Some(current) = turn
        .track
        .current
        .as_ref()
        .filter(|current| !current.is_final())
    {
        let version = &current.point.version;
        if matches!(current.phase, Phase::RollingBack { .. }) {
            return Err(Refusal {
                message: format!("{version} is still being rolled back on {name}"),
                help: "try again when it is back, or halt the rollback first".to_owned(),
            });
        }
        return Ok(Granted::Already(format!(
            "{version} is under way on {name} already"
        )));
    }
    let failed = if spec.job.is_some() {
        batch::failed(turn, spec)
    } else {
        failed_point(&turn.track, turn.inputs, spec)
    };
    let Some(best) = failed else {
        return Ok(Granted::Already(format!(
            "nothing on {name} waits to be tried again"
        )));
    };
    let_again(&mut turn.track, &best);
    let picked = admitted(&turn.track, turn.inputs, spec);
    if picked.is_none_or(|picked| picked.sequence != best.sequence) {
        release::again(turn, &best, person);
    }
    let trigger = person.trigger(TriggerKind::Retry);
    if spec.job.is_some() {
        turn.begin(best.clone(), trigger);
    } else {
        turn.asked = Some(trigger);
    }
    Ok(Granted::Changed(format!(
        "{} is tried again on {name}",
        best.version
    )))
}

fn declared<'a>(turn: &Turn<'a>) -> Result<&'a TrackSpec, Refusal> {
    spec(turn.inputs).ok_or_else(|| Refusal {
        message: format!("{} is declared no more", turn.track.name),
        help: "declare it again with holdfast apply".to_owned(),
    })
}

fn rollback(
    turn: &mut Turn<'_>,
    to: Option<&Version>,
    person: &Person<'_>,
) -> Result<Granted, Refusal> {
    let spec = declared(turn)?;
    let name = turn.track.name.clone();
    if spec.job.is_some() {
        return Err(no_way_back(turn));
    }
    if let Some(granted) = put_back_stable(turn, to, person) {
        return Ok(granted);
    }
    let destination = destination(turn, spec, to)?;
    let version = destination.version.clone();
    pin::lets_go_to(turn, spec, &version)?;
    if under_way_to(&turn.track, &destination) {
        return Ok(Granted::Already(format!(
            "{name} goes back to {version} already"
        )));
    }
    if rests_on(&turn.track, &destination) {
        return Ok(Granted::Already(format!("{name} is at {version} already")));
    }
    leave(turn, spec, &destination, person);
    turn.begin(destination.clone(), person.trigger(TriggerKind::Rollback));
    // It was stable here, and a person says that it is what the track rests on: what joins gets it,
    // and a later failure goes back to it, whether or not every target can be brought back.
    turn.track.stable = Some(destination);
    Ok(Granted::Changed(format!("{name} goes back to {version}")))
}

/// What a job has done stays done.
fn no_way_back(turn: &Turn<'_>) -> Refusal {
    let TrackName {
        service,
        environment,
    } = &turn.track.name;
    Refusal {
        message: format!(
            "{service} is a job: running an older release of it does not undo what it did in {environment}"
        ),
        help: format!(
            "make a release that undoes it: holdfast release create {service} --version V; to stop a run: holdfast halt {service} -e {environment}"
        ),
    }
}

/// While something new is being brought out, going back is what a failure would do.
fn put_back_stable(
    turn: &mut Turn<'_>,
    to: Option<&Version>,
    person: &Person<'_>,
) -> Option<Granted> {
    let stable = turn.track.stable.clone()?;
    let current = turn.track.current.clone()?;
    if current.is_urgent() || to.is_some_and(|to| *to != stable.version) {
        return None;
    }
    let name = turn.track.name.clone();
    let version = stable.version.clone();
    match current.phase {
        Phase::Rolling { .. } | Phase::Verifying { .. } => {}
        Phase::RollingBack { .. } => {
            return Some(Granted::Already(format!(
                "{name} goes back to {version} already"
            )));
        }
        Phase::Waiting
        | Phase::Stable
        | Phase::RolledBack
        | Phase::RollbackFailed
        | Phase::Halted
        | Phase::Rejected
        | Phase::Superseded => return None,
    }
    turn.track.asked = None;
    pass_over_failed(&mut turn.track, &current.point);
    stop(turn, &current.point);
    go_back(turn, person.did("rolled back"), Some(person.by.to_owned()));
    Some(Granted::Changed(format!("{name} goes back to {version}")))
}

/// Where a rollback goes: only to what was stable here, since no gate stands before it.
fn destination(turn: &Turn<'_>, spec: &TrackSpec, to: Option<&Version>) -> Result<Point, Refusal> {
    let track = &turn.track;
    let found = match to {
        Some(version) => named(turn, spec, version),
        None => before(track),
    };
    found.ok_or_else(|| {
        let name = &track.name;
        let message = match to {
            Some(version) => format!("{version} is no earlier stable release of {name}"),
            None => format!("{name} has no earlier stable release"),
        };
        let (service, environment) = (&name.service, &name.environment);
        let help =
            format!("see what was stable there: holdfast history {service} -e {environment}");
        Refusal { message, help }
    })
}

/// The stable point before this one; after a halt or a failed rollback, the one that was not reached.
fn before(track: &Track) -> Option<Point> {
    let stable = track.stable.as_ref()?;
    let unsettled = |current: &Deployment| {
        matches!(current.phase, Phase::Halted | Phase::RollbackFailed)
            || current.is_urgent() && !current.is_final()
    };
    if track.current.as_ref().is_some_and(unsettled) {
        return Some(stable.clone());
    }
    let mut earlier = track.earlier.iter().rev();
    earlier.find(|point| !point.is(stable)).cloned()
}

/// The named release, with the configuration it was stable with where that is known.
fn named(turn: &Turn<'_>, spec: &TrackSpec, version: &Version) -> Option<Point> {
    let track = &turn.track;
    let stable = track.stable.as_ref()?;
    let known = track.earlier.iter().rev().chain(Some(stable));
    if let Some(point) = known.into_iter().find(|point| point.version == *version) {
        return Some(point.clone());
    }
    let mut releases = turn.inputs.releases.iter();
    let release = releases.find(|release| release.version == *version)?;
    let was_stable = track.proven.binary_search(&release.sequence).is_ok();
    (was_stable && release.sequence < stable.sequence)
        .then(|| wanted::point(spec, turn.inputs, release))
}

fn under_way_to(track: &Track, point: &Point) -> bool {
    track.current.as_ref().is_some_and(|current| {
        current.is_urgent() && !current.is_final() && current.point.is(point)
    })
}

fn rests_on(track: &Track, point: &Point) -> bool {
    let stable = track.stable.as_ref().is_some_and(|stable| stable.is(point));
    let unsettled = |current: &Deployment| {
        matches!(current.phase, Phase::Halted | Phase::RollbackFailed)
            || current.is_urgent() && !current.is_final()
    };
    stable && !track.current.as_ref().is_some_and(unsettled)
}

/// Passes over everything newer than where the track goes back to, and ends what is under way.
fn leave(turn: &mut Turn<'_>, spec: &TrackSpec, to: &Point, person: &Person<'_>) {
    let newest = turn
        .inputs
        .releases
        .last()
        .map(|release| wanted::point(spec, turn.inputs, release));
    let same_configuration = to.configuration == spec.digest;
    let first = to.sequence.saturating_add(u64::from(same_configuration));
    if let Some(newest) = newest.filter(|newest| newest.sequence >= first) {
        pass_over(&mut turn.track, first, &newest);
    }
    let_again(&mut turn.track, to);
    // What a person went back from is proven no more, and no place to go back to.
    let track = &mut turn.track;
    track.asked = None;
    track.proven.retain(|sequence| *sequence <= to.sequence);
    track
        .earlier
        .retain(|earlier| earlier.sequence < to.sequence);
    if turn
        .track
        .current
        .as_ref()
        .is_some_and(|current| !current.is_final())
    {
        let by = Some(person.by.to_owned());
        let reason = person.did("rolled back");
        turn.enter_for(Phase::Superseded, "deployment.superseded", reason, by);
    }
}
