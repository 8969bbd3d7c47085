//! What a track remembers of its checks, and what people said about a deployment.

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{ProtectionName, RoleName};
use holdfast_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::compiled::protection::When;

/// Most results that one deployment keeps; the oldest but the first of each check go first.
pub const RESULTS_MAX: usize = 200;
/// Most bytes of one result's output that are kept.
pub const OUTPUT_MAX_BYTES: usize = 4096;

/// How one check does, for one deployment or for what is stable.
///
/// Only `verdict`, `failures` and `notified` are worth a write: the times start anew after a restart,
/// and the check is asked again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckState {
    /// The check, as the track calls it.
    pub name: ProtectionName,
    /// For what.
    pub when: When,
    /// Since when it is waited for.
    pub since: Timestamp,
    /// Since when an answer is on its way; none while nobody asks.
    pub asked_at: Option<Timestamp>,
    /// The newest answer.
    pub verdict: Option<Verdict>,
    /// Failures in a row, up to the newest answer.
    pub failures: u32,
    /// Since when no answer could be had, without a break.
    pub unknown_since: Option<Timestamp>,
    /// Whether somebody was told that it has been waited for too long.
    pub notified: bool,
}

/// One answer of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// What it came to.
    pub result: CheckResult,
    /// What it said, at most [`OUTPUT_MAX_BYTES`].
    pub output: String,
    /// When.
    pub at: Timestamp,
}

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckResult {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It could not be asked, or gave no answer. Neither a pass nor a failure.
    Unknown,
}

/// A result for the record of a deployment. Equal ones in a row are one, and so are passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptResult {
    /// The check.
    pub name: ProtectionName,
    /// For what.
    pub when: When,
    /// What it came to and said, when it was first so.
    pub verdict: Verdict,
}

/// A person's yes to one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approved {
    /// Who.
    pub by: String,
    /// In which roles.
    pub roles: Vec<RoleName>,
    /// When.
    pub at: Timestamp,
    /// Digest of what was shown; it is void where this is another one now.
    pub shown: Digest,
    /// Why, where they said so.
    pub reason: Option<String>,
}

/// A check that a person let a deployment pass by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Skipped {
    /// The check.
    pub name: ProtectionName,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl CheckState {
    /// A check of which nothing is known yet.
    #[must_use]
    pub const fn new(name: ProtectionName, when: When, now: Timestamp) -> Self {
        Self {
            name,
            when,
            since: now,
            asked_at: None,
            verdict: None,
            failures: 0,
            unknown_since: None,
            notified: false,
        }
    }
}

impl Verdict {
    /// Whether this says what `other` does. Passes all say the same.
    #[must_use]
    pub fn says(&self, other: &Self) -> bool {
        let both_pass = self.result == CheckResult::Passed;
        self.result == other.result && (both_pass || self.output == other.output)
    }
}

impl CheckResult {
    /// As it stands in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}
