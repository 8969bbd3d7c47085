//! Checked names, parsed once: a value of one of these types is valid by construction, wherever it
//! came from (manifest, command line, wire, database).

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};
use serde::{Deserialize, Serialize};

/// Longest DNS label, in bytes (RFC 1035, section 2.3.4).
pub const LABEL_MAX_BYTES: usize = 63;
/// Longest release version, in bytes.
pub const VERSION_MAX_BYTES: usize = 128;

/// Why a text is not a name of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} {problem}")]
pub struct NameError {
    /// What was wanted, for people: `service name`, `version`.
    pub kind: &'static str,
    /// The refused text, cut to [`VERSION_MAX_BYTES`] characters.
    pub text: String,
    /// What is wrong with it, as the end of a sentence.
    pub problem: &'static str,
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` against the grammar of this kind of name.
            ///
            /// # Errors
            /// [`NameError`] says which rule the text breaks.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                match $check(text) {
                    Ok(()) => Ok(Self(Arc::from(text))),
                    Err(problem) => Err(NameError {
                        kind: $kind,
                        text: text.chars().take(VERSION_MAX_BYTES).collect(),
                        problem,
                    }),
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Encode for $name {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                self.0.encode(encoder)
            }
        }

        impl<C> Decode<C> for $name {
            fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
                let text = String::decode(decoder)?;
                Self::parse(&text).map_err(|e| DecodeError::OtherString(e.to_string()))
            }
        }

        impl<'de, C> BorrowDecode<'de, C> for $name {
            fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(
                decoder: &mut D,
            ) -> Result<Self, DecodeError> {
                Self::decode(decoder)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                <String as utoipa::PartialSchema>::schema()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}

checked_text! {
    /// A named trust zone and stage.
    EnvironmentName, "environment name", dns_label
}

checked_text! {
    /// A check that must pass before, during or after a deployment.
    ProtectionName, "protection name", dns_label
}

checked_text! {
    /// A rule over the compiled desired state.
    PolicyName, "policy name", dns_label
}

checked_text! {
    /// What people may do, or may be asked for; `release-manager`.
    RoleName, "role name", dns_label
}

checked_text! {
    /// Where events are told outside.
    NotifierName, "notifier name", dns_label
}
checked_text! {
    /// One joined host or cluster. Unique in the installation, not only in its environment, so that
    /// a command can name a target alone.
    TargetName, "target name", dns_label
}
checked_text! {
    /// What is deployed.
    ServiceName, "service name", dns_label
}
checked_text! {
    /// One of the artifacts of a service, as its manifest calls it.
    ArtifactName, "artifact name", dns_label
}
checked_text! {
    /// What a service runs as on targets of one kind, as its manifest calls it.
    VariantName, "variant name", dns_label
}
checked_text! {
    /// A value that only its workloads may see; one of that name in each environment.
    SecretName, "secret name", dns_label
}
checked_text! {
    /// The manifests that one stakeholder applies together.
    InputSetName, "input set name", dns_label
}
checked_text! {
    /// A release's version, chosen by its author: `1.4.0`, `2026-11-21.3`, `v7+build.9`. Versions
    /// are compared for equality only; order comes from the release's sequence number.
    Version, "version", version
}
checked_text! {
    /// Somebody who may use the API, person or program: `ada`, `ada@example.com`, `ci-web`.
    UserName, "user name", user_name
}
checked_text! {
    /// The key of a target's label: `role`, `host.os`, `example.com/rack`.
    LabelKey, "label key", label_key
}
checked_text! {
    /// The value of a target's label. May be empty.
    LabelValue, "label value", label_value
}

/// DNS label of RFC 1123 in lower case: no leading or trailing hyphen, so that no name can be taken
/// for an option of a program.
fn dns_label(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > LABEL_MAX_BYTES {
        return Err("is longer than 63 characters");
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Err("may hold only lower-case letters, digits and hyphens");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err("must start and end with a letter or digit");
    }
    Ok(())
}

fn version(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > VERSION_MAX_BYTES {
        return Err("is longer than 128 characters");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err("must start with a letter or digit");
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
    {
        return Err("may hold only letters, digits and . _ + -");
    }
    Ok(())
}

/// No slash, so that no user can be taken for a target (`target/NAME`) in the history, and not the name
/// that the coordinator itself has there.
fn user_name(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > LABEL_MAX_BYTES {
        return Err("is longer than 63 characters");
    }
    if !text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()) {
        return Err("must start with a lower-case letter or digit");
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-@".contains(&b))
    {
        return Err("may hold only lower-case letters, digits and . _ - @");
    }
    if text == "coordinator" {
        return Err("is what the coordinator calls itself in the history");
    }
    Ok(())
}

fn label_key(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > LABEL_MAX_BYTES {
        return Err("is longer than 63 characters");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err("must start with a letter or digit");
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b))
    {
        return Err("may hold only letters, digits and . _ - /");
    }
    Ok(())
}

fn label_value(text: &str) -> Result<(), &'static str> {
    if text.len() > LABEL_MAX_BYTES {
        return Err("is longer than 63 characters");
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-+".contains(&b))
    {
        return Err("may hold only letters, digits and . _ - +");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_taken_for_something_else_are_refused() {
        for text in [
            "",
            "--privileged",
            "a;reboot",
            "$(id)",
            "a\nb",
            "we\u{0431}",
            "a.b",
            "A",
            "a-",
            "-a",
        ] {
            let error = ServiceName::parse(text).unwrap_err();
            assert!(error.to_string().starts_with("service name"), "{error}");
        }
        assert!(ServiceName::parse(&"a".repeat(64)).is_err());
        assert!(ServiceName::parse(&"a".repeat(63)).is_ok());
        assert!(ServiceName::parse("web-2").is_ok());
    }

    #[test]
    fn a_version_starts_with_a_letter_or_digit() {
        for text in ["1.4.0", "v7+build.9", "2026-11-21_3"] {
            assert_eq!(Version::parse(text).unwrap().as_str(), text);
        }
        for text in ["", "-1", "../x", "1 0", "1/0"] {
            assert!(Version::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_user_cannot_be_taken_for_a_target_or_the_coordinator() {
        for text in ["ada", "ada@example.com", "ci-web", "3rd_party.bot"] {
            assert_eq!(UserName::parse(text).unwrap().as_str(), text);
        }
        for text in [
            "",
            "Ada",
            "target/web-1",
            "coordinator",
            "-x",
            "a b",
            "ad\u{430}",
        ] {
            assert!(UserName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_on_the_wire_is_checked_like_any_other() {
        let bytes = crate::codec::encode(&"Not A Name".to_owned());
        assert!(crate::codec::decode::<TargetName>(&bytes, 1024).is_err());
    }

    #[test]
    fn a_name_in_json_is_checked_like_any_other() {
        assert!(serde_json::from_str::<TargetName>("\"web-1\"").is_ok());
        assert!(serde_json::from_str::<TargetName>("\"Web 1\"").is_err());
    }
}
