//! Whether every `{{ }}` of a configuration can be read and refers to something that will be there.

use std::collections::BTreeSet;

use holdfast_protocol::name::ArtifactName;
use serde_json::Value;

use crate::compile::template::{Malformed, Reference, Template, Written};
use crate::compiled::{CheckSpec, Configuration};
use crate::diagnostic::{Place, suggestion};
use crate::manifest::join;
use crate::manifest::node::Node;

/// One thing wrong with a text.
pub(super) struct Problem {
    /// The field.
    pub(super) path: String,
    /// The part of it that is wrong.
    pub(super) text: String,
    /// What is wrong.
    pub(super) message: String,
    /// What to do about it.
    pub(super) help: Option<String>,
}

/// Everything wrong with the texts of a configuration.
pub(super) fn check(configuration: &Configuration) -> Vec<Problem> {
    let mut checking = Checking {
        configuration,
        found: Vec::new(),
    };
    checking.value(&configuration.template, "template", IN_BODY);
    for (name, value) in &configuration.vars {
        checking.value(value, &join("vars", name), IN_VARS);
    }
    match configuration.health.as_ref().map(|h| &h.check) {
        Some(CheckSpec::Http { url, .. }) => checking.text(url, "health.http.url", IN_BODY),
        Some(CheckSpec::Tcp { address }) => checking.text(address, "health.tcp", IN_BODY),
        Some(CheckSpec::Exec { command }) => {
            for (index, argument) in command.iter().enumerate() {
                checking.text(argument, &format!("health.exec[{index}]"), IN_BODY);
            }
        }
        None => {}
    }
    checking.found
}

struct Checking<'c> {
    configuration: &'c Configuration,
    found: Vec<Problem>,
}

/// What texts of a body may refer to.
const IN_BODY: &[&str] = &[
    "vars",
    "env",
    "target",
    "release",
    "service",
    "artifacts",
    "workload",
];
/// What texts of variables may refer to: not to each other, so that there is no order among them.
const IN_VARS: &[&str] = &["env", "target", "release", "service"];

impl Checking<'_> {
    fn value(&mut self, value: &Value, path: &str, roots: &[&str]) {
        match value {
            Value::String(text) => self.text(text, path, roots),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(item, &format!("{path}[{index}]"), roots);
                }
            }
            Value::Object(map) => {
                for (key, value) in map {
                    self.value(value, &join(path, key), roots);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn text(&mut self, text: &str, path: &str, roots: &[&str]) {
        if !Template::is_one(text) {
            return;
        }
        match Template::parse(text) {
            Err(malformed) => self.found.push(Problem {
                path: path.to_owned(),
                ..malformed.into()
            }),
            Ok(template) => {
                for written in template.expressions() {
                    self.expression(written, path, roots);
                }
            }
        }
    }

    fn expression(&mut self, written: &Written, path: &str, roots: &[&str]) {
        for reference in &written.references {
            let wrong = match self.reference(reference, roots) {
                Err(Dangling::Missing { .. }) if written.has_default => continue,
                Err(wrong) => wrong,
                Ok(()) => continue,
            };
            let (message, help) = match wrong {
                Dangling::Missing { message, help } | Dangling::Never { message, help } => {
                    (message, help)
                }
            };
            let text = reference.text.clone();
            self.found.push(Problem {
                path: path.to_owned(),
                text,
                message,
                help,
            });
        }
    }

    fn reference(&self, reference: &Reference, roots: &[&str]) -> Result<(), Dangling> {
        let text = &reference.text;
        let parts = reference.parts();
        let Some((root, below)) = parts.split_first() else {
            return Ok(());
        };
        if !roots.contains(root) {
            let message = if IN_BODY.contains(root) {
                format!("a variable may not refer to `{root}`")
            } else {
                format!("there is nothing called `{root}`")
            };
            let help = suggestion(root, roots.iter().copied());
            return Err(Dangling::Never { message, help });
        }
        match (*root, below) {
            ("vars", []) => Err(never(text, &["vars.NAME"])),
            ("vars", [name, ..]) => self.variable(name),
            ("artifacts", [name, below @ ..]) => self.artifact(text, name, below),
            ("target", ["name"] | ["labels"] | ["labels", _]) => Ok(()),
            ("target", ["labels", key @ ..]) => Err(dotted(text, key)),
            ("target", _) => Err(never(text, &["target.name", "target.labels.KEY"])),
            ("env" | "service", ["name"]) | ("workload", ["dir"]) => Ok(()),
            ("env", _) => Err(never(text, &["env.name"])),
            ("service", _) => Err(never(text, &["service.name"])),
            ("workload", _) => Err(never(text, &["workload.dir"])),
            ("release", ["version" | "sequence"]) => Ok(()),
            ("release", _) => Err(never(text, &["release.version", "release.sequence"])),
            _ => Err(never(text, &["artifacts.NAME.path"])),
        }
    }

    fn variable(&self, name: &str) -> Result<(), Dangling> {
        let vars = &self.configuration.vars;
        if vars.contains_key(name) {
            return Ok(());
        }
        let environment = &self.configuration.environment;
        let message = format!("there is no variable `{name}` in {environment}");
        Err(Dangling::Missing {
            message,
            help: suggestion(name, vars.keys().map(String::as_str)),
        })
    }

    fn artifact(&self, text: &str, name: &str, below: &[&str]) -> Result<(), Dangling> {
        let known = &self.configuration.artifacts;
        let images = &self.configuration.images;
        if images.contains_key(name) {
            return match below {
                ["image" | "digest"] => Ok(()),
                _ => Err(never(
                    text,
                    &["artifacts.NAME.image", "artifacts.NAME.digest"],
                )),
            };
        }
        if known.contains_key(name) {
            return match below {
                ["path"] => Ok(()),
                _ => Err(never(text, &["artifacts.NAME.path"])),
            };
        }
        let message = format!("this service has no artifact `{name}`");
        let hyphenated = known
            .keys()
            .find(|k| k.as_str().starts_with(&format!("{name}-")));
        let help = match hyphenated {
            Some(name) => Some(format!(
                "for a name with a hyphen write artifacts[\"{name}\"].path"
            )),
            None => suggestion(
                name,
                known.keys().chain(images.keys()).map(ArtifactName::as_str),
            ),
        };
        Err(Dangling::Never { message, help })
    }
}

/// Looks through the texts of a check.
pub(super) struct Asking<'p> {
    parameters: Vec<&'p str>,
    /// What is wrong, and at which value.
    pub(super) found: Vec<(Place, Problem)>,
    /// The variables that have to be there.
    pub(super) vars: BTreeSet<String>,
}

/// What texts of a check may refer to.
const IN_CHECKS: &[&str] = &[
    "service",
    "environment",
    "env",
    "release",
    "deployment",
    "vars",
    "parameters",
];

impl<'p> Asking<'p> {
    /// A check with these parameters.
    pub(super) fn new(parameters: impl Iterator<Item = &'p str>) -> Self {
        Self {
            parameters: parameters.collect(),
            found: Vec::new(),
            vars: BTreeSet::new(),
        }
    }

    /// Looks through every text of a value.
    pub(super) fn node(&mut self, node: &Node) {
        if let Some(text) = node.text().filter(|text| Template::is_one(text)) {
            self.text(text, node.place);
        }
        node.items().iter().for_each(|item| self.node(item));
        node.entries()
            .iter()
            .for_each(|entry| self.node(&entry.node));
    }

    fn text(&mut self, text: &str, place: Place) {
        let template = match Template::parse(text) {
            Ok(template) => template,
            Err(malformed) => return self.found.push((place, malformed.into())),
        };
        for written in template.expressions() {
            for reference in &written.references {
                let (message, help) = match self.reference(reference, written.has_default) {
                    Ok(()) => continue,
                    Err(
                        Dangling::Missing { message, help } | Dangling::Never { message, help },
                    ) => (message, help),
                };
                let problem = Problem {
                    path: String::new(),
                    text: reference.text.clone(),
                    message,
                    help,
                };
                self.found.push((place, problem));
            }
        }
    }

    fn reference(&mut self, reference: &Reference, has_default: bool) -> Result<(), Dangling> {
        let text = &reference.text;
        match reference.parts().as_slice() {
            ["service" | "environment" | "deployment"] | ["env", "name"] => Ok(()),
            ["release", "version" | "sequence" | "commit"] | ["release", "meta", _] => Ok(()),
            ["vars", name] | ["vars", name, ..] => {
                if !has_default {
                    self.vars.insert((*name).to_owned());
                }
                Ok(())
            }
            ["parameters", name] if self.parameters.contains(name) => Ok(()),
            ["parameters", name] => Err(Dangling::Never {
                message: format!("there is no parameter `{name}`"),
                help: Some(
                    suggestion(name, self.parameters.iter().copied()).map_or_else(
                        || format!("declare it: parameters: {{{name}: {{}}}}"),
                        |near| format!("{near}, or declare it: parameters: {{{name}: {{}}}}"),
                    ),
                ),
            }),
            ["service", ..] => Err(never(text, &["service"])),
            ["environment", ..] => Err(never(text, &["environment"])),
            ["deployment", ..] => Err(never(text, &["deployment"])),
            ["env", ..] => Err(never(text, &["env.name"])),
            ["release", ..] => Err(never(text, OF_RELEASES)),
            ["vars", ..] => Err(never(text, &["vars.NAME"])),
            ["parameters", ..] => Err(never(text, &["parameters.NAME"])),
            [root, ..] => Err(Dangling::Never {
                message: format!("there is nothing called `{root}` for checks"),
                help: suggestion(root, IN_CHECKS.iter().copied()),
            }),
            [] => Ok(()),
        }
    }
}

const OF_RELEASES: &[&str] = &[
    "release.version",
    "release.sequence",
    "release.commit",
    "release.meta.KEY",
];

impl From<Malformed> for Problem {
    fn from(malformed: Malformed) -> Self {
        Self {
            path: String::new(),
            text: malformed.text,
            message: malformed.message,
            help: Some(r#"to write two braces as they are, use {{ "{{" }}"#.to_owned()),
        }
    }
}

/// Why a reference leads nowhere.
enum Dangling {
    /// It could be there but is not; `| default(…)` may stand in for it.
    Missing {
        message: String,
        help: Option<String>,
    },
    /// It can never be there.
    Never {
        message: String,
        help: Option<String>,
    },
}

fn dotted(text: &str, key: &[&str]) -> Dangling {
    let message = format!("`{text}` leads nowhere");
    let key = key.join(".");
    let help = format!("for a key with a dot write target.labels[\"{key}\"]");
    Dangling::Never {
        message,
        help: Some(help),
    }
}

fn never(text: &str, known: &[&str]) -> Dangling {
    let message = format!("`{text}` leads nowhere");
    Dangling::Never {
        message,
        help: Some(format!("known are {}", known.join(", "))),
    }
}
