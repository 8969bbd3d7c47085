//! What the programs of a plugin learn of their call besides what a template says.

use std::collections::BTreeMap;

use crate::{Call, Wrong};

/// What the names of variables that are ours begin with.
const OURS: &str = "HOLDFAST_";

/// The template's variables, and what the call is about.
#[must_use]
pub fn of<T>(call: &Call<'_, T>, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut environment = own.clone();
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

/// What is wrong with a template's variables; `also` are beginnings of names that are set otherwise.
#[must_use]
pub fn problems(own: &BTreeMap<String, String>, also: &[(&str, &str)]) -> Vec<Wrong> {
    let wrong = |(name, value): (&String, &String)| {
        let at = |why: &str| Some(Wrong::at(&format!("environment.{name}"), why));
        if name.is_empty() || name.contains(['=', '\0']) {
            return at("is no name of a variable");
        }
        if value.contains('\0') {
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
