//! For authors of plugins: which plugins there are, and the conformance suite against one of them.
//!
//! What the suite cannot know, the author writes beside the plugin as `NAME.test.json`: a template
//! that is right and one that is wrong, an artifact, and commands that harm a workload behind the
//! plugin's back and look whether it is alive. In every text `{{service}}`, `{{release}}`,
//! `{{directory}}` (a directory that everybody may write to) and `{{artifact}}` (where the artifact
//! lies) are filled in.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{ArtifactName, EnvironmentName, ServiceName, Version};
use holdfast_protocol::workload::{self as body, Form, Placeholder, Rollback};
use serde::Deserialize;
use serde_json::Value;

use super::adapter::Plugins;
use super::call::Caller;
use super::{PREFIX, Settings, place};
use crate::conformance::{self, Report, Subject};
use crate::durable;
use crate::run::{Adapter, Wanted};
use crate::secret::Secrets;

/// What a plugin says of itself, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its version and what it is for, or why it is not used.
    pub said: Result<(String, String), String>,
}

/// `NAME.test.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// A template that is right, different in each release.
    pub template: Value,
    /// One that the plugin refuses.
    pub bad: Value,
    /// Its one artifact, different in each release.
    pub artifact: Artifact,
    /// Ends the workload behind the plugin's back.
    pub kill: Vec<String>,
    /// Changes something that the plugin made, and leaves the workload alive.
    pub edit: Vec<String>,
    /// Prints the release that is alive, or nothing.
    pub alive: Vec<String>,
}

/// An artifact of one text file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Its name in templates.
    pub name: ArtifactName,
    /// The file's own name.
    pub file: String,
    /// What is in it.
    pub content: String,
}

/// Why a plugin was not tested.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// It cannot be used.
    #[error("{0}")]
    Plugin(String),
    /// What its author wrote cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What its author wrote is not understood.
    #[error("{path} is not understood: {source}")]
    Understand {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// There is no place to test it in.
    #[error("cannot make a directory for the test: {0}")]
    Directory(io::Error),
}

/// All plugins of the directory, each with what it says of itself.
///
/// # Errors
/// Where the directory cannot be read.
pub async fn list(settings: &Settings) -> io::Result<Vec<Listed>> {
    let caller = Caller::new(settings.clone(), "list".to_owned());
    let mut all = Vec::new();
    for name in place::names(settings)? {
        let known = caller.known(&name).await;
        let said = known.map(|known| {
            let said = &known.description;
            (said.version.clone(), said.summary.clone())
        });
        all.push(Listed {
            name,
            said: said.map_err(|failure| failure.to_string()),
        });
    }
    Ok(all)
}

/// Runs the whole conformance suite against one plugin, in a new directory `scratch`, which is
/// removed at the end. `trial` is the author's file; `NAME.test.json` beside the plugin otherwise.
///
/// # Errors
/// [`TrialError`] where the suite could not be begun.
pub async fn test(
    settings: Settings,
    name: &str,
    (trial, scratch): (Option<&Path>, &Path),
) -> Result<Report, TrialError> {
    let caller = Caller::new(settings.clone(), "test".to_owned());
    let known = caller.known(name).await;
    let known = known.map_err(|failure| TrialError::Plugin(failure.to_string()))?;
    let beside = settings.directory.join(format!("{name}.test.json"));
    let trial = read(trial.unwrap_or(&beside))?;
    let subject = Tested {
        runtime: format!("{PREFIX}{name}"),
        settings,
        trial,
        scratch: Scratch::make(scratch).map_err(TrialError::Directory)?,
        has_output: known.description.logs,
    };
    Ok(conformance::run(&subject).await)
}

fn read(path: &Path) -> Result<Trial, TrialError> {
    let bytes = fs::read(path).map_err(|source| TrialError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|source| TrialError::Understand {
        path: path.to_owned(),
        source,
    })
}

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn make(path: &Path) -> io::Result<Self> {
        durable::make_directory(path, 0o711)?;
        let made = Self(path.to_owned());
        fs::set_permissions(path, fs::Permissions::from_mode(0o711))?;
        fs::create_dir(made.open())?;
        fs::set_permissions(made.open(), fs::Permissions::from_mode(0o777))?;
        fs::create_dir(made.0.join("blobs"))?;
        Ok(made)
    }

    /// The directory that everybody may write to.
    fn open(&self) -> PathBuf {
        self.0.join("open")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed lies where temporary files do.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A plugin in the suite.
struct Tested {
    runtime: String,
    settings: Settings,
    trial: Trial,
    scratch: Scratch,
    has_output: bool,
}

impl Tested {
    fn fill(&self, text: &str, service: &ServiceName, release: Option<u32>) -> String {
        let release = release
            .map(|release| release.to_string())
            .unwrap_or_default();
        let artifact = Placeholder::ArtifactPath(self.trial.artifact.name.clone()).text();
        text.replace("{{service}}", service.as_str())
            .replace("{{release}}", &release)
            .replace("{{directory}}", &self.scratch.open().to_string_lossy())
            .replace("{{artifact}}", &artifact)
    }

    fn made(&self, template: &Value, service: &ServiceName, release: u32) -> Wanted {
        let Artifact {
            name,
            file,
            content,
        } = &self.trial.artifact;
        let content = self.fill(content, service, Some(release));
        let digest = Digest::of(content.as_bytes());
        let blob = self.scratch.0.join("blobs").join(digest.hex());
        // As in an agent's store, one that is whole is never written again: a converge that was given up may
        // still read it. One that is missing is what the case then says.
        if fs::read(&blob).ok().as_deref() != Some(content.as_bytes()) {
            drop(fs::write(&blob, &content));
        }
        let artifact = body::Artifact {
            name: name.clone(),
            digest,
            size: content.len() as u64,
            file: file.clone(),
            form: Form::of_file(file),
            home: None,
        };
        let workload = body::Workload {
            service: service.clone(),
            environment: EnvironmentName::parse("test").expect("a name"),
            version: Version::parse(&format!("{release}.0")).expect("a version"),
            sequence: u64::from(release),
            configuration: Digest::of(b""),
            runtime: self.runtime.clone(),
            template: self.fill(&template.to_string(), service, Some(release)),
            artifacts: vec![artifact],
            health: None,
            depends_on: Vec::new(),
            rollback: Rollback::Central,
            progress_deadline_ms: 10_000,
            job: None,
            logins: Vec::new(),
        };
        let (digest, _) = workload.clone().seal();
        Wanted {
            body: digest,
            workload,
            artifacts: std::iter::once((name.clone(), blob)).collect(),
            secrets: Secrets::default(),
            logins: Secrets::default(),
        }
    }

    fn command(&self, command: &[String], service: &ServiceName) -> Result<Output, String> {
        let words: Vec<String> = command
            .iter()
            .map(|word| self.fill(word, service, None))
            .collect();
        let (program, arguments) = words.split_first().ok_or("the command is empty")?;
        let ran = Command::new(program).args(arguments).output();
        let output = ran.map_err(|error| format!("{program} cannot be run: {error}"))?;
        if output.status.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{words:?} failed: {}", said.trim()))
    }
}

impl Subject for Tested {
    fn name(&self) -> &str {
        self.runtime.strip_prefix(PREFIX).unwrap_or(&self.runtime)
    }

    fn open(&self) -> Result<Arc<dyn Adapter>, String> {
        let root = self.scratch.0.join("plugin");
        let id = Digest::of(root.as_os_str().as_encoded_bytes()).hex();
        let opened = Plugins::open(&root, &id, self.settings.clone());
        Ok(Arc::new(opened.map_err(|error| error.to_string())?))
    }

    fn wanted(&self, service: &ServiceName, release: u32) -> Wanted {
        self.made(&self.trial.template, service, release)
    }

    fn bad(&self, service: &ServiceName) -> Wanted {
        self.made(&self.trial.bad, service, 1)
    }

    fn kill(&self, service: &ServiceName) -> Result<(), String> {
        self.command(&self.trial.kill, service).map(drop)
    }

    fn edit(&self, service: &ServiceName) -> Result<(), String> {
        self.command(&self.trial.edit, service).map(drop)
    }

    fn alive(&self, service: &ServiceName) -> Vec<u32> {
        let output = self.command(&self.trial.alive, service);
        let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        said.unwrap_or_default()
            .lines()
            .filter_map(|line| line.trim().parse().ok())
            .collect()
    }

    fn has_output(&self) -> bool {
        self.has_output
    }
}
