//! JSON bodies of the HTTP API, shared by the coordinator and the command line: one file per noun.
//!
//! Keys are camelCase, times are RFC 3339 in UTC, spans are texts such as `1h 30m`. A list is
//! [`Items`]. An error is a [`Problem`] (RFC 9457). Fields are only added.
//!
//! | method and path | body | answer |
//! | --- | --- | --- |
//! | `GET /v1/whoami` | | [`access::Whoami`] |
//! | `POST /v1/apply` | [`apply::ApplyRequest`] | [`apply::Applied`] |
//! | `POST /v1/plan` | [`apply::ApplyRequest`] | [`apply::Plan`] |
//! | `POST /v1/simulate` | [`simulate::Simulation`] | [`simulate::Timeline`] |
//! | `POST /v1/revisions/{number}/confirm` | [`steer::Steer`] | [`steer::Steered`] |
//! | `GET /v1/sets/{name}` | | [`apply::InputSet`] |
//! | `GET /v1/revisions` | | items of [`apply::Revision`] |
//! | `GET /v1/environments[/{name}]` | | items of [`environment::Environment`] |
//! | `GET /v1/services[/{name}]` | | items of [`service::Service`] |
//! | `GET /v1/protections` | | items of [`guardrail::Protection`] |
//! | `GET /v1/policies` | | items of [`guardrail::Policy`] |
//! | `GET /v1/notifiers` | | items of [`guardrail::Notifier`] |
//! | `GET /v1/targets[/{name}]?environment=` | | items of [`target::Target`] |
//! | `POST /v1/targets/{name}/revoke` | [`steer::Steer`] | [`target::Target`] |
//! | `POST /v1/targets/{name}/resume` | [`steer::Steer`] | [`target::Target`] |
//! | `PATCH /v1/targets/{name}/labels` | [`target::LabelChange`] | [`target::Target`] |
//! | `HEAD, PUT /v1/artifacts/{digest}` | the bytes | 200, 201; 404 |
//! | `POST /v1/services/{name}/releases` | [`release::NewRelease`] | [`release::Release`] |
//! | `GET /v1/releases?service=` | | items of [`release::Release`] |
//! | `GET /v1/deployments[/{id}]?service=&environment=` | | items of [`deployment::Deployment`] |
//! | `POST /v1/deployments/{id}/{verb}` | [`steer::Judgement`] | [`steer::Steered`] |
//! | `GET /v1/history?service=&environment=` | | items of [`deployment::Deployment`], oldest first |
//! | `GET /v1/status?service=&environment=` | | items of [`status::Status`] |
//! | `GET /v1/why?service=&environment=` | | items of [`why::Reason`] |
//! | `GET /v1/explain?service=&environment=&target=` | | [`explain::Explanation`] |
//! | `GET /v1/where?service=&version=` | | items of [`whereabouts::Whereabouts`] |
//! | `GET /v1/where/ever?service=&version=` | | items of [`whereabouts::Stay`] |
//! | `GET /v1/diff?from=&to=` | | [`diff::DeploymentDiff`] |
//! | `POST /v1/tracks/{service}/{environment}/{verb}` | [`steer::Steer`] | [`steer::Steered`] |
//! | `POST, GET /v1/freezes` | [`freeze::NewFreeze`] | [`steer::Steered`], items of [`freeze::Freeze`] |
//! | `POST /v1/freezes/{environment}/end` | [`steer::Steer`] | [`steer::Steered`] |
//! | `GET /v1/logs?service=&environment=&target=&tail=&since=&follow=` | | lines of [`log::LogEntry`], one JSON object a line |
//! | `GET /v1/events?after=&limit=&follow=` | | items of [`event::Event`], or a server-sent event stream |
//! | `GET /v1/audit` | | [`event::Audit`] |
//! | `POST, GET /v1/tokens`, `DELETE /v1/tokens/{id}` | [`token::NewToken`] | [`token::CreatedToken`], items of [`token::Token`] |
//! | `POST, GET /v1/users` | [`user::NewUser`] | [`user::CreatedUser`], items of [`user::User`] |
//! | `GET, DELETE /v1/users/{name}` | | [`user::User`] |
//! | `POST /v1/users/{name}/rotate` | [`user::Rotate`] | [`user::CreatedUser`] |
//! | `PUT /v1/users/{name}/roles` | [`user::NewRoles`] | [`user::User`] |
//! | `POST, GET /v1/roles` | [`role::NewRole`] | [`role::Role`], items of it |
//! | `GET, DELETE /v1/roles/{name}` | | [`role::Role`] |
//! | `POST, GET /v1/secrets` | [`secret::NewSecret`] | [`secret::Secret`], items of it |
//! | `DELETE /v1/secrets/{environment}/{name}` | | [`secret::Secret`] |
//! | `POST /v1/secrets/rekey` | | [`steer::Steered`] |
//! | `GET /v1/ca` | | [`access::CaStatus`] |
//!
//! `verb` of a track is one of `deploy promote pin unpin rollback retry halt pause resume`, of a
//! deployment one of `approve reject skip repeat`.

pub mod access;
pub mod apply;
pub mod deployment;
pub mod diff;
pub mod environment;
pub mod event;
pub mod explain;
pub mod freeze;
pub mod guardrail;
pub mod log;
pub mod release;
pub mod role;
pub mod secret;
pub mod service;
pub mod simulate;
pub mod status;
pub mod steer;
pub mod target;
pub mod token;
pub mod user;
pub mod wait;
pub mod whereabouts;
pub mod why;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A list. `continue` is there when more follow: pass it as `?continue=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Items<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// Where the next page begins.
    #[serde(rename = "continue", default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> From<Vec<T>> for Items<T> {
    fn from(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}

/// Why a request was not done (RFC 9457, `application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `about:blank`: the code says more.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short name of the problem, for people.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What went wrong, in one sentence.
    pub detail: String,
    /// What went wrong, for programs.
    pub code: Code,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Everything wrong with manifests, where that is the problem.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
}

/// The kinds of problem; each has one exit code of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Code {
    /// The request itself is wrong (400).
    BadRequest,
    /// The manifests do not compile (422).
    InvalidManifest,
    /// No or no valid token (401).
    Unauthenticated,
    /// The token does not allow this (403).
    Forbidden,
    /// It does not exist (404).
    NotFound,
    /// It contradicts what is there: a version with other content, a stale plan, a foreign set (409).
    Conflict,
    /// It cannot be done in the present state, such as halting what is not moving (409).
    Refused,
    /// Too large (413).
    TooLarge,
    /// The target is not connected, so it cannot answer (503).
    Disconnected,
    /// The coordinator is stopping or overloaded (503).
    Unavailable,
    /// A fault of the coordinator (500).
    Internal,
}

/// One thing wrong with manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Length of the place in characters, at least 1.
    pub length: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The source line.
    #[serde(default)]
    pub source: String,
}
