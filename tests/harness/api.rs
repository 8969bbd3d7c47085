//! The HTTP API, typed, as an operator's program uses it. Blocking, since tests are.

use std::path::PathBuf;
use std::time::Duration;

use holdfast_protocol::api::{Items, Problem};
use reqwest::{Certificate, Client, Method, RequestBuilder, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};

/// A client of one coordinator's API. Not to be used inside an async runtime.
#[derive(Debug)]
pub struct Api {
    runtime: Runtime,
    base: String,
    /// The coordinator's data directory, whose `ca.pem` vouches and whose token is used.
    data: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The coordinator did not answer.
    Unreachable(String),
    /// It answered with a problem.
    Problem(Box<Problem>),
    /// It answered with something else.
    Strange(StatusCode, String),
}

impl Refusal {
    /// The problem; a failure where it is something else.
    #[track_caller]
    #[must_use]
    pub fn problem(self) -> Problem {
        match self {
            Self::Problem(problem) => *problem,
            Self::Unreachable(_) | Self::Strange(..) => panic!("not a problem: {self:?}"),
        }
    }
}

impl Api {
    /// A client for `https://ADDRESS`; the files in `data` are read at each request.
    #[must_use]
    pub fn new(address: &str, data: PathBuf) -> Self {
        Self {
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
            base: format!("https://{address}"),
            data,
        }
    }

    /// The address, `https://…`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Reads one thing.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        self.ask(Method::GET, path, |request| request)
    }

    /// Reads a list.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Refusal> {
        let items: Items<T> = self.read(path)?;
        assert!(items.next.is_none(), "{path} has more pages");
        Ok(items.items)
    }

    /// Sends a body, reads the answer.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Refusal> {
        self.ask(method, path, |request| request.json(body))
    }

    /// [`Self::send`] with POST.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Refusal> {
        self.send(Method::POST, path, body)
    }

    /// Sends bytes; gives the status.
    ///
    /// # Errors
    /// [`Refusal::Unreachable`].
    pub fn put_bytes(&self, path: &str, bytes: Vec<u8>) -> Result<StatusCode, Refusal> {
        let (status, _) = self.exchange(Method::PUT, path, |request| request.body(bytes))?;
        Ok(status)
    }

    /// The status and the body of an answer, whatever they are.
    ///
    /// # Errors
    /// [`Refusal::Unreachable`].
    pub fn raw(&self, method: Method, path: &str) -> Result<(StatusCode, String), Refusal> {
        self.exchange(method, path, |request| request)
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        fill: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<T, Refusal> {
        let (status, text) = self.exchange(method, path, fill)?;
        if status.is_success() {
            return serde_json::from_str(&text)
                .map_err(|error| Refusal::Strange(status, format!("{error}: {text}")));
        }
        Err(match serde_json::from_str(&text) {
            Ok(problem) => Refusal::Problem(Box::new(problem)),
            Err(_) => Refusal::Strange(status, text),
        })
    }

    fn exchange(
        &self,
        method: Method,
        path: &str,
        fill: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<(StatusCode, String), Refusal> {
        let failed = |error: reqwest::Error| Refusal::Unreachable(format!("{error:?}"));
        let token = std::fs::read_to_string(self.data.join("admin.token")).unwrap_or_default();
        // A new connection each time: the coordinator may have been killed meanwhile.
        let request = fill(
            self.client()?
                .request(method, format!("{}{path}", self.base)),
        );
        self.runtime.block_on(async {
            let answer = request.bearer_auth(token.trim()).send().await;
            let answer = answer.map_err(failed)?;
            let status = answer.status();
            Ok((status, answer.text().await.map_err(failed)?))
        })
    }

    fn client(&self) -> Result<Client, Refusal> {
        let pem = std::fs::read(self.data.join("ca.pem"))
            .map_err(|error| Refusal::Unreachable(format!("ca.pem: {error}")))?;
        let certificates = Certificate::from_pem_bundle(&pem).unwrap();
        Ok(Client::builder()
            .no_proxy()
            .tls_certs_only(certificates)
            .timeout(TIMEOUT)
            .build()
            .unwrap())
    }
}

/// Time for one request.
const TIMEOUT: Duration = Duration::from_secs(20);
