//! Promise: it deploys software that nobody here wrote. nginx and redis from Debian's packages, with
//! two versions of their configuration, on three targets, watched by a reader of each.

use std::path::Path;

use holdfast_protocol::api::deployment::Phase;
use holdfast_tests::fleet::{Agent, Fleet};
use holdfast_tests::manifest::ENVIRONMENTS;
use holdfast_tests::port::Port;
use holdfast_tests::process::{Process, workloads};
use holdfast_tests::skip::skip;
use holdfast_tests::visitor::{look, say};
use holdfast_tests::wait::{PATIENCE, expect, wait_for};

const NGINX: &str = "/usr/sbin/nginx";
const REDIS: &str = "/usr/bin/redis-server";

const TARGETS: [(&str, &str); 3] = [
    ("staging-1", "staging"),
    ("production-1", "production"),
    ("production-2", "production"),
];

/// nginx as a workload: one template, what differs comes from variables and the target's labels.
const WEB: &str = r#"
apiVersion: holdfast/v1
kind: Service
metadata: {name: web, owner: team-web}
spec:
  runtime: process
  template:
    command: [/usr/sbin/nginx, -e, stderr, -c, "{{ workload.dir }}/nginx.conf"]
    files:
      nginx.conf: |
        daemon off;
        worker_processes 1;
        pid {{ workload.dir }}/nginx.pid;
        error_log stderr;
        events { worker_connections 64; }
        http {
          access_log off;
          client_body_temp_path {{ workload.dir }}/body;
          proxy_temp_path {{ workload.dir }}/proxy;
          fastcgi_temp_path {{ workload.dir }}/fastcgi;
          uwsgi_temp_path {{ workload.dir }}/uwsgi;
          scgi_temp_path {{ workload.dir }}/scgi;
          {{ vars.extra }}
          server {
            listen 127.0.0.1:{{ target.labels.web }};
            default_type text/plain;
            add_header X-Greeting "{{ vars.greeting }}";
            location = /healthz { return 200 "ok"; }
            location / { return 200 "{{ vars.greeting }} from {{ target.name }}"; }
          }
        }
    restart: {policy: always, backoff: {initial: 100ms, max: 1s}}
    stop: {signal: SIGQUIT, grace: 5s}
  health: {http: "http://127.0.0.1:{{ target.labels.web }}/healthz", interval: 100ms}
  vars: {greeting: "good morning", extra: ""}
"#;

/// redis as a workload.
const CACHE: &str = r#"
apiVersion: holdfast/v1
kind: Service
metadata: {name: cache, owner: team-data}
spec:
  runtime: process
  template:
    command: [/usr/bin/redis-server, "{{ workload.dir }}/redis.conf"]
    files:
      redis.conf: |
        bind 127.0.0.1
        port {{ target.labels.cache }}
        dir {{ workload.dir }}
        daemonize no
        save ""
        maxmemory {{ vars.maxmemory }}
    restart: {policy: always, backoff: {initial: 100ms, max: 1s}}
  health: {tcp: "127.0.0.1:{{ target.labels.cache }}", interval: 100ms}
  vars: {maxmemory: 32mb}
"#;

/// Three targets, each with a port for either program.
struct Software {
    fleet: Fleet,
    ports: [(Port, Port); 3],
}

impl Software {
    fn start() -> Self {
        let mut fleet = Fleet::start();
        let environments = ENVIRONMENTS.replace("progressDeadline: 20s", "progressDeadline: 5s");
        fleet.try_apply("platform", &environments).unwrap();
        let ports = TARGETS.map(|(name, environment)| {
            let (web, cache) = (Port::free(), Port::free());
            fleet.join(
                name,
                environment,
                &[("web", &web.text()), ("cache", &cache.text())],
            );
            (web, cache)
        });
        Self { fleet, ports }
    }

    fn apply(&self, web: &str, cache: &str) {
        self.fleet.try_apply("team-web", web).unwrap();
        self.fleet.try_apply("team-data", cache).unwrap();
    }

    /// What a reader of each target's web server sees in header and body.
    fn greetings(&self) -> [Option<String>; 3] {
        std::array::from_fn(|index| {
            let page = look(self.ports[index].0.number(), "/")?;
            let greeting = page.header("X-Greeting")?.to_owned();
            let body = format!("{greeting} from {}", TARGETS[index].0);
            (page.status == 200 && page.body == body).then_some(greeting)
        })
    }

    /// What each target's redis says that its configuration is.
    fn limits(&self) -> [Option<String>; 3] {
        std::array::from_fn(|index| {
            let request = b"*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$9\r\nmaxmemory\r\n";
            let whole = |answer: &[u8]| answer.iter().filter(|byte| **byte == b'\n').count() >= 5;
            let answer = say(self.ports[index].1.number(), request, whole)?;
            let answer = String::from_utf8(answer).ok()?;
            answer.lines().nth(4).map(str::to_owned)
        })
    }

    fn wait_served(&self, greeting: &str, limit: &str) {
        let wanted = |text: &str| [(); 3].map(|()| Some(text.to_owned()));
        wait_for(
            &format!("{greeting} and {limit} are served"),
            PATIENCE,
            || {
                let seen = (self.greetings(), self.limits());
                expect(seen == (wanted(greeting), wanted(limit)), seen)
            },
        );
    }
}

fn is_installed(test: &str) -> bool {
    let missing = [NGINX, REDIS]
        .into_iter()
        .find(|path| !Path::new(path).is_file());
    if let Some(missing) = missing {
        skip(test, &format!("{missing} is not installed"));
    }
    missing.is_none()
}

#[test]
fn nginx_and_redis_are_served_with_their_first_and_then_their_second_configuration() {
    if !is_installed("nginx and redis are served") {
        return;
    }
    let software = Software::start();
    let fleet = &software.fleet;
    software.apply(WEB, CACHE);
    fleet.release("web", version("web"), &[]);
    fleet.release("cache", version("cache"), &[]);
    for service in ["web", "cache"] {
        fleet.wait_stable(service, "production", version(service));
    }
    software.wait_served("good morning", &mib(32));

    let web = WEB.replace("good morning", "good evening");
    let cache = CACHE.replace("maxmemory: 32mb", "maxmemory: 48mb");
    software.apply(&web, &cache);
    // A configuration takes the same way as a release: staging first.
    wait_for("the evening comes to staging first", PATIENCE, || {
        let [staging, first, second] = software.greetings();
        let evening = Some("good evening".to_owned());
        let early = first == evening || second == evening;
        assert!(
            staging == evening || !early,
            "production before staging: {first:?} {second:?}"
        );
        expect(staging == evening, staging)
    });
    software.wait_served("good evening", &mib(48));
    for service in ["web", "cache"] {
        let history = wait_for("the second deployment is stable", PATIENCE, || {
            let history = fleet.history(service, "production")?;
            let phases: Vec<Phase> = history.iter().map(|one| one.phase).collect();
            expect(phases == [Phase::Stable, Phase::Stable], &history)?;
            Ok(history)
        });
        assert_eq!(
            history[0].version, history[1].version,
            "only the configuration is another"
        );
    }
}

#[test]
fn a_configuration_that_nginx_does_not_take_goes_back_and_production_serves_on() {
    if !is_installed("a configuration that nginx does not take") {
        return;
    }
    let software = Software::start();
    let fleet = &software.fleet;
    software.apply(WEB, CACHE);
    fleet.release("web", version("web"), &[]);
    fleet.release("cache", version("cache"), &[]);
    fleet.wait_stable("web", "production", version("web"));
    fleet.wait_stable("cache", "production", version("cache"));
    let production = ["production-1", "production-2"];
    let before = production.map(|name| running(fleet.agent(name), "nginx: "));
    assert!(
        before.iter().all(|all| all.len() == 2),
        "master and worker: {before:?}"
    );

    let broken = WEB.replace("extra: \"\"", "extra: \"no_such_directive on;\"");
    software.apply(&broken, CACHE);
    let failed = fleet.wait_phase(("web", "staging"), version("web"), Phase::RolledBack);
    let said = fleet.operator(&["logs", "web", "-e", "staging"]).succeeds();
    assert!(said.contains("no_such_directive"), "{said}");
    println!("{}", failed.reason);
    software.wait_served("good morning", &mib(32));
    assert_eq!(
        production.map(|name| running(fleet.agent(name), "nginx: ")),
        before
    );
    let history = fleet.history("web", "production").unwrap();
    let begun = history
        .iter()
        .filter(|one| one.phase != Phase::Waiting)
        .count();
    assert_eq!(begun, 1, "it waits before production: {history:?}");

    // The mended configuration goes all the way.
    software.apply(&WEB.replace("good morning", "good day"), CACHE);
    software.wait_served("good day", &mib(32));
}

#[test]
fn nginx_and_redis_that_are_killed_are_back_without_a_coordinator() {
    if !is_installed("nginx and redis that are killed") {
        return;
    }
    let software = Software::start();
    let fleet = &software.fleet;
    software.apply(WEB, CACHE);
    fleet.release("web", version("web"), &[]);
    fleet.release("cache", version("cache"), &[]);
    fleet.wait_stable("web", "production", version("web"));
    fleet.wait_stable("cache", "production", version("cache"));
    software.wait_served("good morning", &mib(32));
    fleet.coordinator.kill9();
    for (name, agent) in fleet.agents() {
        // The master alone: the worker that it leaves must not keep the port.
        for (program, word) in [("nginx: ", "master"), ("/usr/bin/redis-server ", "")] {
            let all = running(agent, program);
            let one = all.iter().find(|one| one.command_line().contains(word));
            one.unwrap_or_else(|| panic!("{name} runs {program}"))
                .kill9();
        }
    }
    software.wait_served("good morning", &mib(32));
    for (_, agent) in fleet.agents() {
        agent.cut_power();
        agent.program.start();
    }
    software.wait_served("good morning", &mib(32));
}

/// All processes of a program on a target, by what their command lines begin with: both programs
/// overwrite their environment, so that they carry no mark.
fn running(agent: &Agent, program: &str) -> Vec<Process> {
    let all = workloads(&agent.data).into_iter();
    all.filter(|one| one.command_line().starts_with(program))
        .collect()
}

fn version(service: &str) -> &'static str {
    if service == "web" { "1.22" } else { "7.0" }
}

/// How redis prints a number of mebibytes.
fn mib(count: u64) -> String {
    (count * 1024 * 1024).to_string()
}
