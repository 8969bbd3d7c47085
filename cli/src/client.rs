//! The HTTP API, called: one connection, typed bodies, failures with their exit codes.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use holdfast_protocol::api::{Items, Problem};
use holdfast_protocol::digest::Digest;
use reqwest::{Body, Certificate, Method, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::Connection;
use crate::error::{Exit, Failure};

/// One coordinator's API.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    connection: Connection,
}

/// Parts of a query; those without a value are left out.
pub type Query<'a> = [(&'a str, Option<String>)];

impl Client {
    /// A client that believes the connection's certificate alone, if it has one.
    ///
    /// # Errors
    /// The certificate is none.
    pub fn new(connection: Connection) -> Result<Self, Failure> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy();
        if let Some(pem) = &connection.ca {
            let certificates = Certificate::from_pem_bundle(pem.as_bytes())
                .ok()
                .filter(|certificates| !certificates.is_empty())
                .ok_or_else(|| {
                    Failure::usage("the CA file holds no certificate in PEM form")
                        .help("it is the ca.pem in the coordinator's data directory")
                })?;
            builder = builder.tls_certs_only(certificates);
        }
        let http = builder.build().map_err(|error| {
            Failure::failed(format!("cannot set up TLS: {}", chain(&error)))
                .help("name the certificate that vouches for the coordinator: --ca ca.pem")
        })?;
        Ok(Self { http, connection })
    }

    /// One object.
    ///
    /// # Errors
    /// The coordinator does not answer, or answers with a [`Problem`].
    pub async fn fetch<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &Query<'_>,
    ) -> Result<T, Failure> {
        let request = self
            .request(Method::GET, path, query)
            .timeout(REQUEST_TIMEOUT);
        read(self.send(request).await?).await
    }

    /// A whole list, page after page; where one object is named, that one.
    ///
    /// # Errors
    /// As [`Self::fetch`]; also when there are more pages than any list has.
    pub async fn items<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &Query<'_>,
    ) -> Result<Vec<T>, Failure> {
        let mut all = Vec::new();
        let mut next = None;
        for _ in 0..PAGES_MAX {
            let mut query = query.to_vec();
            query.push(("continue", next.take()));
            let answer: serde_json::Value = self.fetch(path, &query).await?;
            if answer.get("items").is_none() {
                return understood(answer).map(|one| vec![one]);
            }
            let mut page: Items<T> = understood(answer)?;
            all.append(&mut page.items);
            next = page.next;
            if next.is_none() {
                return Ok(all);
            }
        }
        Err(Failure::failed("the list does not end"))
    }

    /// Sends a body and reads the answer.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub async fn send_json<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &B,
    ) -> Result<T, Failure> {
        let request = self
            .request(method, path, &[])
            .json(body)
            .timeout(WRITE_TIMEOUT);
        read(self.send(request).await?).await
    }

    /// Posts a body and reads the answer.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &B,
    ) -> Result<T, Failure> {
        self.send_json(Method::POST, path, body).await
    }

    /// Deletes; the answer's body is not read.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub async fn delete(&self, path: &[&str]) -> Result<(), Failure> {
        let request = self
            .request(Method::DELETE, path, &[])
            .timeout(REQUEST_TIMEOUT);
        self.send(request).await.map(|_| ())
    }

    /// Whether the coordinator has this artifact already.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub async fn has_artifact(&self, digest: Digest) -> Result<bool, Failure> {
        let name = digest.to_string();
        let request = self
            .request(Method::HEAD, &["artifacts", &name], &[])
            .timeout(REQUEST_TIMEOUT);
        match self.send(request).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.exit == Exit::NotFound => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Uploads an artifact of `length` bytes.
    ///
    /// # Errors
    /// As [`Self::fetch`]; the coordinator refuses bytes that do not hash to `digest`.
    pub async fn upload<S>(&self, digest: Digest, length: u64, bytes: S) -> Result<(), Failure>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let name = digest.to_string();
        let request = self
            .request(Method::PUT, &["artifacts", &name], &[])
            .header(reqwest::header::CONTENT_LENGTH, length)
            .header(reqwest::header::CONTENT_TYPE, "application/octet-stream")
            .body(Body::wrap_stream(bytes));
        self.send(request).await.map(|_| ())
    }

    /// Lines of an answer that may never end, each of bounded length.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub async fn lines(
        &self,
        path: &[&str],
        query: &Query<'_>,
        accept: &'static str,
    ) -> Result<Lines, Failure> {
        let request = self
            .request(Method::GET, path, query)
            .header(reqwest::header::ACCEPT, accept);
        let response = self.send(request).await?;
        Ok(Lines {
            bytes: response.bytes_stream().boxed(),
            pending: Vec::new(),
            ended: false,
        })
    }

    fn request(&self, method: Method, path: &[&str], query: &Query<'_>) -> reqwest::RequestBuilder {
        let mut url = self.connection.server.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        for (key, value) in query {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(key, value);
            }
        }
        let request = self.http.request(method, url);
        match &self.connection.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, Failure> {
        let response = request
            .send()
            .await
            .map_err(|error| unreachable_because(&self.connection.server, &error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(problem(response).await)
    }
}

/// Lines that arrive one by one.
pub struct Lines {
    bytes: futures_util::stream::BoxStream<'static, reqwest::Result<Bytes>>,
    pending: Vec<u8>,
    ended: bool,
}

impl Lines {
    /// The next line without its break; none when the answer has ended.
    ///
    /// # Errors
    /// The connection broke, or a line is too long. Nothing is lost by dropping the future.
    pub async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return Ok(Some(text(&line)));
            }
            if self.pending.len() > LINE_MAX_BYTES {
                return Err(Failure::failed("a line of the answer is too long"));
            }
            if self.ended {
                let rest = std::mem::take(&mut self.pending);
                return Ok((!rest.is_empty()).then(|| text(&rest)));
            }
            match self.bytes.next().await {
                Some(Ok(piece)) => self.pending.extend_from_slice(&piece),
                Some(Err(error)) => {
                    return Err(Failure::new(
                        Exit::Unreachable,
                        format!("the connection to the coordinator broke: {}", chain(&error)),
                    )
                    .passing());
                }
                None => self.ended = true,
            }
        }
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line)
        .trim_end_matches(['\n', '\r'])
        .to_owned()
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, Failure> {
    let bytes = body(response).await?;
    // A request without an answer to speak of (204) reads as null.
    let bytes = if bytes.is_empty() {
        Bytes::from_static(b"null")
    } else {
        bytes
    };
    serde_json::from_slice(&bytes).map_err(|error| not_understood(&error))
}

fn understood<T: DeserializeOwned>(answer: serde_json::Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| not_understood(&error))
}

fn not_understood(error: &serde_json::Error) -> Failure {
    Failure::failed(format!(
        "the coordinator's answer is not understood: {error}"
    ))
    .help("are holdfast and holdfast-coordinator of the same release?")
}

async fn body(response: Response) -> Result<Bytes, Failure> {
    let mut stream = response.bytes_stream();
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| {
            Failure::new(
                Exit::Unreachable,
                format!("the connection to the coordinator broke: {}", chain(&error)),
            )
            .passing()
        })?;
        if all.len() + piece.len() > ANSWER_MAX_BYTES {
            return Err(Failure::failed("the coordinator's answer is too large"));
        }
        all.extend_from_slice(&piece);
    }
    Ok(Bytes::from(all))
}

/// The failure that an answer tells of.
async fn problem(response: Response) -> Failure {
    let status = response.status();
    let bytes = match body(response).await {
        Ok(bytes) => bytes,
        Err(failure) => return failure,
    };
    match serde_json::from_slice::<Problem>(&bytes) {
        Ok(problem) => with_usual_help(Failure::from(problem)),
        Err(_) => with_usual_help(of_status(status)),
    }
}

/// What an answer without a [`Problem`] means: of a proxy, or to a `HEAD`.
fn of_status(status: StatusCode) -> Failure {
    let exit = match status.as_u16() {
        401 | 403 => Exit::NotAllowed,
        404 => Exit::NotFound,
        409 => Exit::Conflict,
        422 => Exit::InvalidManifest,
        502..=504 => Exit::Unreachable,
        _ => Exit::Failed,
    };
    let failure = Failure::new(exit, format!("the coordinator answered {status}"));
    if exit == Exit::Unreachable {
        failure.passing()
    } else {
        failure
    }
}

/// What a person at a terminal does about a missing token, whatever the API says to programs.
fn with_usual_help(failure: Failure) -> Failure {
    let nameless = failure.exit == Exit::NotAllowed && failure.help.is_none();
    if nameless || failure.code == "unauthenticated" {
        return failure.help(
            "give a token with --token-file or HOLDFAST_TOKEN, or log in with `holdfast login URL`",
        );
    }
    failure
}

fn unreachable_because(server: &Url, error: &reqwest::Error) -> Failure {
    let why = chain(error);
    let failure = Failure::new(
        Exit::Unreachable,
        format!("the coordinator at {server} does not answer: {why}"),
    );
    if why.contains("certificate") || why.contains("UnknownIssuer") {
        return failure.help("give the coordinator's ca.pem with --ca FILE");
    }
    failure
        .help("is it running, and is the address right? `holdfast-coordinator serve` prints it")
        .passing()
}

/// An error with its causes, the outermost left out where it only says that there was one.
fn chain(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    // A coordinator that is killed cannot say goodbye; how TLS puts that helps nobody.
    if causes.iter().any(|cause| cause.contains("close_notify")) {
        return "it ended without a word".to_owned();
    }
    // The innermost says what happened; those round it repeat it.
    causes.pop().unwrap_or_else(|| error.to_string())
}

/// Time to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a question.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for an apply, which compiles everything.
const WRITE_TIMEOUT: Duration = Duration::from_secs(120);
/// Most pages of a list.
const PAGES_MAX: usize = 10_000;
/// Longest line of a stream, in bytes.
const LINE_MAX_BYTES: usize = 1024 * 1024;
/// Largest answer that is read whole, in bytes.
const ANSWER_MAX_BYTES: usize = 256 * 1024 * 1024;

#[cfg(test)]
mod tests;
