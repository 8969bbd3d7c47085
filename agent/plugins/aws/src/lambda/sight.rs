//! What is told of a function: as converge left it, not ready, or changed by somebody. Pure.

use holdfast_protocol::digest::Digest;

use super::plan::{Wanted, own};
use super::seen::{Seen, State, Version};
use crate::sight::Sight;

/// What is told of what was seen, and the body that it was made of.
pub(crate) fn sight(wanted: &Wanted, seen: Option<&Seen>) -> (Sight, Option<Digest>) {
    let Some(seen) = seen else {
        return (Sight::Absent, None);
    };
    if let Err(refused) = own(wanted, seen) {
        return (Sight::Altered(refused.0), None);
    }
    let name = &wanted.function.alias;
    let Some(alias) = seen.alias(name) else {
        return (Sight::Altered(format!("alias {name} is not there")), None);
    };
    let body = alias.body();
    let Some(version) = seen.version(&alias.version) else {
        let what = format!(
            "alias {name} leads to version {}, which is not there",
            alias.version
        );
        return (Sight::Altered(what), body);
    };
    let mut differs = Vec::new();
    for (other, weight) in &alias.weights {
        let percent = weight * 100.0;
        differs.push(format!(
            "{percent:.0}% of the calls of alias {name} go to version {other}"
        ));
    }
    differs.extend(differences(
        wanted,
        version,
        &format!("version {}", version.number),
    ));
    differs.extend(differences(wanted, &seen.latest, "$LATEST"));
    if !differs.is_empty() {
        return (Sight::Altered(differs.join("; ")), body);
    }
    (ready(version), body)
}

fn differences(wanted: &Wanted, version: &Version, of: &str) -> Vec<String> {
    let differs = version.differences(&wanted.code, &wanted.function.settings);
    differs
        .into_iter()
        .map(|what| format!("{of}: {what}"))
        .collect()
}

fn ready(version: &Version) -> Sight {
    match &version.state {
        State::Ready => Sight::Running,
        State::Pending => Sight::Starting(format!("Lambda prepares version {}", version.number)),
        State::Failed { code, why } => Sight::Failing(format!("{why} ({code})")),
    }
}
