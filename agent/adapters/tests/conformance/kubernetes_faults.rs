//! Clusters that go away, hang, refuse, or are many workloads' at once.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use holdfast_adapters::conformance::Subject as _;
use holdfast_adapters::failure::Failure;
use holdfast_adapters::run::Live;
use holdfast_protocol::name::ServiceName;
use serde_json::{Value, json};

use crate::bench::patiently;
use crate::bench_kubernetes::{KubernetesBench, available, config_map, deployment};
use crate::cluster::{AGENT, LIMITED};
use crate::driver::Driver;
use crate::killed;

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "a_cluster_that_is_away_is_unknown_and_its_return_is_announced",
        a_cluster_that_is_away_is_unknown_and_its_return_is_announced,
    ),
    (
        "a_cluster_that_hangs_or_fails_for_a_while_harms_nothing",
        a_cluster_that_hangs_or_fails_for_a_while_harms_nothing,
    ),
    (
        "what_the_agent_may_not_do_is_named",
        what_the_agent_may_not_do_is_named,
    ),
    (
        "credentials_that_are_renewed_are_read_again",
        credentials_that_are_renewed_are_read_again,
    ),
    (
        "a_cluster_that_goes_away_in_the_middle_is_brought_to_its_end_later",
        a_cluster_that_goes_away_in_the_middle_is_brought_to_its_end_later,
    ),
    (
        "agent_and_cluster_killed_together_converge_later",
        agent_and_cluster_killed_together_converge_later,
    ),
    (
        "rights_in_one_namespace_are_enough_for_it",
        rights_in_one_namespace_are_enough_for_it,
    ),
    (
        "two_hundred_unchanged_sets_ask_for_no_change",
        two_hundred_unchanged_sets_ask_for_no_change,
    ),
    (
        "an_agent_without_sets_asks_the_cluster_once",
        an_agent_without_sets_asks_the_cluster_once,
    ),
];

/// A port in front of the API server's, which can lead nowhere, or to one that is out of order.
struct Gate {
    port: u16,
    leads_to: Arc<AtomicU16>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

/// Where connections are taken and nothing is said.
const NOWHERE: u16 = 0;

impl Gate {
    fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Self {
            port: listener.local_addr().unwrap().port(),
            leads_to: Arc::new(AtomicU16::new(to)),
            open: Arc::default(),
        };
        let (leads_to, open) = (Arc::clone(&gate.leads_to), Arc::clone(&gate.open));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                open.lock().unwrap().push(client.try_clone().unwrap());
                match leads_to.load(Ordering::SeqCst) {
                    NOWHERE => {}
                    port => {
                        if let Ok(server) = TcpStream::connect(("127.0.0.1", port)) {
                            open.lock().unwrap().push(server.try_clone().unwrap());
                            join(client, server);
                        }
                    }
                }
            }
        });
        gate
    }

    /// What is open is cut off; what comes is led there.
    fn lead_to(&self, port: u16) {
        self.leads_to.store(port, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn join(client: TcpStream, server: TcpStream) {
    let (mut up, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (mut down, mut from) = (client, server);
    std::thread::spawn(move || {
        let _ = copy(&mut up, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        let _ = copy(&mut from, &mut down);
        let _ = down.shutdown(Shutdown::Both);
    });
}

fn copy(from: &mut TcpStream, to: &mut TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            read => to.write_all(&buffer[..read])?,
        }
    }
}

fn a_cluster_that_is_away_is_unknown_and_its_return_is_announced() {
    if !available("a_cluster_that_is_away_is_unknown_and_its_return_is_announced") {
        return;
    }
    let mut bench = KubernetesBench::own("away");
    let driver = Driver::new(&bench);
    let mut changes = driver.adapter.changes();
    let web = |release: &str| {
        let mut web = deployment("web", "web", "exec sleep 86400");
        web["spec"]["template"]["metadata"]["labels"]["release"] = json!(release);
        web
    };
    let wanted = bench.set("web", &[web("1")], &json!({}));
    let other = bench.set("web", &[web("2")], &json!({}));
    driver.converge(&wanted);
    driver.await_running("web");
    while changes.try_recv().is_ok() {}
    Arc::get_mut(&mut bench.cluster).unwrap().stop();
    let mut next = || {
        let patience = Duration::from_secs(60);
        let wait = async { tokio::time::timeout(patience, changes.recv()).await };
        driver.runtime.block_on(wait).unwrap().unwrap()
    };
    assert_eq!(next().as_str(), "web");
    match driver.try_observe() {
        Err(Failure::Retryable(why)) => assert!(why.contains("cannot be reached"), "{why}"),
        other => panic!("{other:?} is seen of a cluster that is away"),
    }
    assert!(matches!(
        driver.try_converge(&other),
        Err(Failure::Retryable(_))
    ));
    let service = ServiceName::parse("web").unwrap();
    let removed = driver.runtime.block_on(driver.adapter.remove(&service));
    assert!(matches!(removed, Err(Failure::Retryable(_))), "{removed:?}");
    Arc::get_mut(&mut bench.cluster).unwrap().go_on();
    while next().as_str() != "web" {}
    patiently("it is seen again", || {
        driver.try_observe().is_ok_and(|seen| {
            let seen = seen.into_iter().next().unwrap();
            seen.body == Some(wanted.body) && matches!(seen.live, Live::Running { .. })
        })
    });
    // Drift is told again, too.
    let path = bench.path("apps/v1/deployments/web");
    bench.cluster.edit(
        &path,
        &json!({"metadata": {"labels": {"holdfast.service": "x"}}}),
    );
    driver.await_altered("web");
    driver.converge(&other);
    driver.await_running("web");
    assert_eq!(bench.alive(&service), [2]);
    driver.remove("web");
}

fn a_cluster_that_hangs_or_fails_for_a_while_harms_nothing() {
    if !available("a_cluster_that_hangs_or_fails_for_a_while_harms_nothing") {
        return;
    }
    let mut bench = KubernetesBench::shared("patient");
    let gate = Gate::start(bench.cluster.port());
    bench.settings.kubeconfig = Some(bench.cluster.kubeconfig(AGENT, Some(gate.port)));
    let driver = Driver::new(&bench);
    let map = |n: u32| config_map("conf", &json!({"release": n.to_string()}));
    let wanted = bench.set("patient", &[map(1)], &json!({}));
    driver.converge(&wanted);
    driver.await_running("patient");
    let before = bench.get("configmaps/conf");
    for (port, said) in [
        (bench.cluster.broken_port(), "out of order"),
        (NOWHERE, "within 10 s"),
    ] {
        gate.lead_to(port);
        let begun = Instant::now();
        match driver.try_converge(&bench.set("patient", &[map(2)], &json!({}))) {
            Err(Failure::Retryable(why)) => assert!(why.contains(said), "{why}"),
            other => panic!("{other:?}"),
        }
        match driver.try_observe() {
            Err(Failure::Retryable(why)) => assert!(why.contains(said), "{why}"),
            other => panic!("{other:?}"),
        }
        println!("{said}: two answers after {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(40));
        gate.lead_to(bench.cluster.port());
        patiently("it is seen again", || {
            driver.try_observe().is_ok_and(|seen| {
                matches!(seen[0].live, Live::Running { .. }) && seen[0].body == Some(wanted.body)
            })
        });
        assert_eq!(bench.get("configmaps/conf"), before);
    }
    driver.converge(&bench.set("patient", &[map(2)], &json!({})));
    driver.await_running("patient");
    driver.remove("patient");
}

/// Lets the user `limited` do something in a namespace.
fn allow(bench: &KubernetesBench, name: &str, namespace: &str, rules: &Value) {
    let api = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": name}, "rules": rules});
    bench.cluster.create(&format!("{api}/roles"), &role);
    let subject =
        json!({"kind": "User", "name": "limited", "apiGroup": "rbac.authorization.k8s.io"});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name}, "subjects": [subject],
        "roleRef": {"kind": "Role", "name": name, "apiGroup": "rbac.authorization.k8s.io"}});
    bench
        .cluster
        .create(&format!("{api}/rolebindings"), &binding);
}

fn records(bench: &KubernetesBench, name: &str) {
    let verbs = json!(["get", "list", "create", "patch", "delete"]);
    allow(
        bench,
        name,
        "holdfast",
        &json!([{"apiGroups": [""], "resources": ["secrets"],
        "verbs": verbs}]),
    );
}

fn what_the_agent_may_not_do_is_named() {
    if !available("what_the_agent_may_not_do_is_named") {
        return;
    }
    let mut bench = KubernetesBench::shared("forbidden");
    bench.settings.kubeconfig = Some(bench.kubeconfig(LIMITED));
    let driver = Driver::new(&bench);
    let wanted = bench.set("web", &[config_map("conf", &json!({}))], &json!({}));
    let why = driver.refused(&wanted);
    assert!(why.contains("cannot get resource \"secrets\""), "{why}");
    assert!(why.contains("in the namespace \"holdfast\""), "{why}");
    records(&bench, "forbidden-records");
    let looks = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    allow(&bench, "forbidden-looks", "forbidden", &looks);
    patiently("it may look", || {
        !driver.refused(&wanted).contains("cannot get")
    });
    let why = driver.refused(&wanted);
    assert!(
        why.contains("cannot patch resource \"configmaps\""),
        "{why}"
    );
    assert!(why.contains("in the namespace \"forbidden\""), "{why}");
    assert!(why.contains("deploy/kubernetes"), "{why}");
}

fn credentials_that_are_renewed_are_read_again() {
    if !available("credentials_that_are_renewed_are_read_again") {
        return;
    }
    let mut bench = KubernetesBench::shared("renewed");
    let kubeconfig = bench.home.path().join("kubeconfig");
    let write = |token: &str| std::fs::copy(bench.kubeconfig(token), &kubeconfig).unwrap();
    write("no-such-token");
    bench.settings.kubeconfig = Some(kubeconfig.clone());
    let driver = Driver::new(&bench);
    let wanted = bench.set("renewed", &[config_map("conf", &json!({}))], &json!({}));
    match driver.try_converge(&wanted) {
        Err(Failure::Retryable(why)) => assert!(why.contains("Unauthorized"), "{why}"),
        other => panic!("{other:?}"),
    }
    std::fs::copy(bench.kubeconfig(AGENT), &kubeconfig).unwrap();
    driver.converge(&wanted);
    driver.await_running("renewed");
    driver.remove("renewed");
}

fn a_cluster_that_goes_away_in_the_middle_is_brought_to_its_end_later() {
    const OBJECTS: usize = 40;
    if !available("a_cluster_that_goes_away_in_the_middle_is_brought_to_its_end_later") {
        return;
    }
    let mut bench = KubernetesBench::shared("middle");
    let gate = Gate::start(bench.cluster.port());
    bench.settings.kubeconfig = Some(bench.cluster.kubeconfig(AGENT, Some(gate.port)));
    let driver = Driver::new(&bench);
    let set = |release: usize| {
        let maps: Vec<Value> = (0..OBJECTS)
            .map(|i| {
                config_map(
                    &format!("conf-{i}"),
                    &json!({"release": release.to_string()}),
                )
            })
            .collect();
        bench.set("middle", &maps, &json!({}))
    };
    let there = |release: usize| {
        let (_, maps) = bench.cluster.ask("GET", &bench.path("configmaps"), None);
        let maps = maps["items"].as_array().cloned().unwrap_or_default();
        let release = release.to_string();
        let of = |map: &&Value| map["data"]["release"] == release;
        maps.iter().filter(of).count()
    };
    driver.converge(&set(0));
    let mut cut = 0;
    for release in 1..=5 {
        let wanted = set(release);
        let result = std::thread::scope(|scope| {
            let work = scope.spawn(|| driver.try_converge(&wanted));
            // It has begun, and is not at its end.
            let begun = Instant::now();
            while there(release) == 0 && begun.elapsed() < Duration::from_secs(30) {}
            gate.lead_to(bench.cluster.broken_port());
            work.join().unwrap()
        });
        let done = there(release);
        println!("{done} of {OBJECTS} were there: {result:?}");
        match &result {
            Ok(()) => assert_eq!(done, OBJECTS),
            Err(Failure::Retryable(_)) => cut += 1,
            Err(other) => panic!("{other:?}"),
        }
        gate.lead_to(bench.cluster.port());
        patiently("it is brought to its end", || {
            driver.try_converge(&wanted).is_ok()
        });
        assert_eq!(there(release), OBJECTS);
        driver.await_running("middle");
    }
    assert!(cut > 0, "it was never cut in the middle");
    driver.remove("middle");
    assert_eq!(there(5), 0);
}

fn agent_and_cluster_killed_together_converge_later() {
    const KILLS: u32 = 4;
    if !available("agent_and_cluster_killed_together_converge_later") {
        return;
    }
    let mut bench = KubernetesBench::own("together");
    let kubeconfig = bench.kubeconfig(AGENT);
    let service = ServiceName::parse("victim").unwrap();
    let releases = [bench.wanted(&service, 1), bench.wanted(&service, 2)];
    for kill in 0..KILLS {
        let agent = killed::spawn_in(&bench.home, &kubeconfig, "always", &releases);
        killed::kill_after(
            agent,
            Duration::from_millis(u64::from(250 * kill)) + killed::pause(kill),
        );
        let cluster = Arc::get_mut(&mut bench.cluster).unwrap();
        cluster.stop();
        cluster.go_on();
        let last = [releases[kill as usize % 2].clone()];
        patiently("the cluster lets itself be converged", || {
            let mut agent = killed::spawn_in(&bench.home, &kubeconfig, "once", &last);
            agent.wait().unwrap().success()
        });
        patiently("the wanted release is alive, and no other", || {
            bench.alive(&service) == [kill % 2 + 1]
        });
    }
    let driver = Driver::new(&bench);
    driver.await_running("victim");
    driver.remove("victim");
    assert_eq!(bench.alive(&service), [0; 0]);
}

fn rights_in_one_namespace_are_enough_for_it() {
    if !available("rights_in_one_namespace_are_enough_for_it") {
        return;
    }
    let mut bench = KubernetesBench::shared("narrow");
    bench.settings.kubeconfig = Some(bench.kubeconfig(LIMITED));
    records(&bench, "narrow-records");
    let verbs = json!(["get", "list", "watch", "create", "patch", "delete"]);
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": verbs},
    ]);
    allow(&bench, "narrow", "narrow", &rules);
    let driver = Driver::new(&bench);
    let web = deployment("web", "web", "exec sleep 86400");
    let wanted = bench.set(
        "web",
        &[config_map("conf", &json!({"a": "1"})), web],
        &json!({}),
    );
    patiently("the roles are known", || {
        driver.try_converge(&wanted).is_ok()
    });
    driver.await_running("web");
    bench
        .cluster
        .edit(&bench.path("configmaps/conf"), &json!({"data": {"a": "2"}}));
    let what = driver.await_altered("web");
    assert!(what.contains(".data.a was changed"), "{what}");
    driver.converge(&wanted);
    driver.await_running("web");
    driver.remove("web");
}

/// Whether a request changes something; a dry run does not.
fn changes(request: &str) -> bool {
    let verb = request.split(' ').next().unwrap_or_default();
    !["get", "list", "watch"].contains(&verb) && !request.contains("dryRun=All")
}

fn two_hundred_unchanged_sets_ask_for_no_change() {
    const SETS: usize = 200;
    if !available("two_hundred_unchanged_sets_ask_for_no_change") {
        return;
    }
    let bench = KubernetesBench::shared("many");
    let driver = Driver::new(&bench);
    let wanted: Vec<_> = (0..SETS)
        .map(|i| {
            let name = format!("many-{i}");
            bench.set(
                &name,
                &[config_map(&name, &json!({"i": i.to_string()}))],
                &json!({}),
            )
        })
        .collect();
    let begun = Instant::now();
    for wanted in &wanted {
        driver.converge(wanted);
    }
    println!("{SETS} sets after {:?}", begun.elapsed());
    let all_run = || {
        let seen = driver.try_observe().unwrap();
        let running = seen
            .iter()
            .filter(|seen| matches!(seen.live, Live::Running { .. }));
        running.count() == SETS
    };
    patiently("all of them run", all_run);
    let before = bench.cluster.asked_by("agent").len();
    assert!(all_run());
    let look = bench.cluster.asked_by("agent").split_off(before);
    assert_eq!(look.len(), 1, "one small request for one look: {look:?}");
    let before = bench.cluster.asked_by("agent").len();
    let begun = Instant::now();
    for wanted in &wanted {
        driver.converge(wanted);
    }
    let asked = bench.cluster.asked_by("agent").split_off(before);
    println!(
        "converging {SETS} unchanged sets: {} requests, {:?}",
        asked.len(),
        begun.elapsed()
    );
    let changing: Vec<_> = asked.iter().filter(|request| changes(request)).collect();
    assert_eq!(changing, Vec::<&String>::new());
    assert!(asked.len() <= 2 * SETS + 10, "{}", asked.len());
    for wanted in &wanted {
        driver.remove(wanted.workload.service.as_str());
    }
}

fn an_agent_without_sets_asks_the_cluster_once() {
    if !available("an_agent_without_sets_asks_the_cluster_once") {
        return;
    }
    let mut bench = KubernetesBench::shared("idle");
    let driver = Driver::new(&bench);
    let before = bench.cluster.asked_by("agent").len();
    for _ in 0..3 {
        assert_eq!(driver.try_observe().unwrap(), []);
    }
    let asked = bench.cluster.asked_by("agent").split_off(before);
    assert_eq!(asked.len(), 1, "{asked:?}");
    // Nor does it matter to it that there is no cluster.
    bench.settings.kubeconfig = None;
    let absent = Driver::new(&bench);
    assert_eq!(absent.try_observe().unwrap(), []);
    absent.remove("never-there");
    match absent.try_converge(&bench.set("a", &[config_map("a", &json!({}))], &json!({}))) {
        Err(Failure::Retryable(why)) => {
            assert!(why.contains("[kubernetes] of agent.toml"), "{why}")
        }
        other => panic!("{other:?}"),
    }
    bench.settings.kubeconfig = Some("/nonexistent/kubeconfig".into());
    let unreadable = Driver::new(&bench);
    assert_eq!(unreadable.try_observe().unwrap(), []);
    match unreadable.try_converge(&bench.set("a", &[config_map("a", &json!({}))], &json!({}))) {
        Err(Failure::Retryable(why)) => assert!(why.contains("/nonexistent/kubeconfig"), "{why}"),
        other => panic!("{other:?}"),
    }
}
