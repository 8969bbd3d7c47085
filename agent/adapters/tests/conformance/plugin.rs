//! Plugins: the examples conform, and one that misbehaves harms nobody.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_adapters::failure::Failure;
use holdfast_adapters::plugin::schema::Schema;
use holdfast_adapters::plugin::{Settings, author};
use holdfast_adapters::run::{self, Adapter, Live, Observed, Wanted};
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::workload::JobTerms;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bench::{Home, eventually, runtime};
use crate::table;

pub(crate) const TESTS: &[crate::Test] = &[
    ("both_example_plugins_conform", both_example_plugins_conform),
    (
        "a_plugin_that_misbehaves_fails_in_words_and_leaves_nothing_behind",
        a_plugin_that_misbehaves_fails_in_words_and_leaves_nothing_behind,
    ),
    (
        "a_plugin_that_cannot_say_what_there_is_disturbs_no_other",
        a_plugin_that_cannot_say_what_there_is_disturbs_no_other,
    ),
    (
        "a_plugin_has_nothing_of_its_agent",
        a_plugin_has_nothing_of_its_agent,
    ),
    (
        "what_is_said_to_and_by_the_examples_is_as_published",
        what_is_said_to_and_by_the_examples_is_as_published,
    ),
    (
        "an_agent_killed_in_the_middle_of_a_plugin_leaves_no_process",
        an_agent_killed_in_the_middle_of_a_plugin_leaves_no_process,
    ),
];

/// A directory of plugins that their user may enter.
pub(crate) struct Plugins {
    root: tempfile::TempDir,
}

impl Plugins {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(root.path().join("plugins")).unwrap();
        Self { root }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.root.path().join("plugins")
    }

    pub(crate) fn add(&self, name: &str, content: &[u8]) {
        let path = self.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn settings(&self) -> Settings {
        let program = std::env::current_exe().unwrap();
        Settings {
            directory: self.path(),
            launcher: vec![program.into(), OsString::from("confine")],
            target: "here".to_owned(),
            ..Settings::default()
        }
    }
}

pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/plugin/plugins")
}

fn both_example_plugins_conform() {
    let plugins = Plugins::new();
    let mut reports = Vec::new();
    for name in ["notice", "settings"] {
        plugins.add(name, &fs::read(examples().join(name)).unwrap());
        let trial = examples().join(format!("{name}.test.json"));
        let scratch = plugins.root.path().join(format!("{name}-scratch"));
        let tested = author::test(plugins.settings(), name, (Some(&trial), &scratch));
        reports.push(runtime().block_on(tested).unwrap());
    }
    table::conform(&reports);
}

/// A plugin of a few lines: what it does when it is asked to converge.
fn script(converge: &str) -> Vec<u8> {
    let describe = r#"{"type":"result","protocol":1,"version":"1","template":{}}"#;
    format!(
        "#!/bin/sh\nrequest=$(cat)\n\
         id=$(printf %s \"$request\" | sed -n 's/.*\"id\":\"\\([^\"]*\\)\".*/\\1/p')\n\
         state=$(printf %s \"$request\" | sed -n 's/.*\"stateDirectory\":\"\\([^\"]*\\)\".*/\\1/p')\n\
         result() {{ echo '{{\"type\":\"result\",\"workload\":\"'$1'\",\"state\":\"running\",\"problems\":[]}}'; }}\n\
         case $request in\n\
         *'\"operation\":\"describe\"'*) echo '{describe}' ;;\n\
         *'\"operation\":\"converge\"'*) {converge}\n;;\n\
         *) result \"$id\" ;;\nesac\n"
    )
    .into_bytes()
}

/// One agent with one plugin.
struct Bench {
    plugins: Plugins,
    home: Home,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new() -> Self {
        let home = Home::new();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o711)).unwrap();
        Self {
            plugins: Plugins::new(),
            home,
            runtime: runtime(),
        }
    }

    fn adapter(&self) -> Arc<dyn Adapter> {
        open(&self.home.agent(), self.plugins.settings())
    }

    fn wanted(&self, plugin: &str) -> Wanted {
        let runtime = format!("plugin/{plugin}");
        self.home
            .wanted("x", &runtime, &json!({"a": 1}), Vec::new())
    }

    fn converge(&self, wanted: &Wanted) -> Result<(), Failure> {
        let (progress, _told) = mpsc::channel(16);
        let (adapter, cancel) = (self.adapter(), CancellationToken::new());
        self.runtime
            .block_on(adapter.converge(wanted, &progress, &cancel))
    }

    fn observe(&self) -> Vec<Observed> {
        self.runtime.block_on(self.adapter().observe()).unwrap()
    }
}

pub(crate) fn open(agent: &Path, plugins: Settings) -> Arc<dyn Adapter> {
    let settings = run::Settings {
        plugins,
        ..run::Settings::default()
    };
    let all = run::adapters_with(agent, Vec::new(), settings).unwrap();
    all.into_iter()
        .find(|adapter| adapter.runtime() == "plugin")
        .unwrap()
}

/// Whether a process with this argument lives.
fn sleeps(seconds: &str) -> bool {
    let wanted = format!("sleep\0{seconds}\0");
    let processes = fs::read_dir("/proc").unwrap();
    processes.flatten().any(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        line == wanted.as_bytes()
    })
}

fn a_plugin_that_misbehaves_fails_in_words_and_leaves_nothing_behind() {
    let bench = Bench::new();
    for (name, converge, part, retryable) in [
        (
            "flood",
            "while :; do echo '{\"type\":\"progress\",\"message\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}'; done",
            "more than 4194304 bytes",
            true,
        ),
        (
            "line",
            "head -c 100000 /dev/zero | tr '\\0' x",
            "longer than 65536 bytes",
            true,
        ),
        (
            "garbage",
            "echo hello",
            "\"hello\", which is no line of the protocol",
            true,
        ),
        ("crash", "kill -SEGV $$", "ended by signal 11", true),
        ("silent", ":", "ended without a result", true),
        (
            "liar",
            "result test/here/other",
            "answered about \"test/here/other\"",
            true,
        ),
        ("twice", "result $id; result $id", "two results", true),
        ("later", "echo no room >&2; exit 2", "no room", true),
        (
            "never",
            "echo no such zone >&2; exit 1",
            "no such zone",
            false,
        ),
        (
            "parent",
            "sleep 86421 & setsid sleep 86422 & result $id",
            "",
            true,
        ),
        (
            "log",
            "head -c 9000000 /dev/zero >&2; exit 1",
            "bytes left out",
            false,
        ),
    ] {
        bench.plugins.add(name, &script(converge));
        let begun = Instant::now();
        let ended = bench.converge(&bench.wanted(name));
        assert!(begun.elapsed() < Duration::from_secs(60), "{name}");
        match ended {
            Ok(()) => assert_eq!(part, "", "{name}"),
            Err(failure) => {
                assert!(
                    !part.is_empty() && failure.to_string().contains(part),
                    "{name}: {failure}"
                );
                assert_eq!(failure.is_retryable(), retryable, "{name}: {failure}");
            }
        }
    }
    assert!(
        !sleeps("86421") && !sleeps("86422"),
        "children outlive their call"
    );
    let missing = bench.converge(&bench.wanted("ghost")).unwrap_err();
    assert!(
        missing.to_string().contains("; install it there"),
        "{missing}"
    );
    let mut job = bench.wanted("later");
    job.workload.job = Some(JobTerms {
        run: None,
        attempts: 1,
        time_limit_ms: 1000,
    });
    let refused = bench.converge(&job).unwrap_err();
    assert!(refused.to_string().contains("runs no jobs"), "{refused}");
    assert!(!refused.is_retryable(), "{refused}");
}

fn a_plugin_that_cannot_say_what_there_is_disturbs_no_other() {
    let bench = Bench::new();
    bench.plugins.add("good", &script("result $id"));
    bench.plugins.add("bad", &script("result $id"));
    let mut other = bench.wanted("bad");
    other.workload.service = ServiceName::parse("y").unwrap();
    bench.converge(&bench.wanted("good")).unwrap();
    bench.converge(&other).unwrap();
    // It hangs in everything from now on.
    bench.plugins.add("bad", b"#!/bin/sh\nsleep 86423\n");
    let seen = bench.observe();
    let of = |name: &str| {
        seen.iter()
            .find(|seen| seen.service.as_str() == name)
            .unwrap()
    };
    assert!(matches!(of("x").live, Live::Running { .. }), "{seen:?}");
    let Live::Unready { why, failing, .. } = &of("y").live else {
        panic!("{seen:?}");
    };
    assert!(why.contains("did not end in time") && !failing, "{why}");
    assert_eq!(of("y").body, Some(other.body), "it is left alone");
    eventually("the end of what hung", || !sleeps("86423"));
}

fn a_plugin_has_nothing_of_its_agent() {
    let bench = Bench::new();
    let look = "(id -u; env; ls -l /proc/self/fd; stat -c '%a %u' $state) >$state/seen; result $id";
    bench.plugins.add("look", &script(look));
    bench.converge(&bench.wanted("look")).unwrap();
    let state = bench.home.agent().join("plugin/services/x/state");
    let seen = fs::read_to_string(state.join("seen")).unwrap();
    let lines: Vec<&str> = seen.lines().collect();
    let root = runs_as_root();
    assert!(!root || lines[0] != "0", "{seen}");
    assert!(
        !root || lines.contains(&format!("700 {}", lines[0]).as_str()),
        "{seen}"
    );
    for variable in lines
        .iter()
        .filter(|line| line.contains('=') && !line.contains(" -> "))
    {
        let (name, _) = variable.split_once('=').unwrap();
        let known = [
            "PATH", "HOME", "TMPDIR", "LANG", "PWD", "OLDPWD", "SHLVL", "_",
        ];
        assert!(
            known.contains(&name) || name.starts_with("HOLDFAST_"),
            "{variable}"
        );
    }
    // Its turn's lock and its artifacts' are open in the agent now.
    let home = bench.home.agent().display().to_string();
    let open = lines.iter().filter(|line| line.contains(" -> "));
    let leaked: Vec<_> = open
        .filter(|line| line.contains(&home) && !line.ends_with("/state/seen"))
        .collect();
    assert!(leaked.is_empty(), "{leaked:?}");
}

fn runs_as_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Each real request and answer, as they went by, against the file that authors read.
fn what_is_said_to_and_by_the_examples_is_as_published() {
    let published = fs::read(examples().join("../protocol.schema.json")).unwrap();
    let schema = Schema::parse(serde_json::from_slice(&published).unwrap()).unwrap();
    let plugins = Plugins::new();
    let log = plugins.root.path().join("calls");
    fs::create_dir(&log).unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o777)).unwrap();
    let mut operations = std::collections::BTreeSet::new();
    for name in ["notice", "settings"] {
        let real = plugins.root.path().join(name);
        fs::copy(examples().join(name), &real).unwrap();
        let between = format!(
            "#!/bin/bash\nset -o pipefail\ncall=$(mktemp -d {0}/XXXXXX)\n\
             tee $call/request | {1} | tee $call/answer\n",
            log.display(),
            real.display()
        );
        plugins.add(name, between.as_bytes());
        let trial = examples().join(format!("{name}.test.json"));
        let scratch = plugins.root.path().join(format!("{name}-scratch"));
        let tested = author::test(plugins.settings(), name, (Some(&trial), &scratch));
        runtime().block_on(tested).unwrap();
    }
    for call in fs::read_dir(&log).unwrap() {
        operations.extend(check_call(&schema, &call.unwrap().path()));
    }
    let all = [
        "converge", "describe", "logs", "observe", "remove", "validate",
    ];
    assert_eq!(operations.into_iter().collect::<Vec<_>>(), all);
    let wrong = json!({"protocol": 2, "operation": "destroy", "deadlineSeconds": 0});
    assert_eq!(schema.check_as("request", &wrong).len(), 3);
}

/// The operation of a call that was answered to its end; calls that were cut off say nothing.
fn check_call(schema: &Schema, call: &Path) -> Option<String> {
    let request = fs::read_to_string(call.join("request")).ok()?;
    let request: Value = serde_json::from_str(&request).ok()?;
    let conforms = |definition: &str, value: &Value| {
        let problems = schema.check_as(definition, value);
        assert!(problems.is_empty(), "{definition}: {problems:?} in {value}");
    };
    conforms("request", &request);
    let operation = request["operation"].as_str().unwrap().to_owned();
    let answer = fs::read_to_string(call.join("answer")).ok()?;
    let lines = answer.lines().map(serde_json::from_str::<Value>);
    let lines: Vec<Value> = lines.collect::<Result<_, _>>().ok()?;
    lines.iter().for_each(|line| conforms("line", line));
    let result = lines.last().filter(|line| line["type"] == "result")?;
    conforms(&operation, result);
    Some(operation)
}

fn an_agent_killed_in_the_middle_of_a_plugin_leaves_no_process() {
    let bench = Bench::new();
    // The first time it hangs with a child that has left its group.
    let hangs = "if [ -e $state/again ]; then result $id; else touch $state/again; \
                 setsid sleep 86424 & sleep 86425; fi";
    bench.plugins.add("hangs", &script(hangs));
    let wanted = bench.wanted("hangs");
    let agent = crate::killed::spawn_with_plugins(&bench.home, &bench.plugins.path(), &wanted);
    eventually("it hangs", || sleeps("86424") && sleeps("86425"));
    crate::killed::kill_after(agent, Duration::ZERO);
    let seen = bench.observe();
    assert!(matches!(seen[0].live, Live::Altered { .. }), "{seen:?}");
    bench.converge(&wanted).unwrap();
    assert!(!sleeps("86424") && !sleeps("86425"));
    assert!(matches!(bench.observe()[0].live, Live::Running { .. }));
}
