//! Secrets: how templates name them, and how they travel. The value itself is never here in the clear.
//!
//! A manifest says `{secret: NAME}`. In a rendered template stands `{"secret": NAME, "version": N}`: the
//! number is a part of the body, so a new value is a new body, and the value is a part of nothing.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::name::SecretName;

/// Largest value of a secret, in bytes.
pub const VALUE_MAX_BYTES: usize = 64 * 1024;
/// Most secrets of one environment.
pub const SECRETS_MAX: usize = 1_000;

/// The number that stands for whichever value is the newest when it is asked for.
const NEWEST: u64 = 0;

/// One value of a secret, by number.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
pub struct SecretRef {
    /// The secret.
    pub name: SecretName,
    /// Which of its values; from 1, or 0 for the newest, see [`SecretRef::newest`].
    pub version: u64,
}

/// A value that only one target can open (RFC 9180).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Sealed {
    /// The encapsulated key.
    pub encapsulated: Vec<u8>,
    /// The value, encrypted.
    pub ciphertext: Vec<u8>,
}

impl SecretRef {
    /// Whichever value is the newest when it is asked for. No body is told apart by it.
    #[must_use]
    pub const fn newest(name: SecretName) -> Self {
        let version = NEWEST;
        Self { name, version }
    }

    /// Whether it stands for the newest value rather than for one.
    #[must_use]
    pub const fn is_newest(&self) -> bool {
        self.version == NEWEST
    }
}

impl std::fmt::Display for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.version {
            NEWEST => write!(f, "{} (newest version)", self.name),
            version => write!(f, "{} (version {version})", self.name),
        }
    }
}

/// The secret that a value of a manifest's template names: `{secret: NAME}` and nothing else.
///
/// # Errors
/// What is wrong with the name, where the value has that shape.
#[must_use]
pub fn named(value: &Value) -> Option<Result<SecretName, String>> {
    let map = value.as_object()?;
    let name = map.get(NAME)?.as_str()?;
    (map.len() == 1).then(|| SecretName::parse(name).map_err(|error| error.to_string()))
}

/// The secret that a value of a rendered template stands for.
#[must_use]
pub fn pinned(value: &Value) -> Option<SecretRef> {
    let map = value.as_object().filter(|map| map.len() == 2)?;
    let name = SecretName::parse(map.get(NAME)?.as_str()?).ok()?;
    let version = map.get(VERSION)?.as_u64().filter(|v| *v != NEWEST)?;
    Some(SecretRef { name, version })
}

/// Every secret that a manifest's template names.
#[must_use]
pub fn names(template: &Value) -> BTreeSet<SecretName> {
    let mut found = BTreeSet::new();
    visit(template, &mut |value| {
        if let Some(Ok(name)) = named(value) {
            found.insert(name);
        }
    });
    found
}

/// Every secret that a rendered template stands for.
#[must_use]
pub fn references(template: &Value) -> BTreeSet<SecretRef> {
    let mut found = BTreeSet::new();
    visit(template, &mut |value| found.extend(pinned(value)));
    found
}

/// A manifest's template with the number of each secret beside its name.
///
/// # Errors
/// The first secret that has no number.
pub fn pin(template: &Value, versions: &BTreeMap<SecretName, u64>) -> Result<Value, SecretName> {
    if let Some(Ok(name)) = named(template) {
        return match versions.get(&name).filter(|version| **version > 0) {
            Some(version) => Ok(serde_json::json!({NAME: name, VERSION: version})),
            None => Err(name),
        };
    }
    Ok(match template {
        Value::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| pin(item, versions))
                .collect::<Result<_, _>>()?,
        ),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| Ok((key.clone(), pin(value, versions)?));
            Value::Object(map.iter().map(entry).collect::<Result<Map<_, _>, _>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => template.clone(),
    })
}

fn visit(value: &Value, seen: &mut dyn FnMut(&Value)) {
    seen(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| visit(item, seen)),
        Value::Object(map) => map.values().for_each(|value| visit(value, seen)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

const NAME: &str = "secret";
const VERSION: &str = "version";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(text: &str) -> SecretName {
        SecretName::parse(text).unwrap()
    }

    #[test]
    fn a_template_names_secrets_anywhere_and_only_in_that_shape() {
        let template = json!({
            "environment": {"A": {"secret": "one"}, "B": "secret", "C": {"secret": "No Name"}},
            "files": {"x": {"secret": "two"}},
            "volumes": [{"secret": {"secretName": "three"}}, {"secret": "four", "mode": 1}],
        });
        assert_eq!(names(&template), [name("one"), name("two")].into());
        assert!(named(&template["environment"]["C"]).unwrap().is_err());
        assert!(references(&template).is_empty());
    }

    #[test]
    fn a_pinned_template_has_the_number_of_each_and_is_read_back() {
        let template =
            json!({"environment": {"A": {"secret": "one"}}, "list": [{"secret": "two"}]});
        let mut versions = BTreeMap::from([(name("one"), 3)]);
        assert_eq!(pin(&template, &versions), Err(name("two")));
        versions.insert(name("two"), 0);
        assert_eq!(pin(&template, &versions), Err(name("two")));
        versions.insert(name("two"), 7);
        let pinned = pin(&template, &versions).unwrap();
        assert_eq!(
            pinned["environment"]["A"],
            json!({"secret": "one", "version": 3})
        );
        let of = |text, version| SecretRef {
            name: name(text),
            version,
        };
        assert_eq!(references(&pinned), [of("one", 3), of("two", 7)].into());
        // Whichever is the newest is nothing that a template can ask for.
        assert!(references(&json!({"secret": "one", "version": 0})).is_empty());
        assert!(names(&pinned).is_empty());
    }
}
