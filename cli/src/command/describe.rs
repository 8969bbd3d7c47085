//! `describe` and `explain`: all about one thing, for people.

use std::collections::BTreeMap;

use holdfast_protocol::api::deployment::Deployment;
use holdfast_protocol::api::environment::Environment;
use holdfast_protocol::api::explain::Explanation;
use holdfast_protocol::api::release::Release;
use holdfast_protocol::api::service::Service;
use holdfast_protocol::api::status::Status;
use holdfast_protocol::api::target::Target;
use holdfast_protocol::api::whereabouts::Whereabouts;
use holdfast_protocol::name::TargetName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Outcome, Session, get, history};
use crate::args::observe::{Describe, Explain, Kind};
use crate::client::Client;
use crate::error::{Exit, Failure};
use crate::output::row::Row;
use crate::output::table::Table;
use crate::output::text;

/// `describe KIND NAME`.
///
/// # Errors
/// The coordinator does not answer, or the object does not exist.
pub async fn run(session: &mut Session<'_>, args: &Describe) -> Outcome {
    let name = args.name.as_str();
    let page = match args.kind {
        Kind::Environments => environment(&session.client, name).await?,
        Kind::Services => service(&session.client, name).await?,
        Kind::Targets => target(&session.client, name).await?,
        Kind::Releases => release(&session.client, name).await?,
        Kind::Deployments => {
            let id = name
                .parse()
                .map_err(|_| Failure::usage(format!("a deployment is a number, not {name:?}")))?;
            return history::show_one(session, id).await;
        }
        Kind::Tokens => searched(&session.client, "tokens", "id", name).await?,
        Kind::Revisions => searched(&session.client, "revisions", "number", name).await?,
        Kind::Protections => searched(&session.client, "protections", "name", name).await?,
        Kind::Policies => searched(&session.client, "policies", "name", name).await?,
        Kind::Notifiers => searched(&session.client, "notifiers", "name", name).await?,
        Kind::Freezes => searched(&session.client, "freezes", "environment", name).await?,
        Kind::Sources => return Err(get::not_yet(args.kind)),
    };
    let width = session.screen.limit();
    session
        .screen
        .object(&page.json, |colour| page.text(width, colour))?;
    Ok(Exit::Done)
}

/// `explain SERVICE -e ENV`.
///
/// # Errors
/// The coordinator does not answer, or there is no such track.
pub async fn explain(session: &mut Session<'_>, args: &Explain) -> Outcome {
    let query = [
        ("service", Some(args.service.to_string())),
        ("environment", Some(args.environment.to_string())),
        ("target", args.target.as_ref().map(ToString::to_string)),
    ];
    let explanation: Explanation = session.client.fetch(&["explain"], &query).await?;
    let width = session.screen.limit();
    session.screen.object(&explanation, |colour| {
        let release = explanation
            .version
            .as_ref()
            .map_or_else(|| "no release yet".to_owned(), ToString::to_string);
        let target = explanation
            .target
            .iter()
            .map(|target| format!(" on {target}"))
            .collect::<String>();
        format!(
            "{} in {}{target}, revision {}, {release}\n{}\n{}",
            explanation.service,
            explanation.environment,
            explanation.revision,
            runtimes(&explanation.runtimes),
            Table::of(&explanation.fields, false).text(width, colour)
        )
    })?;
    Ok(Exit::Done)
}

/// On which targets it is in which runtime, a line each.
fn runtimes(runtimes: &BTreeMap<String, Vec<TargetName>>) -> String {
    let line = |(runtime, targets): (&String, &Vec<TargetName>)| {
        let names: Vec<&str> = targets.iter().map(TargetName::as_str).collect();
        let on = text::wrapped(&names.join(", "), runtime.len() + 4, 4);
        format!("{runtime} on {on}\n")
    };
    runtimes.iter().map(line).collect()
}

/// An object and what belongs to it.
struct Page {
    json: Value,
    sections: Vec<(&'static str, Table)>,
}

impl Page {
    fn new(object: &impl Serialize) -> Self {
        Self {
            json: json!({ "object": object }),
            sections: Vec::new(),
        }
    }

    fn section<T: Row + Serialize>(mut self, title: &'static str, items: &[T]) -> Self {
        if let Value::Object(map) = &mut self.json {
            map.insert(title.to_lowercase(), json!(items));
        }
        if !items.is_empty() {
            self.sections.push((title, Table::of(items, false)));
        }
        self
    }

    fn text(&self, width: Option<usize>, colour: bool) -> String {
        let object = self.json.get("object").unwrap_or(&Value::Null);
        let mut text = outline(object, 0);
        for (title, table) in &self.sections {
            text.push_str(&format!("\n{title}\n{}", table.text(width, colour)));
        }
        text
    }
}

/// A JSON object as indented lines, empty values left out.
fn outline(value: &Value, indent: usize) -> String {
    let Value::Object(map) = value else {
        return String::new();
    };
    let width = map.keys().map(String::len).max().unwrap_or(0);
    let gap = " ".repeat(indent);
    map.iter()
        .map(|(key, value)| match value {
            Value::Null => String::new(),
            Value::Object(inner) if inner.is_empty() => String::new(),
            Value::Array(items) if items.is_empty() => String::new(),
            Value::Array(items) if items.iter().all(Value::is_object) => {
                let lines = items.iter().map(|item| format!("{gap}  {}\n", plain(item)));
                format!("{gap}{key}\n{}", lines.collect::<String>())
            }
            Value::Object(_) => format!("{gap}{key}\n{}", outline(value, indent + 2)),
            Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                format!("{gap}{key:width$}  {}\n", plain(value))
            }
        })
        .collect()
}

fn plain(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null() && **value != json!([]) && **value != json!(""))
            .map(|(key, value)| format!("{key} {}", plain(value)))
            .collect::<Vec<_>>()
            .join(", "),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    crate::output::clean(&text)
}

async fn one<T: DeserializeOwned>(client: &Client, kind: &str, name: &str) -> Result<T, Failure> {
    let items: Vec<T> = client.items(&[kind, name], &[]).await?;
    items.into_iter().next().ok_or_else(|| missing(kind, name))
}

fn missing(kind: &str, name: &str) -> Failure {
    Failure::not_found(format!("{kind}: no {name:?}"))
        .help(format!("`holdfast get {kind}` lists what there is"))
}

async fn environment(client: &Client, name: &str) -> Result<Page, Failure> {
    let object: Environment = one(client, "environments", name).await?;
    let query = [("environment", Some(name.to_owned()))];
    let targets: Vec<Target> = client.items(&["targets"], &query).await?;
    let status: Vec<Status> = client.items(&["status"], &query).await?;
    Ok(Page::new(&object)
        .section("Targets", &targets)
        .section("Services", &status))
}

async fn service(client: &Client, name: &str) -> Result<Page, Failure> {
    let object: Service = one(client, "services", name).await?;
    let query = [("service", Some(name.to_owned()))];
    let status: Vec<Status> = client.items(&["status"], &query).await?;
    let releases: Vec<Release> = client.items(&["releases"], &query).await?;
    Ok(Page::new(&object)
        .section("Status", &status)
        .section("Releases", &newest(releases)))
}

async fn target(client: &Client, name: &str) -> Result<Page, Failure> {
    let object: Target = one(client, "targets", name).await?;
    let query = [("environment", Some(object.environment.to_string()))];
    let status: Vec<Status> = client.items(&["status"], &query).await?;
    let mut runs = Vec::new();
    for track in status {
        let query = [("service", Some(track.service.to_string()))];
        let items: Vec<Whereabouts> = client.items(&["where"], &query).await?;
        runs.extend(items.into_iter().filter(|item| item.target == object.name));
    }
    Ok(Page::new(&object).section("Workloads", &runs))
}

async fn release(client: &Client, name: &str) -> Result<Page, Failure> {
    let (service, version) = name
        .split_once('/')
        .ok_or_else(|| Failure::usage(format!("a release is SERVICE/VERSION, not {name:?}")))?;
    let query = [("service", Some(service.to_owned()))];
    let releases: Vec<Release> = client.items(&["releases"], &query).await?;
    let object = releases
        .into_iter()
        .find(|release| release.version.as_str() == version)
        .ok_or_else(|| missing("releases", name))?;
    let deployments: Vec<Deployment> = client.items(&["history"], &query).await?;
    let deployments: Vec<Deployment> = deployments
        .into_iter()
        .filter(|deployment| deployment.version == object.version)
        .collect();
    Ok(Page::new(&object).section("Deployments", &deployments))
}

/// An object of a kind that the API only lists.
async fn searched(client: &Client, kind: &str, key: &str, name: &str) -> Result<Page, Failure> {
    let items: Vec<Value> = client.items(&[kind], &[]).await?;
    let object = items
        .into_iter()
        .find(|item| item.get(key).is_some_and(|value| plain(value) == name))
        .ok_or_else(|| missing(kind, name))?;
    Ok(Page::new(&object))
}

fn newest(mut releases: Vec<Release>) -> Vec<Release> {
    releases.sort_by_key(|release| std::cmp::Reverse(release.sequence));
    releases.truncate(RELEASES_SHOWN);
    releases
}

/// How many releases `describe service` shows.
const RELEASES_SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn an_object_is_outlined_without_its_empty_values() {
        let value = json!({
            "name": "web", "owner": "team-web", "after": [], "latest": null,
            "artifacts": {"app": {"digest": "sha256:1", "size": 4}},
            "dependsOn": ["db", "cache"],
            "changes": [{"kind": "Service", "fields": []}, {"kind": "Environment", "fields": ["a"]}],
        });
        expect![[r#"
            artifacts
              app
                digest  sha256:1
                size    4
            changes
              kind Service
              fields a, kind Environment
            dependsOn  db, cache
            name       web
            owner      team-web
        "#]]
        .assert_eq(&outline(&value, 0));
    }
}
