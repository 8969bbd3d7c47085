//! Promise: everybody does what their roles allow, and no more; whoever is revoked is out at once.

use std::time::{Duration, Instant};

use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest::{ENVIRONMENTS, sleeper};
use holdfast_tests::operator::Said;
use holdfast_tests::program::{Program, built};
use holdfast_tests::wait::{PATIENCE, wait_for};

/// Longest time that what somebody follows may go on after the user was revoked.
const STREAM_ENDS: Duration = Duration::from_secs(5);

/// A fleet with `web` declared.
fn declared() -> Fleet {
    let fleet = Fleet::start();
    fleet.apply(&(ENVIRONMENTS.to_owned() + "---\n" + &sleeper("web")));
    fleet
}

/// What an operator of the fleet is told, word by word.
fn told(fleet: &Fleet, line: &str) -> Said {
    fleet.operator(&line.split_whitespace().collect::<Vec<_>>())
}

/// Where a user finds the coordinator, and with which token.
fn surroundings(fleet: &Fleet, token: &str) -> [(&'static str, String); 3] {
    let ca = fleet.coordinator_data().join("ca.pem");
    [
        ("HOLDFAST_SERVER", fleet.api.base().to_owned()),
        ("HOLDFAST_TOKEN", token.to_owned()),
        ("HOLDFAST_CA", ca.display().to_string()),
    ]
}

/// The same command by somebody with a token.
pub(crate) fn by(fleet: &Fleet, token: &str, line: &str) -> Said {
    let words: Vec<&str> = line.split_whitespace().collect();
    let variables = surroundings(fleet, token);
    let variables = variables
        .each_ref()
        .map(|(key, value)| (*key, value.as_str()));
    fleet.run("holdfast", &words, &variables)
}

#[test]
fn a_token_stands_alone_on_standard_output_and_does_what_its_role_says() {
    let fleet = declared();
    let made = told(&fleet, "user create ada --role viewer --ttl 90d").ends_with(0);
    let token = made.stdout.trim();
    assert_eq!(made.stdout, format!("{token}\n"));
    assert!(
        token.starts_with("hf_") && !token.contains(char::is_whitespace),
        "{token}"
    );
    assert!(
        made.complaint().contains("shown only now"),
        "{}",
        made.stderr
    );
    let again = told(&fleet, "user create ada --role viewer").ends_with(0);
    assert_eq!(again.stdout, "");
    assert!(
        again.complaint().contains("holdfast user rotate ada"),
        "{}",
        again.stderr
    );
    let _ = told(&fleet, "user create ada --role admin").ends_with(8);

    let whoami = by(&fleet, token, "whoami -o json").json();
    assert_eq!(whoami["user"], "ada");
    assert_eq!(whoami["roles"], serde_json::json!(["viewer"]));
    assert_eq!(whoami["permissions"], serde_json::json!(["read"]));
    let _ = by(&fleet, token, "status").succeeds();
    let refused = by(&fleet, token, "pause web -e staging").ends_with(4);
    assert!(
        refused.complaint().contains("permission deploy"),
        "{}",
        refused.stderr
    );
    let _ = by(&fleet, token, "user list").succeeds();
    let _ = by(&fleet, token, "user create eve --role admin").ends_with(4);

    let _ = told(&fleet, "user assign ada --role operator").succeeds();
    let _ = by(&fleet, token, "pause web -e staging").succeeds();
    let new = told(&fleet, "user rotate ada").succeeds();
    let _ = by(&fleet, token, "whoami").ends_with(4);
    let _ = by(&fleet, new.trim(), "whoami").succeeds();
    let _ = told(&fleet, "user revoke ada").succeeds();
    let _ = told(&fleet, "user revoke ada").succeeds();
    let _ = by(&fleet, new.trim(), "whoami").ends_with(4);
    let _ = told(&fleet, "user revoke nobody").ends_with(3);
    let last = told(&fleet, "user revoke admin");
    assert!(
        last.complaint().contains("last administrator"),
        "{}",
        last.stderr
    );
    assert_ne!(last.code, Some(0));
    fleet.assert_record_holds();
}

#[test]
fn a_role_is_declared_shown_given_and_deleted_from_the_command_line() {
    let fleet = declared();
    let create = "role create team-web --permission read --permission apply --permission deploy \
                  --service web --environment staging";
    let _ = told(&fleet, create).succeeds();
    let _ = told(&fleet, create).succeeds();
    let _ = told(&fleet, "role create team-web").ends_with(8);
    let _ = told(&fleet, "role create viewer").ends_with(8);
    let _ = told(&fleet, "role create x --permission root").ends_with(64);
    let token = told(&fleet, "user create dev --role team-web").succeeds();
    let token = token.trim();
    let shown = told(&fleet, "role show team-web -o json").json();
    assert_eq!(shown["users"], serde_json::json!(["dev"]));
    assert_eq!(shown["scope"]["services"], serde_json::json!(["web"]));
    let listed = told(&fleet, "role list").succeeds();
    assert!(
        listed.contains("services web; environments staging"),
        "{listed}"
    );
    for name in ["admin", "operator", "viewer"] {
        assert!(listed.contains(name), "{listed}");
    }

    let whoami = by(&fleet, token, "whoami").succeeds();
    assert!(
        whoami.contains("team-web: services web; environments staging"),
        "{whoami}"
    );
    let _ = by(&fleet, token, "pause web -e staging").succeeds();
    let _ = by(&fleet, token, "pause web -e production").ends_with(4);
    let whole = ENVIRONMENTS.to_owned() + "---\n" + &sleeper("web");
    let own = format!("{whole}  environments:\n    staging: {{vars: {{colour: blue}}}}\n");
    let path = fleet.write("own.yaml", &own);
    let _ = by(&fleet, token, &format!("apply -f {path}")).succeeds();
    let more =
        own.replace("soak: 200ms", "soak: 300ms") + "    production: {vars: {colour: red}}\n";
    let path = fleet.write("more.yaml", &more);
    let refused = by(&fleet, token, &format!("apply -f {path}")).ends_with(4);
    for document in [
        "Environment staging",
        "Environment production",
        "Service web",
    ] {
        assert!(refused.complaint().contains(document), "{}", refused.stderr);
    }
    assert_eq!(
        told(&fleet, "get revisions -o name")
            .succeeds()
            .lines()
            .count(),
        2
    );

    let held = told(&fleet, "role delete team-web").ends_with(8);
    assert!(held.complaint().contains("dev"), "{}", held.stderr);
    let _ = told(&fleet, "user revoke dev").succeeds();
    let _ = told(&fleet, "role delete team-web").succeeds();
    let _ = told(&fleet, "role show team-web").ends_with(3);
    fleet.assert_record_holds();
}

#[test]
fn what_is_named_decides_what_a_limit_allows() {
    let mut fleet = declared();
    let limit = "spec:\n  removalLimit: {services: 0, workloads: 0%}\n";
    let guarded = ENVIRONMENTS.replacen("spec:\n", limit, 1);
    fleet.apply(&(guarded.clone() + "---\n" + &sleeper("web")));
    fleet.join("staging-1", "staging", &[]);
    fleet.release("web", "1", &[]);
    fleet.wait_stable("web", "staging", "1");
    let of = |role: &str, flags: &str| {
        let _ = told(&fleet, &format!("role create {role} {flags}")).succeeds();
        told(&fleet, &format!("user create {role} --role {role}")).succeeds()
    };
    let reads = "--permission read --permission";
    let hosts = of("hosts", &format!("{reads} target --environment production"));
    let label = "target label staging-1 rack=b2";
    let refused = by(&fleet, hosts.trim(), label).ends_with(4);
    assert!(
        refused.complaint().contains("environment staging"),
        "{}",
        refused.stderr
    );
    let racks = of("racks", &format!("{reads} target --environment staging"));
    let _ = by(&fleet, racks.trim(), label).succeeds();
    let _ = by(&fleet, racks.trim(), "target label nobody rack=b2").ends_with(3);

    // All of what staging runs would go: that waits for a person.
    let api = of("api", &format!("{reads} apply --service api"));
    let web = of("web", &format!("{reads} apply --service web"));
    let path = fleet.write("none.yaml", &guarded);
    let _ = by(&fleet, api.trim(), &format!("apply -f {path}")).ends_with(4);
    let applied = by(&fleet, web.trim(), &format!("apply -f {path} -o json")).json();
    assert!(!applied["held"].as_array().unwrap().is_empty(), "{applied}");
    let confirm = format!("confirm {}", applied["revision"]);
    let refused = by(&fleet, api.trim(), &confirm).ends_with(4);
    assert!(
        refused.complaint().contains("service web"),
        "{}",
        refused.stderr
    );
    let _ = by(&fleet, web.trim(), &confirm).succeeds();
}

#[test]
fn what_a_revoked_user_follows_ends_within_seconds() {
    let mut fleet = declared();
    fleet.join("staging-1", "staging", &[]);
    fleet.release("web", "1", &[]);
    fleet.wait_stable("web", "staging", "1");
    let token = told(&fleet, "user create ada --role viewer").succeeds();
    let follow = |label: &str, words: &[&str]| {
        let variables = surroundings(&fleet, token.trim());
        let variables = variables
            .each_ref()
            .map(|(key, value)| (*key, value.as_str()));
        let words = words.iter().copied();
        let program = Program::new(
            label,
            built("holdfast"),
            words,
            &variables,
            fleet.directory(),
        );
        program.start();
        program
    };
    let followed = [
        follow("events", &["events", "--follow"]),
        follow("logs", &["logs", "web", "-e", "staging", "--follow"]),
    ];
    // Both are open once this is told to the first of them.
    let _ = told(&fleet, "pause web -e staging").succeeds();
    wait_for("the stream is open", PATIENCE, || {
        let text = followed[0].output();
        if text.is_empty() { Err(text) } else { Ok(()) }
    });
    assert!(followed.iter().all(|program| program.ended().is_none()));
    let begin = Instant::now();
    let _ = told(&fleet, "user revoke ada").succeeds();
    for program in followed {
        let _ = program.wait();
    }
    assert!(begin.elapsed() < STREAM_ENDS, "{:?}", begin.elapsed());
}
