//! What one call is about: a workload, its directory, the time that is left, and who listens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_adapters::plugin::message::{Artifact, Secret, Sighting, State, Workload};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::time::Timestamp;

use crate::Failure;
use crate::child::{Child, Ran};
use crate::journal::Journal;
use crate::voice::Voice;

/// Shortest part of a secret that is looked for in what is said, in bytes.
const MASKED_MIN_BYTES: usize = 4;
/// Time that is kept of a call's own for saying what came of it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// One call about one workload.
pub struct Call<'a, T> {
    /// What is wanted of it.
    pub template: T,
    /// `ENVIRONMENT/TARGET/SERVICE`: nobody else's, and the same in every release.
    pub id: String,
    /// The service alone.
    pub service: String,
    /// The release.
    pub version: String,
    /// Digest of everything that is wanted.
    pub body: Digest,
    /// The artifacts, by name.
    pub artifacts: BTreeMap<String, Artifact>,
    secrets: BTreeMap<String, Secret>,
    state: PathBuf,
    end: Instant,
    voice: Voice<'a>,
}

impl<'a, T> Call<'a, T> {
    pub(crate) fn new(
        workload: Workload,
        template: T,
        (state, end): (PathBuf, Instant),
        voice: Voice<'a>,
    ) -> Self {
        Self {
            template,
            id: workload.id,
            service: workload.service,
            version: workload.version,
            body: workload.body,
            artifacts: workload.artifacts,
            secrets: BTreeMap::new(),
            state,
            end,
            voice,
        }
    }

    /// The same with the secrets that were given.
    pub(crate) fn with(self, secrets: BTreeMap<String, Secret>) -> Self {
        Self { secrets, ..self }
    }

    /// The value of a secret that the template names as `{"secret": NAME, "version": N}`: for what is
    /// made of it, and for no file, output or message.
    ///
    /// # Errors
    /// Permanent where it was not given: values come with converge alone.
    pub fn secret(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let given = self.secrets.get(name);
        let value = given.and_then(|secret| match (&secret.text, &secret.base64) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(base64)) => STANDARD.decode(base64).ok(),
            (None, None) => None,
        });
        value.ok_or_else(|| Failure::Permanent(format!("secret {name} was not given")))
    }

    /// The workload's own directory: 0700, and lasting until it is removed.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.state
    }

    /// The time that is left, less what is needed to say what came of it.
    #[must_use]
    pub fn left(&self) -> Duration {
        let left = self.end.saturating_duration_since(now());
        left.saturating_sub(LAST_WORDS)
    }

    /// The end of the time that is left.
    #[must_use]
    pub fn end(&self) -> Instant {
        self.end - LAST_WORDS
    }

    /// Whether secrets were given: with a change of a template that names some.
    #[must_use]
    pub fn has_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// A text without the secrets that were given. The agent masks what it is told, too; what is
    /// written down here does not pass it.
    fn masked(&self, text: &str) -> String {
        let given = self
            .secrets
            .values()
            .filter_map(|secret| secret.text.as_deref());
        let lines = given.flat_map(str::lines).map(str::trim);
        let long = lines.filter(|line| line.len() >= MASKED_MIN_BYTES);
        long.fold(text.to_owned(), |text, line| text.replace(line, "[secret]"))
    }

    /// Says what it is at, for people.
    pub fn progress(&self, message: &str) {
        self.voice.progress(&self.masked(message));
    }

    /// Shows a line of output; whether somebody still listens. For [`crate::Plugin::logs`] alone.
    #[must_use]
    pub fn line(&self, at: Option<Timestamp>, text: &str) -> bool {
        self.voice.line(at, text)
    }

    /// Says what it is at, and keeps it for `logs`.
    pub fn output(&self, text: &str) {
        let text = self.masked(text);
        self.voice.progress(&text);
        Journal::of(&self.state).keep(&text);
    }

    /// An observed state of this workload, with nothing more to say.
    #[must_use]
    pub fn seen(&self, state: State) -> Sighting {
        Sighting {
            workload: self.id.clone(),
            state,
            body: None,
            since: None,
            message: None,
            exit_code: None,
        }
    }

    /// Runs a program for at most `limit` and no longer than the call, and keeps what it prints to
    /// standard error as output.
    ///
    /// # Errors
    /// [`Failure::Retryable`] where it was not started, did not end in time or printed too much.
    pub fn run(&self, child: &Child, limit: Duration) -> Result<Ran, Failure> {
        let keep = |line: &str| self.output(line);
        child.run(limit.min(self.left()), &keep)
    }
}

/// A point in time, for measuring spans.
#[expect(
    clippy::disallowed_methods,
    reason = "a call has a deadline, and a plugin is nothing but a driver"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
