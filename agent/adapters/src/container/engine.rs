//! The engine's API, with a limit on every wait.

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as ApiError;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, ContainerUpdateBody,
};
use bollard::query_parameters as query;

use super::Settings;
use super::body::AGENT_LABEL;
use crate::failure::Failure;

/// Time that an answer may take where the engine has only to look something up.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Answers in a row that cannot be read before the engine counts as away.
const ANSWERS_UNREADABLE_MAX: usize = 30;
/// Pause before an answer that cannot be read is asked for again.
const UNREADABLE_PAUSE: Duration = Duration::from_millis(100);
/// Time that it may take to make, start or remove something.
pub(super) const WORK_MAX: Duration = Duration::from_secs(60);
/// Time beyond a grace period until a stop counts as hung.
const STOP_SLACK: Duration = Duration::from_secs(15);
/// The limit that the client itself has on answers; above all of ours, which name what was asked.
const CLIENT_SECS: u64 = 15 * 60;

/// One engine, spoken to over its socket.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) api: Docker,
}

/// Why the engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    /// It answered, and said no.
    #[error("the container engine refused to {attempt}: {message} (status {status})")]
    Refused {
        /// What it was asked.
        attempt: String,
        /// HTTP's status.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// It did not answer in time.
    #[error("the container engine did not {attempt} within {} s", limit.as_secs())]
    Silent {
        /// What it was asked.
        attempt: String,
        /// How long was waited.
        limit: Duration,
    },
    /// It is not there, or went away while it answered.
    #[error("the container engine is away: could not {attempt}: {}", chain(source))]
    Away {
        /// What it was asked.
        attempt: String,
        /// Why.
        source: ApiError,
    },
    /// There is no socket.
    #[error("no container engine listens here: {0}")]
    Absent(String),
}

impl EngineError {
    /// Whether the engine knows no such thing.
    pub(super) const fn is_unknown(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether asking again later can help. A malformed request stays malformed; what it says of the
    /// machine around it may change.
    fn is_permanent(&self) -> bool {
        match self {
            Self::Refused {
                status: 400,
                message,
                ..
            } => !message.contains("does not exist"),
            Self::Refused { .. } | Self::Silent { .. } | Self::Away { .. } | Self::Absent(_) => {
                false
            }
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        if error.is_permanent() {
            Self::Permanent(error.to_string())
        } else {
            Self::Retryable(error.to_string())
        }
    }
}

/// The socket that the settings name, or the first that there is.
pub(super) fn socket(settings: &Settings) -> Result<PathBuf, EngineError> {
    let usual = || super::SOCKETS.iter().map(PathBuf::from);
    let named = settings.socket.clone();
    let found = match &named {
        Some(path) => path.exists().then(|| path.clone()),
        None => usual().find(|path| path.exists()),
    };
    found.ok_or_else(|| {
        let looked = named.map_or_else(
            || super::SOCKETS.join(" nor "),
            |path| path.display().to_string(),
        );
        EngineError::Absent(format!(
            "there is no socket {looked}; start Docker or Podman, or name its socket in agent.toml"
        ))
    })
}

/// Waits for one answer.
pub(super) async fn within<T>(
    attempt: impl Into<String>,
    limit: Duration,
    call: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, EngineError> {
    let attempt = attempt.into();
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(ApiError::DockerResponseServerError {
            status_code: status,
            message,
        })) => Err(EngineError::Refused {
            attempt,
            status,
            message: message.trim().to_owned(),
        }),
        Ok(Err(source)) => Err(EngineError::Away { attempt, source }),
        Err(_) => Err(EngineError::Silent { attempt, limit }),
    }
}

/// Waits for an answer about containers that can be read. While Podman cleans up after a container it
/// calls it `stopped`, a word that the API of Docker does not have; a moment later it is `exited`.
async fn settled<T, C>(attempt: &str, call: impl Fn() -> C) -> Result<T, EngineError>
where
    C: Future<Output = Result<T, ApiError>>,
{
    for _ in 1..ANSWERS_UNREADABLE_MAX {
        match within(attempt, ANSWER_MAX, call()).await {
            Err(EngineError::Away {
                source: ApiError::JsonDataError { .. },
                ..
            }) => tokio::time::sleep(UNREADABLE_PAUSE).await,
            answer => return answer,
        }
    }
    within(attempt, ANSWER_MAX, call()).await
}

/// The same, where what is unknown to the engine is nothing.
fn known<T>(answer: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_unknown() => Ok(None),
        Err(error) => Err(error),
    }
}

impl Engine {
    pub(super) async fn connect(socket: &Path) -> Result<Self, EngineError> {
        let path = socket.display().to_string();
        let connect = async {
            Docker::connect_with_unix(&path, CLIENT_SECS, bollard::API_DEFAULT_VERSION)?
                .with_request_modifier(url_safe_credentials)
                .negotiate_version()
                .await
        };
        let api = within(
            format!("be asked for its version at {path}"),
            ANSWER_MAX,
            connect,
        )
        .await?;
        Ok(Self { api })
    }

    /// Every container of one agent, whether it runs or not; of one service, where one is named.
    pub(super) async fn list(
        &self,
        agent: &str,
        service: Option<&str>,
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        let mut labels = vec![format!("{AGENT_LABEL}={agent}")];
        labels.extend(service.map(|s| format!("{}={s}", super::body::SERVICE_LABEL)));
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = query::ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        let call = || self.api.list_containers(Some(options.clone()));
        settled("list its containers", call).await
    }

    pub(super) async fn inspect(
        &self,
        id: &str,
    ) -> Result<Option<ContainerInspectResponse>, EngineError> {
        let call = || self.api.inspect_container(id, None);
        known(settled(&format!("look at container {}", short(id)), call).await)
    }

    /// Makes a container that does not run yet. Gives its id.
    pub(super) async fn create(
        &self,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<String, EngineError> {
        let options = query::CreateContainerOptionsBuilder::default()
            .name(name)
            .build();
        let call = self.api.create_container(Some(options), body);
        let made = within(format!("make container {name}"), WORK_MAX, call).await?;
        if !made.warnings.is_empty() {
            tracing::warn!(name, warnings = ?made.warnings, "the container engine warns");
        }
        Ok(made.id)
    }

    pub(super) async fn start(&self, id: &str, name: &str) -> Result<(), EngineError> {
        let call = self.api.start_container(id, None);
        within(format!("start container {name}"), WORK_MAX, call).await
    }

    /// Asks a container to end by its own signal, and kills it after its own grace period.
    pub(super) async fn stop(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        let call = self.api.stop_container(id, None);
        let attempt = format!("stop container {}", short(id));
        known(within(attempt, grace + STOP_SLACK, call).await).map(drop)
    }

    /// Removes a container with its anonymous volumes, also one that runs.
    pub(super) async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let options = query::RemoveContainerOptionsBuilder::default()
            .v(true)
            .force(true)
            .build();
        let call = self.api.remove_container(id, Some(options));
        match within(format!("remove container {}", short(id)), WORK_MAX, call).await {
            // Somebody else removes it at this moment.
            Err(EngineError::Refused { status: 409, .. }) => self.gone(id).await,
            answer => known(answer).map(drop),
        }
    }

    async fn gone(&self, id: &str) -> Result<(), EngineError> {
        let wait = async {
            while self.inspect(id).await?.is_some() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        tokio::time::timeout(WORK_MAX, wait)
            .await
            .unwrap_or_else(|_| {
                Err(EngineError::Silent {
                    attempt: format!("finish removing container {}", short(id)),
                    limit: WORK_MAX,
                })
            })
    }

    pub(super) async fn unpause(&self, id: &str) -> Result<(), EngineError> {
        let call = self.api.unpause_container(id);
        within(
            format!("let container {} go on", short(id)),
            ANSWER_MAX,
            call,
        )
        .await
    }

    pub(super) async fn rename(&self, id: &str, name: &str) -> Result<(), EngineError> {
        let options = query::RenameContainerOptionsBuilder::default()
            .name(name)
            .build();
        let call = self.api.rename_container(id, options);
        within(
            format!("give container {name} its name back"),
            ANSWER_MAX,
            call,
        )
        .await
    }

    pub(super) async fn update(
        &self,
        id: &str,
        limits: ContainerUpdateBody,
    ) -> Result<(), EngineError> {
        let call = self.api.update_container(id, limits);
        let attempt = format!("give container {} its limits back", short(id));
        within(attempt, WORK_MAX, call).await
    }
}

/// The first digits of an id, as people know it.
pub(super) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Engines read credentials in the alphabet of RFC 4648, section 5; the client writes the other one,
/// which differs for some passwords, and an engine that cannot read them goes on without any.
fn url_safe_credentials(mut request: bollard::BollardRequest) -> bollard::BollardRequest {
    if let Some(header) = request.headers_mut().get_mut("X-Registry-Auth") {
        let safe: Vec<u8> = header
            .as_bytes()
            .iter()
            .map(|byte| match byte {
                b'+' => b'-',
                b'/' => b'_',
                other => *other,
            })
            .collect();
        if let Ok(mut value) = safe.as_slice().try_into() {
            std::mem::swap(header, &mut value);
            header.set_sensitive(true);
        }
    }
    request
}

/// An error with what caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = source.source();
    }
    text
}
