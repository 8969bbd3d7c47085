//! Logins: with which secret a home of artifacts, or a registry of images, is asked. Pure.
//!
//! A body names the secret, without the number of a value and never with one: what is told is the newest
//! value when it is told, and another one changes nothing of what runs. *Guarantees:* what a login may be
//! told to is said by the manifest, or by the secret's own value, and never by a release: whoever makes one
//! chooses where a file stays, and must not choose who learns a password.

use bincode::{Decode, Encode};

use crate::image::{Repository, is_host};
use crate::name::{ArtifactName, SecretName};
use crate::secret::SecretRef;
use crate::workload::Artifact;

/// With which secret something of a workload is fetched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Login {
    /// What is fetched with it.
    pub goal: Goal,
    /// Whose newest value is told.
    pub secret: SecretName,
}

/// What is fetched with a login.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Goal {
    /// An artifact, from its home.
    File {
        /// Which.
        artifact: ArtifactName,
        /// The host, with its port where it has one, that is told the value; without one, the value says
        /// by itself which host it is for.
        host: Option<String>,
    },
    /// Images of one repository, `REGISTRY/PATH`, by the container engine.
    Image {
        /// Which.
        repository: String,
    },
}

impl Login {
    /// What is asked for when it is used.
    #[must_use]
    pub fn reference(&self) -> SecretRef {
        SecretRef::newest(self.secret.clone())
    }

    /// Whether it is as one of a body that has these artifacts is written.
    pub(crate) fn is_canonical(&self, artifacts: &[Artifact]) -> bool {
        match &self.goal {
            Goal::File { artifact, host } => {
                let known = artifacts.iter().any(|one| one.name == *artifact);
                known && host.as_ref().is_none_or(|host| is_host(host))
            }
            Goal::Image { repository } => {
                Repository::parse(repository).is_ok_and(|one| one.to_string() == *repository)
            }
        }
    }
}

/// Whether `host`, `HOST[:PORT]`, can be asked for something at all.
///
/// # Errors
/// How to write it, for people.
pub fn check_host(host: &str) -> Result<(), String> {
    if is_host(host) {
        return Ok(());
    }
    Err(format!(
        "{host:?} is no host: write it as the home of the artifact does, such as \
         registry.example.com or files.internal:8080"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_written_without_scheme_and_path() {
        for good in [
            "registry.example.com",
            "127.0.0.1:5000",
            "localhost",
            "files.internal:8080",
        ] {
            assert_eq!(check_host(good), Ok(()), "{good}");
        }
        for bad in [
            "https://a.example",
            "a.example/team",
            "",
            "a.example:0",
            "a b.example",
        ] {
            assert!(check_host(bad).is_err(), "{bad}");
        }
    }
}
