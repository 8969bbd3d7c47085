//! The units and the installer of `deploy/` on a real Debian with a real systemd, booted in a
//! container: what is installed is confined, workloads outlive the agent, and a host that reboots
//! without a coordinator brings back what it ran.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "all of this is a test; what it prints is shown when it fails"
)]

mod coordinator;
mod host;
mod tree;
mod unit;
mod wait;

use coordinator::Coordinator;
use holdfast_tests::skip;
use host::{Host, Network, Process};
use wait::until;

/// The workload: Debian's own `sleep`, told apart from any other by its argument.
const WORKLOAD: [&str; 2] = ["/usr/bin/sleep", "86399"];

/// `systemd-analyze security` gives 0 (nothing is left open) to 10 (everything is).
const COORDINATOR_EXPOSURE_MAX: f32 = 1.5;
/// The agent starts other programs as other users: see its unit for what stays open and why.
const AGENT_EXPOSURE_MAX: f32 = 8.0;

/// The capability to load kernel modules, as a bit.
const CAP_SYS_MODULE: u64 = 1 << 16;

/// Installs a program that differs, and a plugin with it: what follows the end of a program file is
/// not loaded.
const UPGRADE: &str = "mkdir -p /root/newer/plugins && cp /srv/programs/holdfast-agent /root/newer && \
    echo newer >> /root/newer/holdfast-agent && \
    cp /srv/programs/holdfast-plugins /root/newer/plugins/command && \
    sh /srv/deploy/install.sh --from /root/newer --plugin command";

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
  runtime: process
  template:
    command: ["/usr/bin/sleep", "86399"]
    user: nobody
    restart: {policy: always, backoff: {initial: 100ms, max: 1s}}
"#;

#[test]
fn workloads_outlive_the_agent_that_the_installer_joined() {
    let Some(programs) = host::programs_and_rights("workloads outlive the agent") else {
        return;
    };
    let network = Network::lay("hf-outlive");
    let coordinator = Coordinator::start(&network, &programs);
    let host = Host::boot(&network, &programs);
    let first = join_and_deploy(&coordinator, &host);

    assert_agent_is_confined(&host);
    assert_eq!(
        first.user(&host),
        "65534",
        "the unit lets workloads become their own user"
    );

    let installed_again = install(&host, &[]);
    assert!(
        !installed_again.contains("installed "),
        "nothing to do: {installed_again}"
    );
    assert_eq!(
        host.workload(&WORKLOAD),
        vec![first.clone()],
        "installing again disturbs nothing"
    );

    let before = host.main_process("holdfast-agent");
    host.run(&["systemctl", "restart", "holdfast-agent"]);
    let restarted = host.main_process("holdfast-agent");
    assert_ne!(before, restarted, "another agent runs");
    until("the restarted agent is connected", || {
        host.agent_is_connected()
    });
    assert_eq!(
        host.workload(&WORKLOAD),
        vec![first.clone()],
        "and the same workload"
    );

    host.kill(&restarted);
    until("systemd has started the killed agent again", || {
        host.agent_is_connected() && host.main_process("holdfast-agent") != restarted
    });
    assert_eq!(
        host.workload(&WORKLOAD),
        vec![first.clone()],
        "and the same workload"
    );

    upgrade(&host);
    assert_eq!(
        host.workload(&WORKLOAD),
        vec![first.clone()],
        "an upgrade disturbs nothing"
    );

    host.kill(&first);
    let second = until("the killed workload runs again", || running(&host));
    assert_ne!(first, second);

    purge(&host);
}

#[test]
fn a_host_that_reboots_without_a_coordinator_brings_everything_back() {
    let Some(programs) = host::programs_and_rights("a host reboots without a coordinator") else {
        return;
    };
    let network = Network::lay("hf-reboot");
    let mut coordinator = Coordinator::start(&network, &programs);
    let mut host = Host::boot(&network, &programs);
    join_and_deploy(&coordinator, &host);
    coordinator.kill();

    host.shut_down();
    host.start();
    until("the workload is back after a shutdown", || running(&host));
    assert!(
        !host.agent_is_connected(),
        "there is nobody to be connected to"
    );

    host.cut_power();
    host.start();
    let after = until("the workload is back after a power cut", || running(&host));

    coordinator.start_again(&network, &programs);
    until("the agent found the coordinator again", || {
        host.agent_is_connected()
    });
    assert_eq!(
        host.workload(&WORKLOAD),
        vec![after],
        "which disturbed nothing"
    );
}

#[test]
fn an_installed_coordinator_is_confined_and_comes_back() {
    let Some(programs) = host::programs_and_rights("an installed coordinator is confined") else {
        return;
    };
    let network = Network::lay("hf-centre");
    let host = Host::boot(&network, &programs);
    let install = [
        "sh",
        "/srv/deploy/install.sh",
        "coordinator",
        "--from",
        "/srv/programs",
    ];
    let said = host.run(&install);
    assert!(said.contains("ready"), "{said}");

    assert_eq!(
        host.run(&["systemd-analyze", "verify", "holdfast-coordinator.service"]),
        ""
    );
    let exposure = host.exposure("holdfast-coordinator");
    println!("exposure of holdfast-coordinator: {exposure}");
    assert!(exposure < COORDINATOR_EXPOSURE_MAX, "{exposure}");
    let process = host.main_process("holdfast-coordinator");
    assert_ne!(process.user(&host), "0");
    assert_eq!(process.status(&host, "CapBnd"), "0000000000000000");
    assert_eq!(process.status(&host, "NoNewPrivs"), "1");
    assert_eq!(
        process.status(&host, "Seccomp"),
        "2",
        "system calls are filtered"
    );

    let operator = "HOLDFAST_CA=/var/lib/holdfast-coordinator/ca.pem \
        HOLDFAST_TOKEN=$(cat /var/lib/holdfast-coordinator/admin.token) \
        HOLDFAST_SERVER=https://127.0.0.1:7443 holdfast get targets -o json";
    let answers = || {
        let said = host.try_run(&["sh", "-c", operator]);
        said.is_ok_and(|said| said.contains("\"items\""))
    };
    assert!(answers(), "the API answers");
    host.kill(&process);
    // The unit counts as active until systemd has noticed: only an answer tells.
    until("systemd has started the killed coordinator again", || {
        answers() && host.main_process("holdfast-coordinator") != process
    });
    let again = host.run(&install);
    assert!(!again.contains("installed "), "nothing to do: {again}");
}

#[test]
fn the_installer_says_what_is_wrong() {
    let Some(programs) = host::programs_and_rights("the installer says what is wrong") else {
        return;
    };
    let network = Network::lay("hf-wrong");
    let host = Host::boot(&network, &programs);
    let refused = |arguments: &[&str]| {
        let all = [&["sh", "/srv/deploy/install.sh"], arguments].concat();
        let said = host.try_run(&all).expect_err("it must be refused");
        assert!(
            said.contains("error: ") && said.contains("help: "),
            "{said}"
        );
        said
    };
    assert!(refused(&["--sideways"]).contains("--sideways"));
    assert!(refused(&["--token"]).contains("--token needs a value"));
    assert!(refused(&["--from", "/srv"]).contains("holdfast-agent is not in /srv"));
    assert!(refused(&["--from", "/srv/programs"]).contains("--coordinator"));
    assert!(refused(&["--plugin", "../x"]).contains("not the name of a plugin"));
    let absent = ["--from", "/srv/programs", "--plugin", "ghost"];
    assert!(refused(&absent).contains("plugin ghost is not in /srv/programs/plugins"));

    host.write(
        "/root/other/holdfast-agent",
        &elf_for(host::foreign_machine()),
    );
    let other = refused(&[
        "--from",
        "/root/other",
        "--coordinator",
        "127.0.0.1:1",
        "--token",
        "x",
    ]);
    assert!(other.contains("processors"), "{other}");

    // A token that is none: the agent refuses it, nothing is started, and trying again is possible.
    let bad = refused(&[
        "--from",
        "/srv/programs",
        "--coordinator",
        "127.0.0.1:1",
        "--token",
        "hf1.x",
    ]);
    assert!(bad.contains("could not join"), "{bad}");
    assert!(
        host.try_run(&["systemctl", "is-active", "--quiet", "holdfast-agent"])
            .is_err()
    );
}

/// The start of a program file, as the kernel and the installer look at it.
fn elf_for(machine: u16) -> Vec<u8> {
    let mut head = vec![
        0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0,
    ];
    head.extend(machine.to_le_bytes());
    head
}

fn install(host: &Host, arguments: &[&str]) -> String {
    let command = ["sh", "/srv/deploy/install.sh", "--from", "/srv/programs"];
    host.run(&[&command, arguments].concat())
}

/// Joins `host` by the installer, deploys the workload and gives its process.
fn join_and_deploy(coordinator: &Coordinator, host: &Host) -> Process {
    join_and_apply(coordinator, host, MANIFESTS);
    until("the workload runs and is ready", || running(host))
}

/// Joins `host` by the installer, and waits until service `web` of these manifests is deployed.
fn join_and_apply(coordinator: &Coordinator, host: &Host, manifests: &str) {
    coordinator.apply(manifests);
    coordinator.operator(&["release", "create", "web", "--version", "1.0.0"]);
    let token = coordinator.operator(&["token", "create", "-e", "staging"]);
    let address = coordinator.agents();
    let said = install(
        host,
        &[
            "--coordinator",
            address,
            "--token",
            token.trim(),
            "--name",
            "one",
            "--label",
            "role=web",
        ],
    );
    assert!(said.contains("joined and connected"), "{said}");
    // From now on a process that ends is a fault to be repaired, not a release that failed.
    coordinator.operator(&["status", "web", "--wait", "--timeout", "60s"]);
}

/// The one process of the workload, once the agent too says that it is ready.
fn running(host: &Host) -> Option<Process> {
    let mut found = host.workload(&WORKLOAD);
    let ready = host.agent_status()?["workloads"][0]["ready"] == true;
    assert!(found.len() <= 1, "a workload never runs twice: {found:?}");
    found.pop().filter(|_| ready)
}

fn assert_agent_is_confined(host: &Host) {
    assert_eq!(
        host.run(&["systemd-analyze", "verify", "holdfast-agent.service"]),
        ""
    );
    let exposure = host.exposure("holdfast-agent");
    println!("exposure of holdfast-agent: {exposure}");
    assert!(exposure < AGENT_EXPOSURE_MAX, "{exposure}");
    let agent = host.main_process("holdfast-agent");
    assert_eq!(
        agent.status(host, "Seccomp"),
        "2",
        "system calls are filtered"
    );
    let capabilities = u64::from_str_radix(&agent.status(host, "CapBnd"), 16).unwrap();
    assert_eq!(
        capabilities & CAP_SYS_MODULE,
        0,
        "no kernel module is loaded from here"
    );
}

fn upgrade(host: &Host) {
    let before = host.main_process("holdfast-agent");
    let said = host.run(&["sh", "-c", UPGRADE]);
    assert!(
        said.contains("installed /usr/local/bin/holdfast-agent"),
        "{said}"
    );
    assert_ne!(
        host.main_process("holdfast-agent"),
        before,
        "the new program runs"
    );
    let listed = host.run(&["holdfast-agent", "adapter", "list"]);
    assert!(
        listed.contains("command") && listed.contains("two commands"),
        "{listed}"
    );
}

fn purge(host: &Host) {
    let said = host.run(&["sh", "/srv/deploy/install.sh", "--uninstall", "--purge"]);
    assert!(said.contains("are gone"), "{said}");
    until("the purged workload has ended", || {
        host.workload(&WORKLOAD).is_empty()
    });
    assert!(!host.path("/var/lib/holdfast-agent").exists());
    assert!(
        !host
            .path("/etc/systemd/system/holdfast-agent.service")
            .exists()
    );
}
