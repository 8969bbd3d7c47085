//! What is particular to containers: how they are made, changed behind the adapter's back, replaced.

use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerInspectResponse, HostConfig};
use bollard::query_parameters as query;
use holdfast_adapters::failure::Failure;
use holdfast_adapters::run::{Exit, Live, LogRequest};
use holdfast_protocol::name::ServiceName;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bench::{eventually, runtime};
use crate::bench_container::{ContainerBench, limits};
use crate::driver::Driver;
use crate::engine::{Kind, available};
use crate::registry;
use crate::table;

pub(crate) const TESTS: &[crate::Test] = &[
    ("docker_engine_conforms", docker_engine_conforms),
    ("podman_conforms", podman_conforms),
    (
        "a_container_is_made_as_its_template_says",
        a_container_is_made_as_its_template_says,
    ),
    (
        "every_kind_of_drift_is_named_repaired_and_announced",
        every_kind_of_drift,
    ),
    (
        "what_can_be_put_right_is_put_right_without_a_restart",
        what_can_be_put_right_is_put_right_without_a_restart,
    ),
    (
        "start_first_leaves_no_moment_without_a_release",
        start_first_leaves_no_moment_without_a_release,
    ),
    (
        "a_release_that_ends_at_once_does_not_take_the_old_one_with_it",
        a_release_that_ends_at_once_does_not_take_the_old_one_with_it,
    ),
    (
        "the_engines_own_health_check_says_what_is_ready",
        the_engines_own_health_check_says_what_is_ready,
    ),
    (
        "what_leads_to_the_engine_is_not_mounted_unless_allowed",
        what_leads_to_the_engine_is_not_mounted_unless_allowed,
    ),
    (
        "an_agent_that_lost_its_directory_adopts_its_containers",
        an_agent_that_lost_its_directory_adopts_its_containers,
    ),
    (
        "containers_of_others_are_never_touched",
        containers_of_others_are_never_touched,
    ),
    (
        "output_since_a_time_is_what_came_after_it",
        output_since_a_time_is_what_came_after_it,
    ),
];

/// Everything that there is so far.
pub(crate) const ALL: LogRequest = LogRequest {
    since: None,
    tail: usize::MAX,
    follow: false,
};

fn docker_engine_conforms() {
    if available("docker_engine_conforms") {
        conforms(&ContainerBench::shared());
    }
}

fn podman_conforms() {
    if available("podman_conforms") {
        conforms(&ContainerBench::own(Kind::Podman));
    }
}

fn conforms(bench: &ContainerBench) {
    let report = runtime().block_on(holdfast_adapters::conformance::run(bench));
    table::conform(&[report]);
}

fn a_container_is_made_as_its_template_says() {
    if !available("a_container_is_made_as_its_template_says") {
        return;
    }
    let bench = ContainerBench::shared();
    let driver = Driver::new(&bench);
    let shared = bench.directory("shared");
    std::fs::write(shared.join("file"), "from the host").unwrap();
    let script = "exec 2>/dev/null; id -u; id -g; cat /shared/file; echo; echo $COLOUR; echo x >/tmp/x && echo wrote tmp; \
                  echo x >/x || echo read only; echo x >/shared/y || echo shared is read only; \
                  ls -d $PWD; echo $1 $2; exec sleep 1000";
    let more = json!({
        "command": ["/bin/sh", "-c", script, "name"],
        "args": ["one", "two"],
        "environment": {"COLOUR": "blue = green"},
        "user": "1000:1001",
        "workingDirectory": "/etc",
        "volumes": [format!("{}:/shared:ro", shared.display()), "tmpfs:/tmp", "hf-test-data:/data"],
        "labels": {"team": "web"},
        "limits": {"memory": "48MiB", "cpu": 0.5, "openFiles": 1024, "pids": 50},
        "readOnly": true,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        "stop": {"signal": "SIGKILL"},
    });
    driver.converge(&bench.release("made", 1, &more));
    let said = || driver.lines("made", ALL).join("\n");
    eventually("its last line", || said().ends_with("one two"));
    let expected = "1000\n1001\nfrom the host\nblue = green\nwrote tmp\n";
    assert!(said().starts_with(expected), "{}", said());
    for line in ["\nread only\n", "\nshared is read only\n", "\n/etc\n"] {
        assert!(said().contains(line), "{line} in {}", said());
    }
    let mut all = bench.containers("made");
    let seen = all.remove(0);
    let host = seen.host_config.clone().unwrap();
    assert_eq!(host.memory, Some(48 << 20));
    assert_eq!(host.memory_swap, Some(48 << 20));
    assert_eq!(
        (host.nano_cpus, host.pids_limit),
        (Some(500_000_000), Some(50))
    );
    assert_eq!(host.ulimits.unwrap()[0].hard, Some(1024));
    assert_eq!(
        (host.privileged, host.cap_drop),
        (Some(false), Some(vec!["ALL".to_owned()]))
    );
    check_labels(&seen);
    driver.remove("made");
    // A volume with a name is data: it stays.
    let volume = |api: Docker| async move {
        let found = api.inspect_volume("hf-test-data").await.is_ok();
        let removed = api
            .remove_volume("hf-test-data", None::<query::RemoveVolumeOptions>)
            .await
            .is_ok();
        (found, removed)
    };
    assert_eq!(bench.engine.ask(volume), (true, true));
}

fn check_labels(seen: &ContainerInspectResponse) {
    let labels = seen.config.as_ref().unwrap().labels.clone().unwrap();
    assert_eq!(labels["team"], "web");
    assert_eq!(labels["holdfast.service"], "made");
    assert_eq!(labels["holdfast.version"], "1.0");
}

type Harm = fn(&ContainerBench, String);

/// What somebody does, what is said of it, and whether the same container goes on.
const HARMS: &[(&str, Harm, &str, bool)] = &[
    ("remove", |b, id| force_remove(b, &id), "was removed", false),
    (
        "stop",
        |b, id| {
            let stop = |api: Docker| async move { api.stop_container(&id, None).await };
            b.engine.ask(stop).unwrap();
        },
        "stopped from outside",
        true,
    ),
    (
        "kill",
        |b, id| {
            let kill = |api: Docker| async move { api.kill_container(&id, None).await };
            b.engine.ask(kill).unwrap();
        },
        "sent signal 9 from outside",
        true,
    ),
    (
        "pause",
        |b, id| {
            let pause = |api: Docker| async move { api.pause_container(&id).await };
            b.engine.ask(pause).unwrap();
        },
        "was paused",
        true,
    ),
    (
        "update",
        |b, id| {
            let update =
                |api: Docker| async move { api.update_container(&id, limits(32 << 20)).await };
            b.engine.ask(update).unwrap();
        },
        "its memory limit is 33554432, not 67108864",
        true,
    ),
    (
        "restart policy",
        |b, id| {
            let policy = bollard::models::RestartPolicy {
                name: Some(bollard::models::RestartPolicyNameEnum::ALWAYS),
                maximum_retry_count: None,
            };
            let body = bollard::models::ContainerUpdateBody {
                restart_policy: Some(policy),
                ..Default::default()
            };
            let update = |api: Docker| async move { api.update_container(&id, body).await };
            b.engine.ask(update).unwrap();
        },
        "its restart policy is \"always\", not \"\"",
        true,
    ),
    (
        "rename",
        |b, id| {
            let name = query::RenameContainerOptionsBuilder::default()
                .name("mine-now")
                .build();
            let rename = |api: Docker| async move { api.rename_container(&id, name).await };
            b.engine.ask(rename).unwrap();
        },
        "its name is \"mine-now\"",
        true,
    ),
    (
        "pids limit where there was none",
        |b, id| {
            let body = bollard::models::ContainerUpdateBody {
                cpu_shares: Some(77),
                ..Default::default()
            };
            let update = |api: Docker| async move { api.update_container(&id, body).await };
            b.engine.ask(update).unwrap();
        },
        "its share of processors is 77, not 0",
        false,
    ),
];

pub(crate) fn force_remove(bench: &ContainerBench, id: &str) {
    let force = query::RemoveContainerOptionsBuilder::default()
        .force(true)
        .build();
    let remove = |api: Docker| async move { api.remove_container(id, Some(force)).await };
    bench.engine.ask(remove).unwrap();
}

fn every_kind_of_drift() {
    if !available("every_kind_of_drift_is_named_repaired_and_announced") {
        return;
    }
    let bench = ContainerBench::shared();
    let driver = Driver::new(&bench);
    let mut changes = driver.adapter.changes();
    // Policy never: what ends by itself stays; what somebody ended does not.
    let more = json!({"limits": {"memory": "64MiB"}, "restart": {"policy": "never"}});
    let wanted = bench.release("drift", 1, &more);
    driver.converge(&wanted);
    for (name, harm, said, same) in HARMS {
        let id = bench.id("drift");
        eventually("nothing more is announced", || driver.runs("drift"));
        while changes.try_recv().is_ok() {}
        harm(&bench, id.clone());
        let announced = driver
            .runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(5), changes.recv()).await });
        let announced = announced.unwrap_or_else(|_| panic!("{name} was not announced"));
        assert_eq!(announced.unwrap().as_str(), "drift");
        eventually("it is seen", || !driver.runs("drift"));
        let what = driver.altered("drift");
        assert!(what.contains(said), "{name}: {what}");
        let seen = driver.observe("drift").unwrap();
        assert_eq!(seen.body, Some(wanted.body), "{name}");
        driver.converge(&wanted);
        assert!(
            driver.runs("drift"),
            "{name}: {:?}",
            driver.observe("drift")
        );
        assert_eq!(bench.id("drift") == id, *same, "{name}");
    }
    driver.remove("drift");
}

fn what_can_be_put_right_is_put_right_without_a_restart() {
    if !available("what_can_be_put_right_is_put_right_without_a_restart") {
        return;
    }
    let bench = ContainerBench::shared();
    let driver = Driver::new(&bench);
    let wanted = bench.release("mended", 1, &json!({"limits": {"memory": "64MiB"}}));
    driver.converge(&wanted);
    let before = driver.observe("mended").unwrap();
    let id = bench.id("mended");
    let name = query::RenameContainerOptionsBuilder::default()
        .name("mine")
        .build();
    bench.engine.ask(|api: Docker| async move {
        api.rename_container(&id, name).await.unwrap();
        api.update_container(&id, limits(128 << 20)).await.unwrap();
    });
    let what = driver.altered("mended");
    assert!(
        what.contains("its name is \"mine\"") && what.contains("its memory limit"),
        "{what}"
    );
    driver.converge(&wanted);
    assert_eq!(
        driver.observe("mended").unwrap(),
        before,
        "the same run goes on"
    );
    let host: HostConfig = bench.containers("mended").remove(0).host_config.unwrap();
    assert_eq!(host.memory, Some(64 << 20));
    driver.remove("mended");
}

fn start_first_leaves_no_moment_without_a_release() {
    if !available("start_first_leaves_no_moment_without_a_release") {
        return;
    }
    let bench = ContainerBench::shared();
    let driver = Driver::new(&bench);
    let release = |n| bench.release("smooth", n, &json!({"update": "start-first"}));
    driver.converge(&release(1));
    let service = ServiceName::parse("smooth").unwrap();
    let alive = || holdfast_adapters::conformance::Subject::alive(&bench, &service);
    let (progress, _told) = mpsc::channel(64);
    let cancel = CancellationToken::new();
    let (mut both, second) = (0, release(2));
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let converge = driver.adapter.converge(&second, &progress, &cancel);
            driver.runtime.block_on(converge)
        });
        while !work.is_finished() {
            let seen = alive();
            assert!(!seen.is_empty(), "there was a moment without a release");
            both += u32::from(seen == [1, 2]);
        }
        work.join().unwrap().unwrap();
    });
    assert!(both > 0, "both ran for a while");
    assert_eq!(alive(), [2]);
    driver.remove("smooth");
}

fn a_release_that_ends_at_once_does_not_take_the_old_one_with_it() {
    if !available("a_release_that_ends_at_once_does_not_take_the_old_one_with_it") {
        return;
    }
    let bench = ContainerBench::shared();
    let driver = Driver::new(&bench);
    let ends = json!({"update": "start-first", "command": ["/bin/sh", "-c", "exit 3"]});
    let good = bench.release("steady", 1, &json!({"update": "start-first"}));
    driver.converge(&good);
    let before = driver.observe("steady").unwrap();
    match driver.try_converge(&bench.release("steady", 2, &ends)) {
        Err(Failure::Retryable(why)) => assert!(why.contains("exit code 3"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(driver.observe("steady").unwrap(), before);
    // Where there is nothing to protect, its end is seen and the restart policy decides.
    driver.converge(&bench.release("hasty", 2, &ends));
    eventually("its end is seen", || {
        let live = driver.observe("hasty").map(|seen| seen.live);
        matches!(
            live,
            Some(Live::Ended {
                exit: Exit::Code(3),
                ..
            })
        )
    });
    let missing = json!({"command": ["/no/such/program"]});
    match driver.try_converge(&bench.release("hasty", 1, &missing)) {
        Err(Failure::Permanent(why)) => assert!(why.contains("/no/such/program"), "{why}"),
        other => panic!("{other:?}"),
    }
    driver.remove("steady");
    driver.remove("hasty");
}

fn the_engines_own_health_check_says_what_is_ready() {
    if !available("the_engines_own_health_check_says_what_is_ready") {
        return;
    }
    let bench = ContainerBench::shared();
    let driver = Driver::new(&bench);
    let shared = bench.directory("health");
    let health = json!({
        "command": ["/bin/sh", "-c", "cat /health/ready"],
        "interval": "200ms", "timeout": "5s", "retries": 2,
    });
    let volumes = [format!("{}:/health:ro", shared.display())];
    let wanted = bench.release("checked", 1, &json!({"health": health, "volumes": volumes}));
    driver.converge(&wanted);
    let live = || driver.observe("checked").unwrap().live;
    assert!(
        matches!(live(), Live::Unready { failing: false, .. }),
        "{:?}",
        live()
    );
    let fails = || match live() {
        Live::Unready { why, failing, .. } => failing && why.contains("/health/ready"),
        Live::Running { .. } | Live::Ended { .. } | Live::Altered { .. } => false,
    };
    eventually("its failing check", fails);
    std::fs::write(shared.join("ready"), "yes").unwrap();
    eventually("its passing check", || {
        matches!(live(), Live::Running { .. })
    });
    // The image's own check counts, too, until the template switches it off.
    let own = json!({"Healthcheck": {"Test": ["CMD", "/no"], "Interval": 100_000_000}});
    let image = bench.registry.push("sick", &registry::image(7, &own));
    driver.converge(&bench.release("checked", 1, &json!({"image": &image})));
    eventually("the image's failing check", || {
        matches!(live(), Live::Unready { failing: true, .. })
    });
    driver.converge(&bench.release("checked", 1, &json!({"image": image, "health": "none"})));
    assert!(driver.runs("checked"));
    driver.remove("checked");
}

fn what_leads_to_the_engine_is_not_mounted_unless_allowed() {
    if !available("what_leads_to_the_engine_is_not_mounted_unless_allowed") {
        return;
    }
    let mut bench = ContainerBench::shared();
    let socket = bench.engine.socket();
    let volume = |path: &std::path::Path| json!({"volumes": [format!("{}:/x", path.display())]});
    let driver = Driver::new(&bench);
    for path in [
        socket.as_path(),
        socket.parent().unwrap(),
        &bench.home.agent(),
        "/".as_ref(),
    ] {
        match driver.try_converge(&bench.release("bold", 1, &volume(path))) {
            Err(Failure::Permanent(why)) => assert!(why.contains("volumes[0]"), "{why}"),
            other => panic!("{path:?}: {other:?}"),
        }
    }
    assert!(bench.containers("bold").is_empty());
    bench.settings.mounts = vec![socket.clone()];
    let driver = Driver::new(&bench);
    driver.converge(&bench.release("bold", 1, &volume(&socket)));
    driver.remove("bold");
}

fn an_agent_that_lost_its_directory_adopts_its_containers() {
    if !available("an_agent_that_lost_its_directory_adopts_its_containers") {
        return;
    }
    let bench = ContainerBench::shared();
    let wanted = bench.release("kept", 1, &json!({}));
    Driver::new(&bench).converge(&wanted);
    let id = bench.id("kept");
    std::fs::remove_dir_all(bench.home.agent().join("container")).unwrap();
    let driver = Driver::new(&bench);
    let seen = driver.observe("kept").expect("it is found by its labels");
    assert_eq!(seen.body, Some(wanted.body));
    driver.converge(&wanted);
    assert!(driver.runs("kept"));
    assert_eq!(bench.id("kept"), id, "it was not started again");
    driver.remove("kept");
    assert!(bench.containers("kept").is_empty());
}

fn containers_of_others_are_never_touched() {
    if !available("containers_of_others_are_never_touched") {
        return;
    }
    let (one, other) = (ContainerBench::shared(), ContainerBench::shared());
    let (first, second) = (Driver::new(&one), Driver::new(&other));
    first.converge(&one.release("web", 1, &json!({})));
    second.converge(&other.release("web", 2, &json!({})));
    let before = (one.id("web"), other.id("web"));
    assert_eq!(first.try_observe().unwrap().len(), 1);
    first.converge(&one.release("web", 3, &json!({})));
    first.remove("web");
    assert!(one.containers("web").is_empty());
    assert_eq!(other.id("web"), before.1);
    assert!(second.runs("web"));
    second.remove("web");
}

fn output_since_a_time_is_what_came_after_it() {
    if !available("output_since_a_time_is_what_came_after_it") {
        return;
    }
    let bench = ContainerBench::shared();
    let driver = Driver::new(&bench);
    let gate = bench.directory("gate");
    let script = "echo early; while ! cat /gate/open 2>/dev/null; do sleep 0.1; done; echo late; exec sleep 1000";
    let more: Value = json!({
        "command": ["/bin/sh", "-c", script],
        "volumes": [format!("{}:/gate:ro", gate.display())],
        "stop": {"signal": "SIGKILL"},
    });
    driver.converge(&bench.release("talks", 1, &more));
    eventually("its first line", || driver.lines("talks", ALL) == ["early"]);
    let service = ServiceName::parse("talks").unwrap();
    let first = driver.runtime.block_on(async {
        let mut lines = driver.adapter.logs(&service, ALL).await.unwrap();
        lines.recv().await.unwrap()
    });
    std::fs::write(gate.join("open"), "").unwrap();
    eventually("its last line", || {
        driver.lines("talks", ALL) == ["early", "late"]
    });
    let since = LogRequest {
        since: first.at,
        ..ALL
    };
    assert_eq!(driver.lines("talks", since), ["late"]);
    assert_eq!(
        driver.lines("talks", LogRequest { tail: 1, ..ALL }),
        ["late"]
    );
    driver.remove("talks");
}
