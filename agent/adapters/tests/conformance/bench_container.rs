//! Containers of an engine, from images of a registry.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use bollard::Docker;
use bollard::models::{ContainerInspectResponse, ContainerUpdateBody};
use bollard::query_parameters as query;
use holdfast_adapters::conformance::{Ending, Subject};
use holdfast_adapters::container::Settings;
use holdfast_adapters::run::{self, Adapter, Wanted};
use holdfast_protocol::name::{ArtifactName, ServiceName};
use holdfast_protocol::workload::Placeholder;
use serde_json::{Value, json};

use crate::bench::{Home, as_job, job_script, lines, tar_gz};
use crate::engine::{Engine, Kind};
use crate::registry::{Registry, image};

/// One agent's directory, one engine, one registry.
pub(crate) struct ContainerBench {
    pub(crate) home: Home,
    pub(crate) engine: Arc<Engine>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) settings: Settings,
    /// Who the agent is among those that share the engine.
    pub(crate) owner: Option<String>,
    images: Mutex<BTreeMap<u32, String>>,
}

thread_local! {
    /// Engines that tests share, until the last of them is over.
    static SHARED: RefCell<Option<Rc<Shared>>> = const { RefCell::new(None) };
}

struct Shared {
    engine: Arc<Engine>,
    registry: Arc<Registry>,
}

/// Ends what tests shared.
pub(crate) fn end() {
    SHARED.with_borrow_mut(Option::take);
}

impl ContainerBench {
    /// Over a Docker Engine that other tests use, too.
    pub(crate) fn shared() -> Self {
        let shared = SHARED.with_borrow_mut(|shared| {
            let started = shared.get_or_insert_with(|| {
                Rc::new(Shared {
                    engine: Arc::new(Engine::start(Kind::Docker)),
                    registry: Arc::new(Registry::start(false)),
                })
            });
            Rc::clone(started)
        });
        Self::over(Arc::clone(&shared.engine), Arc::clone(&shared.registry))
    }

    /// Over an engine of its own.
    pub(crate) fn own(kind: Kind) -> Self {
        Self::over(
            Arc::new(Engine::start(kind)),
            Arc::new(Registry::start(false)),
        )
    }

    pub(crate) fn over(engine: Arc<Engine>, registry: Arc<Registry>) -> Self {
        let settings = Settings {
            socket: Some(engine.socket()),
            ..Settings::default()
        };
        Self {
            home: Home::new(),
            engine,
            registry,
            settings,
            owner: None,
            images: Mutex::new(BTreeMap::new()),
        }
    }

    pub(crate) fn adapter(&self) -> Arc<dyn Adapter> {
        let settings = run::Settings {
            container: self.settings.clone(),
            owner: self.owner.clone(),
            ..run::Settings::default()
        };
        let all = run::adapters_with(&self.home.agent(), Vec::new(), settings).unwrap();
        let mut all = all.into_iter();
        all.find(|adapter| adapter.runtime() == "container")
            .unwrap()
    }

    /// The reference of a release's image, which is pushed with its first use.
    pub(crate) fn image(&self, release: u32) -> String {
        let mut images = self.images.lock().unwrap();
        let push = || self.registry.push("web", &image(release, &json!({})));
        images.entry(release).or_insert_with(push).clone()
    }

    /// A release with `more` in its template.
    pub(crate) fn release(&self, service: &str, release: u32, more: &Value) -> Wanted {
        let mut template = json!({
            "network": "none",
            "stop": {"grace": "5s"},
        });
        if more.get("image").is_none() {
            template["image"] = json!(self.image(release));
        }
        for (key, value) in more.as_object().unwrap() {
            template[key] = value.clone();
        }
        self.home
            .wanted(service, "container", &template, Vec::new())
    }

    /// Containers of a service, by the engine's own word.
    pub(crate) fn containers(&self, service: &str) -> Vec<ContainerInspectResponse> {
        let own = vec![
            format!("holdfast.service={service}"),
            format!("holdfast.agent={}", self.agent_id()),
        ];
        let filters = std::collections::HashMap::from([("label".to_owned(), own)]);
        let list = query::ListContainersOptionsBuilder::default();
        let list = list.all(true).filters(&filters).build();
        self.engine.ask(|api: Docker| async move {
            let mut all = Vec::new();
            for found in api.list_containers(Some(list)).await.unwrap() {
                // One that is removed meanwhile is not there.
                if let Ok(seen) = api.inspect_container(&found.id.unwrap(), None).await {
                    all.push(seen);
                }
            }
            all
        })
    }

    fn agent_id(&self) -> String {
        crate::bench::home_id(&self.home.agent())
    }

    /// The id of a service's only container.
    pub(crate) fn id(&self, service: &str) -> String {
        let mut all = self.containers(service);
        assert_eq!(all.len(), 1, "{service}");
        all.remove(0).id.unwrap()
    }

    fn running(&self, service: &str) -> Option<String> {
        let all = self.containers(service);
        let running = |c: &&ContainerInspectResponse| {
            c.state
                .as_ref()
                .is_some_and(|state| state.running == Some(true))
        };
        all.iter().find(running).and_then(|c| c.id.clone())
    }

    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Subject for ContainerBench {
    fn name(&self) -> &str {
        match self.engine.kind {
            Kind::Docker => "docker",
            Kind::Podman => "podman",
        }
    }

    fn open(&self) -> Result<Arc<dyn Adapter>, String> {
        Ok(self.adapter())
    }

    fn wanted(&self, service: &ServiceName, release: u32) -> Wanted {
        let conf = Placeholder::ArtifactPath(ArtifactName::parse("conf").unwrap()).text();
        let blob = tar_gz(&[("web.conf", 0o644, &format!("release = {release}"))]);
        let artifact = self.home.artifact("conf", "conf.tar.gz", &blob);
        let template = json!({
            "image": self.image(release),
            "network": "none",
            "volumes": [format!("{conf}:/etc/web:ro")],
            "limits": {"memory": "64MiB"},
            "stop": {"grace": "5s"},
        });
        self.home
            .wanted(service.as_str(), "container", &template, vec![artifact])
    }

    fn bad(&self, service: &ServiceName) -> Wanted {
        self.release(service.as_str(), 1, &json!({"image": "web:latest"}))
    }

    fn kill(&self, service: &ServiceName) -> Result<(), String> {
        let Some(id) = self.running(service.as_str()) else {
            return Ok(());
        };
        let kill = |api: Docker| async move { api.kill_container(&id, None).await };
        self.engine.ask(kill).map_err(|error| error.to_string())
    }

    fn edit(&self, service: &ServiceName) -> Result<(), String> {
        let id = self.running(service.as_str()).ok_or("it does not run")?;
        let name = format!("mine-{service}");
        self.engine.ask(|api: Docker| async move {
            let rename = query::RenameContainerOptionsBuilder::default()
                .name(&name)
                .build();
            let renamed = api.rename_container(&id, rename).await;
            renamed.map_err(|error| error.to_string())
        })
    }

    fn alive(&self, service: &ServiceName) -> Vec<u32> {
        let mut alive = Vec::new();
        for container in self.containers(service.as_str()) {
            let running = container.state.and_then(|state| state.running) == Some(true);
            let environment = container
                .config
                .and_then(|config| config.env)
                .unwrap_or_default();
            let release =
                |variable: &String| variable.strip_prefix("RELEASE=")?.parse::<u32>().ok();
            alive.extend(environment.iter().find_map(release).filter(|_| running));
        }
        alive.sort_unstable();
        alive
    }

    fn has_output(&self) -> bool {
        true
    }

    fn job(&self, service: &ServiceName, release: u32, ending: Ending) -> Option<Wanted> {
        let runs = self.home.runs(service);
        let directory = runs.parent().unwrap().display();
        let script = job_script(&format!("/runs/{service}"), release, ending);
        let more = json!({
            "command": ["/bin/sh", "-c", script],
            "volumes": [format!("{directory}:/runs")],
            "stop": {"grace": "1s"},
        });
        Some(as_job(self.release(service.as_str(), release, &more)))
    }

    fn runs(&self, service: &ServiceName) -> usize {
        lines(&self.home.runs(service))
    }
}

/// Limits as somebody sets them by hand.
pub(crate) fn limits(memory: i64) -> ContainerUpdateBody {
    ContainerUpdateBody {
        memory: Some(memory),
        memory_swap: Some(memory),
        ..ContainerUpdateBody::default()
    }
}
