//! Secrets as files and variables: what the workload has, and that nothing else has it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bollard::Docker;
use holdfast_adapters::failure::Failure;
use holdfast_adapters::run::{Adapter, Live, Observed, Wanted};
use holdfast_adapters::secret::{Secret, Secrets};
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::secret::SecretRef;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bench::{Home, eventually, home_id, runtime};
use crate::bench_container::ContainerBench;
use crate::container::ALL;
use crate::driver::Driver;
use crate::engine::{Kind, available};
use crate::plugin::Plugins;

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "a_program_has_its_secrets_as_files_in_memory",
        a_program_has_its_secrets_as_files_in_memory,
    ),
    (
        "secrets_are_not_laid_down_on_a_disk_or_where_others_write",
        secrets_are_not_laid_down_on_a_disk_or_where_others_write,
    ),
    (
        "a_plugin_is_given_secrets_on_its_standard_input_and_nowhere_else",
        a_plugin_is_given_secrets_on_its_standard_input_and_nowhere_else,
    ),
    (
        "a_container_of_docker_engine_has_its_secrets_as_files",
        a_container_of_docker_engine_has_its_secrets_as_files,
    ),
    (
        "a_container_of_podman_has_its_secrets_as_files",
        a_container_of_podman_has_its_secrets_as_files,
    ),
    (
        "a_secret_stands_in_the_environment_of_a_container_only_where_that_is_allowed",
        a_secret_stands_in_the_environment_of_a_container_only_where_that_is_allowed,
    ),
];

/// The same with secrets: name, number, value.
pub(crate) fn with(wanted: Wanted, secrets: &[(&str, u64, &[u8])]) -> Wanted {
    let one = |(name, version, value): &(&str, u64, &[u8])| {
        let which = SecretRef {
            name: name.parse().unwrap(),
            version: *version,
        };
        (which, Secret::copy(value))
    };
    let secrets: Secrets = secrets.iter().map(one).collect();
    Wanted { secrets, ..wanted }
}

/// Every file below a directory that holds a text.
pub(crate) fn files_with(directory: &Path, text: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_with(&path, text, found);
        } else if kind.is_file() {
            let content = fs::read(&path).unwrap_or_default();
            if content
                .windows(text.len())
                .any(|part| part == text.as_bytes())
            {
                found.push(path);
            }
        }
    }
}

/// Where files of secrets of this agent can lie.
pub(crate) fn in_memory(agent: &Path) -> Vec<PathBuf> {
    let uid = fs::metadata("/proc/self").unwrap().uid();
    [
        "/run/holdfast-secrets".to_owned(),
        format!("/dev/shm/holdfast-secrets-{uid}"),
    ]
    .iter()
    .map(|directory| Path::new(directory).join(home_id(agent)))
    .filter(|path| path.exists())
    .collect()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn converge(adapter: &Arc<dyn Adapter>, wanted: &Wanted) -> Result<(), Failure> {
    let (progress, _told) = mpsc::channel(64);
    let cancel = CancellationToken::new();
    runtime().block_on(adapter.converge(wanted, &progress, &cancel))
}

fn observe(adapter: &Arc<dyn Adapter>) -> Observed {
    runtime().block_on(adapter.observe()).unwrap().remove(0)
}

fn remove(adapter: &Arc<dyn Adapter>, service: &str) {
    let service = ServiceName::parse(service).unwrap();
    runtime().block_on(adapter.remove(&service)).unwrap();
}

fn a_program_has_its_secrets_as_files_in_memory() {
    let home = Home::new();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    fs::set_permissions(home.path(), open).unwrap();
    let adapter = home.open("process");
    let template = |version: u64| {
        let mut template = json!({
            "command": ["/bin/sh", "-c", "cat conf/token > /dev/null && exec sleep 86400"],
            "files": {
                "conf/token": {"secret": "token", "version": version},
                "conf/plain": "plain",
                "again": {"secret": "token", "version": version},
            },
            "environment": {"TOKEN": {"secret": "token", "version": version}},
        });
        if is_root() {
            template["user"] = json!("nobody");
        }
        with(
            home.wanted("x", "process", &template, Vec::new()),
            &[("token", version, format!("canary-{version}\nx").as_bytes())],
        )
    };
    converge(&adapter, &template(1)).unwrap();
    let own = home.place("x").join("files");
    let link = own.join("conf/token");
    let target = fs::read_link(&link).unwrap();
    let found = fs::metadata(&target).unwrap();
    assert_eq!(fs::read(&link).unwrap(), b"canary-1\nx");
    assert_eq!(fs::read(own.join("again")).unwrap(), b"canary-1\nx");
    assert_eq!(found.mode() & 0o7777, 0o400);
    if is_root() {
        assert_eq!(found.uid(), 65534);
    }
    let mut on_disk = Vec::new();
    files_with(home.path(), "canary", &mut on_disk);
    assert_eq!(on_disk, Vec::<PathBuf>::new());
    // What was taken away or put elsewhere is named, and is put right while it runs.
    let before = observe(&adapter);
    for (harm, what) in [
        (&target, "gone from memory"),
        (&link, "the link conf/token to a secret was changed"),
    ] {
        fs::remove_file(harm).unwrap();
        match observe(&adapter).live {
            Live::Altered { what: said } => assert!(said.contains(what), "{said}"),
            other => panic!("{other:?}"),
        }
        converge(&adapter, &template(1)).unwrap();
        assert_eq!(observe(&adapter), before);
        assert_eq!(fs::read(&link).unwrap(), b"canary-1\nx");
    }
    // Another value is another file, and the one before is gone.
    converge(&adapter, &template(2)).unwrap();
    assert_eq!(fs::read(&link).unwrap(), b"canary-2\nx");
    assert!(!target.exists());
    remove(&adapter, "x");
    assert_eq!(in_memory(&home.agent()), Vec::<PathBuf>::new());
}

fn secrets_are_not_laid_down_on_a_disk_or_where_others_write() {
    let home = Home::new();
    let template = json!({
        "command": ["/bin/sleep", "86400"],
        "files": {"token": {"secret": "token", "version": 1}},
    });
    let plain = home.wanted("x", "process", &template, Vec::new());
    let wanted = with(plain, &[("token", 1, b"canary")]);
    let refused = |directory: PathBuf| {
        let settings = holdfast_adapters::run::Settings {
            secrets: Some(directory),
            ..Default::default()
        };
        let all = holdfast_adapters::run::adapters_with(&home.agent(), Vec::new(), settings);
        let mut all = all.unwrap().into_iter();
        let adapter = all.find(|adapter| adapter.runtime() == "process").unwrap();
        match converge(&adapter, &wanted) {
            Err(Failure::Retryable(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    let on_disk = refused("/var/lib/holdfast-no-such".into());
    assert!(on_disk.contains("is not on a tmpfs"), "{on_disk}");
    assert!(on_disk.contains("secrets-directory"), "{on_disk}");
    let open = tempfile::tempdir_in("/dev/shm").unwrap();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(open.path(), everybody).unwrap();
    let shared = refused(open.path().to_owned());
    assert!(shared.contains("others may write to it"), "{shared}");
    let link = open.path().join("link");
    std::os::unix::fs::symlink("/var/lib", &link).unwrap();
    let link = refused(link);
    assert!(link.contains("somebody else's"), "{link}");
    assert_eq!(fs::read_dir(open.path()).unwrap().count(), 1);
    // A value that has not come is waited for.
    let adapter = home.open("process");
    let without = with(wanted.clone(), &[("other", 1, b"canary")]);
    let missing = converge(&adapter, &without).unwrap_err();
    assert!(format!("{missing:?}").contains("secret token is not here yet"));
}

/// It says what it was given wherever it can: the length where nobody minds, and once more where its words
/// are cut.
const LOUD: &str = r#"#!/bin/sh
request=$(cat)
id=$(printf %s "$request" | sed -n 's/.*"id":"\([^"]*\)".*/\1/p')
token=$(printf %s "$request" | sed -n 's/.*"text":"\([^"]*\)".*/\1/p')
case $request in
*'"operation":"describe"'*) echo '{"type":"result","protocol":1,"version":"1","template":{}}' ;;
*'"operation":"converge"'*)
    echo '{"type":"progress","message":"given '${#token}' '$token'"}'
    echo "the log has $token" >&2
    echo '{"type":"error","message":"it was '$token' '$(printf %0780d 0)$token'"}'
    exit 2 ;;
*) [ -z "$token" ] && echo '{"type":"result","workload":"'$id'","state":"running","problems":[]}' ;;
esac
"#;

fn a_plugin_is_given_secrets_on_its_standard_input_and_nowhere_else() {
    let home = Home::new();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    fs::set_permissions(home.path(), open).unwrap();
    let plugins = Plugins::new();
    plugins.add("loud", LOUD.as_bytes());
    let adapter = crate::plugin::open(&home.agent(), plugins.settings());
    let template = json!({"a": {"secret": "token", "version": 3}});
    let plain = home.wanted("x", "plugin/loud", &template, Vec::new());
    let wanted = with(plain, &[("token", 3, b"canary-77")]);
    let (progress, mut told) = mpsc::channel(64);
    let cancel = CancellationToken::new();
    let converged = runtime().block_on(adapter.converge(&wanted, &progress, &cancel));
    let why = format!("{:?}", converged.unwrap_err());
    assert!(why.contains("it was [secret]"), "{why}");
    assert!(!why.contains("0c"), "a part of it: {why}");
    let mut said = Vec::new();
    while let Ok(line) = told.try_recv() {
        said.push(line);
    }
    assert!(said.contains(&"given 9 [secret]".to_owned()), "{said:?}");
    let mut found = Vec::new();
    files_with(home.path(), "the log has [secret]", &mut found);
    assert_eq!(found.len(), 1, "{found:?}");
    files_with(home.path(), "canary", &mut found);
    assert_eq!(found.len(), 1, "{found:?}");
}

fn a_container_of_docker_engine_has_its_secrets_as_files() {
    if available("a_container_of_docker_engine_has_its_secrets_as_files") {
        files_in_containers(&ContainerBench::shared());
    }
}

fn a_container_of_podman_has_its_secrets_as_files() {
    if available("a_container_of_podman_has_its_secrets_as_files") {
        files_in_containers(&ContainerBench::own(Kind::Podman));
    }
}

fn files_in_containers(bench: &ContainerBench) {
    let driver = Driver::new(bench);
    let release = |version: u64| {
        let more = json!({
            "command": ["/bin/sh", "-c", "cat /etc/web/token | wc -c; id -u; exec sleep 86400"],
            "files": {"/etc/web/token": {"secret": "token", "version": version}},
            "user": "1000:1000",
        });
        let value = format!("canary-{version}");
        with(
            bench.release("kept", 1, &more),
            &[("token", version, value.as_bytes())],
        )
    };
    driver.converge(&release(1));
    eventually("it has read its secret", || {
        driver.lines("kept", ALL) == ["8", "1000"]
    });
    let seen = bench.containers("kept").remove(0);
    assert!(!format!("{seen:?}").contains("canary"), "{seen:?}");
    let mut found = Vec::new();
    files_with(bench.home.path(), "canary", &mut found);
    files_with(bench.engine.path(), "canary", &mut found);
    assert_eq!(found, Vec::<PathBuf>::new());
    let memory = in_memory(&bench.home.agent()).remove(0);
    files_with(&memory, "canary-1", &mut found);
    let file = fs::metadata(&found[0]).unwrap();
    assert_eq!((file.mode() & 0o7777, file.uid()), (0o400, 1000));
    // After a power cut the file is gone, and the same container is started again with it.
    let id = bench.id("kept");
    let kill = id.clone();
    let kill = |api: Docker| async move { api.kill_container(&kill, None).await };
    bench.engine.ask(kill).unwrap();
    fs::remove_dir_all(&memory).unwrap();
    driver.converge(&release(1));
    assert_eq!(bench.id("kept"), id);
    eventually("it has read its secret again", || {
        driver.lines("kept", ALL) == ["8", "1000", "8", "1000"]
    });
    driver.converge(&release(2));
    assert!(!found[0].exists());
    driver.remove("kept");
    assert_eq!(in_memory(&bench.home.agent()), Vec::<PathBuf>::new());
    // Nobody knows on this side of the container who `web` is, and nothing of a host's is led inside.
    let named = json!({
        "user": "web",
        "files": {"/token": {"secret": "token", "version": 1}},
    });
    let named = with(
        bench.release("named", 1, &named),
        &[("token", 1, b"canary")],
    );
    match driver.try_converge(&named) {
        Err(Failure::Permanent(why)) => assert!(why.contains("say user: by number"), "{why}"),
        other => panic!("{other:?}"),
    }
    for path in ["/dev/shm", "/run/holdfast-secrets"] {
        let spy = json!({"volumes": [format!("{path}:/spy:ro")]});
        match driver.try_converge(&bench.release("spy", 1, &spy)) {
            Err(Failure::Permanent(why)) => assert!(why.contains("may not be mounted"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

fn a_secret_stands_in_the_environment_of_a_container_only_where_that_is_allowed() {
    if !available("a_secret_stands_in_the_environment_of_a_container_only_where_that_is_allowed") {
        return;
    }
    let mut bench = ContainerBench::shared();
    let release = |bench: &ContainerBench| {
        let more = json!({
            "command": ["/bin/sh", "-c", "echo ${#TOKEN}; exec sleep 86400"],
            "environment": {"TOKEN": {"secret": "token", "version": 1}},
        });
        with(bench.release("open", 1, &more), &[("token", 1, b"canary")])
    };
    let driver = Driver::new(&bench);
    match driver.try_converge(&release(&bench)) {
        Err(Failure::Permanent(why)) => {
            assert!(why.contains("secrets-in-environment"), "{why}");
            assert!(!why.contains("canary"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    drop(driver);
    bench.settings.secrets_in_environment = true;
    let driver = Driver::new(&bench);
    driver.converge(&release(&bench));
    eventually("it has its secret", || driver.lines("open", ALL) == ["6"]);
    driver.remove("open");
}
