//! Where a release of helm is, and whether it may be called so. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{RELEASE_MAX, Template};
use crate::{Call, Wrong};

/// A release in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) context: Option<String>,
    pub(super) namespace: String,
    pub(super) release: String,
}

/// `NAMESPACE/RELEASE`, for people.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.release)
    }
}

impl Place {
    /// Where a call's release is to be: called like the service, unless it is said otherwise.
    pub(super) fn of(call: &Call<'_, Template>) -> Self {
        let template = &call.template;
        Self {
            context: template.context.clone(),
            namespace: template.namespace.clone(),
            release: template
                .release
                .clone()
                .unwrap_or_else(|| call.service.clone()),
        }
    }
}

/// What is wrong with the names of a call's place.
pub(super) fn problems(call: &Call<'_, Template>) -> Vec<Wrong> {
    let place = Place::of(call);
    let long = (place.release.len() > RELEASE_MAX).then(|| {
        let why =
            format!("is needed: the service's own name has more than {RELEASE_MAX} characters");
        Wrong::at("release", &why)
    });
    let named = [("namespace", &place.namespace), ("release", &place.release)];
    let wrong = named
        .into_iter()
        .filter_map(|(path, name)| not_a_name(path, name));
    long.into_iter().chain(wrong).collect()
}

fn not_a_name(path: &str, name: &str) -> Option<Wrong> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_name = name.chars().all(plain) && !name.starts_with('-') && !name.ends_with('-');
    let why = format!("{name:?} is no name: lower-case letters, digits and inner hyphens");
    (!is_name).then(|| Wrong::at(path, &why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_cluster() {
        for name in ["web", "web-2", "2"] {
            assert_eq!(not_a_name("release", name), None, "{name}");
        }
        for name in ["Web", "-web", "web-", "we.b", "we b", "^", "wéb"] {
            assert!(not_a_name("release", name).is_some(), "{name}");
        }
    }
}
