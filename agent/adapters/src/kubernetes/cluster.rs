//! Requests to a cluster, each with a time limit and what was attempted.

use std::fmt::Display;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::config::{Config, KubeConfigOptions};
use kube::core::params::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, Preconditions, PropagationPolicy,
};
use kube::core::request::Request;
use kube::{Client, Error as ApiError};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::field::APPLIER;
use super::kind::{Kind, Kinds, Listing};
use super::kubeconfig;
use super::object::Name;
use super::refusal::ClusterError;
use super::{POD_TOKEN, Settings};

/// A cluster.
#[derive(Clone)]
pub(super) struct Cluster {
    line: Arc<Line>,
    /// Where it is.
    pub(super) url: String,
    /// The namespace of the agent's own records.
    pub(super) home: String,
    pub(super) kinds: Arc<Kinds>,
}

/// How the cluster is spoken to, by everybody who does.
struct Line {
    client: Mutex<Client>,
    /// Whether it said that it does not know this agent: credentials may have been renewed since.
    unknown: AtomicBool,
}

/// One object's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) kind: Kind,
    pub(super) name: Name,
}

/// How an object is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Only asked whether it would be.
    Trial,
    /// Unless others manage fields of it.
    Polite,
    /// Fields that others manage are taken over.
    Forced,
    /// The same, only asked.
    ForcedTrial,
}

/// Longest time that an answer may take.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Longest time that a watch may take to connect; requests are given up sooner.
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// The answer to whom the cluster does not know.
const UNAUTHORIZED: u16 = 401;
/// Objects in one answer.
const PAGE: u32 = 500;

/// Whether somebody said where a cluster is.
pub(super) fn is_named(settings: &Settings) -> bool {
    settings.kubeconfig.is_some() || Path::new(POD_TOKEN).exists()
}

impl Cluster {
    /// Reads how to speak to the cluster; nothing is asked of it yet.
    pub(super) async fn open(settings: &Settings) -> Result<Self, ClusterError> {
        let mut config = match &settings.kubeconfig {
            Some(path) => of_file(path, settings.context.as_deref()).await?,
            None if Path::new(POD_TOKEN).exists() => of_pod()?,
            None => return Err(ClusterError::Unnamed),
        };
        // The agent's driver tries again, with pauses of its own.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_MAX);
        let url = config.cluster_url.to_string();
        let url = url.trim_end_matches('/').to_owned();
        let home = settings
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| ClusterError::Unusable {
            what: format!("the credentials for {url}"),
            why: root(&error),
        })?;
        Ok(Self {
            line: Arc::new(Line {
                client: Mutex::new(client),
                unknown: AtomicBool::new(false),
            }),
            url,
            home,
            kinds: Arc::default(),
        })
    }

    /// What requests are sent by.
    pub(super) fn client(&self) -> Client {
        let client = self.line.client.lock();
        client.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the credentials anew where the cluster refused them: who renews them writes the file
    /// again.
    pub(super) async fn renew(&self, settings: &Settings) -> Result<(), ClusterError> {
        if self.line.unknown.swap(false, Ordering::SeqCst) {
            let fresh = Self::open(settings).await?.client();
            let client = self.line.client.lock();
            *client.unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        Ok(())
    }

    pub(super) async fn get(&self, place: &Place) -> Result<Option<Value>, ClusterError> {
        let attempt = format!("look at {}", place.name);
        let request = place
            .request()
            .get(&place.name.name, &GetParams::default())
            .map_err(unbuilt(&attempt))?;
        match self
            .ask(&attempt, self.client().request_text(request))
            .await
        {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn apply(
        &self,
        place: &Place,
        body: &Value,
        manner: Manner,
    ) -> Result<Value, ClusterError> {
        let attempt = format!("apply {}", place.name);
        let polite = PatchParams::apply(APPLIER);
        let params = match manner {
            Manner::Trial => polite.dry_run(),
            Manner::Polite => polite,
            Manner::Forced => polite.force(),
            Manner::ForcedTrial => polite.force().dry_run(),
        };
        let patch = Patch::Apply(body);
        let request = place
            .request()
            .patch(&place.name.name, &params, &patch)
            .map_err(unbuilt(&attempt))?;
        self.ask(&attempt, self.client().request_text(request))
            .await
    }

    /// Deletes one object, where it is still the one with this id. Nothing to delete is no error.
    pub(super) async fn delete(&self, place: &Place, uid: &str) -> Result<(), ClusterError> {
        let attempt = format!("delete {}", place.name);
        let policy = match place.kind.has_dependents() {
            true => PropagationPolicy::Foreground,
            false => PropagationPolicy::Background,
        };
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let request = place
            .request()
            .delete(&place.name.name, &params)
            .map_err(unbuilt(&attempt))?;
        let answer: Result<Value, _> = self
            .ask(&attempt, self.client().request_text(request))
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) if error.is_absent() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All objects of a kind with some labels, in all namespaces or in one.
    pub(super) async fn list(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        labels: &str,
    ) -> Result<Vec<Value>, ClusterError> {
        let attempt = format!("list {}", kind.plural);
        let mut all = Vec::new();
        let mut params = ListParams::default().labels(labels).limit(PAGE);
        loop {
            let request = Request::new(kind.path(namespace))
                .list(&params)
                .map_err(unbuilt(&attempt))?;
            let mut page: Value = self
                .ask(&attempt, self.client().request_text(request))
                .await?;
            if let Some(items) = page.get_mut("items").and_then(Value::as_array_mut) {
                all.append(items);
            }
            match page.pointer("/metadata/continue").and_then(Value::as_str) {
                Some(token) if !token.is_empty() => params = params.continue_token(token),
                Some(_) | None => return Ok(all),
            }
        }
    }

    /// Whether the cluster answers, and knows this agent: one record, if there is any.
    pub(super) async fn probe(&self, labels: &str) -> Result<(), ClusterError> {
        let attempt = "look for records".to_owned();
        let params = ListParams::default().labels(labels).limit(1);
        let path = Kind::secret().path(Some(&self.home));
        let request = Request::new(path)
            .list_metadata(&params)
            .map_err(unbuilt(&attempt))?;
        let answer: Value = self
            .ask(&attempt, self.client().request_text(request))
            .await?;
        drop(answer);
        Ok(())
    }

    /// The kind of an object; nothing where the cluster does not serve it.
    pub(super) async fn kind(&self, name: &Name) -> Result<Option<Kind>, ClusterError> {
        if let Some(kind) = self.kinds.recall(name) {
            return Ok(Some(kind));
        }
        let served = self.kinds_of(&name.api).await?.unwrap_or_default();
        Ok(served.into_iter().find(|kind| kind.kind == name.kind))
    }

    /// All kinds of a group and version, such as `apps/v1`; nothing where it is not served.
    pub(super) async fn kinds_of(&self, api: &str) -> Result<Option<Vec<Kind>>, ClusterError> {
        let attempt = format!("look for the kinds of {api}");
        // A list of kinds is got like any one thing of a path.
        let (parent, last) = match api.rsplit_once('/') {
            Some((group, version)) => (format!("/apis/{group}"), version),
            None => ("/api".to_owned(), api),
        };
        let request = Request::new(parent).get(last, &GetParams::default());
        let request = request.map_err(unbuilt(&attempt))?;
        let listing: Listing = match self
            .ask(&attempt, self.client().request_text(request))
            .await
        {
            Ok(listing) => listing,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error),
        };
        let kinds = Kind::of(api, listing);
        self.kinds.remember(api, kinds.clone());
        Ok(Some(kinds))
    }

    /// One request, answered in time.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        attempt: &str,
        call: impl Future<Output = Result<String, ApiError>>,
    ) -> Result<T, ClusterError> {
        let Ok(answer) = tokio::time::timeout(ANSWER_MAX, call).await else {
            return Err(ClusterError::Slow {
                attempt: attempt.to_owned(),
                url: self.url.clone(),
                seconds: ANSWER_MAX.as_secs(),
            });
        };
        let text = answer.map_err(|error| self.failed(attempt, error))?;
        serde_json::from_str(&text).map_err(|error| ClusterError::Away {
            attempt: attempt.to_owned(),
            url: self.url.clone(),
            // The answer itself may hold secrets.
            why: format!("its answer cannot be read (line {})", error.line()),
        })
    }

    /// What a failed call means.
    pub(super) fn failed(&self, attempt: &str, error: ApiError) -> ClusterError {
        match error {
            ApiError::Api(status) => {
                if status.code == UNAUTHORIZED {
                    self.line.unknown.store(true, Ordering::SeqCst);
                }
                ClusterError::Refused {
                    attempt: attempt.to_owned(),
                    status,
                }
            }
            other => ClusterError::Away {
                attempt: attempt.to_owned(),
                url: self.url.clone(),
                why: root(&other),
            },
        }
    }
}

impl Place {
    pub(super) fn request(&self) -> Request {
        Request::new(self.kind.path(self.name.namespace.as_deref()))
    }
}

/// A request that could not even be written down.
pub(super) fn unbuilt(attempt: &str) -> impl FnOnce(kube::core::request::Error) -> ClusterError {
    let what = format!("what is needed to {attempt}");
    move |error| ClusterError::Unusable {
        what,
        why: root(&error),
    }
}

async fn of_file(path: &Path, context: Option<&str>) -> Result<Config, ClusterError> {
    let unusable = |why: String| ClusterError::Unusable {
        what: path.display().to_string(),
        why,
    };
    let file = kubeconfig::read(path).map_err(unusable)?;
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(file, &options).await;
    config.map_err(|error| unusable(root(&error)))
}

fn of_pod() -> Result<Config, ClusterError> {
    Config::incluster().map_err(|error| ClusterError::Unusable {
        what: "the service account of this pod".to_owned(),
        why: root(&error),
    })
}

/// The words of an error and of what is behind it, each once.
pub(super) fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words: Vec<String> = vec![error.to_string()];
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        if !words.iter().any(|word| word.contains(&said)) {
            words.push(said);
        }
        next = source.source();
    }
    words.join(": ")
}

/// What a label selector asks for.
pub(super) fn labels(key: &str, value: impl Display) -> String {
    format!("{key}={value}")
}
