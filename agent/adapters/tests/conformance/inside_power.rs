//! Tests inside of a host with systemd whose disk is full, whose first process begins anew, or whose
//! power goes while an agent converges.

use std::path::Path;
use std::sync::Arc;

use holdfast_adapters::conformance::Subject as _;
use holdfast_adapters::failure::Failure;
use holdfast_adapters::run::{Adapter, Live, Wanted};
use holdfast_protocol::name::ServiceName;

use crate::bench::{eventually, open, runtime};
use crate::bench_systemd::{SystemdBench, environments, run};
use crate::disk::Disk;
use crate::full::rides_out;
use crate::inside_systemd::{Desk, begin};

pub(crate) const TESTS: &[crate::Test] = &[
    ("full", a_unit_goes_on_while_the_disk_of_its_agent_is_full),
    (
        "anew",
        a_systemd_that_begins_anew_in_the_middle_loses_nothing,
    ),
];

/// What is run until the power goes, and what is run when it is back, on the same files.
pub(crate) const POWER: [crate::Test; 2] = [
    ("until_the_power_goes", until_the_power_goes),
    ("when_power_is_back", when_power_is_back),
];

fn a_unit_goes_on_while_the_disk_of_its_agent_is_full() {
    let bench = SystemdBench::new();
    let disk = Disk::mount(&bench.home.agent(), "4m").expect("root may mount one");
    rides_out(&bench, &disk);
}

fn a_systemd_that_begins_anew_in_the_middle_loses_nothing() {
    const ROUNDS: u32 = 10;
    let desk = Desk::new();
    let releases = [1, 2].map(|release| desk.wanted("anew", release, |_| ()));
    desk.converge(&releases[0]);
    for round in 1..=ROUNDS {
        let wanted = &releases[round as usize % 2];
        std::thread::scope(|scope| {
            let anew = scope.spawn(|| run(&["systemctl", "daemon-reexec"]));
            // For the moment in which it begins anew, systemd may be away.
            eventually("it converges", || match desk.try_converge(wanted) {
                Ok(()) => true,
                Err(Failure::Retryable(why)) => {
                    println!("round {round}: {why}");
                    false
                }
                Err(other) => panic!("{other:?}"),
            });
            assert_eq!(anew.join().unwrap(), "");
        });
        let release = format!("RELEASE={}", round % 2 + 1);
        let running = environments("anew");
        assert_eq!(running.len(), 1, "{running:?}");
        assert!(running[0].contains(&release), "{running:?}");
        desk.pid("anew");
    }
}

/// The adapter over files that outlive this program, and two releases.
fn over_a_power_cut() -> (Arc<dyn Adapter>, [Wanted; 2]) {
    let bench = SystemdBench::new();
    let service = ServiceName::parse("power").unwrap();
    let releases = [1, 2].map(|release| bench.wanted(&service, release));
    // Their artifacts have to be there when the power is back.
    let root = Path::new("/var/lib/hf-power");
    std::fs::create_dir_all(root).unwrap();
    let releases = releases.map(|mut wanted| {
        for (name, path) in &mut wanted.artifacts {
            let kept = root.join(format!("{name}-{}", wanted.body.hex()));
            std::fs::copy(&*path, &kept).unwrap();
            *path = kept;
        }
        wanted
    });
    (open(&root.join("agent"), "systemd"), releases)
}

fn until_the_power_goes() {
    let (adapter, releases) = over_a_power_cut();
    loop {
        releases.iter().for_each(|wanted| begin(&adapter, wanted));
    }
}

fn when_power_is_back() {
    let (adapter, releases) = over_a_power_cut();
    for (wanted, release) in releases.iter().zip(1..) {
        begin(&adapter, wanted);
        let release = format!("RELEASE={release}");
        eventually("one process of the wanted release", || {
            let running = environments("power");
            running.len() == 1 && running[0].contains(&release)
        });
        let seen = runtime().block_on(adapter.observe()).unwrap();
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!(seen[0].body, Some(wanted.body));
        assert!(matches!(seen[0].live, Live::Running { .. }), "{seen:?}");
    }
}
