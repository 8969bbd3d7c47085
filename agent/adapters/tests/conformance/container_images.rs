//! Where images come from, what can be wrong with them, and when they go.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bollard::Docker;
use holdfast_adapters::conformance::Subject as _;
use holdfast_adapters::failure::Failure;
use holdfast_adapters::run::Wanted;
use holdfast_adapters::secret::Secrets;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::login::{Goal, Login};
use serde_json::json;

use crate::bench::eventually;
use crate::bench_container::ContainerBench;
use crate::driver::Driver;
use crate::engine::{Engine, Kind, available};
use crate::registry::{Image, MANIFEST_TYPE, Registry, image};
use crate::secret::{files_with, with};

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "an_image_is_pulled_with_credentials_that_only_the_agent_can_read",
        an_image_is_pulled_with_credentials_that_only_the_agent_can_read,
    ),
    (
        "an_image_is_pulled_with_the_secret_that_its_manifest_names",
        an_image_is_pulled_with_the_secret_that_its_manifest_names,
    ),
    (
        "a_registry_that_lies_about_a_digest_is_not_believed",
        a_registry_that_lies_about_a_digest_is_not_believed,
    ),
    (
        "a_slow_pull_is_given_up_in_time_and_holds_up_nobody",
        a_slow_pull_is_given_up_in_time_and_holds_up_nobody,
    ),
    (
        "an_image_that_is_not_there_leaves_what_runs_alone",
        an_image_that_is_not_there_leaves_what_runs_alone,
    ),
    (
        "images_of_the_running_and_the_previous_release_stay",
        images_of_the_running_and_the_previous_release_stay,
    ),
];

fn an_image_is_pulled_with_credentials_that_only_the_agent_can_read() {
    if !available("an_image_is_pulled_with_credentials_that_only_the_agent_can_read") {
        return;
    }
    for kind in [Kind::Docker, Kind::Podman] {
        let registry = Arc::new(Registry::start(true));
        let mut bench = ContainerBench::over(Arc::new(Engine::start(kind)), registry);
        let wanted = bench.release("private", 1, &json!({}));
        let refused = |bench: &ContainerBench| match Driver::new(bench).try_converge(&wanted) {
            Err(Failure::Retryable(why)) => why,
            other => panic!("{kind:?}: {other:?}"),
        };
        let why = refused(&bench);
        assert!(why.contains("cannot be pulled"), "{kind:?}: {why}");
        assert!(why.contains("container.credentials"), "{kind:?}: {why}");
        let path = bench.registry.credentials();
        bench.settings.credentials = Some(path.clone());
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&path, open).unwrap();
        let why = refused(&bench);
        assert!(why.contains("chmod 600"), "{kind:?}: {why}");
        bench.registry.credentials();
        let driver = Driver::new(&bench);
        driver.converge(&wanted);
        assert!(driver.runs("private"));
        driver.remove("private");
    }
}

fn an_image_is_pulled_with_the_secret_that_its_manifest_names() {
    if !available("an_image_is_pulled_with_the_secret_that_its_manifest_names") {
        return;
    }
    for kind in [Kind::Docker, Kind::Podman] {
        let registry = Arc::new(Registry::start(true));
        let bench = ContainerBench::over(Arc::new(Engine::start(kind)), registry);
        let host = bench.registry.host();
        let told = |repository: &str, value: &str| {
            let plain = bench.release("private", 1, &json!({}));
            let pulled = with(plain, &[("login", 0, value.as_bytes())]);
            // For the engine alone: the workload's own secrets are others.
            let mut wanted = Wanted {
                logins: pulled.secrets,
                secrets: Secrets::default(),
                ..pulled
            };
            wanted.workload.logins = vec![Login {
                goal: Goal::Image {
                    repository: format!("{host}/{repository}"),
                },
                secret: "login".parse().unwrap(),
            }];
            wanted.body = wanted.workload.clone().seal().0;
            wanted
        };
        let driver = Driver::new(&bench);
        // A wrong one, one for other images, and one that is none are no way in, and are not shown.
        for (repository, value, why) in [
            ("web", "ada:canary-77", "cannot be pulled"),
            ("other", "ada:s3cret?>~", "cannot be pulled"),
            ("web", "canary-77", "neither USER:PASSWORD"),
        ] {
            match driver.try_converge(&told(repository, value)) {
                Err(Failure::Retryable(said)) => {
                    assert!(said.contains(why), "{kind:?}: {said}");
                    assert!(!said.contains("canary"), "{kind:?}: {said}");
                }
                other => panic!("{kind:?}: {other:?}"),
            }
        }
        driver.converge(&told("web", "ada:s3cret?>~"));
        assert!(driver.runs("private"));
        let mut found = Vec::new();
        files_with(bench.home.path(), "s3cret?>~", &mut found);
        files_with(bench.engine.path(), "s3cret?>~", &mut found);
        assert_eq!(found, Vec::<std::path::PathBuf>::new(), "{kind:?}");
        driver.remove("private");
    }
}

fn a_registry_that_lies_about_a_digest_is_not_believed() {
    if !available("a_registry_that_lies_about_a_digest_is_not_believed") {
        return;
    }
    // One that no engine here has seen: what it knows by that digest it does not ask for again.
    let (asked, given) = (image(91, &json!({})), image(2, &json!({})));
    let digest = Digest::of(&asked.manifest);
    let host = lying_registry(given);
    for kind in [Kind::Docker, Kind::Podman] {
        let bench = match kind {
            Kind::Docker => ContainerBench::shared(),
            Kind::Podman => ContainerBench::own(kind),
        };
        let driver = Driver::new(&bench);
        let more = json!({"image": format!("{host}/web@{digest}")});
        match driver.try_converge(&bench.release("fooled", 1, &more)) {
            Err(Failure::Retryable(why)) => {
                println!("{kind:?}: {why}");
                assert!(why.contains("cannot be pulled"), "{kind:?}: {why}");
            }
            other => panic!("{kind:?}: {other:?}"),
        }
        assert!(bench.containers("fooled").is_empty());
        driver.remove("fooled");
    }
}

/// Serves one image under every digest that is asked for.
fn lying_registry(image: Image) -> String {
    registry_of(image, Arc::default())
}

/// Serves one image; while `slow`, a few bytes of its layer a second.
fn registry_of(image: Image, slow: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let image = Arc::new(image);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (image, slow) = (Arc::clone(&image), Arc::clone(&slow));
            // An engine that has enough goes away, which is no failure of the test.
            std::thread::spawn(move || drop(serve(stream.unwrap(), &image, &slow)));
        }
    });
    host
}

fn serve(mut stream: TcpStream, image: &Image, slow: &AtomicBool) -> std::io::Result<()> {
    let mut head = [0; 8192];
    let read = stream.read(&mut head)?;
    let head = String::from_utf8_lossy(&head[..read]);
    let line = head.lines().next().unwrap_or("");
    let (kind, body): (&str, &[u8]) = if line.contains("/manifests/") {
        (MANIFEST_TYPE, &image.manifest)
    } else if line.contains(&Digest::of(&image.config).to_string()) {
        ("application/octet-stream", &image.config)
    } else if line.contains("/blobs/") {
        ("application/octet-stream", &image.layer)
    } else {
        ("application/json", b"{}")
    };
    let digest = line
        .split("sha256:")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nDocker-Distribution-Api-Version: registry/2.0\r\n\
         Docker-Content-Digest: sha256:{}\r\nContent-Type: {kind}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        digest.unwrap_or(""),
        body.len()
    )?;
    if line.starts_with("HEAD") {
        return Ok(());
    }
    let mut rest = body;
    while slow.load(Ordering::SeqCst) && rest.len() > image.config.len() {
        let (piece, more) = rest.split_at(16);
        stream.write_all(piece)?;
        rest = more;
        std::thread::sleep(Duration::from_millis(100));
    }
    stream.write_all(rest)
}

fn a_slow_pull_is_given_up_in_time_and_holds_up_nobody() {
    if !available("a_slow_pull_is_given_up_in_time_and_holds_up_nobody") {
        return;
    }
    for kind in [Kind::Docker, Kind::Podman] {
        let bench = match kind {
            Kind::Docker => ContainerBench::shared(),
            Kind::Podman => ContainerBench::own(kind),
        };
        // One that no engine here has seen.
        let fresh = image(92, &json!({}));
        let (digest, slow) = (Digest::of(&fresh.manifest), Arc::new(AtomicBool::new(true)));
        let host = registry_of(fresh, Arc::clone(&slow));
        let from = |timeout: &str| {
            let image = format!("{host}/web@{digest}");
            let more = json!({"image": image, "pull": {"timeout": timeout},
                "stop": {"signal": "SIGKILL"}});
            bench.release("web", 92, &more)
        };
        let driver = Driver::new(&bench);
        let kill = json!({"stop": {"signal": "SIGKILL"}});
        let (first, beside) = (
            bench.release("web", 1, &kill),
            bench.release("beside", 1, &kill),
        );
        driver.converge(&first);
        let id = bench.id("web");
        let (short, begun) = (from("12s"), Instant::now());
        std::thread::scope(|scope| {
            let pull = scope.spawn(|| driver.try_converge(&short));
            driver.converge(&beside);
            eventually("another service is made meanwhile", || {
                driver.runs("beside")
            });
            assert!(!pull.is_finished(), "{kind:?}: the pull was not slow");
            match pull.join().unwrap() {
                Err(Failure::Retryable(why)) => {
                    assert!(
                        why.contains("was not pulled within 12 s"),
                        "{kind:?}: {why}"
                    );
                }
                other => panic!("{kind:?}: {other:?}"),
            }
        });
        println!("{kind:?}: given up after {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(40));
        assert_eq!(bench.id("web"), id, "{kind:?}: what runs was touched");
        slow.store(false, Ordering::SeqCst);
        driver.converge(&from("8m"));
        let service = "web".parse().unwrap();
        eventually("it runs at last", || bench.alive(&service) == [92]);
        driver.remove("web");
        driver.remove("beside");
    }
}

fn an_image_that_is_not_there_leaves_what_runs_alone() {
    if !available("an_image_that_is_not_there_leaves_what_runs_alone") {
        return;
    }
    for bench in [ContainerBench::shared(), ContainerBench::own(Kind::Podman)] {
        leaves_alone_what_runs(&bench);
    }
}

fn leaves_alone_what_runs(bench: &ContainerBench) {
    let driver = Driver::new(bench);
    driver.converge(&bench.release("careful", 1, &json!({})));
    let before = driver.observe("careful").unwrap();
    let nowhere = Digest::of(b"no such image");
    let away = crate::registry::free_port();
    for (image, more, said) in [
        (
            format!("{}/web@{nowhere}", bench.registry.host()),
            json!({}),
            "cannot be pulled",
        ),
        (
            format!("127.0.0.1:{away}/web@{nowhere}"),
            json!({}),
            "cannot be pulled",
        ),
        (
            format!("{}/web@{nowhere}", bench.registry.host()),
            json!({"pull": {"policy": "never"}}),
            "is not here",
        ),
    ] {
        let mut more = more;
        more["image"] = json!(image);
        match driver.try_converge(&bench.release("careful", 2, &more)) {
            Err(Failure::Retryable(why)) => {
                assert!(why.contains(said) && why.contains(&image), "{why}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(driver.observe("careful").unwrap(), before);
    }
    driver.remove("careful");
}

fn images_of_the_running_and_the_previous_release_stay() {
    if !available("images_of_the_running_and_the_previous_release_stay") {
        return;
    }
    for kind in [Kind::Docker, Kind::Podman] {
        let bench = ContainerBench::own(kind);
        let driver = Driver::new(&bench);
        let here = || -> Vec<u32> {
            let images: Vec<_> = (1..=5).map(|n| (n, bench.image(n))).collect();
            bench.engine.ask(|api: Docker| async move {
                let mut here = Vec::new();
                for (n, image) in images {
                    if api.inspect_image(&image).await.is_ok() {
                        here.push(n);
                    }
                }
                here
            })
        };
        // Somebody else's image, which only happens to be the same.
        let theirs = bench.image(4);
        pull(&bench, &theirs);
        for (n, expected) in [
            (1, vec![1, 4]),
            (2, vec![1, 2, 4]),
            (3, vec![2, 3, 4]),
            (4, vec![3, 4]),
            (5, vec![4, 5]),
            (4, vec![4, 5]),
        ] {
            driver.converge(&bench.release("web", n, &json!({})));
            assert_eq!(here(), expected, "{kind:?}: after release {n}");
        }
        // What another service needs stays as well.
        driver.converge(&bench.release("other", 5, &json!({})));
        driver.remove("web");
        assert_eq!(here(), [4, 5], "{kind:?}");
        driver.remove("other");
        assert_eq!(here(), [4], "{kind:?}: only what was pulled here goes");
    }
}

fn pull(bench: &ContainerBench, image: &str) {
    use futures_util::StreamExt as _;
    let options = bollard::query_parameters::CreateImageOptionsBuilder::default();
    let options = options.from_image(image).build();
    bench.engine.ask(|api: Docker| async move {
        let mut steps = api.create_image(Some(options), None, None);
        while let Some(step) = steps.next().await {
            step.unwrap();
        }
    });
}
