//! What the programs of a plugin learn of their call besides what a template says.

use std::collections::{BTreeMap, BTreeSet};

use crate::secret::{self, Text};
use crate::{Call, Failure, Wrong};

/// What the names of variables that are ours begin with.
const OURS: &str = "HOLDFAST_";

/// The template's variables, and what the call is about: for what only looks, which is given no
/// secrets, without the variables that are some.
#[must_use]
pub fn of<T>(call: &Call<'_, T>, own: &BTreeMap<String, Text>) -> BTreeMap<String, String> {
    let plain = own.iter().filter_map(|(name, text)| match text {
        Text::Plain(text) => Some((name.clone(), text.clone())),
        Text::Secret(_) => None,
    });
    let mut environment: BTreeMap<String, String> = plain.collect();
    let directory = call.directory().display().to_string();
    environment.extend(
        [
            ("WORKLOAD", call.id.clone()),
            ("SERVICE", call.service.clone()),
            ("VERSION", call.version.clone()),
            ("BODY", call.body.to_string()),
            ("STATE_DIRECTORY", directory),
        ]
        .map(|(name, value)| (format!("{OURS}{name}"), value)),
    );
    environment
}

/// The same with the variables that are secrets, for a change.
///
/// # Errors
/// Permanent where one was not given, or is no text.
pub fn of_change<T>(
    call: &Call<'_, T>,
    own: &BTreeMap<String, Text>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut environment = of(call, own);
    for (name, text) in own {
        if let Some(reference) = text.reference() {
            environment.insert(name.clone(), secret::text(call, reference)?);
        }
    }
    Ok(environment)
}

/// Which variables of something are not as `wanted`, in words for people; their values may be secrets
/// and are not told.
#[must_use]
pub fn differs<V: PartialEq>(
    seen: &BTreeMap<String, V>,
    wanted: &BTreeMap<String, V>,
) -> Vec<String> {
    let names: BTreeSet<&String> = seen.keys().chain(wanted.keys()).collect();
    let word = |name: &String| match (seen.get(name), wanted.get(name)) {
        (Some(seen), Some(wanted)) if seen == wanted => None,
        (Some(_), Some(_)) => Some(format!("environment.{name} has another value")),
        (Some(_), None) => Some(format!("environment.{name} was added")),
        (None, _) => Some(format!("environment.{name} is missing")),
    };
    names.into_iter().filter_map(word).collect()
}

/// What is wrong with a template's variables; `also` are beginnings of names that are set otherwise.
#[must_use]
pub fn problems(own: &BTreeMap<String, Text>, also: &[(&str, &str)]) -> Vec<Wrong> {
    let wrong = |(name, value): (&String, &Text)| {
        let at = |why: &str| Some(Wrong::at(&format!("environment.{name}"), why));
        if name.is_empty() || name.contains(['=', '\0']) {
            return at("is no name of a variable");
        }
        if matches!(value, Text::Plain(text) if text.contains('\0')) {
            return at("has a value that no variable can have");
        }
        if name.starts_with(OURS) {
            return at("is set by Holdfast itself");
        }
        let (_, instead) = also.iter().find(|(start, _)| name.starts_with(start))?;
        at(instead)
    };
    own.iter().filter_map(wrong).collect()
}
