//! Runtime `kubernetes`: sets of objects of a cluster, by server-side apply. A whole cluster is one
//! target.
//!
//! Objects are plain JSON here, of whatever kind; the types of `k8s_openapi` are only what the client
//! itself is built on.

use std::path::PathBuf;

pub mod object;
mod secret;
pub mod spec;

#[cfg(feature = "run")]
pub(crate) mod adapter;
#[cfg(feature = "run")]
mod apply;
#[cfg(feature = "run")]
mod check;
#[cfg(feature = "run")]
mod cluster;
#[cfg(feature = "run")]
mod converge;
#[cfg(feature = "run")]
mod definition;
#[cfg(feature = "run")]
mod field;
#[cfg(feature = "run")]
mod job;
#[cfg(feature = "run")]
mod kind;
#[cfg(feature = "run")]
mod logs;
#[cfg(feature = "run")]
mod manifest;
#[cfg(feature = "run")]
mod order;
#[cfg(feature = "run")]
mod pod;
#[cfg(feature = "run")]
mod readiness;
#[cfg(feature = "run")]
mod record;
#[cfg(feature = "run")]
mod refusal;
#[cfg(feature = "run")]
mod remove;
#[cfg(feature = "run")]
mod sight;
#[cfg(feature = "run")]
mod source;
#[cfg(feature = "run")]
mod watch;

/// What the agent's own configuration says of its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Where the cluster is, and as whom it is spoken to; without one, the service account of the
    /// pod that the agent runs in, if it runs in one.
    pub kubeconfig: Option<PathBuf>,
    /// Which context of the kubeconfig; without one, its current context.
    pub context: Option<String>,
    /// The namespace of the agent's own records; without one, the context's or the pod's own.
    pub namespace: Option<String>,
    /// Where not empty, the only namespaces that workloads may put something into. Then nothing is
    /// put outside of namespaces, either.
    pub namespaces: Vec<String>,
}

/// The token of the pod that the agent runs in.
pub const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
