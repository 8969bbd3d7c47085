//! A workload of runtime `systemd` on a host that an agent joined: it needs neither agent nor
//! coordinator once it is there, and nothing that confines the agent confines it.

use crate::coordinator::Coordinator;
use crate::host::{self, Host, Network, Process};
use crate::join_and_apply;
use crate::wait::until;

/// Debian's own `sleep`, told apart from any other by its argument.
const WORKLOAD: [&str; 2] = ["/usr/bin/sleep", "86397"];
const UNIT: &str = "holdfast-web.service";
/// The other service: everything is open to it.
const OPEN: [&str; 2] = ["/usr/bin/sleep", "86396"];

/// A capability that the agent's unit takes from the agent and all that it starts itself.
const CAP_LEASE: u64 = 1 << 28;

const MANIFESTS: &str = r#"
apiVersion: holdfast/v1
kind: Environment
metadata: {name: staging, owner: platform}
spec: {rollout: {soak: 0s}}
---
apiVersion: holdfast/v1
kind: Service
metadata: {name: web, owner: team-web}
spec:
  runtime: systemd
  template:
    command: ["/bin/sh", "-c", "cat $CONF && exec /usr/bin/sleep 86397"]
    environment: {CONF: "{{ workload.dir }}/web.conf"}
    files: {web.conf: "a line of web.conf {{ release.version }}\n"}
    restart: {policy: always, backoff: {initial: 100ms}}
---
apiVersion: holdfast/v1
kind: Service
metadata: {name: open, owner: team-web}
spec:
  runtime: systemd
  template:
    command: ["/usr/bin/sleep", "86396"]
    user: root
    hardening: none
"#;

#[test]
fn a_unit_needs_neither_agent_nor_coordinator_once_it_is_there() {
    let Some(programs) = host::programs_and_rights("a unit needs neither agent nor coordinator")
    else {
        return;
    };
    let network = Network::lay("hf-unit");
    let mut coordinator = Coordinator::start(&network, &programs);
    let mut host = Host::boot(&network, &programs);
    let first = deploy(&coordinator, &host);
    assert_ne!(first.user(&host), "0", "its user is made up for it");
    assert_nothing_of_the_agent_confines_it(&host);

    host.run(&["systemctl", "disable", "--now", "holdfast-agent"]);
    coordinator.kill();
    assert_eq!(one(&host), Some(first.clone()));
    host.kill(&first);
    until("systemd itself has started it again", || {
        other(&host, &first)
    });

    host.shut_down();
    host.start();
    until("it is back after a shutdown", || one(&host));
    host.cut_power();
    host.start();
    let back = until("it is back after a power cut", || one(&host));
    assert_eq!(host.agent_status(), None, "there is no agent");

    // An agent that comes back finds it as it left it.
    host.run(&["systemctl", "enable", "--now", "holdfast-agent"]);
    until("the agent says that it is ready", || ready(&host));
    assert_eq!(host.workload(&WORKLOAD), [back]);
}

#[test]
fn what_somebody_does_to_a_unit_is_repaired_and_told() {
    let Some(programs) = host::programs_and_rights("what somebody does to a unit is repaired")
    else {
        return;
    };
    let network = Network::lay("hf-drift");
    let coordinator = Coordinator::start(&network, &programs);
    let host = Host::boot(&network, &programs);
    let first = deploy(&coordinator, &host);
    let said = coordinator.operator(&["logs", "web", "-e", "staging", "--tail", "5"]);
    assert!(said.contains("a line of web.conf"), "{said}");

    // What it says when it is begun again is heard at once.
    let followed = coordinator.follow(&["logs", "web", "-e", "staging", "--follow"]);
    let lines = || followed.heard().matches("a line of web.conf").count();
    let before = until("what it said is there", || Some(lines()).filter(|n| *n > 0));
    host.run(&["systemctl", "stop", UNIT]);
    let second = until("what was stopped runs again", || other(&host, &first));
    until("a new line is heard", || lines() > before);
    drop(followed);
    let drop_in = "mkdir -p /etc/systemd/system/holdfast-web.service.d && cd \
        /etc/systemd/system/holdfast-web.service.d && printf '[Service]\\nNice=9\\n' > a.conf && \
        systemctl daemon-reload";
    host.run(&["sh", "-c", drop_in]);
    until("the drop-in is gone", || {
        !host
            .path("/etc/systemd/system/holdfast-web.service.d")
            .exists()
    });
    until("all is well again", || ready(&host));
    assert_eq!(
        host.workload(&WORKLOAD),
        std::slice::from_ref(&second),
        "nothing was restarted for it"
    );
    let told = host.run(&["journalctl", "--unit=holdfast-agent", "--output=cat"]);
    for words in ["it was stopped", "a.conf was added"] {
        assert!(told.contains(words), "{words:?} is not in {told}");
    }

    what_it_said_is_kept(&coordinator, &host, &second);
    let said = host.run(&["sh", "/srv/deploy/install.sh", "--uninstall", "--purge"]);
    assert!(said.contains("are gone"), "{said}");
    until("the purged workloads have ended", || {
        host.workload(&WORKLOAD).is_empty() && host.workload(&OPEN).is_empty()
    });
    let left = host.run(&["find", "/etc/systemd", "/var/lib", "-name", "*holdfast*"]);
    assert_eq!(left, "");
}

/// The next release comes, and what the one before said is told by the number of its deployment.
fn what_it_said_is_kept(coordinator: &Coordinator, host: &Host, before: &Process) {
    coordinator.operator(&["release", "create", "web", "--version", "2.0.0"]);
    until("the next release runs", || other(host, before));
    let history = coordinator.operator(&["history", "web", "-e", "staging", "-o", "json"]);
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    let all = history["items"].as_array().unwrap();
    let first = all.iter().find(|one| one["version"] == "1.0.0").unwrap();
    let id = first["id"].to_string();
    let kept = until("what it said is kept", || {
        let said = coordinator.operator(&["logs", "web", "-e", "staging", "--deployment", &id]);
        Some(said).filter(|said| said.contains("web.conf 1.0.0"))
    });
    assert!(!kept.contains("web.conf 2.0.0"), "{kept}");
}

/// Joins, deploys and gives the process of the service `web`; prints what that cost the agent.
fn deploy(coordinator: &Coordinator, host: &Host) -> Process {
    coordinator.apply(MANIFESTS);
    coordinator.operator(&["release", "create", "open", "--version", "1.0.0"]);
    join_and_apply(coordinator, host, MANIFESTS);
    let process = until("the workload runs and is ready", || {
        ready(host).then(|| one(host)).flatten()
    });
    let agent = host.main_process("holdfast-agent");
    println!("the agent with two units: {}", agent.status(host, "VmRSS"));
    process
}

fn assert_nothing_of_the_agent_confines_it(host: &Host) {
    let open = until("the open workload runs", || host.workload(&OPEN).pop());
    let bounding = |process: &Process| {
        u64::from_str_radix(&process.status(host, "CapBnd"), 16).unwrap() & CAP_LEASE
    };
    let agent = host.main_process("holdfast-agent");
    assert_eq!(bounding(&agent), 0);
    assert_eq!(bounding(&open), CAP_LEASE);
    // The container's own filter is on all of its processes.
    let filters = |process: &Process| process.status(host, "Seccomp_filters");
    assert_eq!(filters(&open), filters(&Process::first(host)));
    assert_ne!(filters(&open), filters(&agent));
    assert_eq!(open.status(host, "PPid"), "1");
}

/// The one process of the service `web`.
fn one(host: &Host) -> Option<Process> {
    let mut found = host.workload(&WORKLOAD);
    assert!(found.len() <= 1, "a workload never runs twice: {found:?}");
    found.pop()
}

fn other(host: &Host, than: &Process) -> Option<Process> {
    one(host).filter(|process| process != than)
}

/// Whether the agent says that all of its workloads are ready.
fn ready(host: &Host) -> bool {
    host.agent_status().is_some_and(|status| {
        let workloads = status["workloads"].as_array().cloned().unwrap_or_default();
        workloads.len() == 2 && workloads.iter().all(|workload| workload["ready"] == true)
    })
}
