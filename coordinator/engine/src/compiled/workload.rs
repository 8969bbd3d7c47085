//! What expressions see of a workload: the compiled one, before there is a release or a target.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_protocol::time::friendly;
use minijinja::Value as Scope;
use serde_json::{Map, Value, json};

use crate::assign::scope_of;
use crate::compile::template::Template;
use crate::compiled::{CheckSpec, Configuration, HealthSpec};

impl Configuration {
    /// The value of `workload` in expressions:
    ///
    /// | name | what it is |
    /// | --- | --- |
    /// | `runtime` | the adapter |
    /// | `template` | the adapter's template |
    /// | `image` | the template's `image`, where it has one |
    /// | `vars` | the variables |
    /// | `artifacts` | the file of each artifact, or its image's repository, by name |
    /// | `health` | `kind`, `check`, `interval`, `timeout`; not there without a health check |
    /// | `dependsOn` | names of services |
    ///
    /// Texts are rendered as far as `env`, `service` and `vars` go, and with an image's repository for
    /// `artifacts.NAME.image`; one that needs a release or a target stands as it was written.
    #[must_use]
    pub fn workload(&self) -> Value {
        let mut scope = json!({
            "env": {"name": self.environment},
            "service": {"name": self.service},
        });
        let known = scope_of(&scope);
        let vars = self.vars.iter();
        let vars: Map<_, _> = vars
            .map(|(name, value)| (name.clone(), rendered(value, &known)))
            .collect();
        scope["vars"] = Value::Object(vars);
        let images = self.images.iter();
        let images =
            images.map(|(name, repository)| (name.to_string(), json!({"image": repository})));
        scope["artifacts"] = Value::Object(images.collect());
        let known = scope_of(&scope);
        let template = rendered(&self.template, &known);
        let artifacts: BTreeMap<_, _> = self.artifacts.iter().chain(&self.images).collect();
        let mut workload = json!({
            "runtime": self.runtime,
            "artifacts": artifacts,
            "dependsOn": self.depends_on,
            "vars": scope["vars"],
        });
        if let Some(image) = template.get("image").filter(|image| image.is_string()) {
            workload["image"] = image.clone();
        }
        if let Some(health) = &self.health {
            workload["health"] = described(health, &known);
        }
        workload["template"] = template;
        workload
    }
}

fn described(health: &HealthSpec, scope: &Scope) -> Value {
    let (kind, check) = match &health.check {
        CheckSpec::Http { url, .. } => ("http", json!(url)),
        CheckSpec::Tcp { address } => ("tcp", json!(address)),
        CheckSpec::Exec { command } => ("exec", json!(command)),
    };
    let span = |ms| friendly(Duration::from_millis(ms));
    json!({
        "kind": kind,
        "check": rendered(&check, scope),
        "interval": span(health.interval_ms),
        "timeout": span(health.timeout_ms),
    })
}

/// The value with every text rendered that can be.
fn rendered(value: &Value, scope: &Scope) -> Value {
    match value {
        Value::String(text) if Template::is_one(text) => {
            Value::String(text_of(text, scope).unwrap_or_else(|| text.clone()))
        }
        Value::Array(items) => items.iter().map(|item| rendered(item, scope)).collect(),
        Value::Object(map) => {
            let entries = map
                .iter()
                .map(|(key, value)| (key.clone(), rendered(value, scope)));
            Value::Object(entries.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn text_of(text: &str, scope: &Scope) -> Option<String> {
    let mut room = RENDERED_MAX_BYTES;
    let template = Template::parse(text).ok()?;
    template.render(scope, &mut room).ok()
}

/// Most bytes that one text comes to.
const RENDERED_MAX_BYTES: usize = 64 * 1024;
