//! What a fleet costs the coordinator without its network: 10,000 targets with 10 services each are
//! put into the world, deployed to, heard from, and changed, as the driver does it, round by round with
//! real signatures and a real database. Prints a table and one JSON object: processor time of the
//! deciding thread and of the whole process, rows, memory. `cargo bench -p holdfast-coordinator --bench
//! fleet`; `HOLDFAST_BENCH_TARGETS` changes the size.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark prints, reads the clock and its size, and fails by panicking"
)]

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_certs::clock::Clock;
use holdfast_certs::tls::{self, CurrentLeaf};
use holdfast_coordinator::clock;
use holdfast_coordinator::link;
use holdfast_coordinator::store::load::Loaded;
use holdfast_coordinator::store::write::Write;
use holdfast_coordinator::store::{Store, row};
use holdfast_coordinator::world::apply::prepare;
use holdfast_coordinator::world::{Link, Orders, Round, Target, Trust, World};
use holdfast_protocol::api::apply::{ApplyRequest, ManifestFile, default_set};
use holdfast_protocol::api::release::NewRelease;
use holdfast_protocol::name::TargetName;
use holdfast_protocol::observed::{Facts, Report, State, WorkloadStatus};
use quinn::crypto::rustls::QuicClientConfig;
use tokio::sync::watch;

/// Targets unless `HOLDFAST_BENCH_TARGETS` says otherwise.
const TARGETS: usize = 10_000;
/// Services on each of them.
const SERVICES: usize = 10;
/// Reports that one round takes, as the driver does.
const ROUND: usize = 512;

struct Bench {
    world: World,
    store: Store,
    phases: Vec<serde_json::Value>,
}

fn main() {
    let count = std::env::var("HOLDFAST_BENCH_TARGETS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(TARGETS);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    runtime.block_on(run(folder.path(), count));
}

async fn run(data: &std::path::Path, count: usize) {
    let trust = Trust::open(data, clock::now()).unwrap();
    let connection = connection(&trust).await;
    let store = Store::open(&data.join("holdfast.db")).await.unwrap();
    let world = World::restore(Loaded::default(), trust, clock::now()).unwrap();
    let mut bench = Bench {
        world,
        store,
        phases: Vec::new(),
    };
    let base_kib = resident_kib();
    bench.phase("apply 10 services", apply).await;
    let joined = targets(count, &connection);
    bench
        .phase("targets join", |round| {
            for target in joined {
                round
                    .writes
                    .push(Write::Target(Box::new(target.kept.clone())));
                round.world.targets.insert(target.kept.name.clone(), target);
            }
        })
        .await;
    bench
        .phase("10 releases to all", |round| {
            (0..SERVICES).for_each(|service| release(round, service, "1"));
        })
        .await;
    bench.reports("all report 10 ready", SERVICES).await;
    bench
        .phase("one change to all", |round| release(round, 0, "2"))
        .await;
    bench.reports("all report 1 ready", 1).await;
    bench.reports("all report nothing new", 1).await;
    let one = TargetName::parse("target-0").unwrap();
    bench
        .phase("one round for one report", |round| {
            let report = report(round.world, &one, 1, State::Progressing);
            round.report(&one, 0, report);
        })
        .await;
    let stable = bench
        .world
        .tracks
        .values()
        .filter(|track| track.stable.is_some())
        .count();
    assert_eq!(stable, SERVICES, "the fleet has converged");
    let begin = Instant::now();
    let loaded = bench.store.load().await.unwrap();
    let loading = begin.elapsed();
    println!(
        "{}",
        serde_json::json!({
            "bench": "fleet",
            "targets": count,
            "services": SERVICES,
            "phases": bench.phases,
            "loadMs": millis(loading),
            "loadedPlacements": loaded.placements.len(),
            "residentKib": resident_kib() - base_kib,
            "residentBytesEachPlacement": (resident_kib() - base_kib) * 1024 / (count * SERVICES),
        })
    );
}

impl Bench {
    /// One round: what `act` does, and everything that follows from it, until it is on disk.
    async fn phase(&mut self, name: &str, act: impl FnOnce(&mut Round<'_>)) {
        let begin = Instant::now();
        let (processor, all) = (on_processor(), process_time());
        let mut round = Round::new(&mut self.world, clock::now());
        act(&mut round);
        round.settle();
        round.assign();
        let deciding = on_processor().saturating_sub(processor);
        let writes = round.writes;
        let committing = Instant::now();
        self.store.commit(&writes).await.unwrap();
        let committing = committing.elapsed();
        self.note(name, 1, writes.len(), deciding, committing, begin, all);
    }

    /// Every target reports on its first `services`, in rounds as large as the driver's.
    async fn reports(&mut self, name: &str, services: usize) {
        let begin = Instant::now();
        let all = process_time();
        let names: Vec<TargetName> = self
            .world
            .targets
            .values()
            .map(|target| target.kept.name.clone())
            .collect();
        let (mut deciding, mut committing) = (Duration::ZERO, Duration::ZERO);
        let (mut rounds, mut rows) = (0, 0);
        for batch in names.chunks(ROUND) {
            let processor = on_processor();
            let mut round = Round::new(&mut self.world, clock::now());
            for name in batch {
                let report = report(round.world, name, services, State::Ready);
                round.report(name, 0, report);
            }
            round.settle();
            round.assign();
            deciding += on_processor().saturating_sub(processor);
            let writes = round.writes;
            let commit = Instant::now();
            self.store.commit(&writes).await.unwrap();
            committing += commit.elapsed();
            rounds += 1;
            rows += writes.len();
        }
        self.note(name, rounds, rows, deciding, committing, begin, all);
    }

    #[expect(clippy::too_many_arguments, reason = "one line of a table")]
    fn note(
        &mut self,
        name: &str,
        rounds: usize,
        rows: usize,
        deciding: Duration,
        committing: Duration,
        begin: Instant,
        all: Duration,
    ) {
        let wall = begin.elapsed();
        let all = process_time().saturating_sub(all);
        let each_second = rows as f64 / committing.as_secs_f64();
        eprintln!(
            "{name:<26} {rounds:>4} rounds  decide {:>9.1} ms  commit {:>9.1} ms  {rows:>7} rows \
             {each_second:>9.0}/s  all {:>9.1} ms",
            millis(deciding),
            millis(committing),
            millis(all),
        );
        self.phases.push(serde_json::json!({
            "phase": name,
            "rounds": rounds,
            "decideCpuMs": millis(deciding),
            "commitMs": millis(committing),
            "rows": rows,
            "rowsPerSecond": each_second.round(),
            "processCpuMs": millis(all),
            "wallMs": millis(wall),
        }));
    }
}

fn apply(round: &mut Round<'_>) {
    let mut content =
        "apiVersion: holdfast/v1\nkind: Environment\nmetadata: {name: fleet, owner: x}\n\
                       spec: {rollout: {waves: [100%], maxUnavailable: 100%, soak: 0s}}\n"
            .to_owned();
    for n in 0..SERVICES {
        write!(
            content,
            "---\napiVersion: holdfast/v1\nkind: Service\nmetadata: {{name: service-{n}, owner: x}}\n\
             spec:\n  runtime: process\n  template:\n    command: [/bin/server, \"{{{{ release.version \
             }}}}\", --name, \"{{{{ target.name }}}}\"]\n"
        )
        .unwrap();
    }
    let request = ApplyRequest {
        set: default_set(),
        files: vec![ManifestFile {
            path: "all.yaml".to_owned(),
            content,
        }],
        dry_run: false,
        confirm_removal: false,
        plan: None,
    };
    let prepared = prepare(&round.world.base(round.now), request).unwrap();
    round.apply(prepared, "bench").unwrap();
}

fn release(round: &mut Round<'_>, service: usize, version: &str) {
    let new = NewRelease {
        version: version.parse().unwrap(),
        artifacts: BTreeMap::new(),
        repositories: BTreeMap::new(),
        homes: BTreeMap::new(),
        commit: None,
        meta: BTreeMap::new(),
    };
    let service = format!("service-{service}").parse().unwrap();
    round
        .create_release(&service, (&new, &BTreeMap::new()), "bench")
        .unwrap();
}

/// Targets as they are when they have joined and are connected; all over one connection, since it
/// is never used.
fn targets(count: usize, connection: &quinn::Connection) -> Vec<Target> {
    let one = |n: usize| {
        let now = clock::now();
        let kept = row::Target {
            name: format!("target-{n}").parse().unwrap(),
            environment: "fleet".parse().unwrap(),
            given: BTreeMap::new(),
            facts: Facts::default(),
            joined_at: now,
            agent_version: "1".to_owned(),
            certificate_expires: now.after(Duration::from_secs(86_400)),
            conditions: Vec::new(),
            since: now,
            revoked_at: None,
            converged: None,
            ahead: None,
            sealing_key: None,
            hold: None,
        };
        Target {
            labels: Target::merge_labels(&kept),
            link: Link::Up {
                version: 0,
                session: 0,
                connection: connection.clone(),
                orders: watch::Sender::new(Orders::default()),
            },
            assigned: None,
            outdated: VecDeque::new(),
            placed: BTreeMap::new(),
            observed: BTreeMap::new(),
            kept,
        }
    };
    (0..count).map(one).collect()
}

/// What a target says when its first `services` are in a state.
fn report(world: &World, name: &TargetName, services: usize, state: State) -> Report {
    let target = world.targets.get(name).unwrap();
    let status = |(service, placed): (&_, &row::Placed)| {
        let body = placed.body.as_ref().ok().copied();
        WorkloadStatus {
            service: Clone::clone(service),
            wanted: body,
            running: body,
            version: Some(placed.point.version.clone()),
            state,
            message: String::new(),
            since: placed.since,
            restarts: 0,
        }
    };
    Report {
        sequence: 1,
        generation: target.assigned.as_ref().map(|a| a.assignment.generation),
        converged: true,
        complete: false,
        statuses: target.placed.iter().take(services).map(status).collect(),
        transitions: Vec::new(),
        conditions: None,
        facts: None,
    }
}

/// A connection over the loopback.
async fn connection(trust: &Trust) -> quinn::Connection {
    let hosts = ["localhost".to_owned()];
    let leaf = trust
        .root
        .server_leaf(&hosts, clock::now(), Duration::from_secs(86_400))
        .unwrap();
    let tls_clock = Arc::new(Clock::default());
    let server = tls::agent_server_config(
        CurrentLeaf::new(leaf).unwrap(),
        Arc::clone(&trust.registry),
        Arc::clone(&tls_clock),
    )
    .unwrap();
    let reset = trust.authorities.reset_secret().unwrap();
    let local = "127.0.0.1:0".parse().unwrap();
    let endpoint = link::bind(local, server, &reset).unwrap();
    let client = tls::join_client_config(trust.root.pin(), tls_clock).unwrap();
    let client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).unwrap()));
    let peer = quinn::Endpoint::client(local).unwrap();
    let dialled = peer
        .connect_with(
            client,
            endpoint.local_addr().unwrap(),
            holdfast_protocol::version::COORDINATOR_NAME,
        )
        .unwrap();
    let accepted = async { endpoint.accept().await.unwrap().await.unwrap() };
    tokio::join!(accepted, async { dialled.await.unwrap() }).0
}

/// Time that this thread has spent on a processor; nothing where the system does not tell.
fn on_processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().next();
    Duration::from_nanos(nanos.and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// Time that all threads have spent on processors, in hundredths of a second.
fn process_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// Resident memory; 0 where the system does not tell.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0)
}

fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e4).round() / 10.0
}
