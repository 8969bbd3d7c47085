//! A whole installation in a temporary directory: coordinator, agents, operator.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use holdfast_protocol::api::apply::{Applied, ApplyRequest, ManifestFile};
use holdfast_protocol::api::deployment::{Deployment, Phase};
use holdfast_protocol::api::event::{Audit, Event};
use holdfast_protocol::api::release::{NewRelease, Release};
use holdfast_protocol::api::status::Status;
use holdfast_protocol::api::target::Target;
use holdfast_protocol::api::token::{CreatedToken, NewToken};
use holdfast_protocol::digest::Digest;
use serde_json::Value;
use tempfile::TempDir;

use crate::api::{Api, Refusal};
use crate::operator::Said;
use crate::port::Port;
use crate::process::{self, Process};
use crate::program::{Program, built, command};
use crate::wait::{PATIENCE, expect, wait_for};

/// Real programs. When it is dropped, everything that it started is killed, and the end of every log is
/// printed if the test has failed.
#[derive(Debug)]
pub struct Fleet {
    /// The coordinator; it can be killed and started again on the same data and the same addresses.
    pub coordinator: Program,
    /// The API, with the administrator's token.
    pub api: Api,
    agents: BTreeMap<String, Agent>,
    /// Where the coordinator listens; agents over UDP, the API over TCP.
    address: String,
    /// The file that agents are told to read.
    agent_config: Option<String>,
    _port: Port,
    directory: TempDir,
}

/// One target's agent and where it keeps what it knows.
#[derive(Debug)]
pub struct Agent {
    /// The agent's program.
    pub program: Program,
    /// Its data directory.
    pub data: PathBuf,
}

impl Agent {
    /// The processes of a service's workload on this target.
    #[must_use]
    pub fn workload(&self, service: &str) -> BTreeSet<Process> {
        process::workload(&self.data, service)
    }

    /// The one process of a service's workload, once there is exactly one.
    #[must_use]
    pub fn one(&self, service: &str) -> Process {
        wait_for(&format!("one process of {service}"), PATIENCE, || {
            let found = self.workload(service);
            expect(found.len() == 1, &found)?;
            found.first().copied().ok_or_else(String::new)
        })
    }

    /// What a power cut does: the agent and everything that it started are gone at once.
    pub fn cut_power(&self) {
        self.program.kill9();
        wait_for("all workloads are gone", PATIENCE, || {
            let left = process::workloads(&self.data);
            left.iter().for_each(Process::kill9);
            expect(left.is_empty(), &left)
        });
    }
}

impl Fleet {
    /// Starts a coordinator on an empty directory, and waits until it is ready.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// [`Self::start`] with the content of its `coordinator.toml`.
    #[must_use]
    pub fn start_with(settings: &str) -> Self {
        let directory = TempDir::with_prefix("holdfast-fleet-").unwrap();
        let port = Port::free();
        let address = format!("127.0.0.1:{}", port.number());
        let data = directory.path().join("coordinator");
        let config = directory.path().join("coordinator.toml");
        std::fs::write(&config, settings).unwrap();
        let arguments = ["serve", "--listen", &address, "--api", &address, "--data"];
        let arguments = arguments.iter().map(PathBuf::from).chain([data.clone()]);
        let arguments = arguments.chain([PathBuf::from("--config"), config]);
        let coordinator = Program::new(
            "coordinator",
            built("holdfast-coordinator"),
            arguments,
            &[],
            directory.path(),
        );
        let fleet = Self {
            coordinator,
            api: Api::new(&address, data),
            agents: BTreeMap::new(),
            address,
            agent_config: None,
            _port: port,
            directory,
        };
        fleet.start_coordinator();
        fleet
    }

    /// The directory of this fleet: manifests, logs, everybody's data.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The coordinator's data directory.
    #[must_use]
    pub fn coordinator_data(&self) -> PathBuf {
        self.directory().join("coordinator")
    }

    /// Where the coordinator listens, for agents (UDP) and for the API (TCP).
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Starts the coordinator (again) and waits until it is ready.
    pub fn start_coordinator(&self) {
        self.coordinator.start();
        wait_for("the coordinator is ready", PATIENCE, || {
            if let Some(status) = self.coordinator.ended() {
                panic!("it ended: {status}\n{}", self.coordinator.last_words());
            }
            expect(self.coordinator.output().starts_with("ready "), "not ready")
        });
    }

    /// Makes a join token for one use.
    #[must_use]
    pub fn token(&self, environment: &str, labels: &[(&str, &str)]) -> String {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let new = NewToken {
            environment: environment.parse().unwrap(),
            ttl: "1h".to_owned(),
            uses: 1,
            labels: labels.iter().map(owned).collect(),
        };
        let created: CreatedToken = self.api.post("/v1/tokens", &new).unwrap();
        created.token
    }

    /// Adds a target: makes a token with these labels and starts an agent that joins with it. Does
    /// not wait until it is connected.
    pub fn join(&mut self, name: &str, environment: &str, labels: &[(&str, &str)]) -> &Agent {
        let coordinator = self.address.clone();
        self.join_through(&coordinator, name, environment, labels)
    }

    /// [`Self::join`] by way of another address, such as a [`crate::faults::Relay`].
    pub fn join_through(
        &mut self,
        coordinator: &str,
        name: &str,
        environment: &str,
        labels: &[(&str, &str)],
    ) -> &Agent {
        let token = self.token(environment, labels);
        let agent = self.agent_with(coordinator, name, &token);
        agent.program.start();
        self.agents.entry(name.to_owned()).insert_entry(agent);
        self.agent(name)
    }

    /// Gives every agent that joins from now on this configuration.
    pub fn configure_agents(&mut self, toml: &str) {
        self.agent_config = Some(self.write("agent.toml", toml));
    }

    /// An agent's program that is not started and that this fleet does not keep.
    #[must_use]
    pub fn agent_with(&self, coordinator: &str, name: &str, token: &str) -> Agent {
        let data = self.directory().join(name);
        let arguments = [
            "run",
            "--coordinator",
            coordinator,
            "--token",
            token,
            "--name",
            name,
            "--data",
            data.to_str().unwrap(),
        ];
        let config = self.agent_config.iter();
        let config = config.flat_map(|path| ["--config", path.as_str()]);
        let program = Program::new(
            name,
            built("holdfast-agent"),
            arguments.into_iter().chain(config),
            &AGENT_ENVIRONMENT,
            self.directory(),
        );
        Agent { program, data }
    }

    /// A target's agent.
    #[must_use]
    pub fn agent(&self, name: &str) -> &Agent {
        self.agents.get(name).expect("it has joined")
    }

    /// What a target's agent says of itself, also while it is not connected.
    ///
    /// # Errors
    /// It does not run, or has only just been started.
    pub fn agent_status(&self, name: &str) -> Result<Value, String> {
        let data = self.agent(name).data.display().to_string();
        let words = ["status", "--data", &data, "-o", "json"];
        let said = self.run("holdfast-agent", &words, &[]);
        if said.code != Some(0) {
            return Err(said.stderr);
        }
        serde_json::from_str(&said.stdout).map_err(|error| format!("{error}: {}", said.stdout))
    }

    /// Waits until a target's agent, which may have been started just now, answers.
    pub fn wait_agent(&self, name: &str) -> Value {
        wait_for(&format!("the agent of {name} answers"), PATIENCE, || {
            self.agent_status(name)
        })
    }

    /// All agents by name.
    pub fn agents(&self) -> impl Iterator<Item = (&str, &Agent)> {
        self.agents
            .iter()
            .map(|(name, agent)| (name.as_str(), agent))
    }

    /// Applies manifests as the set `default`; they must be accepted.
    pub fn apply(&self, manifests: &str) -> Applied {
        self.try_apply("default", manifests).unwrap()
    }

    /// Applies manifests as one set.
    ///
    /// # Errors
    /// The coordinator's refusal.
    pub fn try_apply(&self, set: &str, manifests: &str) -> Result<Applied, Refusal> {
        let request = ApplyRequest {
            set: set.parse().unwrap(),
            files: vec![ManifestFile {
                path: format!("{set}.yaml"),
                content: manifests.to_owned(),
            }],
            dry_run: false,
            confirm_removal: false,
            plan: None,
        };
        self.api.post("/v1/apply", &request)
    }

    /// Uploads artifacts and registers a release of them.
    pub fn release(&self, service: &str, version: &str, artifacts: &[(&str, &[u8])]) -> Release {
        let upload = |(name, bytes): &(&str, &[u8])| {
            let digest = Digest::of(bytes);
            let path = format!("/v1/artifacts/{digest}");
            let status = self.api.put_bytes(&path, bytes.to_vec()).unwrap();
            assert!(status.is_success(), "{path}: {status}");
            (name.parse().unwrap(), digest)
        };
        let new = NewRelease {
            version: version.parse().unwrap(),
            artifacts: artifacts.iter().map(upload).collect(),
            repositories: BTreeMap::new(),
            homes: BTreeMap::new(),
            commit: None,
            meta: BTreeMap::new(),
        };
        let path = format!("/v1/services/{service}/releases");
        self.api.post(&path, &new).unwrap()
    }

    /// How a track stands.
    ///
    /// # Errors
    /// There is no such track, or the coordinator does not answer.
    pub fn status(&self, service: &str, environment: &str) -> Result<Status, String> {
        let path = format!("/v1/status?service={service}&environment={environment}");
        let mut all = self
            .api
            .list::<Status>(&path)
            .map_err(|e| format!("{e:?}"))?;
        all.pop().ok_or_else(|| "no such track".to_owned())
    }

    /// Waits until a version is stable on a track and nothing moves there.
    pub fn wait_stable(&self, service: &str, environment: &str, version: &str) -> Status {
        let what = format!("{version} of {service} is stable in {environment}");
        wait_for(&what, PATIENCE, || {
            let status = self.status(service, environment)?;
            let stable = status.stable.as_ref();
            let stable = stable.is_some_and(|stable| stable.version.as_str() == version);
            let current = status.current.as_ref();
            let rests = current.is_some_and(|current| current.phase == Phase::Stable);
            expect(stable && rests, &status)?;
            Ok(status)
        })
    }

    /// Waits until the newest deployment of a version on a track is in a phase.
    pub fn wait_phase(&self, track: (&str, &str), version: &str, phase: Phase) -> Deployment {
        let what = format!("{version} of {track:?} is {phase:?}");
        wait_for(&what, PATIENCE, || {
            let all = self.history(track.0, track.1)?;
            let newest = all.into_iter().rfind(|one| one.version.as_str() == version);
            let newest = newest.ok_or("no such deployment")?;
            expect(newest.phase == phase, &newest)?;
            Ok(newest)
        })
    }

    /// The deployments of a track, oldest first.
    ///
    /// # Errors
    /// The coordinator does not answer.
    pub fn history(&self, service: &str, environment: &str) -> Result<Vec<Deployment>, String> {
        let path = format!("/v1/history?service={service}&environment={environment}");
        self.api.list(&path).map_err(|e| format!("{e:?}"))
    }

    /// One target.
    ///
    /// # Errors
    /// It has not joined, or the coordinator does not answer.
    pub fn target(&self, name: &str) -> Result<Target, String> {
        let all: Vec<Target> = self.api.list("/v1/targets").map_err(|e| format!("{e:?}"))?;
        let found = all.into_iter().find(|target| target.name.as_str() == name);
        found.ok_or_else(|| "it has not joined".to_owned())
    }

    /// Waits until a target is connected, or is not.
    pub fn wait_connected(&self, name: &str, connected: bool) -> Target {
        wait_for(&format!("{name} connected: {connected}"), PATIENCE, || {
            let target = self.target(name)?;
            expect(target.connected == connected, &target)?;
            Ok(target)
        })
    }

    /// Waits until a target has made its newest assignment so.
    pub fn wait_converged(&self, name: &str) -> Target {
        wait_for(&format!("{name} has converged"), PATIENCE, || {
            let target = self.target(name)?;
            let converged = target.generation > 0
                && target.converged_generation == target.generation
                && target.connected;
            expect(converged, &target)?;
            Ok(target)
        })
    }

    /// The record of everything that happened, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        loop {
            let after = events.last().map_or(0, |event| event.sequence);
            let path = format!("/v1/events?after={after}&limit=1000");
            let page: holdfast_protocol::api::Items<Event> = self.api.read(&path).unwrap();
            if page.items.is_empty() {
                return events;
            }
            events.extend(page.items);
        }
    }

    /// The record's hash chain must hold.
    #[track_caller]
    pub fn assert_record_holds(&self) -> Audit {
        let audit: Audit = self.api.read("/v1/audit").unwrap();
        assert!(audit.valid, "{audit:?}");
        audit
    }

    /// Writes a file into this fleet's directory; gives its path.
    pub fn write(&self, name: &str, content: &str) -> String {
        let path = self.directory().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs `holdfast` as an operator of this fleet.
    #[must_use]
    pub fn operator(&self, arguments: &[&str]) -> Said {
        self.operator_given(b"", arguments)
    }

    /// The same with something on standard input.
    #[must_use]
    pub fn operator_given(&self, input: &[u8], arguments: &[&str]) -> Said {
        let own = self.operator_environment();
        let environment = own.each_ref().map(|(key, value)| (*key, value.as_str()));
        self.run_given(input, "holdfast", arguments, &environment)
    }

    /// Starts `holdfast` as an operator of this fleet, with words that it does not end by itself of. It
    /// ends with what this gives.
    #[must_use]
    pub fn follow(&self, label: &str, arguments: &[&str]) -> Program {
        let own = self.operator_environment();
        let environment = own.each_ref().map(|(key, value)| (*key, value.as_str()));
        let words = arguments.iter().copied();
        let program = Program::new(
            label,
            built("holdfast"),
            words,
            &environment,
            self.directory(),
        );
        program.start();
        program
    }

    fn operator_environment(&self) -> [(&'static str, String); 3] {
        let data = self.coordinator_data();
        let path = |name: &str| data.join(name).display().to_string();
        [
            ("HOLDFAST_SERVER", self.api.base().to_owned()),
            ("HOLDFAST_TOKEN_FILE", path("admin.token")),
            ("HOLDFAST_CA", path("ca.pem")),
        ]
    }

    /// What a service that says `tick` again and again is heard to say, live: each look finds more.
    ///
    /// # Panics
    /// Nothing comes while it is followed.
    pub fn hear_ticks(&self, service: &str, environment: &str) {
        let words = ["logs", service, "-e", environment, "--follow"];
        let followed = self.follow("followed", &words);
        let mut heard = 0;
        for _ in 0..3 {
            wait_for("another line comes", PATIENCE, || {
                let ticks = followed.output().matches("tick").count();
                let more = ticks > heard;
                heard = heard.max(ticks);
                expect(more, (heard, followed.last_words()))
            });
        }
        followed.kill9();
    }

    /// What a service wrote during its deployment of `version`, as an operator is told.
    ///
    /// # Panics
    /// There was none, or nothing is known of it.
    #[must_use]
    pub fn said_during(&self, (service, environment): (&str, &str), version: &str) -> String {
        let all = self.history(service, environment).unwrap();
        let mut all = all.into_iter();
        let found = all.rfind(|one| one.version.as_str() == version);
        let id = found.expect("it was deployed").id.to_string();
        let words = ["logs", service, "-e", environment, "--deployment", &id];
        self.operator(&words).succeeds()
    }

    /// Runs one of our programs to its end.
    #[must_use]
    pub fn run(&self, name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
        self.run_given(b"", name, arguments, environment)
    }

    fn run_given(
        &self,
        input: &[u8],
        name: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Said {
        let program = built(name);
        // A file and not a pipe: nobody has to write while the program runs.
        let mut given = tempfile::tempfile().unwrap();
        given.write_all(input).unwrap();
        given.rewind().unwrap();
        let output = command(&program)
            .args(arguments)
            .env("HOME", self.directory())
            .envs(environment.iter().copied())
            .current_dir(self.directory())
            .stdin(given)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        Said::new(&program, arguments, &output)
    }

    /// Kills everything that this fleet started; gives what would not die.
    fn clear(&self) -> BTreeSet<Process> {
        self.agents.values().for_each(|agent| agent.program.kill9());
        self.coordinator.kill9();
        let mut left = BTreeSet::new();
        for _ in 0..CLEAR_ROUNDS {
            left = process::concerned_with(self.directory());
            for agent in self.agents.values() {
                left.extend(process::workloads(&agent.data));
            }
            if left.is_empty() {
                break;
            }
            left.iter().for_each(Process::kill9);
            std::thread::sleep(CLEAR_PAUSE);
        }
        left
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.coordinator.last_words());
            for agent in self.agents.values() {
                eprintln!("{}", agent.program.last_words());
            }
        }
        let left = self.clear();
        if !left.is_empty() {
            let named = left.iter().map(|one| (one.pid, one.command_line()));
            let named: Vec<_> = named.collect();
            if std::thread::panicking() {
                eprintln!("left behind: {named:?}");
            } else {
                panic!("left behind: {named:?}");
            }
        }
    }
}

/// Agents notice sooner than in real life that a coordinator has gone, and try again sooner.
const AGENT_ENVIRONMENT: [(&str, &str); 4] = [
    ("HOLDFAST_KEEP_ALIVE", "500ms"),
    ("HOLDFAST_IDLE_TIMEOUT", "6s"),
    ("HOLDFAST_RECONNECT_MAX", "500ms"),
    ("HOLDFAST_LOG", "info,holdfast_agent=debug"),
];
/// Rounds of killing what is left of a fleet.
const CLEAR_ROUNDS: u32 = 100;
/// Pause between two of them.
const CLEAR_PAUSE: Duration = Duration::from_millis(20);
