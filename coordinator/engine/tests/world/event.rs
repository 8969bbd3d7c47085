//! What can happen to a world, as a line of a script: printed and read back, so that a failing random
//! history is a scenario.

mod gate;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use holdfast_engine::steer::Wish;
use holdfast_engine::track::TrackName;
use holdfast_protocol::name::{EnvironmentName, ServiceName, TargetName, Version};
use holdfast_protocol::time::{friendly, millis, parse_span};

pub(crate) use gate::Gate;

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// An environment with its place in the order and its guardrails, as `key=value` words; declared
    /// anew where it is there already, for every track in it.
    Environment {
        name: EnvironmentName,
        settings: Vec<(String, String)>,
    },
    /// A service, in every environment that there is.
    Service {
        name: ServiceName,
        depends_on: Vec<ServiceName>,
    },
    /// A service that is declared from now on runs to completion, with these `key=value` words.
    Job {
        name: ServiceName,
        settings: Vec<(String, String)>,
    },
    /// A release is made.
    Release {
        service: ServiceName,
        version: Version,
    },
    /// It will fail, on one target or on all.
    Bad {
        service: ServiceName,
        version: Version,
        on: Option<TargetName>,
    },
    /// It will not fail any more.
    Good {
        service: ServiceName,
        version: Version,
    },
    /// The configuration of a track becomes that of this number.
    Config { track: TrackName, number: u64 },
    /// A target joins an environment, connected.
    Join {
        target: TargetName,
        environment: EnvironmentName,
    },
    /// It is revoked.
    Leave { target: TargetName },
    /// It connects.
    Connect { target: TargetName },
    /// It goes away.
    Disconnect { target: TargetName },
    /// Its agent takes one step on everything it is assigned, and reports.
    Work { target: TargetName },
    /// Time passes, none by default, and all connected agents work whenever there is anything to do.
    Settle { millis: u64 },
    /// A workload that ran does not any more.
    Break {
        target: TargetName,
        service: ServiceName,
    },
    /// A person's wish.
    Wish { track: TrackName, wish: Wish },
    /// Something about checks, policies, freezes, approvals, targets that are held.
    Gate(Gate),
    /// A track is declared no more.
    Remove { track: TrackName },
    /// A person confirms it.
    Confirm { track: TrackName },
    /// It is declared again.
    Declare { track: TrackName },
    /// Time passes.
    Pass { millis: u64 },
    /// The coordinator's clock is set forward, and nobody noticed the time between.
    Ahead { millis: u64 },
    /// It is set back.
    Behind { millis: u64 },
    /// The coordinator is killed and started; agents that were connected come back at once.
    Restart,
    /// The coordinator is killed before it has kept its next step.
    Lose,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment { name, settings } => {
                write!(f, "environment {name}")?;
                settings
                    .iter()
                    .try_for_each(|(key, value)| write!(f, " {key}={value}"))
            }
            Self::Service { name, depends_on } => {
                write!(f, "service {name}")?;
                depends_on
                    .iter()
                    .try_for_each(|service| write!(f, " {service}"))
            }
            Self::Job { name, settings } => {
                write!(f, "job {name}")?;
                settings
                    .iter()
                    .try_for_each(|(key, value)| write!(f, " {key}={value}"))
            }
            Self::Release { service, version } => write!(f, "release {service} {version}"),
            Self::Bad {
                service,
                version,
                on: None,
            } => write!(f, "bad {service} {version}"),
            Self::Bad {
                service,
                version,
                on: Some(target),
            } => {
                write!(f, "bad {service} {version} {target}")
            }
            Self::Good { service, version } => write!(f, "good {service} {version}"),
            Self::Config { track, number } => write!(f, "config {track} {number}"),
            Self::Join {
                target,
                environment,
            } => write!(f, "join {target} {environment}"),
            Self::Leave { target } => write!(f, "leave {target}"),
            Self::Connect { target } => write!(f, "connect {target}"),
            Self::Disconnect { target } => write!(f, "disconnect {target}"),
            Self::Work { target } => write!(f, "work {target}"),
            Self::Settle { millis: 0 } => write!(f, "settle"),
            Self::Settle { millis } => write!(f, "settle {}", spell(*millis)),
            Self::Break { target, service } => write!(f, "break {target} {service}"),
            Self::Wish { track, wish } => write_wish(f, track, wish),
            Self::Gate(gate) => gate.fmt(f),
            Self::Remove { track } => write!(f, "remove {track}"),
            Self::Confirm { track } => write!(f, "confirm {track}"),
            Self::Declare { track } => write!(f, "declare {track}"),
            Self::Pass { millis } => write!(f, "pass {}", spell(*millis)),
            Self::Ahead { millis } => write!(f, "ahead {}", spell(*millis)),
            Self::Behind { millis } => write!(f, "behind {}", spell(*millis)),
            Self::Restart => write!(f, "restart"),
            Self::Lose => write!(f, "lose"),
        }
    }
}

fn write_wish(f: &mut fmt::Formatter<'_>, track: &TrackName, wish: &Wish) -> fmt::Result {
    match wish {
        Wish::Rollback { to: None } => write!(f, "rollback {track}"),
        Wish::Rollback { to: Some(version) } => write!(f, "rollback {track} {version}"),
        Wish::Retry => write!(f, "retry {track}"),
        Wish::Deploy {
            version,
            hotfix: false,
        } => write!(f, "deploy {track} {version}"),
        Wish::Deploy {
            version,
            hotfix: true,
        } => write!(f, "hotfix {track} {version}"),
        Wish::Promote { version: None } => write!(f, "promote {track}"),
        Wish::Promote {
            version: Some(version),
        } => write!(f, "promote {track} {version}"),
        Wish::Pin { version } => write!(f, "pin {track} {version}"),
        Wish::Unpin => write!(f, "unpin {track}"),
        Wish::Halt => write!(f, "halt {track}"),
        Wish::Pause => write!(f, "pause {track}"),
        Wish::Resume => write!(f, "resume {track}"),
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (verb, rest) = words.split_first().ok_or("an empty line")?;
        parse(verb, rest).map_err(|problem| format!("{line:?}: {problem}"))
    }
}

fn parse(verb: &str, rest: &[&str]) -> Result<Event, String> {
    if let Some(wish) = wish(verb, rest)? {
        let track = track(word(rest, 0)?)?;
        return Ok(Event::Wish { track, wish });
    }
    if let Some(gate) = Gate::parse(verb, rest)? {
        return Ok(Event::Gate(gate));
    }
    let there = || track(word(rest, 0)?);
    Ok(match verb {
        "environment" => Event::Environment {
            name: name(word(rest, 0)?)?,
            settings: settings(&rest[1..])?,
        },
        "service" => Event::Service {
            name: name(word(rest, 0)?)?,
            depends_on: rest[1..]
                .iter()
                .map(|text| name(text))
                .collect::<Result<_, _>>()?,
        },
        "job" => Event::Job {
            name: name(word(rest, 0)?)?,
            settings: settings(&rest[1..])?,
        },
        "release" => Event::Release {
            service: name(word(rest, 0)?)?,
            version: name(word(rest, 1)?)?,
        },
        "bad" => Event::Bad {
            service: name(word(rest, 0)?)?,
            version: name(word(rest, 1)?)?,
            on: rest.get(2).map(|text| name(text)).transpose()?,
        },
        "good" => Event::Good {
            service: name(word(rest, 0)?)?,
            version: name(word(rest, 1)?)?,
        },
        "config" => Event::Config {
            track: track(word(rest, 0)?)?,
            number: word(rest, 1)?.parse().map_err(|_| "not a number")?,
        },
        "join" => Event::Join {
            target: name(word(rest, 0)?)?,
            environment: name(word(rest, 1)?)?,
        },
        "settle" => Event::Settle {
            millis: rest.first().map_or(Ok(0), |text| span(text))?,
        },
        "break" => Event::Break {
            target: name(word(rest, 0)?)?,
            service: name(word(rest, 1)?)?,
        },
        "remove" => Event::Remove { track: there()? },
        "confirm" => Event::Confirm { track: there()? },
        "declare" => Event::Declare { track: there()? },
        "pass" => Event::Pass {
            millis: span(word(rest, 0)?)?,
        },
        "ahead" => Event::Ahead {
            millis: span(word(rest, 0)?)?,
        },
        "behind" => Event::Behind {
            millis: span(word(rest, 0)?)?,
        },
        "restart" => Event::Restart,
        "lose" => Event::Lose,
        _ => return of_target(verb, name(word(rest, 0)?)?),
    })
}

fn of_target(verb: &str, target: TargetName) -> Result<Event, String> {
    Ok(match verb {
        "leave" => Event::Leave { target },
        "connect" => Event::Connect { target },
        "disconnect" => Event::Disconnect { target },
        "work" => Event::Work { target },
        _ => return Err("not a verb of the script".to_owned()),
    })
}

fn wish(verb: &str, rest: &[&str]) -> Result<Option<Wish>, String> {
    Ok(Some(match verb {
        "rollback" => {
            let to = rest.get(1).map(|text| name(text)).transpose()?;
            Wish::Rollback { to }
        }
        "retry" => Wish::Retry,
        "deploy" | "hotfix" => Wish::Deploy {
            version: name(word(rest, 1)?)?,
            hotfix: verb == "hotfix",
        },
        "promote" => {
            let version = rest.get(1).map(|text| name(text)).transpose()?;
            Wish::Promote { version }
        }
        "pin" => Wish::Pin {
            version: name(word(rest, 1)?)?,
        },
        "unpin" => Wish::Unpin,
        "halt" => Wish::Halt,
        "pause" => Wish::Pause,
        "resume" => Wish::Resume,
        _ => return Ok(None),
    }))
}

fn span(text: &str) -> Result<u64, String> {
    parse_span(text).map(millis)
}

fn spell(millis: u64) -> String {
    friendly(Duration::from_millis(millis)).replace(' ', "")
}

fn word<'w>(words: &[&'w str], at: usize) -> Result<&'w str, String> {
    words
        .get(at)
        .copied()
        .ok_or_else(|| "a word is missing".to_owned())
}

fn name<T: FromStr>(text: &str) -> Result<T, String>
where
    T::Err: fmt::Display,
{
    text.parse().map_err(|problem: T::Err| problem.to_string())
}

fn track(text: &str) -> Result<TrackName, String> {
    let (service, environment) = text
        .split_once('@')
        .ok_or("a track is SERVICE@ENVIRONMENT")?;
    Ok(TrackName {
        service: name(service)?,
        environment: name(environment)?,
    })
}

fn settings(words: &[&str]) -> Result<Vec<(String, String)>, String> {
    let pair = |word: &&str| {
        let (key, value) = word.split_once('=').ok_or("a setting is KEY=VALUE")?;
        Ok((key.to_owned(), value.to_owned()))
    };
    words.iter().map(pair).collect()
}
