//! A directory of plugins as an agent has it, and an adapter over it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_adapters::failure::Failure;
use holdfast_adapters::plugin::{Own, Settings};
use holdfast_adapters::run::{self, Adapter, Observed, Wanted};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{ArtifactName, EnvironmentName, ServiceName, Version};
use holdfast_protocol::workload::{Artifact, Form, Placeholder, Rollback, Workload};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// An agent's directory with plugins.
pub(crate) struct Agent {
    root: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    names: &'static [&'static str],
    environment: BTreeMap<String, String>,
}

impl Agent {
    /// With a program as plugins of these names.
    pub(crate) fn new(program: &str, names: &'static [&'static str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(root.path().join("plugins")).unwrap();
        for name in names {
            fs::copy(program, root.path().join("plugins").join(name)).unwrap();
        }
        Self {
            root,
            runtime: runtime(),
            names,
            environment: BTreeMap::new(),
        }
    }

    /// What `agent.toml` says of the plugins' environment.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => drop(self.environment.insert(name.to_owned(), value.to_owned())),
            None => drop(self.environment.remove(name)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn settings(&self) -> Settings {
        let program = std::env::current_exe().unwrap();
        let own = |name: &str| {
            let environment = self.environment.clone();
            let own = Own {
                environment,
                ..Own::default()
            };
            (name.to_owned(), own)
        };
        Settings {
            directory: self.root.path().join("plugins"),
            launcher: vec![program.into(), OsString::from("confine")],
            target: "here".to_owned(),
            own: self.names.iter().copied().map(own).collect(),
        }
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    fn adapter(&self) -> Arc<dyn Adapter> {
        let settings = run::Settings {
            plugins: self.settings(),
            ..run::Settings::default()
        };
        let all =
            run::adapters_with(&self.root.path().join("agent"), Vec::new(), settings).unwrap();
        all.into_iter()
            .find(|adapter| adapter.runtime() == "plugin")
            .unwrap()
    }

    pub(crate) fn converge(&self, wanted: &Wanted) -> Result<(), Failure> {
        let (progress, _told) = mpsc::channel(16);
        let (adapter, cancel) = (self.adapter(), CancellationToken::new());
        self.block_on(adapter.converge(wanted, &progress, &cancel))
    }

    pub(crate) fn remove(&self, service: &str) -> Result<(), Failure> {
        let service = ServiceName::parse(service).unwrap();
        self.block_on(self.adapter().remove(&service))
    }

    pub(crate) fn observe(&self) -> Vec<Observed> {
        self.block_on(self.adapter().observe()).unwrap()
    }

    /// A workload with one file as its artifact `app`; `{{app}}` in the template is its path.
    pub(crate) fn wanted(
        &self,
        plugin: &str,
        template: &Value,
        (file, content): (&str, &str),
        release: u32,
    ) -> Wanted {
        let name = ArtifactName::parse("app").unwrap();
        let digest = Digest::of(content.as_bytes());
        let blob = self.root.path().join(digest.hex());
        // A converge that was given up may still read one that is there.
        if fs::read(&blob).ok().as_deref() != Some(content.as_bytes()) {
            fs::write(&blob, content).unwrap();
        }
        let path = Placeholder::ArtifactPath(name.clone()).text();
        let artifact = Artifact {
            name: name.clone(),
            digest,
            size: content.len() as u64,
            file: file.to_owned(),
            form: Form::of_file(file),
            home: None,
        };
        let workload = Workload {
            service: ServiceName::parse("web").unwrap(),
            environment: EnvironmentName::parse("test").unwrap(),
            version: Version::parse(&format!("{release}.0")).unwrap(),
            sequence: u64::from(release),
            configuration: Digest::of(b""),
            runtime: format!("plugin/{plugin}"),
            template: template.to_string().replace("{{app}}", &path),
            artifacts: vec![artifact],
            health: None,
            depends_on: Vec::new(),
            rollback: Rollback::Central,
            progress_deadline_ms: 60_000,
            job: None,
            logins: Vec::new(),
        };
        let (body, _) = workload.clone().seal();
        Wanted {
            body,
            workload,
            artifacts: std::iter::once((name, blob)).collect(),
            secrets: holdfast_adapters::secret::Secrets::default(),
            logins: holdfast_adapters::secret::Secrets::default(),
        }
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// A file of the test's directory with this content.
pub(crate) fn written(directory: &Path, name: &str, content: &Value) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, content.to_string()).unwrap();
    path
}
