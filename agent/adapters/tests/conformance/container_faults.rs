//! Container engines that go away, hang, refuse, or are many workloads' at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::query_parameters as query;
use holdfast_adapters::conformance::Subject as _;
use holdfast_adapters::failure::Failure;
use holdfast_adapters::run::Live;
use holdfast_protocol::name::ServiceName;
use serde_json::json;

use crate::bench::{eventually, within};
use crate::bench_container::ContainerBench;
use crate::driver::Driver;
use crate::engine::{Kind, available};
use crate::killed;
use crate::proxy::{Manner, Proxy, changes};

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "an_engine_that_is_away_is_unknown_and_its_return_is_announced",
        an_engine_that_is_away_is_unknown_and_its_return_is_announced,
    ),
    (
        "an_engine_that_hangs_or_refuses_for_a_while_harms_nothing",
        an_engine_that_hangs_or_refuses_for_a_while_harms_nothing,
    ),
    (
        "two_hundred_unchanged_workloads_ask_docker_engine_for_no_change",
        two_hundred_unchanged_workloads_ask_docker_engine_for_no_change,
    ),
    (
        "two_hundred_unchanged_workloads_ask_podman_for_no_change",
        two_hundred_unchanged_workloads_ask_podman_for_no_change,
    ),
    (
        "agent_and_engine_killed_together_converge_later",
        agent_and_engine_killed_together_converge_later,
    ),
    (
        "an_engine_that_ends_in_the_middle_is_taken_up_again",
        an_engine_that_ends_in_the_middle_is_taken_up_again,
    ),
    (
        "an_agent_without_containers_asks_the_engine_once",
        an_agent_without_containers_asks_the_engine_once,
    ),
];

fn an_engine_that_is_away_is_unknown_and_its_return_is_announced() {
    if !available("an_engine_that_is_away_is_unknown_and_its_return_is_announced") {
        return;
    }
    for kind in [Kind::Docker, Kind::Podman] {
        comes_back(ContainerBench::own(kind));
    }
}

fn comes_back(mut bench: ContainerBench) {
    let driver = Driver::new(&bench);
    let mut announced = driver.adapter.changes();
    let wanted = bench.release("survivor", 1, &json!({}));
    let other = bench.release("survivor", 2, &json!({}));
    driver.converge(&wanted);
    for crash in [false, true] {
        eventually("nothing more is announced", || driver.runs("survivor"));
        while announced.try_recv().is_ok() {}
        let engine = Arc::get_mut(&mut bench.engine).unwrap();
        if crash {
            engine.crash()
        } else {
            engine.stop()
        }
        let next = |announced: &mut tokio::sync::mpsc::Receiver<ServiceName>| {
            let patience = Duration::from_secs(20);
            let wait = async { tokio::time::timeout(patience, announced.recv()).await };
            driver.runtime.block_on(wait).unwrap().unwrap()
        };
        assert_eq!(next(&mut announced).as_str(), "survivor");
        match driver.try_observe() {
            Err(Failure::Retryable(why)) => assert!(why.contains("container engine"), "{why}"),
            other => panic!("{other:?} is seen of an engine that is away"),
        }
        assert!(matches!(
            driver.try_converge(&other),
            Err(Failure::Retryable(_))
        ));
        while announced.try_recv().is_ok() {}
        Arc::get_mut(&mut bench.engine).unwrap().go_on();
        // Its return is announced without anybody looking.
        assert_eq!(next(&mut announced).as_str(), "survivor");
        let seen = driver.observe("survivor").expect("it is known");
        assert_eq!(seen.body, Some(wanted.body));
        driver.converge(&wanted);
        assert!(driver.runs("survivor"), "after crash {crash}");
        let service = ServiceName::parse("survivor").unwrap();
        assert_eq!(bench.alive(&service), [1]);
    }
    driver.remove("survivor");
}

fn an_engine_that_hangs_or_refuses_for_a_while_harms_nothing() {
    if !available("an_engine_that_hangs_or_refuses_for_a_while_harms_nothing") {
        return;
    }
    for bench in [ContainerBench::shared(), ContainerBench::own(Kind::Podman)] {
        is_patient(bench);
    }
}

fn is_patient(mut bench: ContainerBench) {
    let proxy = Proxy::start(&bench.engine.socket());
    bench.settings.socket = Some(proxy.socket());
    let driver = Driver::new(&bench);
    let wanted = bench.release("patient", 1, &json!({}));
    driver.converge(&wanted);
    let id = bench.id("patient");
    for (manner, said) in [
        (Manner::Broken, "out of order"),
        (Manner::Silent, "within 10 s"),
    ] {
        proxy.be(manner);
        let begun = Instant::now();
        let second = driver.try_converge(&bench.release("patient", 2, &json!({})));
        match second {
            Err(Failure::Retryable(why)) => assert!(why.contains(said), "{why}"),
            other => panic!("{other:?}"),
        }
        match driver.try_observe() {
            Err(Failure::Retryable(why)) => assert!(why.contains(said), "{why}"),
            other => panic!("{other:?}"),
        }
        println!("{manner:?}: two answers after {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(25));
        proxy.be(Manner::Honest);
        eventually("it is seen again", || driver.runs("patient"));
        assert_eq!(bench.id("patient"), id);
    }
    driver.converge(&bench.release("patient", 2, &json!({})));
    driver.remove("patient");
}

fn two_hundred_unchanged_workloads_ask_docker_engine_for_no_change() {
    if available("two_hundred_unchanged_workloads_ask_docker_engine_for_no_change") {
        many_unchanged_workloads_ask_for_no_change(ContainerBench::own(Kind::Docker));
    }
}

fn two_hundred_unchanged_workloads_ask_podman_for_no_change() {
    if available("two_hundred_unchanged_workloads_ask_podman_for_no_change") {
        many_unchanged_workloads_ask_for_no_change(ContainerBench::own(Kind::Podman));
    }
}

fn many_unchanged_workloads_ask_for_no_change(mut bench: ContainerBench) {
    const WORKLOADS: usize = 200;
    // Two hundred of them begin on a machine that has other tests to run.
    const PATIENCE: Duration = Duration::from_secs(120);
    let kind = bench.engine.kind;
    let proxy = Proxy::start(&bench.engine.socket());
    bench.settings.socket = Some(proxy.socket());
    let driver = Driver::new(&bench);
    let light = json!({"command": ["/bin/sleep", "86400"], "stop": {"signal": "SIGKILL"}});
    let wanted: Vec<_> = (0..WORKLOADS)
        .map(|i| bench.release(&format!("many-{i}"), 1, &light))
        .collect();
    let begun = Instant::now();
    driver.converge_all(&wanted);
    println!(
        "{kind:?}: {WORKLOADS} containers after {:?}",
        begun.elapsed()
    );
    let all_run = || {
        let seen = driver.try_observe().unwrap();
        let running = seen
            .iter()
            .filter(|seen| matches!(seen.live, Live::Running { .. }));
        running.count() == WORKLOADS
    };
    let by_the_engine = query::ListContainersOptionsBuilder::default().build();
    let list = |api: Docker| async move { api.list_containers(Some(by_the_engine)).await };
    assert_eq!(bench.engine.ask(list).unwrap().len(), WORKLOADS);
    // Events of the last start may still come; then what was seen is believed.
    let settled = || {
        proxy.asked();
        all_run() && proxy.asked() == ["GET /containers/json"]
    };
    within(PATIENCE, "a look that asks for nothing but a list", settled);
    let begun = Instant::now();
    driver.converge_all(&wanted);
    let asked = proxy.asked();
    let changing: Vec<_> = asked.iter().filter(|request| changes(request)).collect();
    println!(
        "{kind:?}: converging {WORKLOADS} unchanged workloads: {} requests, {:?}",
        asked.len(),
        begun.elapsed()
    );
    assert_eq!(changing, Vec::<&String>::new());
    assert!(asked.len() <= 2 * WORKLOADS, "{}", asked.len());
    let begun = Instant::now();
    driver.remove_all(&wanted);
    println!("{kind:?}: removed after {:?}", begun.elapsed());
    assert_eq!(driver.try_observe().unwrap(), []);
}

fn agent_and_engine_killed_together_converge_later() {
    if !available("agent_and_engine_killed_together_converge_later") {
        return;
    }
    for kind in [Kind::Docker, Kind::Podman] {
        converges_after_kills(ContainerBench::own(kind));
    }
}

fn converges_after_kills(mut bench: ContainerBench) {
    const KILLS: u32 = 6;
    let kind = bench.engine.kind;
    let socket = bench.engine.socket();
    let service = ServiceName::parse("victim").unwrap();
    let releases =
        [1, 2].map(|n| bench.release("victim", n, &json!({"stop": {"signal": "SIGKILL"}})));
    for i in 0..KILLS {
        let agent = killed::spawn_at(&bench.home, "container", "always", &releases, &socket);
        killed::kill_after(
            agent,
            Duration::from_millis(u64::from(120 * i)) + killed::pause(i),
        );
        Arc::get_mut(&mut bench.engine).unwrap().crash();
        Arc::get_mut(&mut bench.engine).unwrap().go_on();
        let last = [releases[i as usize % 2].clone()];
        killed::finish(killed::spawn_at(
            &bench.home,
            "container",
            "once",
            &last,
            &socket,
        ));
        eventually("one container of the wanted release", || {
            bench.alive(&service) == [i % 2 + 1]
        });
        let all = bench.containers("victim").len();
        assert_eq!(all, 1, "{kind:?}: after kill {i}");
    }
    Driver::new(&bench).remove("victim");
}

/// Ends the engine in the moment in which it is asked for the first change, the second, and so on.
fn an_engine_that_ends_in_the_middle_is_taken_up_again() {
    const CHANGES: usize = 6;
    if !available("an_engine_that_ends_in_the_middle_is_taken_up_again") {
        return;
    }
    for kind in [Kind::Docker, Kind::Podman] {
        let mut bench = ContainerBench::own(kind);
        let proxy = Proxy::start(&bench.engine.socket());
        bench.settings.socket = Some(proxy.socket());
        let driver = Driver::new(&bench);
        let release = |n: u32| bench.release("middle", n, &json!({"stop": {"signal": "SIGKILL"}}));
        let releases = [release(1), release(2)];
        driver.converge(&releases[0]);
        let mut cut = 0;
        for step in 1..=CHANGES {
            let wanted = &releases[step % 2];
            proxy.asked();
            let result = std::thread::scope(|scope| {
                let work = scope.spawn(|| driver.try_converge(wanted));
                while proxy.changes() < step && !work.is_finished() {
                    std::thread::sleep(Duration::from_micros(200));
                }
                let engine = Arc::get_mut(&mut bench.engine).unwrap();
                match step % 3 {
                    0 => engine.stop(),
                    _ => engine.crash(),
                }
                work.join().unwrap()
            });
            println!("{kind:?}: ended at change {step}: {result:?}");
            match result {
                Ok(()) => {}
                Err(Failure::Retryable(_)) => cut += 1,
                Err(other) => panic!("{kind:?}: {other:?}"),
            }
            Arc::get_mut(&mut bench.engine).unwrap().go_on();
            eventually("it is brought to its end", || {
                driver.try_converge(wanted).is_ok()
            });
            let expected = u32::try_from(step % 2).unwrap() + 1;
            let service = ServiceName::parse("middle").unwrap();
            eventually("the wanted release runs", || {
                bench.alive(&service) == [expected]
            });
            assert_eq!(bench.containers("middle").len(), 1, "{kind:?}: {step}");
        }
        assert!(cut > 0, "{kind:?}: it was never cut in the middle");
        driver.remove("middle");
    }
}

fn an_agent_without_containers_asks_the_engine_once() {
    if !available("an_agent_without_containers_asks_the_engine_once") {
        return;
    }
    let mut bench = ContainerBench::shared();
    let proxy = Proxy::start(&bench.engine.socket());
    bench.settings.socket = Some(proxy.socket());
    let driver = Driver::new(&bench);
    for _ in 0..3 {
        assert_eq!(driver.try_observe().unwrap(), []);
    }
    assert_eq!(proxy.asked(), ["GET /version", "GET /containers/json"]);
    // Nor does an engine that hangs, or none at all, matter to it.
    let silent = Driver::new(&bench);
    bench.settings.socket = Some("/nonexistent/engine.sock".into());
    let absent = Driver::new(&bench);
    proxy.be(Manner::Silent);
    assert_eq!(silent.try_observe().unwrap(), []);
    assert_eq!(absent.try_observe().unwrap(), []);
    absent.remove("never-there");
    match absent.try_converge(&bench.release("never-there", 1, &json!({}))) {
        Err(Failure::Retryable(why)) => assert!(why.contains("start Docker or Podman"), "{why}"),
        other => panic!("{other:?}"),
    }
}
