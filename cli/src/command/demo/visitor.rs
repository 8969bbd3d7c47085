//! Somebody who looks at the deployed site, over HTTP.

use std::time::Duration;

use crate::error::Failure;

/// A visitor of the three sites.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    http: reqwest::Client,
}

/// What a visitor gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// HTTP status.
    pub(super) status: u16,
    /// The body.
    pub(super) body: String,
}

impl Visitor {
    /// A visitor who opens a connection for each look.
    pub(super) fn new() -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(LOOK_TIMEOUT)
            .pool_max_idle_per_host(0)
            // Nothing here is TLS; without this a machine that has no certificates could not look.
            .tls_certs_only([])
            .build()
            .map_err(|error| Failure::failed(format!("cannot set up HTTP: {error}")))?;
        Ok(Self { http })
    }

    /// What is at a path; nothing where nobody answers.
    pub(super) async fn look(&self, port: u16, path: &str) -> Option<Seen> {
        let url = format!("http://127.0.0.1:{port}{path}");
        let response = self.http.get(url).send().await.ok()?;
        let status = response.status().as_u16();
        let body = response.text().await.ok()?;
        Some(Seen { status, body })
    }

    /// The version that is served, if the site is whole.
    pub(super) async fn version(&self, port: u16) -> Option<String> {
        let page = self.look(port, "/").await?;
        let healthy = self.look(port, "/healthz").await?;
        let version = self.look(port, "/version").await?;
        (page.status == 200 && healthy.status == 200 && version.status == 200)
            .then(|| version.body.trim().to_owned())
    }

    /// The process that serves.
    pub(super) async fn pid(&self, port: u16) -> Option<u32> {
        self.look(port, "/pid").await?.body.trim().parse().ok()
    }
}

/// Time for one look.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
