//! A script from an archive, with a rendered file, as a unit. Runs only inside a host with systemd.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use holdfast_adapters::conformance::{Ending, Subject};
use holdfast_adapters::run::{Adapter, Wanted};
use holdfast_protocol::name::{ArtifactName, ServiceName};
use holdfast_protocol::workload::Placeholder;
use serde_json::{Value, json};

use crate::bench::{Home, as_job, job_script, lines, tar_gz};

pub(crate) struct SystemdBench {
    pub(crate) home: Home,
}

impl SystemdBench {
    /// Not in /tmp, of which each unit has one of its own.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir_in("/var/lib").unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).unwrap();
        Self {
            home: Home { root },
        }
    }

    pub(crate) fn template(release: u32) -> Value {
        let app = Placeholder::ArtifactPath(ArtifactName::parse("app").unwrap()).text();
        let own = Placeholder::WorkloadDir.text();
        json!({
            "command": [format!("{app}/bin/run"), "--conf", format!("{own}/conf/app.conf")],
            "environment": {"RELEASE": release.to_string()},
            "files": {"conf/app.conf": format!("release = {release}\n")},
            "restart": {"backoff": {"initial": "500ms"}},
            "stop": {"grace": "5s"},
        })
    }

    /// A job that notes its runs in a file, whose directory it may write to.
    pub(crate) fn job_in(
        &self,
        runs: &Path,
        service: &ServiceName,
        release: u32,
        ending: Ending,
    ) -> Wanted {
        let script = job_script(runs.to_str().unwrap(), release, ending);
        let template = json!({
            "command": ["/bin/sh", "-c", script],
            "environment": {"RELEASE": release.to_string()},
            "user": "root",
            "unit": {"Service": {"ReadWritePaths": runs.parent().unwrap()}},
        });
        let job = self
            .home
            .wanted(service.as_str(), "systemd", &template, Vec::new());
        as_job(job)
    }

    pub(crate) fn release(&self, service: &str, release: u32, template: &Value) -> Wanted {
        let script = format!("#!/bin/sh\necho release {release} begins\nexec sleep 86400\n");
        let blob = tar_gz(&[("bin/run", 0o755, &script)]);
        let artifact = self.home.artifact("app", "app.tar.gz", &blob);
        self.home
            .wanted(service, "systemd", template, vec![artifact])
    }
}

/// A command on this host; what it says, whether or not it succeeds.
pub(crate) fn run(command: &[&str]) -> String {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    format!("{said}{complained}").trim().to_owned()
}

pub(crate) fn unit_path(service: &str) -> PathBuf {
    PathBuf::from(format!("/etc/systemd/system/holdfast-{service}.service"))
}

/// Environments of the processes in a service's unit, by the kernel's word.
pub(crate) fn environments(service: &str) -> Vec<Vec<String>> {
    let own = format!("/holdfast-{service}.service");
    let processes = fs::read_dir("/proc").unwrap();
    let environment = |name: std::ffi::OsString| {
        let pid: u32 = name.to_str()?.parse().ok()?;
        let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        if !group.lines().any(|line| line.ends_with(&own)) {
            return None;
        }
        let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let words = bytes.split(|byte| *byte == 0);
        Some(
            words
                .map(|w| String::from_utf8_lossy(w).into_owned())
                .collect(),
        )
    };
    processes
        .filter_map(|entry| environment(entry.ok()?.file_name()))
        .collect()
}

impl Subject for SystemdBench {
    fn name(&self) -> &str {
        "systemd"
    }

    fn open(&self) -> Result<Arc<dyn Adapter>, String> {
        Ok(self.home.open("systemd"))
    }

    fn wanted(&self, service: &ServiceName, release: u32) -> Wanted {
        self.release(service.as_str(), release, &Self::template(release))
    }

    fn bad(&self, service: &ServiceName) -> Wanted {
        let mut template = Self::template(1);
        template["unit"] = json!({"Service": {"ExecStartPre": "/bin/true"}});
        self.release(service.as_str(), 1, &template)
    }

    fn kill(&self, service: &ServiceName) -> Result<(), String> {
        let said = run(&[
            "systemctl",
            "kill",
            "--signal=KILL",
            &format!("holdfast-{service}"),
        ]);
        if said.is_empty() { Ok(()) } else { Err(said) }
    }

    fn edit(&self, service: &ServiceName) -> Result<(), String> {
        let unit = fs::File::options()
            .append(true)
            .open(unit_path(service.as_str()));
        let mut unit = unit.map_err(|error| error.to_string())?;
        unit.write_all(b"[Service]\nNice=5\n")
            .map_err(|error| error.to_string())
    }

    fn alive(&self, service: &ServiceName) -> Vec<u32> {
        let release = |word: &String| word.strip_prefix("RELEASE=")?.parse().ok();
        let all = environments(service.as_str());
        let mut alive: Vec<u32> = all
            .iter()
            .filter_map(|words| words.iter().find_map(release))
            .collect();
        alive.sort_unstable();
        alive
    }

    fn has_output(&self) -> bool {
        true
    }

    fn job(&self, service: &ServiceName, release: u32, ending: Ending) -> Option<Wanted> {
        Some(self.job_in(&self.home.runs(service), service, release, ending))
    }

    fn runs(&self, service: &ServiceName) -> usize {
        lines(&self.home.runs(service))
    }
}
