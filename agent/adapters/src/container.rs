//! Runtime `container`: images by digest, run by Docker Engine or Podman over their API socket.

use std::path::PathBuf;

pub mod spec;
pub mod wiring;

#[cfg(feature = "run")]
pub(crate) mod adapter;
#[cfg(feature = "run")]
mod body;
#[cfg(feature = "run")]
mod converge;
#[cfg(feature = "run")]
#[cfg(feature = "run")]
mod engine;
#[cfg(feature = "run")]
mod image;
#[cfg(feature = "run")]
mod logs;
#[cfg(feature = "run")]
mod mount;
#[cfg(feature = "run")]
mod record;
#[cfg(feature = "run")]
mod shape;
#[cfg(feature = "run")]
mod sight;
#[cfg(feature = "run")]
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
