//! What there is of a function in Lambda, as far as it matters here. Pure.

use std::collections::BTreeMap;

use holdfast_plugins::environment;
use holdfast_protocol::digest::Digest;

use super::template::Settings;

/// A function with its versions and aliases.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    /// Whose it is, by its tag.
    pub(crate) owner: Option<String>,
    /// What can still be changed, and what versions are made of.
    pub(crate) latest: Version,
    /// What was published, lowest number first.
    pub(crate) versions: Vec<Version>,
    /// All its aliases, also those of others.
    pub(crate) aliases: Vec<Alias>,
}

/// A version, or what a version would be made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Version {
    /// `$LATEST`, or digits.
    pub(crate) number: String,
    /// Changes with every change.
    pub(crate) revision: String,
    /// Of its code; none where Lambda does not say.
    pub(crate) code: Option<Sha>,
    pub(crate) settings: Settings,
    pub(crate) state: State,
    /// In whose words it was published.
    pub(crate) description: String,
}

/// SHA-256 of the zip archive, or the digest of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sha {
    /// Of a zip archive.
    Zip(Digest),
    /// Of an image.
    Image(Digest),
}

/// Whether a version can be called and changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It can.
    Ready,
    /// Lambda is at it.
    Pending,
    /// It cannot, in Lambda's words.
    Failed {
        /// Lambda's code for the reason.
        code: String,
        /// In words.
        why: String,
    },
}

/// A name for one version, or for two.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alias {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Parts of the calls that go to other versions.
    pub(crate) weights: BTreeMap<String, f64>,
    pub(crate) revision: String,
    pub(crate) description: String,
}

impl Seen {
    /// The alias of that name.
    pub(crate) fn alias(&self, name: &str) -> Option<&Alias> {
        self.aliases.iter().find(|alias| alias.name == name)
    }

    /// The published version of that number.
    pub(crate) fn version(&self, number: &str) -> Option<&Version> {
        self.versions
            .iter()
            .find(|version| version.number == number)
    }
}

impl Alias {
    /// The body that it was last switched for, by its description.
    pub(crate) fn body(&self) -> Option<Digest> {
        let (_, digest) = self.description.rsplit_once(' ')?;
        digest.parse().ok()
    }

    /// Whether some of its calls go to `version`.
    pub(crate) fn names(&self, version: &str) -> bool {
        self.version == version || self.weights.contains_key(version)
    }
}

impl Version {
    /// What differs from what is wanted, by field; values of the environment are never said.
    pub(crate) fn differences(&self, code: &Sha, wanted: &Settings) -> Vec<String> {
        let mut all = Vec::new();
        if self.code.as_ref() != Some(code) {
            all.push("its code".to_owned());
        }
        all.extend(settings_differ(&self.settings, wanted));
        all
    }
}

/// What differs between two settings, by field.
pub(crate) fn settings_differ(seen: &Settings, wanted: &Settings) -> Vec<String> {
    let differ = |field: &str, seen: &dyn std::fmt::Display, wanted: &dyn std::fmt::Display| {
        format!("{field} is {seen} instead of {wanted}")
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    let mut all = Vec::new();
    let pairs = [
        ("runtime", text(&seen.runtime), text(&wanted.runtime)),
        ("handler", text(&seen.handler), text(&wanted.handler)),
        ("role", seen.role.clone(), wanted.role.clone()),
        (
            "memory",
            format!("{}MiB", seen.memory_mib),
            format!("{}MiB", wanted.memory_mib),
        ),
        (
            "timeout",
            format!("{}s", seen.timeout_seconds),
            format!("{}s", wanted.timeout_seconds),
        ),
        (
            "storage",
            format!("{}MiB", seen.storage_mib),
            format!("{}MiB", wanted.storage_mib),
        ),
        (
            "architecture",
            seen.architecture.clone(),
            wanted.architecture.clone(),
        ),
        ("layers", seen.layers.join(","), wanted.layers.join(",")),
        ("subnets", seen.subnets.join(","), wanted.subnets.join(",")),
        (
            "securityGroups",
            seen.security_groups.join(","),
            wanted.security_groups.join(","),
        ),
    ];
    for (field, seen, wanted) in pairs {
        if seen != wanted {
            all.push(differ(field, &seen, &wanted));
        }
    }
    all.extend(environment::differs(&seen.environment, &wanted.environment));
    all
}
