//! From a function as it is wanted and as it is to the next step. Pure.
//!
//! *Expected flow*: create, or change the code and the settings of `$LATEST`; publish an immutable
//! version; let it take the trial; give it a part of the calls; switch the alias; forget old versions.
//! *Guarantees*: callers of the alias reach a whole version at any moment; the switch is one call; a
//! version that was published before is switched to without making it again; every change names the
//! revision that it was decided on, so that a change by somebody else in between is not overwritten.
//! *Assumptions*: versions never change; the alias's description is changed with its version.

use holdfast_protocol::digest::Digest;

use super::seen::{Alias, Seen, Sha, State, Version, settings_differ};
use super::template::Function;
use crate::owner::mine;

/// How descriptions begin of what was made here.
pub(crate) const MADE: &str = "holdfast";

/// What is wanted, complete.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    /// ENVIRONMENT/TARGET/SERVICE.
    pub(crate) owner: String,
    /// Of everything that is wanted.
    pub(crate) body: Digest,
    /// Of the code.
    pub(crate) code: Sha,
    /// The template.
    pub(crate) function: Function,
}

/// What a converge has found out by itself and no look at Lambda shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tried {
    /// `$LATEST` was changed, so that its failure is news.
    pub(crate) changed: bool,
    /// The version that took its trial.
    pub(crate) trial: Option<String>,
    /// The version that has soaked.
    pub(crate) soak: Option<String>,
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Make the function.
    Create,
    /// Look again in a moment: Lambda is at it.
    Wait {
        /// At what.
        at: String,
    },
    /// Give `$LATEST` other code.
    Recode {
        /// Of `$LATEST`.
        revision: String,
    },
    /// Give `$LATEST` other settings.
    Configure {
        /// Of `$LATEST`.
        revision: String,
        /// What differs.
        what: String,
    },
    /// Publish `$LATEST` as a version.
    Publish {
        /// Of `$LATEST`.
        revision: String,
    },
    /// Call a version with the trial's event.
    Try {
        /// Its number.
        version: String,
    },
    /// Give a version a part of the calls, for a time.
    Soak {
        /// Its number.
        version: String,
        /// What the alias leads to until now.
        alias: Alias,
    },
    /// Lead the alias to a version, in one step.
    Point {
        /// Its number.
        version: String,
        /// Of the alias; none where there is none yet.
        revision: Option<String>,
    },
    /// Delete versions that nobody needs any more.
    Forget {
        /// Their numbers.
        versions: Vec<String>,
    },
    /// It is as wanted.
    Done,
}

/// Why it cannot be made so, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) String);

/// The next step.
///
/// # Errors
/// Why there is none.
pub(crate) fn step(wanted: &Wanted, seen: Option<&Seen>, tried: &Tried) -> Result<Step, Refused> {
    let Some(seen) = seen else {
        return Ok(Step::Create);
    };
    own(wanted, seen)?;
    match fitting(wanted, seen) {
        Some(version) => switch(wanted, seen, version, tried),
        None => prepare(wanted, seen, tried),
    }
}

/// Whether the function may be touched.
///
/// # Errors
/// Whose it is.
pub(crate) fn own(wanted: &Wanted, seen: &Seen) -> Result<(), Refused> {
    let what = format!("function {}", wanted.function.name);
    mine(&what, seen.owner.as_deref(), &wanted.owner).map_err(Refused)
}

/// The newest version that is what is wanted, and has not failed.
fn fitting<'a>(wanted: &Wanted, seen: &'a Seen) -> Option<&'a Version> {
    let fits = |version: &&Version| {
        let differs = version.differences(&wanted.code, &wanted.function.settings);
        differs.is_empty() && !matches!(version.state, State::Failed { .. })
    };
    seen.versions.iter().rev().find(fits)
}

/// `$LATEST` becomes what is wanted, and is published.
fn prepare(wanted: &Wanted, seen: &Seen, tried: &Tried) -> Result<Step, Refused> {
    if let Some(step) = mend(wanted, seen)? {
        return Ok(step);
    }
    let latest = &seen.latest;
    if let State::Failed { code, why } = &latest.state {
        // What was in the way may have been put right since.
        if !tried.changed {
            let revision = latest.revision.clone();
            return Ok(Step::Recode { revision });
        }
        let name = &wanted.function.name;
        return Err(Refused(format!(
            "Lambda refuses function {name}: {why} ({code})"
        )));
    }
    Ok(Step::Publish {
        revision: latest.revision.clone(),
    })
}

/// What `$LATEST` still needs to be what is wanted.
fn mend(wanted: &Wanted, seen: &Seen) -> Result<Option<Step>, Refused> {
    let latest = &seen.latest;
    if latest.state == State::Pending {
        let at = "Lambda prepares the function".to_owned();
        return Ok(Some(Step::Wait { at }));
    }
    if changes_kind(latest.code.as_ref(), &wanted.code) {
        return Err(Refused(format!(
            "function {} cannot change between a zip archive and an image; choose another name",
            wanted.function.name
        )));
    }
    let (revision, settings) = (latest.revision.clone(), &wanted.function.settings);
    let architecture = latest.settings.architecture == settings.architecture;
    if latest.code.as_ref() != Some(&wanted.code) || !architecture {
        return Ok(Some(Step::Recode { revision }));
    }
    let differs = settings_differ(&latest.settings, settings);
    let what = differs.join("; ");
    Ok((!differs.is_empty()).then_some(Step::Configure { revision, what }))
}

fn changes_kind(seen: Option<&Sha>, wanted: &Sha) -> bool {
    matches!(
        (seen, wanted),
        (Some(Sha::Zip(_)), Sha::Image(_)) | (Some(Sha::Image(_)), Sha::Zip(_))
    )
}

/// The alias is led to `version`, and everything else is put in order after that.
fn switch(wanted: &Wanted, seen: &Seen, version: &Version, tried: &Tried) -> Result<Step, Refused> {
    if version.state == State::Pending {
        let at = format!("Lambda prepares version {}", version.number);
        return Ok(Step::Wait { at });
    }
    let function = &wanted.function;
    let alias = seen.alias(&function.alias);
    let leads = |alias: &&Alias| alias.version == version.number && alias.weights.is_empty();
    let number = version.number.clone();
    match alias {
        Some(alias) if leads(&alias) && alias.body() == Some(wanted.body) => {
            tidy(wanted, seen, version)
        }
        Some(alias) if leads(&alias) => Ok(Step::Point {
            version: number,
            revision: Some(alias.revision.clone()),
        }),
        _ if function.trial.is_some() && tried.trial.as_ref() != Some(&number) => {
            Ok(Step::Try { version: number })
        }
        Some(alias) => Ok(lead(function, alias, number, tried)),
        None => Ok(Step::Point {
            version: number,
            revision: None,
        }),
    }
}

/// An alias that leads elsewhere: at once, or by way of a canary.
fn lead(function: &Function, alias: &Alias, number: String, tried: &Tried) -> Step {
    let soaked = tried.soak.as_ref() == Some(&number);
    // Calls that go to the wanted version by weight alone are a canary that was cut off.
    if function.canary.is_none() || soaked || alias.version == number {
        return Step::Point {
            version: number,
            revision: Some(alias.revision.clone()),
        };
    }
    Step::Soak {
        version: number,
        alias: alias.clone(),
    }
}

/// What is left to do when callers reach what is wanted.
fn tidy(wanted: &Wanted, seen: &Seen, version: &Version) -> Result<Step, Refused> {
    if let Some(step) = mend(wanted, seen)? {
        return Ok(step);
    }
    let spare = |other: &&Version| {
        other.number != version.number
            && other.description.starts_with(MADE)
            && !seen.aliases.iter().any(|alias| alias.names(&other.number))
    };
    let spares: Vec<String> = seen
        .versions
        .iter()
        .filter(spare)
        .map(|v| v.number.clone())
        .collect();
    let old = spares.len().saturating_sub(wanted.function.keep);
    if old == 0 {
        return Ok(Step::Done);
    }
    Ok(Step::Forget {
        versions: spares.into_iter().take(old).collect(),
    })
}
