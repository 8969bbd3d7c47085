//! Templates that are right, and what is said of those that are not.

use holdfast_protocol::name::ArtifactName;
use serde_json::json;

use super::*;

const IMAGE: &str =
    "registry:5000/web@sha256:1342c597424d4ba07a33a79300fa90a77891a96fdf47b4638056411ff2530407";

fn artifacts() -> [(ArtifactName, bool); 1] {
    [(ArtifactName::parse("conf").unwrap(), true)]
}

fn problems(template: &Value) -> Vec<String> {
    let artifacts = artifacts();
    let context = Context {
        artifacts: &artifacts,
    };
    let said = |p: Problem| format!("{}: {}", p.path, p.message);
    validate(template, &context).into_iter().map(said).collect()
}

fn whole() -> Value {
    json!({
        "image": IMAGE,
        "command": ["/bin/web"],
        "args": ["--port", "80"],
        "environment": {"REGION": "eu"},
        "ports": ["8080:80", "127.0.0.1:53:53/udp"],
        "volumes": ["data:/data", "\u{e000}artifact:conf\u{e001}:/etc/web:ro", "tmpfs:/tmp"],
        "network": "front",
        "user": "1000:web",
        "workingDirectory": "/srv",
        "labels": {"team": "web"},
        "limits": {"memory": "64MiB", "cpu": 0.5, "openFiles": 1024, "pids": 100},
        "restart": {"policy": "on-failure"},
        "stop": {"signal": "SIGINT", "grace": "3s"},
        "update": "recreate",
        "pull": {"policy": "missing", "timeout": "5m"},
        "readOnly": true,
        "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
        "health": {"command": ["/bin/ready"], "interval": "1s", "retries": 2},
    })
}

#[test]
fn a_template_with_every_field_is_read_whole() {
    assert_eq!(problems(&whole()), Vec::<String>::new());
    let artifacts = artifacts();
    let context = Context {
        artifacts: &artifacts,
    };
    let parsed = parse(&whole(), &context).unwrap();
    assert_eq!(parsed.image.to_string(), IMAGE);
    assert_eq!((parsed.ports.len(), parsed.volumes.len()), (2, 3));
    assert_eq!(parsed.network, Network::Named("front".to_owned()));
    assert_eq!(parsed.limits.pids, Some(100));
    assert!(parsed.read_only);
    assert_eq!(parsed.health.unwrap().retries, 2);
    assert_eq!(restart(&whole()), parsed.restart);
}

#[test]
fn unrendered_expressions_are_accepted_until_they_are_rendered() {
    let template = json!({
        "image": "{{ vars.image }}",
        "ports": ["{{ vars.port }}:80"],
        "volumes": ["{{ vars.data }}:/data"],
        "readOnly": "{{ vars.readOnly }}",
        "update": "{{ vars.update }}",
        "limits": {"memory": "{{ vars.memory }}"},
    });
    assert_eq!(problems(&template), Vec::<String>::new());
    let refused = parse(&template, &Context { artifacts: &[] }).unwrap_err();
    assert_eq!(refused.len(), 6, "{refused:?}");
}

#[test]
fn every_problem_is_named_with_its_place() {
    let found = problems(&json!({
        "image": "registry:5000/web:1.4",
        "privileged": true,
        "command": ["\u{e000}artifact:conf\u{e001}/run"],
        "environment": {"A": 1},
        "files": {
            "etc/key": {"secret": "key"},
            "/etc/../key": {"secret": "key"},
            "/etc/web.conf": "text",
            "/etc/key": {"secret": "key"},
        },
        "ports": ["80", 8080],
        "volumes": ["/a/../b:/c", "\u{e000}artifact:other\u{e001}:/x"],
        "network": "container:abc",
        "user": "root; reboot",
        "workingDirectory": "srv",
        "labels": {"holdfast.agent": "x", "a b": "y"},
        "limits": {"memory": "2MiB", "pids": 0},
        "restart": {"policy": "unless-stopped"},
        "update": "rolling",
        "pull": {"policy": "always", "timeout": "1h"},
        "readOnly": "yes",
        "capabilities": {"add": ["ALL"]},
        "health": {"interval": "1s"},
    }));
    for expected in [
        "privileged: unknown field",
        "image: \"registry:5000/web:1.4\" is a tag",
        "command: an artifact's path is one of the host",
        "environment.A: expected text or {secret: NAME}, found a number",
        "files.etc/key: is not a plain absolute path",
        "files./etc/../key: is not a plain absolute path",
        "files./etc/web.conf: expected {secret: NAME}",
        "ports[0]: \"80\" is not a port",
        "ports[1]: expected text, found a number",
        "volumes[0]: the path on the host, \"/a/../b\", may not hold ..",
        "volumes[1]: refers to \"artifact:other\"",
        "network: \"container:abc\" is not a network",
        "user: \"root; reboot\"",
        "workingDirectory: \"srv\" is not an absolute path",
        "labels.holdfast.agent: labels that begin with holdfast.",
        "labels.a b: a label's key",
        "limits.memory: \"2MiB\" is less than 6MiB",
        "limits.pids: \"0\" is not between",
        "restart.policy: \"unless-stopped\"",
        "update: \"rolling\" is not",
        "pull.policy: \"always\" is not missing or never",
        "pull.timeout: is not between",
        "readOnly: expected true or false, found text",
        "capabilities.add[0]: \"ALL\" cannot be asked for",
        "health.command: is missing",
    ] {
        assert!(
            found.iter().any(|p| p.starts_with(expected)),
            "{expected}\nin {found:#?}"
        );
    }
    assert_eq!(found.len(), 25, "{found:#?}");
}

#[test]
fn fields_that_do_not_go_together_are_refused() {
    for (field, value, expected) in [
        (
            "network",
            json!("host"),
            "ports: mean nothing on network host",
        ),
        (
            "update",
            json!("start-first"),
            "update: start-first needs a moment",
        ),
        (
            "volumes",
            json!(["aa:/x", "bb:/x"]),
            "volumes: two are mounted at \"/x\"",
        ),
        (
            "volumes",
            json!(["tmpfs:/x:ro"]),
            "volumes[0]: a tmpfs begins empty",
        ),
    ] {
        let mut template = whole();
        template[field] = value;
        let found = problems(&template);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(expected), "{found:?}");
    }
}

#[test]
fn no_health_check_at_all_can_be_asked_for() {
    let template = json!({"image": IMAGE, "health": "none"});
    let parsed = parse(&template, &Context { artifacts: &[] }).unwrap();
    assert_eq!(parsed.health.unwrap().command, Vec::<String>::new());
}
