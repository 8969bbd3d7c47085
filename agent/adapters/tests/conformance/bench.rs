//! A home for adapters, artifacts made on the spot, and a look at processes from outside.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_adapters::conformance::{Ending, Subject};
use holdfast_adapters::run::{Adapter, Wanted, adapters};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{ArtifactName, EnvironmentName, ServiceName, Version};
use holdfast_protocol::workload::{Artifact, Form, JobTerms, Placeholder, Rollback, Workload};
use serde_json::{Value, json};

/// A directory for one test; what runs there ends with it.
pub(crate) struct Home {
    pub(crate) root: tempfile::TempDir,
}

/// A process that carries a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) pid: i32,
    pub(crate) state: char,
    pub(crate) environment: Vec<String>,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn agent(&self) -> PathBuf {
        self.path().join("agent")
    }

    pub(crate) fn open(&self, runtime: &str) -> Arc<dyn Adapter> {
        open(&self.agent(), runtime)
    }

    pub(crate) fn place(&self, service: &str) -> PathBuf {
        self.agent().join("process/services").join(service)
    }

    /// Stores an artifact by its digest, as the agent does: one that is there may just be read.
    pub(crate) fn artifact(&self, name: &str, file: &str, content: &[u8]) -> (Artifact, PathBuf) {
        let digest = Digest::of(content);
        let path = self.path().join(digest.hex());
        if fs::read(&path).ok().as_deref() != Some(content) {
            fs::write(&path, content).unwrap();
        }
        let artifact = Artifact {
            name: ArtifactName::parse(name).unwrap(),
            digest,
            size: content.len() as u64,
            file: file.to_owned(),
            form: Form::of_file(file),
            home: None,
        };
        (artifact, path)
    }

    pub(crate) fn wanted(
        &self,
        service: &str,
        runtime: &str,
        template: &Value,
        artifacts: Vec<(Artifact, PathBuf)>,
    ) -> Wanted {
        let paths: BTreeMap<_, _> = artifacts
            .iter()
            .map(|(a, path)| (a.name.clone(), path.clone()))
            .collect();
        let workload = Workload {
            service: ServiceName::parse(service).unwrap(),
            environment: EnvironmentName::parse("test").unwrap(),
            version: Version::parse("1.0").unwrap(),
            sequence: 1,
            configuration: Digest::of(b""),
            runtime: runtime.to_owned(),
            template: template.to_string(),
            artifacts: artifacts
                .into_iter()
                .map(|(artifact, _)| artifact)
                .collect(),
            health: None,
            depends_on: Vec::new(),
            rollback: Rollback::Central,
            progress_deadline_ms: 10_000,
            job: None,
            logins: Vec::new(),
        };
        let (body, _) = workload.clone().seal();
        Wanted {
            body,
            workload,
            artifacts: paths,
            secrets: holdfast_adapters::secret::Secrets::default(),
            logins: holdfast_adapters::secret::Secrets::default(),
        }
    }

    /// A shell script as a workload.
    pub(crate) fn script(&self, service: &str, script: &str, more: &Value) -> Wanted {
        let mut template = json!({"command": ["/bin/sh", "-c", script]});
        for (key, value) in more.as_object().unwrap() {
            template[key] = value.clone();
        }
        self.wanted(service, "process", &template, Vec::new())
    }

    /// Where the jobs of a service note their runs.
    pub(crate) fn runs(&self, service: &ServiceName) -> PathBuf {
        let directory = self.path().join("runs");
        fs::create_dir_all(&directory).unwrap();
        directory.join(service.as_str())
    }

    /// Live processes of a service of this home, by the mark alone.
    pub(crate) fn marked(&self, service: &str) -> Vec<Marked> {
        marked(&format!("/{service}/"), &home_id(&self.agent()))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for found in marked("/", &home_id(&self.agent())) {
            kill(found.pid, "KILL");
        }
    }
}

/// The same as a job, with its body's new name.
pub(crate) fn as_job(mut wanted: Wanted) -> Wanted {
    wanted.workload.job = Some(JobTerms {
        run: None,
        attempts: 2,
        time_limit_ms: 60_000,
    });
    let (body, _) = wanted.workload.clone().seal();
    Wanted { body, ..wanted }
}

/// What a job of the suite does in a shell: notes in `runs` that it was begun, and goes on.
pub(crate) fn job_script(runs: &str, release: u32, ending: Ending) -> String {
    let end = match ending {
        Ending::Succeeds => "exit 0",
        Ending::Fails => "exit 3",
        Ending::Waits => "exec sleep 86400",
    };
    format!("echo run >> {runs}; echo release {release} begins; {end}")
}

/// Lines of a file that jobs note their runs in.
pub(crate) fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

pub(crate) fn open(agent: &Path, runtime: &str) -> Arc<dyn Adapter> {
    let launcher = vec![
        std::env::current_exe().unwrap().into(),
        OsString::from("launch"),
    ];
    let all = adapters(agent, launcher).unwrap();
    all.into_iter()
        .find(|adapter| adapter.runtime() == runtime)
        .unwrap()
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// How long is waited for what the controllers of a cluster have to do, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a condition; says what it was when it does not come.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) -> Duration {
    asked(
        (Duration::from_secs(20), Duration::from_millis(2)),
        what,
        condition,
    )
}

/// The same where the controllers of a cluster have to do their part.
pub(crate) fn patiently(what: &str, condition: impl Fn() -> bool) -> Duration {
    within(PATIENCE, what, condition)
}

/// The same with a limit of the caller's.
pub(crate) fn within(limit: Duration, what: &str, condition: impl Fn() -> bool) -> Duration {
    asked((limit, Duration::from_millis(20)), what, condition)
}

fn asked(
    (limit, pause): (Duration, Duration),
    what: &str,
    condition: impl Fn() -> bool,
) -> Duration {
    let begun = Instant::now();
    while !condition() {
        assert!(
            begun.elapsed() < limit,
            "{what} did not happen in {} s",
            limit.as_secs()
        );
        std::thread::sleep(pause);
    }
    begun.elapsed()
}

pub(crate) fn kill(pid: i32, signal: &str) {
    let status = std::process::Command::new("/bin/kill")
        .args([&format!("-{signal}"), "--", &pid.to_string()])
        .stderr(std::process::Stdio::null())
        .status();
    status.unwrap();
}

/// The state letter of a process, if there is one of that number.
pub(crate) fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

pub(crate) fn lives(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

pub(crate) fn tar_gz(files: &[(&str, u32, &str)]) -> Vec<u8> {
    let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gz);
    for (path, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_cksum();
        archive
            .append_data(&mut header, path, content.as_bytes())
            .unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

pub(crate) fn home_id(agent: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = fs::canonicalize(agent) else {
        return "none".to_owned();
    };
    Digest::of(path.as_os_str().as_bytes())
        .hex()
        .chars()
        .take(32)
        .collect()
}

fn marked(part: &str, home: &str) -> Vec<Marked> {
    let mark = format!("HOLDFAST_WORKLOAD={home}{part}");
    let pids = fs::read_dir("/proc").unwrap();
    let read = |name: OsString| {
        let pid: i32 = name.to_str()?.parse().ok()?;
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let environment: Vec<String> = environment
            .split(|b| *b == 0)
            .map(|variable| String::from_utf8_lossy(variable).into_owned())
            .collect();
        let own = environment
            .iter()
            .any(|variable| variable.starts_with(&mark));
        let state = state(pid).filter(|state| *state != 'Z' && *state != 'X')?;
        own.then_some(Marked {
            pid,
            state,
            environment,
        })
    };
    pids.filter_map(|entry| read(entry.ok()?.file_name()))
        .collect()
}

/// A script from an archive, with a rendered file.
pub(crate) struct ProcessBench {
    pub(crate) home: Home,
}

impl ProcessBench {
    pub(crate) fn new() -> Self {
        Self { home: Home::new() }
    }

    fn template(&self, release: u32) -> Value {
        let app = Placeholder::ArtifactPath(ArtifactName::parse("app").unwrap()).text();
        json!({
            "command": [format!("{app}/bin/run"), "--conf", format!("{}/conf/app.conf", Placeholder::WorkloadDir.text())],
            "environment": {"RELEASE": release.to_string()},
            "files": {"conf/app.conf": format!("release = {release}\n")},
            "stop": {"grace": "5s"},
        })
    }
}

impl Subject for ProcessBench {
    fn name(&self) -> &str {
        "process"
    }

    fn open(&self) -> Result<Arc<dyn Adapter>, String> {
        Ok(self.home.open("process"))
    }

    fn wanted(&self, service: &ServiceName, release: u32) -> Wanted {
        let script = format!("#!/bin/sh\necho release {release} begins\nexec sleep 86400\n");
        let blob = tar_gz(&[("bin/run", 0o755, &script)]);
        let artifact = self.home.artifact("app", "app.tar.gz", &blob);
        self.home.wanted(
            service.as_str(),
            "process",
            &self.template(release),
            vec![artifact],
        )
    }

    fn bad(&self, service: &ServiceName) -> Wanted {
        let mut template = self.template(1);
        template["user"] = json!("no such user");
        self.home
            .wanted(service.as_str(), "process", &template, Vec::new())
    }

    fn kill(&self, service: &ServiceName) -> Result<(), String> {
        for found in self.home.marked(service.as_str()) {
            kill(found.pid, "KILL");
        }
        Ok(())
    }

    fn edit(&self, service: &ServiceName) -> Result<(), String> {
        let path = self
            .home
            .place(service.as_str())
            .join("files/conf/app.conf");
        fs::write(path, "release = mine\n").map_err(|error| error.to_string())
    }

    fn alive(&self, service: &ServiceName) -> Vec<u32> {
        let release = |variable: &String| variable.strip_prefix("RELEASE=")?.parse().ok();
        let marked = self.home.marked(service.as_str());
        let mut alive: Vec<u32> = marked
            .iter()
            .filter_map(|found| found.environment.iter().find_map(release))
            .collect();
        alive.sort_unstable();
        alive
    }

    fn has_output(&self) -> bool {
        true
    }

    fn job(&self, service: &ServiceName, release: u32, ending: Ending) -> Option<Wanted> {
        let runs = self.home.runs(service);
        let script = job_script(runs.to_str().unwrap(), release, ending);
        let more = json!({"environment": {"RELEASE": release.to_string()}});
        Some(as_job(self.home.script(service.as_str(), &script, &more)))
    }

    fn runs(&self, service: &ServiceName) -> usize {
        lines(&self.home.runs(service))
    }
}
