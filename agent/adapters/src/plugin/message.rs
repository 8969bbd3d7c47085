//! The protocol between the agent and a plugin: one request on standard input, lines on standard
//! output. Published as `examples/plugin/protocol.schema.json`; [`VERSION`] grows when a plugin of
//! the version before could no longer be spoken to.
//!
//! Both sides are here: the agent writes requests and reads lines, the plugins that ship the other
//! way round.

use std::collections::BTreeMap;
use std::path::PathBuf;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the protocol that is spoken here.
pub const VERSION: u32 = 1;
/// Longest time between two looks that a plugin may ask for, in seconds.
pub const INTERVAL_MAX_SECONDS: u32 = 3600;
/// Shortest time between two looks that a plugin may ask for, in seconds.
pub const INTERVAL_MIN_SECONDS: u32 = 5;
/// Time between two looks where a plugin does not say, in seconds.
pub const INTERVAL_SECONDS: u32 = 30;

/// What a plugin is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Say what it is and what it can.
    Describe,
    /// Say what is wrong with a template, and change nothing.
    Validate,
    /// Say what there is of a workload, and change nothing.
    Observe,
    /// Make a workload so.
    Converge,
    /// Remove all that was made for a workload.
    Remove,
    /// Print a workload's output.
    Logs,
}

/// What stands on standard input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// [`VERSION`].
    pub protocol: u32,
    /// What to do.
    pub operation: Operation,
    /// How long it may take; then the plugin is killed.
    pub deadline_seconds: u64,
    /// Of what; absent for `describe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// A directory of this workload alone, which the plugin may write to and which lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_directory: Option<PathBuf>,
    /// Which output; with `logs` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<Lines>,
    /// The secrets that the template names, by name; with `converge` alone. Where the template says
    /// `{"secret": NAME, "version": N}`, the value is here, and nowhere else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
}

impl Request {
    /// A text in which none of the values stands any more that this request gives, as far as they are
    /// texts of a few characters. To be asked before a text is cut: half a value is not found.
    #[cfg(feature = "run")]
    pub(crate) fn masked(&self, text: String) -> String {
        let values = self.secrets.values().filter_map(|one| one.text.as_deref());
        crate::secret::masked(values, text)
    }
}

/// The value of a secret, as a plugin is given it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// Which of its values: another one is another value.
    pub version: u64,
    /// The value, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The value in base64 (RFC 4648, section 4), where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// The value stays out of every log.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Secret");
        shown
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// One workload, as a plugin sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// `ENVIRONMENT/TARGET/SERVICE`: never used for anything else, and the same in every release.
    pub id: String,
    /// The environment.
    pub environment: String,
    /// The target.
    pub target: String,
    /// The service.
    pub service: String,
    /// The release.
    pub version: String,
    /// Digest of everything that is wanted: another one is another workload.
    pub body: Digest,
    /// The template, with all its expressions filled in.
    pub template: Value,
    /// The artifacts, verified and laid down, by name.
    pub artifacts: BTreeMap<String, Artifact>,
}

/// One artifact, as a plugin sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// The directory it was unpacked into, or the file.
    pub path: PathBuf,
    /// Digest of the archive or file.
    pub digest: Digest,
}

/// Which output is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lines {
    /// Only lines after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// At most this many lines from the past.
    pub tail: usize,
    /// Go on with new lines until the plugin is killed.
    pub follow: bool,
}

/// One line on standard output. Fields that are not known here are passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Said {
    /// What it is at, for people.
    Progress {
        /// In words.
        message: String,
    },
    /// One line of a workload's output.
    Line {
        /// When it was written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Timestamp>,
        /// The line.
        text: String,
    },
    /// Why it fails, for people.
    Error {
        /// In words.
        message: String,
    },
    /// What came of it: the last line, once, by whoever ends with 0.
    Result(Value),
}

/// The result of `describe`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// The protocol's version that it speaks.
    pub protocol: u32,
    /// The plugin's own version.
    pub version: String,
    /// What it is for, in a line.
    #[serde(default)]
    pub summary: String,
    /// JSON Schema of its template, of the words that `schema` knows.
    pub template: Value,
    /// Whether its workloads have output.
    #[serde(default)]
    pub logs: bool,
    /// Time between two looks, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<u32>,
}

/// The result of `validate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What is wrong; nothing where the template is right.
    pub problems: Vec<Wrong>,
}

/// One thing wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrong {
    /// Where, as a path of keys below the template.
    #[serde(default)]
    pub path: String,
    /// What.
    pub message: String,
}

impl Wrong {
    /// `message` about what stands at `path`.
    #[must_use]
    pub fn at(path: &str, message: &str) -> Self {
        Self {
            path: path.to_owned(),
            message: message.to_owned(),
        }
    }
}

/// The result of `observe`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sighting {
    /// The id that was asked for.
    pub workload: String,
    /// What it does.
    pub state: State,
    /// The body it was last converged to, if the plugin marked that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Digest>,
    /// Since when; when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Why it is not ready, or what differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// What a workload does, by its plugin's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is as `converge` left it.
    Running,
    /// It is so, and not ready yet.
    Starting,
    /// It is so, and has failed.
    Failing,
    /// It ended by itself.
    Ended,
    /// Somebody changed it.
    Altered,
    /// There is nothing.
    Absent,
}

/// The result of `converge`, `remove` and `logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The id that was asked for.
    pub workload: String,
}
