//! A configuration, a release and a target to the workload body that the target runs.
//!
//! Rendered texts stay texts: `"{{ vars.port }}"` is `"8080"`, and adapters read numbers from texts.
//! What a value holds is never read as a template again, and no value can hold the characters that
//! mark placeholders: manifests, labels and versions are refused with them.

mod login;

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::home::Home;
use holdfast_protocol::name::{ArtifactName, EnvironmentName, SecretName, TargetName, Version};
use holdfast_protocol::observed::Labels;
use holdfast_protocol::secret;
use holdfast_protocol::time::Timestamp;
use holdfast_protocol::workload::{
    Artifact, BODY_MAX_BYTES, Check, Form, Health, JobTerms, Placeholder, Workload,
};
use minijinja::Value as Scope;
use serde_json::{Map, Value, json};

use crate::compile::canonical::canonical;
use crate::compile::template::{Reference, Template, Unrendered};
use crate::compiled::{CheckSpec, Configuration, HealthSpec, Selector, Variant};
use crate::manifest::join;

/// A release as bodies are rendered with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderRelease {
    /// Its version.
    pub version: Version,
    /// Its place in the order of the service's releases, from 1.
    pub sequence: u64,
    /// Digest and length in bytes of each artifact.
    pub artifacts: BTreeMap<ArtifactName, (Digest, u64)>,
    /// Where those stay that were not uploaded.
    pub homes: BTreeMap<ArtifactName, Home>,
    /// Which run of a job it is for, as in [`crate::track::Point`].
    pub run: Option<Timestamp>,
}

/// A target as bodies are rendered for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderTarget {
    /// Its name.
    pub name: TargetName,
    /// Its environment.
    pub environment: EnvironmentName,
    /// Its labels.
    pub labels: Labels,
}

/// Why a body cannot be rendered for a release and a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct RenderError {
    /// The field, as in [`crate::compiled::Provenance`].
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// A configuration whose templates are read; renders any number of bodies.
#[derive(Debug)]
pub struct Renderer {
    configuration: Arc<Configuration>,
    digest: Digest,
    template: Skeleton,
    vars: BTreeMap<String, Skeleton>,
    health: Option<CheckSkeleton>,
    /// What is rendered instead on targets with certain labels.
    variants: Vec<(Selector, Self)>,
}

/// Renders one body. Where one configuration makes several, keep a [`Renderer`].
///
/// # Errors
/// [`RenderError`] names the first field that cannot be rendered.
pub fn render(
    configuration: &Arc<Configuration>,
    release: &RenderRelease,
    target: &RenderTarget,
) -> Result<Workload, RenderError> {
    Renderer::new(Arc::clone(configuration))?.render(release, target)
}

impl Renderer {
    /// Reads the templates of `configuration`.
    ///
    /// # Errors
    /// [`RenderError`] where one cannot be read; not for a configuration that was compiled.
    pub fn new(configuration: Arc<Configuration>) -> Result<Self, RenderError> {
        let vars = configuration
            .vars
            .iter()
            .map(|(name, value)| Ok((name.clone(), Skeleton::of(value, &join("vars", name))?)));
        Ok(Self {
            digest: configuration.digest(),
            template: Skeleton::of(&pinned(&configuration)?, "template")?,
            vars: vars.collect::<Result<_, _>>()?,
            health: configuration
                .health
                .as_ref()
                .map(CheckSkeleton::of)
                .transpose()?,
            variants: Self::variants(&configuration)?,
            configuration,
        })
    }

    fn variants(configuration: &Configuration) -> Result<Vec<(Selector, Self)>, RenderError> {
        // Whatever it is there, it is the same configuration that is deployed.
        let digest = configuration.digest();
        let one = |variant: &Variant| {
            let renderer = Self::new(Arc::clone(&variant.configuration))?;
            Ok((variant.when.clone(), Self { digest, ..renderer }))
        };
        configuration.variants.values().map(one).collect()
    }

    /// The body for one release on one target.
    ///
    /// # Errors
    /// [`RenderError`] names the first field that cannot be rendered, and what it lacks.
    pub fn render(
        &self,
        release: &RenderRelease,
        target: &RenderTarget,
    ) -> Result<Workload, RenderError> {
        let mut variants = self.variants.iter();
        if let Some((_, variant)) = variants.find(|(when, _)| when.matches(&target.labels)) {
            return variant.render(release, target);
        }
        let artifacts = self.artifacts(release)?;
        let logins = self.logins(release)?;
        let mut room = BODY_MAX_BYTES;
        let scope = self.scope(release, target, &mut room)?;
        let mut rendering = Rendering {
            scope,
            target,
            room,
        };
        let template = rendering.value(&self.template, "template")?;
        let configuration = &*self.configuration;
        let workload = Workload {
            service: configuration.service.clone(),
            environment: configuration.environment.clone(),
            version: release.version.clone(),
            sequence: release.sequence,
            configuration: self.digest,
            runtime: configuration.runtime.clone(),
            template: canonical(&template),
            artifacts,
            health: self.health(&mut rendering)?,
            depends_on: configuration.depends_on.clone(),
            rollback: configuration.rollback,
            progress_deadline_ms: configuration.progress_deadline_ms,
            job: configuration.job.map(|terms| JobTerms {
                run: release.run,
                attempts: terms.attempts,
                time_limit_ms: terms.time_limit_ms,
            }),
            logins,
        };
        bounded(workload)
    }

    fn artifacts(&self, release: &RenderRelease) -> Result<Vec<Artifact>, RenderError> {
        let artifact = |(name, file): (&ArtifactName, &String)| {
            let Some((digest, size)) = release.artifacts.get(name) else {
                return Err(RenderError {
                    field: format!("artifacts.{name}"),
                    message: format!("release {} does not give artifact {name}", release.version),
                    help: Some(format!("make a release with --file {name}={file}")),
                });
            };
            Ok(Artifact {
                name: name.clone(),
                digest: *digest,
                size: *size,
                file: file.clone(),
                form: Form::of_file(file),
                home: release.homes.get(name).cloned(),
            })
        };
        self.configuration.artifacts.iter().map(artifact).collect()
    }

    /// All that expressions may refer to. Variables are rendered first, over the rest alone.
    fn scope(
        &self,
        release: &RenderRelease,
        target: &RenderTarget,
        room: &mut usize,
    ) -> Result<Scope, RenderError> {
        let configuration = &*self.configuration;
        let mut scope = json!({
            "env": {"name": configuration.environment},
            "target": {"name": target.name, "labels": target.labels},
            "release": {"version": release.version, "sequence": release.sequence},
            "service": {"name": configuration.service},
        });
        let mut rendering = Rendering {
            scope: scope_of(&scope),
            target,
            room: *room,
        };
        let mut vars = Map::new();
        for (name, skeleton) in &self.vars {
            vars.insert(
                name.clone(),
                rendering.value(skeleton, &join("vars", name))?,
            );
        }
        let path = |name: &ArtifactName| {
            let path = Placeholder::ArtifactPath(name.clone()).text();
            (name.to_string(), json!({ "path": path }))
        };
        let mut artifacts: Map<_, _> = configuration.artifacts.keys().map(path).collect();
        for (name, repository) in &configuration.images {
            let image = image(release, name, repository)?;
            artifacts.insert(name.to_string(), image);
        }
        scope["vars"] = Value::Object(vars);
        scope["artifacts"] = Value::Object(artifacts);
        scope["workload"] = json!({ "dir": Placeholder::WorkloadDir.text() });
        Ok(scope_of(&scope))
    }

    fn health(&self, rendering: &mut Rendering<'_>) -> Result<Option<Health>, RenderError> {
        let (Some(spec), Some(check)) = (&self.configuration.health, &self.health) else {
            return Ok(None);
        };
        Ok(Some(Health {
            check: check.render(rendering)?,
            interval_ms: spec.interval_ms,
            timeout_ms: spec.timeout_ms,
            success_threshold: spec.success_threshold,
            failure_threshold: spec.failure_threshold,
            start_period_ms: spec.start_period_ms,
        }))
    }
}

fn unset(configuration: &Configuration, name: &SecretName) -> RenderError {
    let environment = &configuration.environment;
    RenderError {
        field: "secrets".to_owned(),
        message: format!("secret {name} is not set in {environment}"),
        help: Some(format!("holdfast secret set {name} -e {environment}")),
    }
}

/// The template with the number of each secret's value beside its name.
fn pinned(configuration: &Configuration) -> Result<Value, RenderError> {
    let Configuration {
        template, secrets, ..
    } = configuration;
    secret::pin(template, secrets).map_err(|name| RenderError {
        field: "template".to_owned(),
        ..unset(configuration, &name)
    })
}

/// A value with its templates read.
#[derive(Debug)]
enum Skeleton {
    Fixed(Value),
    Text(Template),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

/// A health check with its templates read.
#[derive(Debug)]
enum CheckSkeleton {
    Http { url: Skeleton, expect: Option<u16> },
    Tcp { address: Skeleton },
    Exec { command: Vec<Skeleton> },
}

struct Rendering<'a> {
    scope: Scope,
    target: &'a RenderTarget,
    /// Bytes that may still be written.
    room: usize,
}

impl Skeleton {
    fn of(value: &Value, path: &str) -> Result<Self, RenderError> {
        Ok(match value {
            Value::String(text) if Template::is_one(text) => {
                Self::Text(Template::parse(text).map_err(|malformed| RenderError {
                    field: path.to_owned(),
                    message: malformed.message,
                    help: None,
                })?)
            }
            Value::Array(items) => {
                let item = |(i, item)| Self::of(item, &format!("{path}[{i}]"));
                Self::List(
                    items
                        .iter()
                        .enumerate()
                        .map(item)
                        .collect::<Result<_, _>>()?,
                )
            }
            Value::Object(map) => {
                let entry = |(key, value): (&String, &Value)| {
                    Ok((key.clone(), Self::of(value, &join(path, key))?))
                };
                Self::Map(map.iter().map(entry).collect::<Result<_, _>>()?)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                Self::Fixed(value.clone())
            }
        })
    }

    fn of_text(text: &str, path: &str) -> Result<Self, RenderError> {
        Self::of(&Value::from(text), path)
    }
}

impl CheckSkeleton {
    fn of(spec: &HealthSpec) -> Result<Self, RenderError> {
        Ok(match &spec.check {
            CheckSpec::Http { url, expect } => Self::Http {
                url: Skeleton::of_text(url, "health.http")?,
                expect: *expect,
            },
            CheckSpec::Tcp { address } => Self::Tcp {
                address: Skeleton::of_text(address, "health.tcp")?,
            },
            CheckSpec::Exec { command } => {
                let word = |text: &String| Skeleton::of_text(text, "health.exec");
                Self::Exec {
                    command: command.iter().map(word).collect::<Result<_, _>>()?,
                }
            }
        })
    }

    fn render(&self, rendering: &mut Rendering<'_>) -> Result<Check, RenderError> {
        Ok(match self {
            Self::Http { url, expect } => Check::Http {
                url: rendering.text(url, "health.http")?,
                expect: *expect,
            },
            Self::Tcp { address } => Check::Tcp {
                address: rendering.text(address, "health.tcp")?,
            },
            Self::Exec { command } => {
                let word = |text| rendering.text(text, "health.exec");
                Check::Exec {
                    command: command.iter().map(word).collect::<Result<_, _>>()?,
                }
            }
        })
    }
}

impl Rendering<'_> {
    fn value(&mut self, skeleton: &Skeleton, path: &str) -> Result<Value, RenderError> {
        Ok(match skeleton {
            Skeleton::Fixed(value) => value.clone(),
            Skeleton::Text(template) => match template.render(&self.scope, &mut self.room) {
                Ok(text) => Value::String(text),
                Err(unrendered) => return Err(self.refused(unrendered, path)),
            },
            Skeleton::List(items) => {
                let mut values = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    values.push(self.value(item, &format!("{path}[{index}]"))?);
                }
                Value::Array(values)
            }
            Skeleton::Map(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    map.insert(key.clone(), self.value(value, &join(path, key))?);
                }
                Value::Object(map)
            }
        })
    }

    fn text(&mut self, skeleton: &Skeleton, path: &str) -> Result<String, RenderError> {
        match self.value(skeleton, path)? {
            Value::String(text) => Ok(text),
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_)) => Ok(other.to_string()),
        }
    }

    fn refused(&self, unrendered: Unrendered<'_>, path: &str) -> RenderError {
        let (message, help) = match unrendered {
            Unrendered::Undefined(reference) => self.undefined(reference),
            Unrendered::Other(message) => (message, None),
        };
        RenderError {
            field: path.to_owned(),
            message,
            help,
        }
    }

    fn undefined(&self, reference: &Reference) -> (String, Option<String>) {
        let target = &self.target.name;
        match reference.parts().as_slice() {
            ["target", "labels", key, ..] => (
                format!("target {target} has no label `{key}`"),
                Some(format!("holdfast target label {target} {key}=VALUE")),
            ),
            _ => (format!("`{}` is undefined", reference.text), None),
        }
    }
}

/// A value as expressions see it.
pub(crate) fn scope_of(value: &Value) -> Scope {
    match value {
        Value::Null => Scope::from(()),
        Value::Bool(flag) => Scope::from(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Scope::from(whole),
            (None, Some(whole)) => Scope::from(whole),
            (None, None) => Scope::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Scope::from(text.as_str()),
        Value::Array(items) => items.iter().map(scope_of).collect(),
        Value::Object(map) => Scope::from_pairs(map.iter().map(|(k, v)| (k.as_str(), scope_of(v)))),
    }
}

/// What is known of an image: the release says which, the service where it is kept.
fn image(
    release: &RenderRelease,
    name: &ArtifactName,
    repository: &str,
) -> Result<Value, RenderError> {
    let Some((digest, _)) = release.artifacts.get(name) else {
        return Err(RenderError {
            field: format!("artifacts.{name}"),
            message: format!("release {} does not give image {name}", release.version),
            help: Some(format!(
                "make a release with --artifact {name}={repository}@sha256:DIGEST"
            )),
        });
    };
    Ok(json!({"image": format!("{repository}@{digest}"), "digest": digest}))
}

/// The workload, where its encoding fits the bound of a body. Counted from above, without encoding it.
fn bounded(workload: Workload) -> Result<Workload, RenderError> {
    let health = match workload.health.as_ref().map(|h| &h.check) {
        Some(Check::Http { url, .. }) => url.len(),
        Some(Check::Tcp { address }) => address.len(),
        Some(Check::Exec { command }) => command.iter().map(|c| c.len() + LENGTH_BYTES).sum(),
        None => 0,
    };
    let artifacts: usize = workload
        .artifacts
        .iter()
        .map(|a| a.file.len() + NAMED_BYTES + a.home.as_ref().map_or(0, home_bytes))
        .sum();
    let size = workload.template.len()
        + health
        + artifacts
        + workload.depends_on.len() * NAMED_BYTES
        + FIXED_BYTES;
    if size <= BODY_MAX_BYTES {
        return Ok(workload);
    }
    Err(RenderError {
        field: "template".to_owned(),
        message: format!(
            "the rendered workload has about {size} bytes, more than {BODY_MAX_BYTES}"
        ),
        help: Some("put large files into an artifact".to_owned()),
    })
}

fn home_bytes(home: &Home) -> usize {
    home.to_string().len() + LENGTH_BYTES
}

/// Most bytes that the length of a text takes.
const LENGTH_BYTES: usize = 9;
/// Most bytes of a name, its length, a digest and two numbers.
const NAMED_BYTES: usize = 64 + 9 + 32 + 18;
/// Most bytes of all that is there once: names, version, digest, numbers.
const FIXED_BYTES: usize = 1024;

#[cfg(test)]
mod tests;
