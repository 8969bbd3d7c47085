//! Decisions as lines of text.

use holdfast_engine::effect::Effect;
use holdfast_engine::track::TrackName;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::TargetName;
use holdfast_protocol::time::Timestamp;

/// A wait as one line.
pub(crate) fn wait_text(wait: &holdfast_protocol::api::wait::Wait, now: Timestamp) -> String {
    let kind = serde_json::to_value(wait.kind).expect("a word");
    let kind = kind.as_str().expect("a word").to_owned();
    let until = match wait.until {
        Some(until) => format!(
            ", for {}",
            holdfast_protocol::time::friendly(until.since(now))
        ),
        None => String::new(),
    };
    let ends = if wait.ends_by.is_empty() {
        String::new()
    } else {
        format!(" [{}]", wait.ends_by.join(" | "))
    };
    format!("{kind} {}: {}{until}{ends}", wait.subject, wait.message)
}

pub(super) fn placed(effect: &Effect) -> Option<TargetName> {
    match effect {
        Effect::Place { target, .. } => Some(target.clone()),
        Effect::Displace { .. } | Effect::Save(_) | Effect::Check(_) | Effect::Record(_) => None,
    }
}

pub(super) fn effect_text(name: &TrackName, effect: &Effect) -> Option<String> {
    match effect {
        Effect::Place { target, point } => {
            let configuration = if point.configuration == Digest::of(format!("{name} 0").as_bytes())
            {
                String::new()
            } else {
                format!(" with configuration {}", point.configuration.short())
            };
            let run = point.run.map(|run| format!(", the run of {run}"));
            Some(format!(
                "{name} places {} on {target}{configuration}{}",
                point.version,
                run.unwrap_or_default()
            ))
        }
        Effect::Displace { target } => Some(format!("{name} displaces {target}")),
        Effect::Save(_) => None,
        Effect::Check(ask) => Some(format!(
            "{name} asks {} ({}) about {}",
            ask.guard,
            ask.when.name(),
            ask.point.version
        )),
        Effect::Record(record) => Some(format!(
            "{name} records {}: {}",
            record.kind, record.message
        )),
    }
}
