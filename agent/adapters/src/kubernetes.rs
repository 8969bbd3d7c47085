//! Runtime `kubernetes`: sets of objects of a cluster, by server-side apply. A whole cluster is one
//! target.
//!
//! Objects are plain JSON here, of whatever kind; the types of `k8s_openapi` are only what the client
//! itself is built on.

use std::path::PathBuf;

pub mod object;
mod secret;
pub mod spec;

#[cfg(feature = "kubernetes")]
pub(crate) mod adapter;
#[cfg(feature = "kubernetes")]
mod apply;
#[cfg(feature = "kubernetes")]
mod check;
#[cfg(feature = "kubernetes")]
mod cluster;
#[cfg(feature = "kubernetes")]
mod converge;
#[cfg(feature = "kubernetes")]
mod definition;
#[cfg(feature = "kubernetes")]
mod field;
#[cfg(feature = "kubernetes")]
mod job;
#[cfg(feature = "kubernetes")]
mod kind;
#[cfg(feature = "kubernetes")]
mod kubeconfig;
#[cfg(feature = "kubernetes")]
mod logs;
#[cfg(feature = "kubernetes")]
mod manifest;
#[cfg(feature = "kubernetes")]
mod order;
#[cfg(feature = "kubernetes")]
mod pod;
#[cfg(feature = "kubernetes")]
mod readiness;
#[cfg(feature = "kubernetes")]
mod record;
#[cfg(feature = "kubernetes")]
mod refusal;
#[cfg(feature = "kubernetes")]
mod remove;
#[cfg(feature = "kubernetes")]
mod sight;
#[cfg(feature = "kubernetes")]
mod source;
#[cfg(feature = "kubernetes")]
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
