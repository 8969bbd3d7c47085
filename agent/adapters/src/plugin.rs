//! Runtime `plugin/NAME`: an executable that anybody may write, spoken to in a published, versioned
//! JSON protocol, one process a call.
//!
//! [`spec`] is what the coordinator checks; [`message`] is the protocol; [`schema`] reads the small
//! JSON Schema by which a plugin describes its template. With the feature `run`: `place` finds the
//! executable and refuses one that somebody else could have written, `call` speaks to it within
//! bounds, `judge` makes a result or a failure of what it said, `record` remembers what it was asked
//! for, and `adapter` brings it together.
//!
//! *Absent here:* whatever a plugin does.

pub mod message;
pub mod schema;
pub mod spec;

#[cfg(feature = "run")]
pub(crate) mod adapter;
#[cfg(feature = "run")]
pub mod author;
#[cfg(feature = "run")]
mod call;
#[cfg(feature = "run")]
mod judge;
#[cfg(feature = "run")]
mod leftover;
#[cfg(feature = "run")]
mod logs;
#[cfg(feature = "run")]
pub mod place;
#[cfg(feature = "run")]
mod record;
#[cfg(feature = "run")]
mod secret;
#[cfg(feature = "run")]
mod watch;

/// What every runtime of this kind begins with.
pub const PREFIX: &str = "plugin/";

#[cfg(feature = "run")]
pub use settings::{Own, Settings};

#[cfg(feature = "run")]
mod settings {
    //! What whoever administers the target says of plugins; no manifest can change it.

    use std::collections::BTreeMap;
    use std::ffi::OsString;
    use std::path::PathBuf;

    use holdfast_protocol::digest::Digest;

    /// Where plugins are looked for unless something else is said.
    pub(super) const DIRECTORY: &str = "/etc/holdfast/plugins";

    /// What the agent's configuration says of its plugins.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Settings {
        /// The directory of executables.
        pub directory: PathBuf,
        /// The command that calls `holdfast_confine::launch::main`.
        pub launcher: Vec<OsString>,
        /// This target's name, as a part of each workload's id.
        pub target: String,
        /// What is said of single plugins, by name.
        pub own: BTreeMap<String, Own>,
    }

    /// What is said of one plugin.
    #[derive(Debug, Clone, PartialEq, Eq, Default)]
    pub struct Own {
        /// Whom it runs as; `nobody` for an agent of the superuser, the agent's own user otherwise.
        pub user: Option<String>,
        /// The only executable that may be this plugin.
        pub digest: Option<Digest>,
        /// Its environment besides `PATH`, `HOME`, `TMPDIR` and `LANG`.
        pub environment: BTreeMap<String, String>,
    }

    impl Default for Settings {
        fn default() -> Self {
            Self {
                directory: PathBuf::from(DIRECTORY),
                launcher: Vec::new(),
                target: "target".to_owned(),
                own: BTreeMap::new(),
            }
        }
    }
}
