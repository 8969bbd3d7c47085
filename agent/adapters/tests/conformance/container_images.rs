//! Where images come from, what can be wrong with them, and when they go.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use bollard::Docker;
use holdfast_adapters::failure::Failure;
use holdfast_protocol::digest::Digest;
use serde_json::json;

use crate::bench_container::ContainerBench;
use crate::driver::Driver;
use crate::engine::{Engine, Kind, available};
use crate::registry::{Image, MANIFEST_TYPE, Registry, image};

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "an_image_is_pulled_with_credentials_that_only_the_agent_can_read",
        an_image_is_pulled_with_credentials_that_only_the_agent_can_read,
    ),
    (
        "a_registry_that_lies_about_a_digest_is_not_believed",
        a_registry_that_lies_about_a_digest_is_not_believed,
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
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 8192];
            let read = stream.read(&mut head).unwrap_or(0);
            let line = String::from_utf8_lossy(&head[..read])
                .lines()
                .next()
                .unwrap_or("")
                .to_owned();
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
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nDocker-Distribution-Api-Version: registry/2.0\r\n\
                 Docker-Content-Digest: sha256:{}\r\nContent-Type: {kind}\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n",
                digest.unwrap_or(""),
                body.len()
            );
            if !line.starts_with("HEAD") {
                let _ = stream.write_all(body);
            }
        }
    });
    host
}

fn an_image_that_is_not_there_leaves_what_runs_alone() {
    if !available("an_image_that_is_not_there_leaves_what_runs_alone") {
        return;
    }
    let bench = ContainerBench::shared();
    let driver = Driver::new(&bench);
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
