//! Secrets of a workload: how its template names them, and the values while it is started.
//!
//! Where a template takes a text it may take `{secret: NAME}`; what reaches the target says
//! `{"secret": NAME, "version": N}`. The values come with each converge, in memory, and are wiped after
//! it. An adapter hands them to the workload and to nobody else: not to a log, a message, a record or a
//! disk.

use std::collections::BTreeMap;

use holdfast_protocol::name::SecretName;
use holdfast_protocol::secret;
use serde_json::Value;

use crate::fields::Stage;

/// Entries of a table: texts, and those that secrets stand for.
pub(crate) type Split = (BTreeMap<String, String>, BTreeMap<String, SecretName>);

/// The secret that a value stands for; nothing where it is something else.
pub(crate) fn of(value: &Value, stage: Stage) -> Option<Result<SecretName, String>> {
    match stage {
        Stage::Manifest => secret::named(value),
        Stage::Rendered => secret::pinned(value).map(|secret| Ok(secret.name)),
    }
}

#[cfg(feature = "run")]
pub(crate) mod memory;

#[cfg(feature = "run")]
pub use values::{Secret, Secrets, masked};

#[cfg(feature = "run")]
mod values {
    use std::collections::BTreeMap;
    use std::fmt;

    use holdfast_protocol::codec;
    use holdfast_protocol::digest::Digest;
    use holdfast_protocol::name::SecretName;
    use holdfast_protocol::secret::SecretRef;
    use zeroize::Zeroizing;

    use crate::failure::Failure;

    /// One value: wiped when dropped, and never shown.
    #[derive(Clone, PartialEq, Eq)]
    pub struct Secret(Zeroizing<Vec<u8>>);

    /// The values of one workload's secrets, by name, each with its number.
    #[derive(Debug, Clone, PartialEq, Eq, Default)]
    pub struct Secrets(BTreeMap<SecretName, (u64, Secret)>);

    impl Secret {
        /// A value.
        #[must_use]
        pub const fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
            Self(bytes)
        }

        /// The same bytes once more.
        #[must_use]
        pub fn copy(bytes: &[u8]) -> Self {
            Self(Zeroizing::new(bytes.to_vec()))
        }

        /// Its bytes.
        #[must_use]
        pub fn bytes(&self) -> &[u8] {
            &self.0
        }
    }

    /// Shortest line of a value that is looked for: shorter ones stand in any text by chance.
    const MASKED_MIN_BYTES: usize = 4;

    /// `text` with `[secret]` for every line of `values` that has four bytes or more.
    pub fn masked<'v>(values: impl Iterator<Item = &'v str>, text: String) -> String {
        let lines = values.flat_map(str::lines);
        let mut lines: Vec<_> = lines.filter(|l| l.len() >= MASKED_MIN_BYTES).collect();
        // One that is in another would leave the rest of that one.
        lines.sort_by_key(|line| std::cmp::Reverse(line.len()));
        lines.into_iter().fold(text, |text, line| {
            if text.contains(line) {
                text.replace(line, "[secret]")
            } else {
                text
            }
        })
    }

    impl fmt::Debug for Secret {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Secret([secret])")
        }
    }

    impl FromIterator<(SecretRef, Secret)> for Secrets {
        fn from_iter<T: IntoIterator<Item = (SecretRef, Secret)>>(values: T) -> Self {
            let values = values.into_iter();
            Self(
                values
                    .map(|(which, value)| (which.name, (which.version, value)))
                    .collect(),
            )
        }
    }

    impl Secrets {
        /// Whether there are none.
        #[must_use]
        pub fn is_empty(&self) -> bool {
            self.0.is_empty()
        }

        /// Each value, by name and number.
        pub fn iter(&self) -> impl Iterator<Item = (&SecretName, u64, &Secret)> {
            let all = self.0.iter();
            all.map(|(name, (version, value))| (name, *version, value))
        }

        /// What stands for the names and numbers of all, and `more`; never for a value.
        pub(crate) fn key(&self, more: Option<(u32, u32)>) -> String {
            let all = self.iter();
            let all: Vec<_> = all
                .map(|(name, version, _)| (name.clone(), version))
                .collect();
            let digest = Digest::of(&codec::encode(&(all, more)));
            digest.hex().chars().take(16).collect()
        }

        /// A text in which no value stands any more, as far as values are texts of a few characters.
        #[must_use]
        pub fn masked(&self, text: String) -> String {
            let values = self.iter();
            masked(
                values.filter_map(|(_, _, value)| std::str::from_utf8(value.bytes()).ok()),
                text,
            )
        }

        /// A value.
        ///
        /// # Errors
        /// Retryable: the agent asks the coordinator for what is missing.
        pub fn value(&self, name: &SecretName) -> Result<&[u8], Failure> {
            let value = self.0.get(name).map(|(_, value)| value.bytes());
            value.ok_or_else(|| Failure::Retryable(format!("secret {name} is not here yet")))
        }

        /// A value that can stand where a text is asked for, such as a variable.
        ///
        /// # Errors
        /// Permanent where it is no text.
        pub fn text(&self, name: &SecretName) -> Result<&str, Failure> {
            let text = std::str::from_utf8(self.value(name)?).ok();
            text.filter(|text| !text.contains('\0')).ok_or_else(|| {
                Failure::Permanent(format!(
                    "secret {name} is no text (UTF-8 without NUL): give it to the workload as a file"
                ))
            })
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_value_is_given_as_text_where_it_is_one_and_shown_nowhere() {
            let name = |text: &str| SecretName::parse(text).unwrap();
            let one = |text: &str, bytes: &[u8]| {
                let which = SecretRef {
                    name: name(text),
                    version: 1,
                };
                (which, Secret::copy(bytes))
            };
            let secrets: Secrets = [one("a", b"hunter2"), one("b", b"\xff"), one("c", b"x\0y")]
                .into_iter()
                .collect();
            assert_eq!(secrets.text(&name("a")).unwrap(), "hunter2");
            for other in ["b", "c"] {
                let refused = secrets.text(&name(other)).unwrap_err();
                assert!(matches!(refused, Failure::Permanent(_)), "{refused:?}");
            }
            assert!(matches!(
                secrets.value(&name("d")),
                Err(Failure::Retryable(_))
            ));
            assert!(!format!("{secrets:?}").contains("hunter2"));
            let said = secrets.masked("hunter2 is hunter2, b".to_owned());
            assert_eq!(said, "[secret] is [secret], b");
        }
    }
}
