//! Secrets of a plugin's workloads: what it is given of them, and what it repeats.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_protocol::name::SecretName;

use super::call::Told;
use super::message::Secret;
use crate::failure::Failure;
use crate::secret::{self, Secrets};

/// Values as a plugin is given them: once, on its standard input.
pub(super) fn given(secrets: &Secrets) -> BTreeMap<String, Secret> {
    let one = |(name, version, value): (&SecretName, u64, &secret::Secret)| {
        let (text, base64) = match std::str::from_utf8(value.bytes()) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(value.bytes()))),
        };
        let secret = Secret {
            version,
            text,
            base64,
        };
        (name.to_string(), secret)
    };
    secrets.iter().map(one).collect()
}

/// A plugin that repeats what it was given does not bring it into a log or a message here.
pub(super) fn masked(told: Told, secrets: &Secrets) -> Told {
    let failure = |failure| match failure {
        Failure::Retryable(why) => Failure::Retryable(secrets.masked(why)),
        Failure::Permanent(why) => Failure::Permanent(secrets.masked(why)),
        Failure::Cancelled => Failure::Cancelled,
    };
    Told {
        result: told.result.map_err(failure),
        log: secrets.masked(told.log),
    }
}
