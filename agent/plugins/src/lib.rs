//! The plugin's side of the plugin protocol, and the plugins that ship in this crate's program.
//!
//! A plugin implements [`Plugin`], and its `main` is one line:
//!
//! ```no_run
//! use holdfast_plugins::{About, Call, Failure, Plugin, Sighting, State, Wrong};
//! use serde::Deserialize;
//! use serde_json::json;
//!
//! #[derive(Deserialize)]
//! struct Wanted {
//!     zone: String,
//! }
//!
//! struct Dns;
//!
//! impl Plugin for Dns {
//!     type Template = Wanted;
//!
//!     fn about(&self) -> About {
//!         About {
//!             version: "1.0.0",
//!             summary: "a zone of names",
//!             template: json!({"type": "object", "required": ["zone"],
//!                 "additionalProperties": false, "properties": {"zone": {"type": "string"}}}),
//!             logs: true,
//!             interval_seconds: 60,
//!         }
//!     }
//!
//!     fn problems(&self, call: &Call<'_, Wanted>) -> Vec<Wrong> {
//!         let dot = call.template.zone.ends_with('.');
//!         dot.then(|| Wrong::at("zone", "may not end with a dot")).into_iter().collect()
//!     }
//!
//!     fn observe(&self, call: &Call<'_, Wanted>) -> Result<Sighting, Failure> {
//!         Ok(call.seen(State::Absent))
//!     }
//!
//!     fn converge(&self, call: &Call<'_, Wanted>) -> Result<(), Failure> {
//!         call.progress("asking for the zone");
//!         Err(Failure::Retryable("the server is away".to_owned()))
//!     }
//!
//!     fn remove(&self, _: &Call<'_, Wanted>) -> Result<(), Failure> {
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     holdfast_plugins::run(&Dns)
//! }
//! ```
//!
//! - The *template* is read in three steps, and a person is told everything that is wrong with it:
//!   by the schema of [`About`], by serde into [`Plugin::Template`], by [`Plugin::problems`].
//! - [`Call`] has what is asked about: ids, body, artifacts, directory, time that is left; it says
//!   [`Call::progress`], and [`Call::output`] keeps a line for `logs` ([`journal`]).
//! - [`Failure::Permanent`] ends with 1, [`Failure::Retryable`] with 2.
//! - [`memory`] keeps a value in the workload's directory, whole or not at all; [`made`], by that, what
//!   a workload has made; [`child`] runs a program within bounds of time and output.
//!
//! *Absent here:* threads that outlive a call, and policy. What needs an asynchronous client makes a
//! runtime of one thread within an operation.

pub mod answer;
pub mod call;
pub mod child;
pub mod cloud_run;
pub mod command;
pub mod environment;
pub mod helm;
pub mod hidden;
pub mod image;
pub mod journal;
pub mod made;
pub mod memory;
pub mod plugin;
pub mod secret;
pub mod span;
pub mod terraform;
mod voice;
pub mod wait;

pub use answer::run;
pub use call::Call;
pub use holdfast_adapters::failure::Failure;
pub use holdfast_adapters::plugin::message::{Lines, Operation, Sighting, State, Wrong};
pub use plugin::{About, Plugin};
