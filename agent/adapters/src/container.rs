//! Runtime `container`: images by digest, run by Docker Engine or Podman over their API socket.

use std::path::PathBuf;

pub mod spec;
pub mod wiring;

#[cfg(feature = "container")]
pub(crate) mod adapter;
#[cfg(feature = "container")]
mod body;
#[cfg(feature = "container")]
mod converge;
#[cfg(feature = "container")]
mod engine;
#[cfg(feature = "container")]
mod image;
#[cfg(feature = "container")]
mod logs;
#[cfg(feature = "container")]
mod mount;
#[cfg(feature = "container")]
mod record;
#[cfg(feature = "container")]
mod shape;
#[cfg(feature = "container")]
mod sight;
#[cfg(feature = "container")]
mod watch;

/// What the agent's own configuration says of its container engine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The engine's API socket; without one, the first of [`SOCKETS`] that exists.
    pub socket: Option<PathBuf>,
    /// Credentials of registries, in the form that `docker login` writes (`config.json`); readable by
    /// the agent alone.
    pub credentials: Option<PathBuf>,
    /// Where not empty, the only paths of this machine that workloads may mount, each with all below
    /// it. The engine's socket and the agent's own directory are mounted only where named here.
    pub mounts: Vec<PathBuf>,
    /// Whether secrets may stand in the environment of containers: the engine writes that on its disk,
    /// and shows it to whoever may use its socket.
    pub secrets_in_environment: bool,
    /// What else workloads may not mount: where the agent keeps its keys.
    pub guarded: Vec<PathBuf>,
}

/// Where engines listen by default, in the order in which they are looked for.
pub const SOCKETS: &[&str] = &["/run/docker.sock", "/run/podman/podman.sock"];
