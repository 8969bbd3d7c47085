//! What a plugin is: what it says of itself, and what it does with one workload.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::call::Call;
use crate::journal;
use crate::{Failure, Lines, Sighting, Wrong};

/// A runtime, as an executable of its own. Every operation is idempotent, and is for one workload;
/// two changes of the same workload never run at a time, but `observe` and `logs` may beside one.
pub trait Plugin {
    /// A template in which the schema of [`About`] has found nothing wrong.
    type Template: DeserializeOwned;

    /// What it says of itself.
    fn about(&self) -> About;

    /// What is wrong with a template besides what its schema says. Changes nothing.
    fn problems(&self, call: &Call<'_, Self::Template>) -> Vec<Wrong>;

    /// What there is of a workload. Changes nothing, and ends within 12 s.
    ///
    /// # Errors
    /// Where that cannot be known.
    fn observe(&self, call: &Call<'_, Self::Template>) -> Result<Sighting, Failure>;

    /// Makes a workload so; does nothing where it is so.
    ///
    /// # Errors
    /// Why it is not so.
    fn converge(&self, call: &Call<'_, Self::Template>) -> Result<(), Failure>;

    /// Removes all that was made for a workload, and nothing else; of nothing, it is done.
    ///
    /// # Errors
    /// Why something is left.
    fn remove(&self, call: &Call<'_, Self::Template>) -> Result<(), Failure>;

    /// Shows output: unless a plugin says otherwise, what its changes kept with [`Call::output`].
    ///
    /// # Errors
    /// Why there is nothing to show.
    fn logs(&self, call: &Call<'_, Self::Template>, lines: &Lines) -> Result<(), Failure> {
        journal::show(call, lines)
    }
}

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    /// Its own version.
    pub version: &'static str,
    /// What it is for, in a line.
    pub summary: &'static str,
    /// JSON Schema of its template, of the words that the protocol names.
    pub template: Value,
    /// Whether its workloads have output.
    pub logs: bool,
    /// Time between two looks, in seconds: 5 to 3600.
    pub interval_seconds: u32,
}
