//! The part of the script's language that is about gates: checks, policies, freezes, people, targets
//! that are held.
//!
//! | line | what happens |
//! | --- | --- |
//! | `protect ENV NAME key=value…` | every track of the environment has this check; see [`guard`](super::super::model) |
//! | `unprotect ENV NAME` | it has it no more |
//! | `answers NAME pass\|fail\|unknown TEXT…` | whoever asks this check from now on gets this answer at once |
//! | `answers NAME nothing` | whoever asks it gets none |
//! | `late NAME pass\|fail\|unknown TEXT…` | everything that was ever asked of it is answered so, once more |
//! | `require ENV POLICY EXPRESSION MESSAGE…` | a policy requires this of releases; no spaces in the expression |
//! | `allow ENV POLICY` | it does no more |
//! | `freeze ENV\|all WHO REASON…`, `unfreeze ENV\|all` | a person stops all starts |
//! | `approve TRACK WHO ROLE,…` | a person agrees to the newest deployment; `-` is no role |
//! | `withdraw TRACK WHO ROLE,…` | a person who agreed has these roles now, and no others |
//! | `reject TRACK WHO REASON…` | a person does not |
//! | `skip TRACK NAME WHO ROLE,… REASON…` | a person lets it pass by a check |
//! | `hold TARGET SPAN REASON…` | the target's own site asks to be left alone; `0s` ends that |
//! | `label TARGET KEY=VALUE…` | the target is given these labels |
//! | `about SERVICE VERSION KEY=VALUE…` | what the author of the next release says of it |

use std::fmt;

use holdfast_engine::track::TrackName;
use holdfast_engine::track::check::CheckResult;
use holdfast_protocol::name::{
    EnvironmentName, PolicyName, ProtectionName, RoleName, ServiceName, TargetName, Version,
};

use super::{name, settings, span, spell, track, word};

/// One thing that happens to gates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gate {
    Protect {
        environment: EnvironmentName,
        name: ProtectionName,
        settings: Vec<(String, String)>,
    },
    Unprotect {
        environment: EnvironmentName,
        name: ProtectionName,
    },
    Answers {
        name: ProtectionName,
        /// None where it does not answer.
        answer: Option<(CheckResult, String)>,
    },
    Late {
        name: ProtectionName,
        answer: (CheckResult, String),
    },
    Require {
        environment: EnvironmentName,
        policy: PolicyName,
        expression: String,
        message: String,
    },
    Allow {
        environment: EnvironmentName,
        policy: PolicyName,
    },
    Freeze {
        /// None for all.
        environment: Option<EnvironmentName>,
        by: String,
        reason: String,
    },
    Unfreeze {
        environment: Option<EnvironmentName>,
    },
    Approve {
        track: TrackName,
        by: String,
        roles: Vec<RoleName>,
    },
    Withdraw {
        track: TrackName,
        by: String,
        roles: Vec<RoleName>,
    },
    Reject {
        track: TrackName,
        by: String,
        reason: String,
    },
    Skip {
        track: TrackName,
        name: ProtectionName,
        by: String,
        roles: Vec<RoleName>,
        reason: String,
    },
    Hold {
        target: TargetName,
        millis: u64,
        reason: String,
    },
    Label {
        target: TargetName,
        labels: Vec<(String, String)>,
    },
    About {
        service: ServiceName,
        version: Version,
        meta: Vec<(String, String)>,
    },
}

impl Gate {
    /// The event, if the verb is one of these.
    pub(super) fn parse(verb: &str, rest: &[&str]) -> Result<Option<Self>, String> {
        Ok(Some(match verb {
            "protect" => Self::Protect {
                environment: name(word(rest, 0)?)?,
                name: name(word(rest, 1)?)?,
                settings: settings(&rest[2..])?,
            },
            "unprotect" => Self::Unprotect {
                environment: name(word(rest, 0)?)?,
                name: name(word(rest, 1)?)?,
            },
            "answers" => Self::Answers {
                name: name(word(rest, 0)?)?,
                answer: answer(word(rest, 1)?, rest)?,
            },
            "late" => Self::Late {
                name: name(word(rest, 0)?)?,
                answer: answer(word(rest, 1)?, rest)?.ok_or("nothing is no answer")?,
            },
            "require" => Self::Require {
                environment: name(word(rest, 0)?)?,
                policy: name(word(rest, 1)?)?,
                expression: word(rest, 2)?.to_owned(),
                message: text(rest, 3),
            },
            "allow" => Self::Allow {
                environment: name(word(rest, 0)?)?,
                policy: name(word(rest, 1)?)?,
            },
            "freeze" => Self::Freeze {
                environment: one_or_all(word(rest, 0)?)?,
                by: word(rest, 1)?.to_owned(),
                reason: text(rest, 2),
            },
            "unfreeze" => Self::Unfreeze {
                environment: one_or_all(word(rest, 0)?)?,
            },
            "about" => Self::About {
                service: name(word(rest, 0)?)?,
                version: name(word(rest, 1)?)?,
                meta: settings(&rest[2..])?,
            },
            "hold" => Self::Hold {
                target: name(word(rest, 0)?)?,
                millis: span(word(rest, 1)?)?,
                reason: text(rest, 2),
            },
            "label" => Self::Label {
                target: name(word(rest, 0)?)?,
                labels: settings(&rest[1..])?,
            },
            _ => return Self::said(verb, rest),
        }))
    }

    fn said(verb: &str, rest: &[&str]) -> Result<Option<Self>, String> {
        Ok(Some(match verb {
            "approve" => Self::Approve {
                track: track(word(rest, 0)?)?,
                by: word(rest, 1)?.to_owned(),
                roles: roles(word(rest, 2)?)?,
            },
            "withdraw" => Self::Withdraw {
                track: track(word(rest, 0)?)?,
                by: word(rest, 1)?.to_owned(),
                roles: roles(word(rest, 2)?)?,
            },
            "reject" => Self::Reject {
                track: track(word(rest, 0)?)?,
                by: word(rest, 1)?.to_owned(),
                reason: text(rest, 2),
            },
            "skip" => Self::Skip {
                track: track(word(rest, 0)?)?,
                name: name(word(rest, 1)?)?,
                by: word(rest, 2)?.to_owned(),
                roles: roles(word(rest, 3)?)?,
                reason: text(rest, 4),
            },
            _ => return Ok(None),
        }))
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protect {
                environment,
                name,
                settings,
            } => {
                write!(f, "protect {environment} {name}")?;
                pairs(f, settings)
            }
            Self::Unprotect { environment, name } => write!(f, "unprotect {environment} {name}"),
            Self::Answers { name, answer } => {
                write!(f, "answers {name} {}", answered(answer.as_ref()))
            }
            Self::Late { name, answer } => write!(f, "late {name} {}", answered(Some(answer))),
            Self::Require {
                environment,
                policy,
                expression,
                message,
            } => write!(
                f,
                "require {environment} {policy} {expression}{}",
                spaced(message)
            ),
            Self::Allow {
                environment,
                policy,
            } => write!(f, "allow {environment} {policy}"),
            Self::Freeze {
                environment,
                by,
                reason,
            } => {
                let what = or_all(environment.as_ref());
                write!(f, "freeze {what} {by}{}", spaced(reason))
            }
            Self::Unfreeze { environment } => {
                write!(f, "unfreeze {}", or_all(environment.as_ref()))
            }
            Self::Approve { .. }
            | Self::Withdraw { .. }
            | Self::Reject { .. }
            | Self::Skip { .. } => self.fmt_said(f),
            Self::Hold {
                target,
                millis,
                reason,
            } => write!(f, "hold {target} {}{}", spell(*millis), spaced(reason)),
            Self::Label { target, labels } => {
                write!(f, "label {target}")?;
                pairs(f, labels)
            }
            Self::About {
                service,
                version,
                meta,
            } => {
                write!(f, "about {service} {version}")?;
                pairs(f, meta)
            }
        }
    }
}

impl Gate {
    fn fmt_said(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Approve { track, by, roles } => {
                write!(f, "approve {track} {by} {}", listed(roles))
            }
            Self::Withdraw { track, by, roles } => {
                write!(f, "withdraw {track} {by} {}", listed(roles))
            }
            Self::Reject { track, by, reason } => {
                write!(f, "reject {track} {by}{}", spaced(reason))
            }
            Self::Skip {
                track,
                name,
                by,
                roles,
                reason,
            } => {
                let roles = listed(roles);
                write!(f, "skip {track} {name} {by} {roles}{}", spaced(reason))
            }
            _ => Ok(()),
        }
    }
}

fn answered(answer: Option<&(CheckResult, String)>) -> String {
    let Some((result, text)) = answer else {
        return "nothing".to_owned();
    };
    let result = match result {
        CheckResult::Passed => "pass",
        CheckResult::Failed => "fail",
        CheckResult::Unknown => "unknown",
    };
    format!("{result}{}", spaced(text))
}

fn answer(word: &str, rest: &[&str]) -> Result<Option<(CheckResult, String)>, String> {
    let result = match word {
        "pass" => CheckResult::Passed,
        "fail" => CheckResult::Failed,
        "unknown" => CheckResult::Unknown,
        "nothing" => return Ok(None),
        _ => return Err("an answer is pass, fail, unknown or nothing".to_owned()),
    };
    Ok(Some((result, text(rest, 2))))
}

fn text(rest: &[&str], from: usize) -> String {
    rest.get(from..).unwrap_or_default().join(" ")
}

fn spaced(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(" {text}")
    }
}

fn one_or_all(text: &str) -> Result<Option<EnvironmentName>, String> {
    if text == "all" {
        Ok(None)
    } else {
        name(text).map(Some)
    }
}

fn or_all(environment: Option<&EnvironmentName>) -> &str {
    environment.map_or("all", EnvironmentName::as_str)
}

fn roles(text: &str) -> Result<Vec<RoleName>, String> {
    if text == "-" {
        return Ok(Vec::new());
    }
    text.split(',').map(name).collect()
}

fn listed(roles: &[RoleName]) -> String {
    if roles.is_empty() {
        return "-".to_owned();
    }
    let names: Vec<&str> = roles.iter().map(RoleName::as_str).collect();
    names.join(",")
}

fn pairs(f: &mut fmt::Formatter<'_>, pairs: &[(String, String)]) -> fmt::Result {
    pairs
        .iter()
        .try_for_each(|(key, value)| write!(f, " {key}={value}"))
}
