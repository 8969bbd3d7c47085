//! All that a revision is made of: written for Cloud Run, read from it, and compared. Pure.

use std::collections::BTreeMap;

use holdfast_protocol::digest::Digest;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::environment;

/// What a revision is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Settings {
    pub(super) image: String,
    pub(super) command: Vec<String>,
    pub(super) args: Vec<String>,
    /// May hold secrets: never shown.
    pub(super) environment: BTreeMap<String, Variable>,
    pub(super) port: u16,
    /// The project's own where there is none.
    pub(super) service_account: Option<String>,
    pub(super) memory_mib: u64,
    pub(super) cpu_milli: u32,
    pub(super) concurrency: u32,
    pub(super) timeout_seconds: u32,
    pub(super) min_scale: u32,
    pub(super) max_scale: u32,
    pub(super) connector: Option<String>,
    pub(super) egress: Option<String>,
}

/// A variable of the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) enum Variable {
    /// With this value.
    Value(String),
    /// With a value of Secret Manager.
    Secret {
        /// The secret.
        name: String,
        /// Which version of it: a number, or `latest`.
        version: String,
    },
}

impl Settings {
    /// Values of the environment, which may be secrets.
    pub(super) fn values(&self) -> impl Iterator<Item = &String> {
        self.environment
            .values()
            .filter_map(|variable| match variable {
                Variable::Value(value) => Some(value),
                Variable::Secret { .. } => None,
            })
    }

    /// What names a revision of these settings besides its service: another one is another revision.
    pub(super) fn mark(&self) -> String {
        let bytes = serde_json::to_vec(self).expect("it is plain data");
        Digest::of(&bytes).hex()[..MARK_CHARS].to_owned()
    }

    /// The template of a revision called `name`.
    pub(super) fn template(&self, name: &str) -> Value {
        let mut annotations = Map::new();
        annotations.insert(MAX_SCALE.to_owned(), self.max_scale.to_string().into());
        if self.min_scale > 0 {
            annotations.insert(MIN_SCALE.to_owned(), self.min_scale.to_string().into());
        }
        for (key, value) in [(CONNECTOR, &self.connector), (EGRESS, &self.egress)] {
            if let Some(value) = value {
                annotations.insert(key.to_owned(), value.clone().into());
            }
        }
        let mut spec = json!({
            "containerConcurrency": self.concurrency, "timeoutSeconds": self.timeout_seconds,
            "containers": [self.container()],
        });
        if let Some(account) = &self.service_account {
            spec["serviceAccountName"] = account.clone().into();
        }
        let labels = json!({CONTENT_LABEL: self.mark()});
        json!({"metadata": {"name": name, "labels": labels, "annotations": annotations}, "spec": spec})
    }

    fn container(&self) -> Value {
        let variable = |(name, variable): (&String, &Variable)| match variable {
            Variable::Value(value) => json!({"name": name, "value": value}),
            Variable::Secret {
                name: secret,
                version,
            } => json!({"name": name,
                "valueFrom": {"secretKeyRef": {"name": secret, "key": version}}}),
        };
        let mut container = json!({
            "image": self.image,
            "env": self.environment.iter().map(variable).collect::<Vec<_>>(),
            "ports": [{"containerPort": self.port}],
            "resources": {"limits": {
                "memory": format!("{}Mi", self.memory_mib), "cpu": format!("{}m", self.cpu_milli),
            }},
        });
        for (field, words) in [("command", &self.command), ("args", &self.args)] {
            if !words.is_empty() {
                container[field] = json!(words);
            }
        }
        container
    }

    /// What a template of Cloud Run says; what it does not say is as Cloud Run has it by itself.
    pub(super) fn read(template: &Value) -> Self {
        let (annotations, spec) = (&template["metadata"]["annotations"], &template["spec"]);
        let container = &spec["containers"][0];
        let (limits, port) = (
            &container["resources"]["limits"],
            &container["ports"][0]["containerPort"],
        );
        let number = |value: &Value, otherwise: u32| {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            number.unwrap_or(otherwise)
        };
        let scale = |key: &str, otherwise| {
            let text = annotations[key].as_str();
            text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
        };
        Self {
            image: text(&container["image"]).unwrap_or_default(),
            command: words(&container["command"]),
            args: words(&container["args"]),
            environment: environment(&container["env"]),
            port: u16::try_from(number(port, 8080)).unwrap_or_default(),
            service_account: text(&spec["serviceAccountName"]),
            memory_mib: limits["memory"]
                .as_str()
                .map_or(Some(512), mebibytes)
                .unwrap_or_default(),
            cpu_milli: limits["cpu"]
                .as_str()
                .map_or(Some(1000), milli)
                .unwrap_or_default(),
            concurrency: number(&spec["containerConcurrency"], 80),
            timeout_seconds: number(&spec["timeoutSeconds"], 300),
            min_scale: scale(MIN_SCALE, 0),
            max_scale: scale(MAX_SCALE, 100),
            connector: text(&annotations[CONNECTOR]),
            egress: text(&annotations[EGRESS]),
        }
    }

    /// What differs of what is seen, by field of the template; values of the environment are never
    /// said. An account that nobody asked for is Cloud Run's own choice.
    pub(super) fn differences(&self, seen: &Self) -> Vec<String> {
        let none = || "none".to_owned();
        let option = |text: &Option<String>| text.clone().unwrap_or_else(none);
        let pair = |of: fn(&Self) -> String| (of(seen), of(self));
        let account = self.service_account.as_ref().map(|wanted| {
            (
                "serviceAccount",
                (option(&seen.service_account), wanted.clone()),
            )
        });
        let fields = [
            ("image", pair(|all| all.image.clone())),
            ("command", pair(|all| format!("{:?}", all.command))),
            ("args", pair(|all| format!("{:?}", all.args))),
            ("port", pair(|all| all.port.to_string())),
            (
                "limits.memory",
                pair(|all| format!("{}MiB", all.memory_mib)),
            ),
            ("limits.cpu", pair(|all| format!("{}m", all.cpu_milli))),
            ("concurrency", pair(|all| all.concurrency.to_string())),
            ("timeout", pair(|all| format!("{}s", all.timeout_seconds))),
            ("scale.min", pair(|all| all.min_scale.to_string())),
            ("scale.max", pair(|all| all.max_scale.to_string())),
            (
                "network.connector",
                (option(&seen.connector), option(&self.connector)),
            ),
            (
                "network.egress",
                (option(&seen.egress), option(&self.egress)),
            ),
        ];
        let differs = fields
            .into_iter()
            .chain(account)
            .filter(|(_, (seen, wanted))| seen != wanted)
            .map(|(field, (seen, wanted))| format!("{field} is {seen} instead of {wanted}"));
        differs
            .chain(environment::differs(&seen.environment, &self.environment))
            .collect()
    }
}

/// What a template holds that none of ours does: more containers, files, probes.
pub(super) fn strange(template: &Value) -> Vec<String> {
    let spec = &template["spec"];
    let containers = spec["containers"].as_array().map_or(0, Vec::len);
    let more = (containers > 1).then(|| format!("it has {containers} containers instead of 1"));
    let volumes = spec["volumes"]
        .as_array()
        .is_some_and(|all| !all.is_empty());
    let volumes = volumes.then(|| "it has volumes".to_owned());
    let liveness = spec["containers"][0]["livenessProbe"].is_object();
    let liveness = liveness.then(|| "it has a liveness probe".to_owned());
    [more, volumes, liveness].into_iter().flatten().collect()
}

fn text(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned)
}

fn words(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn environment(value: &Value) -> BTreeMap<String, Variable> {
    let variable = |value: &Value| {
        let name = text(&value["name"])?;
        let secret = &value["valueFrom"]["secretKeyRef"];
        let variable = match text(&secret["name"]) {
            Some(name) => Variable::Secret {
                name,
                version: text(&secret["key"]).unwrap_or_default(),
            },
            None => Variable::Value(value["value"].as_str().unwrap_or_default().to_owned()),
        };
        Some((name, variable))
    };
    let all = value.as_array().into_iter().flatten();
    all.filter_map(variable).collect()
}

/// A quantity of memory, in MiB, rounded down.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is out of bounds is no amount of memory, and differs from any"
)]
fn mebibytes(text: &str) -> Option<u64> {
    let (ki, k) = (1024.0_f64, 1000.0_f64);
    let units = [("Ki", ki), ("Mi", ki * ki), ("Gi", ki * ki * ki)];
    let units = units
        .into_iter()
        .chain([("k", k), ("M", k * k), ("G", k * k * k)]);
    let bytes = units.chain([("", 1.0)]).find_map(|(unit, bytes)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(number * bytes)
    })?;
    Some((bytes / (ki * ki)) as u64)
}

/// A quantity of processors, in thousandths.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is out of bounds is no number of processors, and differs from any"
)]
fn milli(text: &str) -> Option<u32> {
    if let Some(milli) = text.strip_suffix('m') {
        return milli.parse().ok();
    }
    let whole: f64 = text.parse().ok()?;
    Some((whole * 1000.0).round() as u32)
}

/// The label of revisions that says what they are made of.
pub(super) const CONTENT_LABEL: &str = "holdfast-content";
/// Characters of a digest that name a revision: with the longest name of a service, 63 are not
/// exceeded.
const MARK_CHARS: usize = 10;
const MIN_SCALE: &str = "autoscaling.knative.dev/minScale";
const MAX_SCALE: &str = "autoscaling.knative.dev/maxScale";
const CONNECTOR: &str = "run.googleapis.com/vpc-access-connector";
const EGRESS: &str = "run.googleapis.com/vpc-access-egress";
