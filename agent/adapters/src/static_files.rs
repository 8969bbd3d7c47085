//! Runtime `static`: an archive unpacked and switched to by one symbolic link, or put into object
//! storage.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub mod destination;
pub mod headers;
pub mod spec;

#[cfg(feature = "run")]
pub(crate) mod adapter;
#[cfg(feature = "run")]
mod bucket;
#[cfg(feature = "run")]
mod owner;
#[cfg(feature = "run")]
mod switch;
#[cfg(feature = "run")]
mod tree;
#[cfg(feature = "run")]
mod watch;

#[cfg(feature = "run")]
pub use bucket::connect::check_option;

/// What the agent's own configuration says of object storage; no manifest can change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Options of each kind of storage, by scheme: `endpoint`, `region` and the like. No secrets.
    pub options: BTreeMap<String, BTreeMap<String, String>>,
    /// A file of credentials that the agent alone can read; without one, those of the environment and
    /// of the machine.
    pub credentials: Option<PathBuf>,
    /// Where not empty, the only places that may be written, each with all below it.
    pub destinations: Vec<destination::Destination>,
    /// How often what lies there is looked at.
    pub look: Duration,
    /// Who writes, as it stands in the marker: the environment and the name of this target.
    pub target: String,
}

/// How often what lies in object storage is looked at: a listing costs requests.
pub const LOOK_DEFAULT: Duration = Duration::from_secs(5 * 60);

impl Default for Settings {
    fn default() -> Self {
        Self {
            options: BTreeMap::new(),
            credentials: None,
            destinations: Vec::new(),
            look: LOOK_DEFAULT,
            target: "target".to_owned(),
        }
    }
}
