//! Calls of Cloud Run's API, version 1, about one service.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url, redirect};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Own;
use super::credentials::Token;
use super::refusal;
use super::seen::Seen;
use super::settings::CONTENT_LABEL;
use super::template::Place;
use crate::Failure;

/// Time that a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);
/// Time that one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Pauses between attempts of a call that changes nothing.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// Largest answer that is read, in bytes.
const ANSWER_MAX_BYTES: usize = 8 << 20;
/// Most pages of revisions that are read.
const PAGES_MAX: usize = 20;
/// Another address of the API, as Google's own command takes it.
pub(super) const ENDPOINT: &str = "CLOUDSDK_API_ENDPOINT_OVERRIDES_RUN";

/// Speaks to Cloud Run about one service.
pub(super) struct Run {
    client: Client,
    token: Token,
    place: Place,
    base: Url,
}

/// What came of a change.
pub(super) enum Put {
    /// It is made; the service is of this generation then.
    Done {
        /// Grows with every change.
        generation: u64,
    },
    /// The service is no longer what it was read as: look again. And how it is told otherwise.
    Stale(Failure),
}

impl Run {
    /// Finds the address and the credentials. `limit` is for each call.
    ///
    /// # Errors
    /// What is missing of either.
    pub(super) async fn open(own: &Own, place: &Place, limit: Duration) -> Result<Self, Failure> {
        let base = base(own, place)?;
        let client = client(CALL_LIMIT.min(limit))?;
        let token = own.credentials.token(&client).await?;
        Ok(Self {
            client,
            token,
            place: place.clone(),
            base,
        })
    }

    fn doing(&self, what: &str) -> String {
        let Place {
            project, service, ..
        } = &self.place;
        format!("{what} service {service} of project {project}")
    }

    /// The service with its revisions of one content; none where there is none.
    ///
    /// # Errors
    /// Why it is not known.
    pub(super) async fn look(&self, mark: &str) -> Result<Option<Seen>, Failure> {
        let (doing, path) = (self.doing("look at"), self.service());
        let Some(service) = self.read(&doing, &path, &[]).await? else {
            return Ok(None);
        };
        let revisions = self.revisions(mark).await?;
        Ok(Some(Seen::read(service, &revisions)))
    }

    async fn revisions(&self, mark: &str) -> Result<Vec<Value>, Failure> {
        let doing = self.doing("list the revisions of");
        let of = &self.place.service;
        let selector = format!("serving.knative.dev/service={of},{CONTENT_LABEL}={mark}");
        let (mut all, mut next) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let mut query = vec![("labelSelector", selector.as_str()), ("limit", "100")];
            if !next.is_empty() {
                query.push(("continue", next.as_str()));
            }
            let Some(mut page) = self.read(&doing, "revisions", &query).await? else {
                return Ok(all);
            };
            if let Value::Array(items) = page["items"].take() {
                all.extend(items);
            }
            let token = page["metadata"]["continue"].as_str().unwrap_or_default();
            if token.is_empty() {
                return Ok(all);
            }
            token.clone_into(&mut next);
        }
        Ok(all)
    }

    /// Makes the service.
    ///
    /// # Errors
    /// Why it is not made.
    pub(super) async fn create(&self, service: &Value) -> Result<(), Failure> {
        let request = self.request(Method::POST, "services", &[])?;
        let doing = self.doing("create");
        let (status, answer) = sent(&doing, request.json(service)).await?;
        if status.is_success() {
            return Ok(());
        }
        Err(refusal::judge(&doing, status.as_u16(), &answer))
    }

    /// Puts the service in place of the version that it was read from.
    ///
    /// # Errors
    /// Why it is not changed, but for the one that [`Put`] has.
    pub(super) async fn replace(&self, doing: &str, service: &Value) -> Result<Put, Failure> {
        let request = self.request(Method::PUT, &self.service(), &[])?;
        let doing = self.doing(doing);
        let (status, answer) = sent(&doing, request.json(service)).await?;
        if status.is_success() {
            let generation = answer["metadata"]["generation"].as_u64();
            return Ok(Put::Done {
                generation: generation.unwrap_or_default(),
            });
        }
        let failure = refusal::judge(&doing, status.as_u16(), &answer);
        if status == StatusCode::CONFLICT {
            return Ok(Put::Stale(failure));
        }
        Err(failure)
    }

    /// Asks for the service's end; one that is gone is no failure.
    ///
    /// # Errors
    /// Why it is not deleted.
    pub(super) async fn delete(&self) -> Result<(), Failure> {
        let doing = self.doing("delete");
        let request = self.request(Method::DELETE, &self.service(), &[])?;
        let (status, answer) = sent(&doing, request).await?;
        if status.is_success() || status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(refusal::judge(&doing, status.as_u16(), &answer))
    }

    fn service(&self) -> String {
        format!("services/{}", self.place.service)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<RequestBuilder, Failure> {
        let url = self.base.join(path);
        let url = url.map_err(|error| Failure::Permanent(format!("{path:?}: {error}")))?;
        let request = self.client.request(method, url).query(query);
        Ok(request.bearer_auth(self.token.text()))
    }

    /// What stands at a path; nothing where nothing does. Asked again where that may help.
    async fn read(
        &self,
        doing: &str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Option<Value>, Failure> {
        let mut pauses = PAUSES.into_iter();
        loop {
            let request = self.request(Method::GET, path, query)?;
            let failure = match sent(doing, request).await {
                Ok((status, answer)) if status.is_success() => return Ok(Some(answer)),
                Ok((StatusCode::NOT_FOUND, _)) => return Ok(None),
                Ok((status, answer)) => refusal::judge(doing, status.as_u16(), &answer),
                Err(failure) => failure,
            };
            match pauses.next().filter(|_| failure.is_retryable()) {
                Some(pause) => sleep(pause).await,
                None => return Err(failure),
            }
        }
    }
}

/// A client that follows nobody elsewhere: what it brings along is for one address.
fn client(limit: Duration) -> Result<Client, Failure> {
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_LIMIT)
        .timeout(limit)
        .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
        .build();
    client.map_err(|error| {
        let why = reason(&error);
        Failure::Retryable(format!("cannot prepare calls of Cloud Run: {why}"))
    })
}

/// Where the services of a project lie.
fn base(own: &Own, place: &Place) -> Result<Url, Failure> {
    let Place {
        project, region, ..
    } = place;
    let host = own.endpoint.clone();
    let host = host.unwrap_or_else(|| format!("https://{region}-run.googleapis.com/"));
    let path = format!("apis/serving.knative.dev/v1/namespaces/{project}/");
    let url = Url::parse(&host).and_then(|host| host.join(&path));
    let wrong = |why: &str| {
        Failure::Permanent(format!(
            "{ENDPOINT} of the plugin's environment in agent.toml is {host:?}: {why}"
        ))
    };
    let url = url.map_err(|error| wrong(&error.to_string()))?;
    let is_near = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    if url.scheme() == "https" || (url.scheme() == "http" && is_near) {
        return Ok(url);
    }
    Err(wrong("credentials are sent by https:// alone"))
}

/// What was answered, with at most a certain length.
pub(super) async fn sent(
    doing: &str,
    request: RequestBuilder,
) -> Result<(StatusCode, Value), Failure> {
    let unreached = |error: reqwest::Error| {
        let why = reason(&error.without_url());
        let help = "is the region right, and may the target reach it?";
        Failure::Retryable(format!("cannot {doing}: {why}; {help}"))
    };
    let mut answer = request.send().await.map_err(unreached)?;
    let status = answer.status();
    let bytes = whole(&mut answer).await.map_err(unreached)?;
    let Some(bytes) = bytes else {
        let why = format!("the answer is longer than {} MiB", ANSWER_MAX_BYTES >> 20);
        return Err(Failure::Permanent(format!("cannot {doing}: {why}")));
    };
    let text = || json!(String::from_utf8_lossy(&bytes));
    let value = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
    if status.is_success() && !value.is_object() {
        let why = "what answers is not Cloud Run";
        return Err(Failure::Retryable(format!("cannot {doing}: {why}")));
    }
    Ok((status, value))
}

async fn whole(answer: &mut Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        if bytes.len() + piece.len() > ANSWER_MAX_BYTES {
            return Ok(None);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Some(bytes))
}

/// An error with all that led to it.
fn reason(error: &reqwest::Error) -> String {
    let mut said = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let more = error.to_string();
        if !said.contains(&more) {
            said = format!("{said}: {more}");
        }
        source = error.source();
    }
    said
}
