//! Networks that are made and removed, and ports of the host.

use std::process::{Command, Stdio};
use std::sync::Arc;

use bollard::Docker;
use serde_json::json;

use crate::bench::eventually;
use crate::bench_container::ContainerBench;
use crate::driver::Driver;
use crate::engine::{Engine, Kind, Namespace, available};
use crate::registry::{Registry, free_port, image};

pub(crate) const TESTS: &[crate::Test] = &[(
    "a_service_is_reached_by_its_port_and_networks_come_and_go",
    a_service_is_reached_by_its_port_and_networks_come_and_go,
)];

fn a_service_is_reached_by_its_port_and_networks_come_and_go() {
    if !available("a_service_is_reached_by_its_port_and_networks_come_and_go") {
        return;
    }
    let mut registry = Registry::start(false);
    let images = [1, 2].map(|n| registry.push("web", &image(n, &json!({}))));
    let namespace = Namespace::new();
    let enter = namespace.enter();
    registry.move_to(&enter);
    let engine = Arc::new(Engine::start_in(Kind::Docker, Some(namespace)));
    let bench = ContainerBench::over(engine, Arc::new(registry));
    let driver = Driver::new(&bench);
    let port = free_port();
    let fetched = || {
        let ask = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET /release HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
        );
        let mut command = Command::new(&enter[0]);
        command.arg(&enter[1]).args(["bash", "-c", &ask]);
        let output = command.stderr(Stdio::null()).output().unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        answer.lines().last().unwrap_or_default().to_owned()
    };
    let web = |n: usize| {
        let more = json!({
            "image": images[n - 1],
            "command": ["/bin/httpd", "-f", "-p", "80", "-h", "/"],
            "network": "front",
            "ports": [format!("127.0.0.1:{port}:80")],
            "stop": {"signal": "SIGKILL"},
        });
        bench.release("web", 1, &more)
    };
    eventually("the registry answers there", || {
        driver.try_converge(&web(1)).is_ok()
    });
    eventually("its page by the port", || fetched() == "1");
    let beside = json!({"image": images[0], "network": "front", "stop": {"signal": "SIGKILL"}});
    driver.converge(&bench.release("beside", 1, &beside));
    driver.converge(&web(2));
    eventually("the next page by the port", || fetched() == "2");
    let networks = || {
        bench.engine.ask(|api: Docker| async move {
            let all = api.list_networks(None).await.unwrap();
            all.into_iter()
                .any(|network| network.name.as_deref() == Some("front"))
        })
    };
    driver.remove("web");
    assert!(networks(), "another service is on it");
    driver.remove("beside");
    assert!(!networks(), "nobody is on it");
}
