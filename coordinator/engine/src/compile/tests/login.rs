//! With which secrets a target fetches: by environment, by home, and by runtime.

use std::sync::Arc;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::home::Home;
use holdfast_protocol::login::{Goal, Login};
use holdfast_protocol::name::SecretName;
use holdfast_protocol::observed::Labels;
use holdfast_protocol::workload::Workload;

use super::{compiled, environment, track};
use crate::assign::{RenderError, RenderRelease, RenderTarget, render};
use crate::compiled::{Compiled, Configuration};

const WEB: &str = "---
apiVersion: holdfast/v1
kind: Service
metadata: {name: web, owner: team-web}
spec:
  artifacts:
    app: {file: web.tar.gz, credentials: {secret: login, host: 'files.example:8443'}}
    image: {image: team/web, credentials: {secret: login}}
  runtime: process
  template: {command: [/bin/web], environment: {KEY: {secret: key}}}
  environments:
    production:
      artifacts: {app: {file: web.tar.gz, credentials: {secret: production-login}}}
      runtime: container
      template: {image: '{{ artifacts.image.image }}'}
";

fn content() -> String {
    let (staging, production) = (environment("staging", ""), environment("production", ""));
    format!("{staging}{production}{WEB}")
}

fn stamped(version: u64) -> Compiled {
    let mut compiled = compiled(&content());
    let _changed = compiled.stamp(&|_, _| version);
    compiled
}

fn body(configuration: &Arc<Configuration>, home: Option<&str>) -> Result<Workload, RenderError> {
    let artifact = |name: &str| (name.parse().unwrap(), (Digest::of(name.as_bytes()), 7));
    let home = home.map(|home| ("app".parse().unwrap(), home.parse::<Home>().unwrap()));
    let release = RenderRelease {
        version: "1".parse().unwrap(),
        sequence: 1,
        artifacts: ["app", "image", "other"].map(artifact).into(),
        homes: home.into_iter().collect(),
        run: None,
    };
    let target = RenderTarget {
        name: "t1".parse().unwrap(),
        environment: configuration.environment.clone(),
        labels: Labels::new(),
    };
    render(configuration, &release, &target)
}

fn told(body: &Workload) -> Vec<(String, String)> {
    let one = |login: &Login| {
        let goal = match &login.goal {
            Goal::File { artifact, host } => format!("{artifact} at {host:?}"),
            Goal::Image { repository } => repository.clone(),
        };
        (goal, login.secret.to_string())
    };
    body.logins.iter().map(one).collect()
}

#[test]
fn a_body_names_the_secret_of_a_home_on_its_host_alone_and_of_the_images_that_are_pulled() {
    let compiled = stamped(3);
    let staging = &track(&compiled, "web", "staging").configuration;
    let there = body(staging, Some("https://Files.example:8443/a.tar.gz")).unwrap();
    let file = r#"app at Some("files.example:8443")"#.to_owned();
    assert_eq!(told(&there), [(file.clone(), "login".to_owned())]);
    let bytes = there.clone().seal().1;
    assert_eq!(Workload::open(&bytes).unwrap(), there);
    // A release may choose another home, and uploads have none: neither is told anything.
    for home in [
        Some("https://evil.example/a.tar.gz"),
        Some("https://files.example/a"),
        None,
    ] {
        assert_eq!(told(&body(staging, home).unwrap()), [], "{home:?}");
    }
    let production = &track(&compiled, "web", "production").configuration;
    let there = body(production, Some("https://files.example:8443/a")).unwrap();
    let image = "docker.io/library/web".replace("library", "team");
    assert_eq!(
        told(&there),
        [
            (file, "production-login".to_owned()),
            (image, "login".to_owned())
        ]
    );
}

#[test]
fn what_is_fetched_with_a_secret_waits_for_it_and_does_not_change_with_it() {
    let without = stamped(0);
    let staging = &track(&without, "web", "staging").configuration;
    let unset = |configuration: &Configuration| -> Vec<String> {
        let names = configuration.unset().into_iter();
        names.map(ToString::to_string).collect()
    };
    assert_eq!(unset(staging), ["key", "login"]);
    let environment = "staging".parse().unwrap();
    let users = without.users_of(&environment, &"login".parse().unwrap());
    assert_eq!(users, ["web".parse().unwrap()]);

    // A new value of what the template names is a new configuration; of what only fetches it is none.
    let versions = |key: u64, login: u64| {
        let mut compiled = compiled(&content());
        let newest = |name: &SecretName| match name.as_str() {
            "key" => key,
            _ => login,
        };
        let _changed = compiled.stamp(&|_, name| newest(name));
        assert!(compiled.is_stamped(&|_, name| newest(name)));
        Arc::clone(&track(&compiled, "web", "staging").configuration)
    };
    let (first, rotated) = (versions(1, 1), versions(1, 2));
    assert_eq!(unset(&first), Vec::<String>::new());
    assert_eq!(first.digest(), rotated.digest());
    assert_ne!(first.digest(), versions(2, 1).digest());
    assert_ne!(first.digest(), versions(1, 0).digest());
    let home = Some("https://files.example:8443/a");
    assert_eq!(body(&first, home).unwrap(), body(&rotated, home).unwrap());
    let refused = body(&versions(1, 0), home).unwrap_err();
    assert_eq!(
        refused.help.as_deref(),
        Some("holdfast secret set login -e staging")
    );
}

#[test]
fn one_repository_is_not_pulled_with_two_secrets() {
    let other =
        "    other: {image: team/web, credentials: {secret: other-login}}\n  runtime: process\n";
    let content = content().replace("  runtime: process\n", other);
    let mut compiled = compiled(&content);
    let _changed = compiled.stamp(&|_, _| 1);
    let production = &track(&compiled, "web", "production").configuration;
    let refused = body(production, None).unwrap_err();
    assert!(
        refused.message.contains("login and with other-login"),
        "{refused:?}"
    );
}
