//! `deploy` and `promote`: a person asks for one release, once.
//!
//! What is asked for stands before every rule but a rollback, until its deployment is at its end or
//! another wish takes its place; what waits is superseded by it, and what rolls is interrupted between
//! waves. It goes through all gates; a hotfix passes order, windows and the checks that may be skipped.

use holdfast_protocol::api::deployment::TriggerKind;
use holdfast_protocol::name::Version;

use super::{Granted, Person, Refusal, declared};
use crate::compiled::TrackSpec;
use crate::input::ReleaseRef;
use crate::rollback::let_again;
use crate::step::Turn;
use crate::track::{Asked, Deployment, Phase, Point};
use crate::wanted::supply::{candidates, versions};
use crate::wanted::{self, is_admitted, is_passed_over, is_proven};

pub(super) fn deploy(
    turn: &mut Turn<'_>,
    (version, hotfix): (&Version, bool),
    person: &Person<'_>,
) -> Result<Granted, Refusal> {
    let spec = declared(turn)?;
    if hotfix && person.reason.is_none() {
        return Err(Refusal {
            message: "a hotfix passes what others asked for, so it needs a reason".to_owned(),
            help: "say why with --reason".to_owned(),
        });
    }
    let release = named(turn, spec, version)?;
    bound_otherwise(turn, spec, &release)?;
    let manner = if hotfix { &HOTFIX } else { &DEPLOY };
    ask(turn, spec, &release, manner, person)
}

pub(super) fn promote(
    turn: &mut Turn<'_>,
    version: Option<&Version>,
    person: &Person<'_>,
) -> Result<Granted, Refusal> {
    let spec = declared(turn)?;
    let release = match version {
        Some(version) => named(turn, spec, version)?,
        None => match promotable(turn, spec) {
            Ok(release) => release,
            Err(answer) => return answer,
        },
    };
    bound_otherwise(turn, spec, &release)?;
    proven(turn, spec, &release)?;
    ask(turn, spec, &release, &PROMOTION, person)
}

/// In which way a release is asked for.
struct Manner {
    kind: TriggerKind,
    hotfix: bool,
    words: &'static str,
}

const DEPLOY: Manner = Manner {
    kind: TriggerKind::Deploy,
    hotfix: false,
    words: "asked for",
};
const HOTFIX: Manner = Manner {
    kind: TriggerKind::Hotfix,
    hotfix: true,
    words: "asked for as a hotfix",
};
const PROMOTION: Manner = Manner {
    kind: TriggerKind::Promotion,
    hotfix: false,
    words: "promoted",
};

/// Notes what is asked for, unless it is so already.
fn ask(
    turn: &mut Turn<'_>,
    spec: &TrackSpec,
    release: &ReleaseRef,
    manner: &Manner,
    person: &Person<'_>,
) -> Result<Granted, Refusal> {
    let name = turn.track.name.clone();
    let (version, hotfix) = (&release.version, manner.hotfix);
    let stable = turn.track.stable.as_ref();
    if stable.is_some_and(|stable| stable.sequence == release.sequence) {
        return Ok(Granted::Already(format!(
            "{version} is stable on {name} already"
        )));
    }
    let current = turn.track.current.as_ref();
    let current = current.filter(|current| current.point.sequence == release.sequence);
    let asked = turn.track.asked.as_ref();
    let same = asked.filter(|asked| asked.sequence == release.sequence);
    if let Some(granted) = under_way(current, same.is_some(), hotfix, &name)? {
        return Ok(granted);
    }
    if same.is_some_and(|same| same.hotfix || !hotfix) && current.is_none() {
        return Ok(Granted::Already(format!(
            "{version} was asked for on {name} already"
        )));
    }
    let trigger = person.trigger(manner.kind);
    let_again(&mut turn.track, &wanted::point(spec, turn.inputs, release));
    turn.track.asked = Some(Asked {
        version: version.clone(),
        sequence: release.sequence,
        hotfix,
        trigger: trigger.clone(),
    });
    // What waits already goes on as what was asked for, and keeps what people said about it.
    turn.raise(release.sequence, &trigger, hotfix);
    let what = manner.words;
    let text = format!("{version} on {name} {}", person.did(what));
    turn.record("deployment.asked", text, Some(person.by.to_owned()));
    Ok(Granted::Changed(format!("{version} is {what} on {name}")))
}

/// The answer where a deployment of this release is on its way and nothing is to be changed.
fn under_way(
    current: Option<&Deployment>,
    asked: bool,
    hotfix: bool,
    name: &crate::track::TrackName,
) -> Result<Option<Granted>, Refusal> {
    let Some(current) = current else {
        return Ok(None);
    };
    let version = &current.point.version;
    let already = || Granted::Already(format!("{version} is under way on {name} already"));
    match current.phase {
        Phase::Rolling { .. } | Phase::Verifying { .. } => Ok(Some(already())),
        Phase::Waiting if asked && (current.hotfix || !hotfix) => Ok(Some(already())),
        Phase::RollingBack { .. } => Err(Refusal {
            message: format!("{version} is still being rolled back on {name}"),
            help: "try again when it is back, or halt the rollback first".to_owned(),
        }),
        Phase::Waiting
        | Phase::Stable
        | Phase::RolledBack
        | Phase::RollbackFailed
        | Phase::Halted
        | Phase::Rejected
        | Phase::Superseded => Ok(None),
    }
}

/// The release of that version, if it may come here at all.
fn named(turn: &Turn<'_>, spec: &TrackSpec, version: &Version) -> Result<ReleaseRef, Refusal> {
    let name = &turn.track.name;
    let mut releases = turn.inputs.releases.iter();
    let Some(release) = releases.find(|release| release.version == *version) else {
        return Err(Refusal {
            message: format!(
                "no release {version} of {} gives every artifact that {name} uses",
                name.service
            ),
            help: format!(
                "holdfast release create {} --version {version}",
                name.service
            ),
        });
    };
    if !is_admitted(spec, release) {
        let range = spec.admits.as_ref().map(|admits| admits.semver.to_string());
        return Err(Refusal {
            message: format!(
                "{version} is not among the versions that may come to {name}: {}",
                range.unwrap_or_default()
            ),
            help: "change the range in the manifest, or pin the version".to_owned(),
        });
    }
    let stable = turn.track.stable.as_ref();
    let newer = stable.filter(|stable| release.sequence < stable.sequence);
    match newer {
        None => Ok(release.clone()),
        Some(stable) => Err(Refusal {
            message: format!(
                "{version} is older than {}, which is stable on {name}",
                stable.version
            ),
            help: format!(
                "to go back: holdfast rollback {} -e {} --to {version}",
                name.service, name.environment
            ),
        }),
    }
}

/// Refuses where the track would leave the release again at once.
fn bound_otherwise(turn: &Turn<'_>, spec: &TrackSpec, release: &ReleaseRef) -> Result<(), Refusal> {
    let name = &turn.track.name;
    let (service, environment) = (&name.service, &name.environment);
    if let Some(pinned) = turn.track.pinned.as_ref()
        && pinned.version != release.version
    {
        return Err(Refusal {
            message: format!("{name} is pinned to {} by {}", pinned.version, pinned.by),
            help: format!("holdfast unpin {service} -e {environment}"),
        });
    }
    let pin = spec.pin.as_ref().filter(|_| turn.track.pinned.is_none());
    if let Some(pin) = pin.filter(|pin| **pin != release.version) {
        return Err(Refusal {
            message: format!("{name} is pinned to {pin} in the manifest"),
            help: format!(
                "change it there, or pin it here: holdfast pin {service} -e {environment} {}",
                release.version
            ),
        });
    }
    match &spec.follow {
        Some(followed) if pin.is_none() && turn.track.pinned.is_none() => Err(Refusal {
            message: format!("{name} mirrors what is stable in {followed}"),
            help: format!(
                "deploy it there: holdfast deploy {service} -e {followed} --version {}; or pin it here: holdfast pin {service} -e {environment} {}",
                release.version, release.version
            ),
        }),
        Some(_) | None => Ok(()),
    }
}

/// The newest release that can be promoted and has not failed here.
fn promotable(turn: &Turn<'_>, spec: &TrackSpec) -> Result<ReleaseRef, Result<Granted, Refusal>> {
    let (track, inputs) = (&turn.track, turn.inputs);
    let name = &track.name;
    let free = |release: &&ReleaseRef| !is_passed_over(track, spec, release.sequence);
    if let Some(release) = candidates(track, inputs, spec).find(free) {
        return Ok(release.clone());
    }
    let failed = versions(candidates(track, inputs, spec));
    if !failed.is_empty() {
        return Err(Err(Refusal {
            message: format!(
                "all that could be promoted failed or was rolled back on {name}: {failed}"
            ),
            help: format!(
                "to try one again: holdfast promote {} -e {} --version V",
                name.service, name.environment
            ),
        }));
    }
    let newest = inputs.releases.iter().rev();
    let mut newest = newest.filter(|release| is_admitted(spec, release));
    let stable = track.stable.as_ref();
    match newest.next() {
        Some(newest) if stable.is_none_or(|stable| newest.sequence > stable.sequence) => {
            Err(Err(unproven(turn, spec, newest)))
        }
        Some(newest) if stable.is_some() => {
            let message = format!("{} is stable on {name} already", newest.version);
            Err(Ok(Granted::Already(message)))
        }
        Some(_) | None => Err(Err(Refusal {
            message: format!(
                "there is no release of {} that could come to {name}",
                name.service
            ),
            help: format!("holdfast release create {} --version V", name.service),
        })),
    }
}

fn proven(turn: &Turn<'_>, spec: &TrackSpec, release: &ReleaseRef) -> Result<(), Refusal> {
    let stable = turn.track.stable.as_ref();
    let here = stable.is_some_and(|stable| stable.sequence == release.sequence);
    if here || is_proven(turn.inputs, spec, release.sequence) {
        return Ok(());
    }
    Err(unproven(turn, spec, release))
}

fn unproven(turn: &Turn<'_>, spec: &TrackSpec, release: &ReleaseRef) -> Refusal {
    let lacks = |environment: &&holdfast_protocol::name::EnvironmentName| {
        let mut upstreams = turn.inputs.upstream.iter();
        let upstream = upstreams.find(|upstream| upstream.environment == *environment);
        upstream.is_none_or(|up| up.proven.binary_search(&release.sequence).is_err())
    };
    let lacking: Vec<String> = spec
        .after
        .iter()
        .filter(lacks)
        .map(ToString::to_string)
        .collect();
    let name = &turn.track.name;
    Refusal {
        message: format!(
            "{} is not stable in {} yet",
            release.version,
            lacking.join(", ")
        ),
        help: format!(
            "wait for it there, or pass the order: holdfast deploy {} -e {} --version {} --hotfix --reason WHY",
            name.service, name.environment, release.version
        ),
    }
}

/// Asks once more for what a person asked for and what failed.
pub(super) fn again(turn: &mut Turn<'_>, point: &Point, person: &Person<'_>) {
    let hotfix = turn
        .track
        .current
        .as_ref()
        .is_some_and(|current| current.hotfix && current.point.sequence == point.sequence);
    turn.track.asked = Some(Asked {
        version: point.version.clone(),
        sequence: point.sequence,
        hotfix,
        trigger: person.trigger(TriggerKind::Retry),
    });
}
