//! An agent that is a real process, killed with SIGKILL at random moments.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use holdfast_adapters::conformance::Subject;
use holdfast_adapters::run::{Adapter, Settings, Wanted, adapters_with};
use holdfast_protocol::name::ServiceName;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bench::{self, Home, ProcessBench, eventually, runtime};
use crate::bench_static::StaticBench;

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "an_agent_killed_at_20_moments_of_converge_neither_loses_nor_doubles_a_workload",
        an_agent_killed_at_20_moments_of_converge_neither_loses_nor_doubles_a_workload,
    ),
    (
        "an_agent_killed_at_20_moments_of_a_switch_leaves_one_whole_site",
        an_agent_killed_at_20_moments_of_a_switch_leaves_one_whole_site,
    ),
];

const KILLS: u32 = 20;

/// What the agent process is told: adapter's home, runtime, and wanted releases, on one line each.
pub(crate) fn agent(arguments: &[OsString]) -> ExitCode {
    let [home, runtime_name, once, bodies @ ..] = arguments else {
        return ExitCode::FAILURE;
    };
    let adapter = open(&PathBuf::from(home), runtime_name.to_str().unwrap());
    let wanted: Vec<Wanted> = bodies
        .iter()
        .map(|path| read_wanted(&PathBuf::from(path)))
        .collect();
    runtime().block_on(async {
        loop {
            for wanted in &wanted {
                let (progress, _told) = mpsc::channel(64);
                let done = adapter
                    .converge(wanted, &progress, &CancellationToken::new())
                    .await;
                done.unwrap();
            }
            if once == "once" {
                return;
            }
        }
    });
    ExitCode::SUCCESS
}

fn an_agent_killed_at_20_moments_of_converge_neither_loses_nor_doubles_a_workload() {
    let bench = ProcessBench::new();
    let service = ServiceName::parse("victim").unwrap();
    let steady = ServiceName::parse("steady").unwrap();
    let releases = [bench.wanted(&service, 1), bench.wanted(&service, 2)];
    finish(spawn(
        &bench.home,
        "process",
        "once",
        &[bench.wanted(&steady, 1)],
    ));
    let steady_before = bench.home.marked("steady");
    assert_eq!(steady_before.len(), 1);
    let mut alive_at_kill = 0;
    for i in 0..KILLS {
        kill_after(spawn(&bench.home, "process", "always", &releases), pause(i));
        let left = bench.home.marked("victim").len();
        assert!(left <= 1, "{left} processes after kill {i}");
        alive_at_kill += left;
        let last = [releases[i as usize % 2].clone()];
        finish(spawn(&bench.home, "process", "once", &last));
        eventually("one process of the wanted release", || {
            bench.alive(&service) == [i % 2 + 1]
        });
        assert_eq!(bench.home.marked("victim").len(), 1, "after kill {i}");
    }
    assert_eq!(
        bench.home.marked("steady"),
        steady_before,
        "the steady one was never touched"
    );
    println!("{KILLS} kills: a workload was alive right after {alive_at_kill} of them");
}

fn an_agent_killed_at_20_moments_of_a_switch_leaves_one_whole_site() {
    let bench = StaticBench::new();
    let releases = [bench.release("site", 1), bench.release("site", 2)];
    finish(spawn(&bench.home, "static", "once", &releases[..1]));
    let service = ServiceName::parse("site").unwrap();
    for i in 0..KILLS {
        kill_after(spawn(&bench.home, "static", "always", &releases), pause(i));
        assert_eq!(
            bench.alive(&service).len(),
            1,
            "a whole site is served after kill {i}"
        );
        finish(spawn(
            &bench.home,
            "static",
            "once",
            &[releases[i as usize % 2].clone()],
        ));
        assert_eq!(bench.alive(&service), [i % 2 + 1]);
        let versions = bench.home.path().join("www/.site.holdfast");
        let names = versions.read_dir().unwrap().map(|e| e.unwrap().file_name());
        let left: Vec<_> = names
            .filter(|n| n.to_string_lossy().starts_with('.'))
            .collect();
        assert!(left.is_empty(), "an interrupted step left {left:?}");
    }
}

/// The socket that the agent process is to speak to, where its runtime has one.
const SOCKET: &str = "HOLDFAST_TEST_SOCKET";

/// The file that leads to its cluster, where it has one.
const KUBECONFIG: &str = "HOLDFAST_TEST_KUBECONFIG";

/// The directory of its plugins, where it has some.
const PLUGINS: &str = "HOLDFAST_TEST_PLUGINS";

pub(crate) fn spawn_with_plugins(home: &Home, plugins: &Path, wanted: &Wanted) -> Child {
    let mut command = order(home, "plugin", "once", std::slice::from_ref(wanted));
    command.env(PLUGINS, plugins).spawn().unwrap()
}

fn open(home: &Path, runtime: &str) -> Arc<dyn Adapter> {
    if let Some(directory) = std::env::var_os(PLUGINS) {
        let program = std::env::current_exe().unwrap();
        let plugins = holdfast_adapters::plugin::Settings {
            directory: directory.into(),
            launcher: vec![program.into(), OsString::from("confine")],
            target: "here".to_owned(),
            ..Default::default()
        };
        return crate::plugin::open(home, plugins);
    }
    let place = |variable| std::env::var_os(variable).map(PathBuf::from);
    let mut settings = Settings::default();
    settings.container.socket = place(SOCKET);
    settings.kubernetes.kubeconfig = place(KUBECONFIG);
    if settings.container.socket.is_none() && settings.kubernetes.kubeconfig.is_none() {
        return bench::open(home, runtime);
    }
    let all = adapters_with(home, Vec::new(), settings).unwrap();
    let mut all = all.into_iter();
    all.find(|adapter| adapter.runtime() == runtime).unwrap()
}

pub(crate) fn spawn(home: &Home, runtime: &str, how: &str, wanted: &[Wanted]) -> Child {
    order(home, runtime, how, wanted).spawn().unwrap()
}

pub(crate) fn spawn_at(
    home: &Home,
    runtime: &str,
    how: &str,
    wanted: &[Wanted],
    socket: &Path,
) -> Child {
    let mut command = order(home, runtime, how, wanted);
    command.env(SOCKET, socket).spawn().unwrap()
}

pub(crate) fn spawn_in(home: &Home, kubeconfig: &Path, how: &str, wanted: &[Wanted]) -> Child {
    let mut command = order(home, "kubernetes", how, wanted);
    command.env(KUBECONFIG, kubeconfig).spawn().unwrap()
}

fn order(home: &Home, runtime: &str, how: &str, wanted: &[Wanted]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("agent").arg(home.agent()).arg(runtime).arg(how);
    for wanted in wanted {
        command.arg(write_wanted(home, wanted));
    }
    command.stdin(Stdio::null());
    command
}

pub(crate) fn finish(mut agent: Child) {
    assert!(agent.wait().unwrap().success());
}

pub(crate) fn kill_after(mut agent: Child, pause: Duration) {
    std::thread::sleep(pause);
    agent.kill().unwrap();
    agent.wait().unwrap();
}

/// Spread over a few starts and stops, and different each time.
pub(crate) fn pause(i: u32) -> Duration {
    let noise = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Duration::from_millis(u64::from(5 * i))
        + Duration::from_micros(noise.as_micros() as u64 % 40_000)
}

/// A wanted workload as files: the sealed body, and a line for each artifact.
fn write_wanted(home: &Home, wanted: &Wanted) -> PathBuf {
    let path = home.path().join(format!("{}.body", wanted.body.hex()));
    let (_, bytes) = wanted.workload.clone().seal();
    std::fs::write(&path, bytes).unwrap();
    let lines: Vec<String> = wanted
        .artifacts
        .iter()
        .map(|(name, path)| format!("{name} {}", path.display()))
        .collect();
    std::fs::write(path.with_extension("artifacts"), lines.join("\n")).unwrap();
    path
}

fn read_wanted(path: &PathBuf) -> Wanted {
    let bytes = std::fs::read(path).unwrap();
    let workload = holdfast_protocol::workload::Workload::open(&bytes).unwrap();
    let lines = std::fs::read_to_string(path.with_extension("artifacts")).unwrap();
    let artifacts = lines
        .lines()
        .map(|line| {
            let (name, path) = line.split_once(' ').unwrap();
            (name.parse().unwrap(), PathBuf::from(path))
        })
        .collect();
    Wanted {
        body: holdfast_protocol::digest::Digest::of(&bytes),
        workload,
        artifacts,
        secrets: holdfast_adapters::secret::Secrets::default(),
        logins: holdfast_adapters::secret::Secrets::default(),
    }
}
