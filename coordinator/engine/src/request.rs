//! What a check asks, with its texts rendered: ready to be performed, by whoever can.
//!
//! Texts of a check may hold `{{ }}` over:
//!
//! | name | what it is |
//! | --- | --- |
//! | `service` | the service's name |
//! | `environment`, `env.name` | the environment's name |
//! | `release.version`, `release.sequence` | the release that is asked about |
//! | `release.commit`, `release.meta.KEY` | what its author said of it |
//! | `deployment` | the deployment's number; empty where what is stable is asked about |
//! | `vars.NAME` | the variables of the configuration that is asked about, but for those that need a target |
//! | `parameters.NAME` | the parameters of the use |

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_protocol::api::release::Release;
use minijinja::Value as Scope;
use serde_json::{Map, Value, json};

use crate::assign::scope_of;
use crate::compile::template::{Template, Unrendered};
use crate::compiled::Configuration;
use crate::compiled::protection::{Check, Guard, Http, Place, Prometheus, Run, Samples};
use crate::track::{Point, TrackName};

/// Most bytes that the texts of one check come to, once rendered.
pub const RENDERED_MAX_BYTES: usize = 32 * 1024;

/// Something to be performed outside the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Run a program.
    Program(Program),
    /// Send a GET.
    Http(Http),
    /// Send a query.
    Prometheus(Prometheus),
}

/// A program to run. It passes with exit code 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// Its whole environment but for `PATH` and what the place gives it.
    pub environment: BTreeMap<String, String>,
    /// Where it runs.
    pub on: Place,
    /// Time it may take.
    pub timeout: Duration,
}

/// What a check is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The track.
    pub track: &'a TrackName,
    /// The release and configuration.
    pub point: &'a Point,
    /// The deployment; none where what is stable is asked about.
    pub deployment: Option<u64>,
    /// What is known of the release, where it is.
    pub release: Option<&'a Release>,
    /// The configuration, where it is known.
    pub configuration: Option<&'a Configuration>,
}

impl Request {
    /// Time it may take.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        match self {
            Self::Program(program) => program.timeout,
            Self::Http(http) => http.timeout,
            Self::Prometheus(prometheus) => prometheus.timeout,
        }
    }
}

/// Renders what `guard` asks about `context`.
///
/// # Errors
/// In words: a text that cannot be rendered, or a kind of check that nobody performs because it is
/// judged by the engine itself.
pub fn render(guard: &Guard, context: &Context<'_>) -> Result<Request, String> {
    let mut rendering = Rendering::new(guard, context);
    match &guard.protection.check {
        Check::Run(run) | Check::Resource(run) => rendering.program(run).map(Request::Program),
        Check::Http(http) => rendering.http(http).map(Request::Http),
        Check::Prometheus(prometheus) => rendering.prometheus(prometheus).map(Request::Prometheus),
        Check::Expression(_) | Check::Approval(_) | Check::Stable { .. } => Err(format!(
            "{} is a check of kind {}, which is not performed",
            guard.name,
            guard.protection.check.kind()
        )),
    }
}

/// Describes what passes, for outputs: `no sample`.
#[must_use]
pub fn expected(samples: Samples) -> String {
    use crate::compiled::protection::Comparison;
    match samples {
        Samples::Empty => "no sample".to_owned(),
        Samples::Some => "at least one sample".to_owned(),
        Samples::Each(comparison, bound) => {
            let sign = match comparison {
                Comparison::Less => "<",
                Comparison::AtMost => "<=",
                Comparison::Greater => ">",
                Comparison::AtLeast => ">=",
                Comparison::Equal => "==",
                Comparison::Differs => "!=",
            };
            format!("every sample {sign} {bound}")
        }
    }
}

struct Rendering<'a> {
    context: Context<'a>,
    scope: Scope,
    room: usize,
}

impl<'a> Rendering<'a> {
    fn new(guard: &Guard, context: &Context<'a>) -> Self {
        let mut room = RENDERED_MAX_BYTES;
        let mut scope = fixed(context);
        scope["vars"] = variables(context, &scope, &mut room);
        scope["parameters"] = json!(guard.parameters);
        Self {
            context: *context,
            scope: scope_of(&scope),
            room,
        }
    }

    fn text(&mut self, text: &str, field: &str) -> Result<String, String> {
        rendered(text, &self.scope, &mut self.room).map_err(|why| format!("{field}: {why}"))
    }

    fn program(&mut self, run: &Run) -> Result<Program, String> {
        let words = run.command.iter();
        let command = words
            .map(|word| self.text(word, "run.command"))
            .collect::<Result<_, _>>()?;
        let mut environment = BTreeMap::new();
        for (name, value) in &run.environment {
            let value = self.text(value, &format!("run.environment.{name}"))?;
            environment.insert(name.clone(), value);
        }
        environment.extend(self.about());
        Ok(Program {
            command,
            environment,
            on: run.on,
            timeout: run.timeout,
        })
    }

    /// What every program is told; nobody can declare it otherwise.
    fn about(&self) -> impl Iterator<Item = (String, String)> + use<> {
        let Context {
            track,
            point,
            deployment,
            ..
        } = self.context;
        let deployment = deployment.map(|id| id.to_string()).unwrap_or_default();
        [
            ("HOLDFAST_SERVICE", track.service.to_string()),
            ("HOLDFAST_ENVIRONMENT", track.environment.to_string()),
            ("HOLDFAST_VERSION", point.version.to_string()),
            ("HOLDFAST_DEPLOYMENT", deployment),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
    }

    fn http(&mut self, http: &Http) -> Result<Http, String> {
        let contains = http.contains.as_ref();
        Ok(Http {
            url: self.text(&http.url, "http.url")?,
            expect: http.expect,
            contains: contains
                .map(|text| self.text(text, "http.contains"))
                .transpose()?,
            timeout: http.timeout,
        })
    }

    fn prometheus(&mut self, prometheus: &Prometheus) -> Result<Prometheus, String> {
        Ok(Prometheus {
            url: self.text(&prometheus.url, "prometheus.url")?,
            query: self.text(&prometheus.query, "prometheus.query")?,
            expect: prometheus.expect,
            timeout: prometheus.timeout,
        })
    }
}

/// All but variables and parameters.
fn fixed(context: &Context<'_>) -> Value {
    let Context { track, point, .. } = context;
    let mut release = json!({ "version": point.version, "sequence": point.sequence });
    if let Some(about) = context.release {
        release["commit"] = json!(about.commit);
        release["meta"] = json!(about.meta);
    }
    let deployment = context.deployment.map(|id| id.to_string());
    json!({
        "service": track.service,
        "environment": track.environment,
        "env": { "name": track.environment },
        "release": release,
        "deployment": deployment.unwrap_or_default(),
    })
}

/// The variables that can be rendered without a target. They are written for workloads, where
/// `service` has a name of its own.
fn variables(context: &Context<'_>, fixed: &Value, room: &mut usize) -> Value {
    let Some(configuration) = context.configuration else {
        return json!({});
    };
    let mut scope = fixed.clone();
    scope["service"] = json!({ "name": context.track.service });
    let scope = scope_of(&scope);
    let one = |(name, value): (&String, &Value)| {
        let value = value_of(value, &scope, room).ok()?;
        Some((name.clone(), value))
    };
    Value::Object(configuration.vars.iter().filter_map(one).collect())
}

fn value_of(value: &Value, scope: &Scope, room: &mut usize) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::String(rendered(text, scope, room)?),
        Value::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| value_of(item, scope, room))
                .collect::<Result<_, _>>()?,
        ),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| Ok((key.clone(), value_of(value, scope, room)?)))
                .collect::<Result<Map<_, _>, String>>()?,
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

fn rendered(text: &str, scope: &Scope, room: &mut usize) -> Result<String, String> {
    let template = Template::parse(text).map_err(|malformed| malformed.message)?;
    template
        .render(scope, room)
        .map_err(|unrendered| match unrendered {
            Unrendered::Undefined(reference) => format!("there is no `{}` here", reference.text),
            Unrendered::Other(why) => why,
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use holdfast_protocol::digest::Digest;
    use holdfast_protocol::name::Version;

    use super::*;
    use crate::compiled::Protection;
    use crate::compiled::protection::{OnIncident, Skippable, When};

    fn guard(check: Check) -> Guard {
        Guard {
            name: "alerts".parse().unwrap(),
            protection: Arc::new(Protection {
                name: "alerts".parse().unwrap(),
                owner: String::new(),
                set: "default".parse().unwrap(),
                check,
                parameters: BTreeMap::new(),
                interval: Duration::from_secs(15),
                failure_threshold: 1,
                skippable: Skippable::Anyone,
                notify: None,
            }),
            when: BTreeSet::from([When::Pre]),
            parameters: BTreeMap::from([("severity".to_owned(), json!("page"))]),
            on_incident: OnIncident::Tell,
        }
    }

    fn rendered_with(check: Check) -> Result<Request, String> {
        let track = TrackName {
            service: "web".parse().unwrap(),
            environment: "production".parse().unwrap(),
        };
        let point = Point {
            version: Version::parse("1.4.0").unwrap(),
            sequence: 7,
            configuration: Digest::of(b"configuration"),
            revision: 3,
            run: None,
        };
        let configuration: Configuration = serde_json::from_value(json!({
            "service": "web", "environment": "production", "runtime": "process", "template": {},
            "vars": {
                "port": 8080,
                "where": "{{ env.name }}-{{ service.name }}",
                "rack": "{{ target.labels.rack }}",
            },
            "artifacts": {}, "health": null, "dependsOn": [], "rollback": "central",
            "progressDeadlineMs": 1000,
        }))
        .unwrap();
        let context = Context {
            track: &track,
            point: &point,
            deployment: Some(12),
            release: None,
            configuration: Some(&configuration),
        };
        render(&guard(check), &context)
    }

    fn http(url: &str) -> Check {
        Check::Http(Http {
            url: url.to_owned(),
            expect: None,
            contains: None,
            timeout: Duration::from_secs(1),
        })
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let url = match rendered_with(http(text)) {
            Ok(Request::Http(http)) => http.url,
            other => format!("{other:?}"),
        };
        assert_eq!(url, expected);
    }

    #[test]
    fn every_name_of_the_table_is_there() {
        check("{{ service }}.{{ environment }}", "web.production");
        check("{{ env.name }}", "production");
        check("{{ release.version }}/{{ release.sequence }}", "1.4.0/7");
        check("{{ deployment }}", "12");
        check("{{ vars.port }} {{ vars.where }}", "8080 production-web");
        check("{{ parameters.severity }}", "page");
    }

    #[test]
    fn what_is_not_there_is_named_with_its_field() {
        let refused = |text| rendered_with(http(text)).unwrap_err();
        assert_eq!(
            refused("{{ vars.rack }}"),
            "http.url: there is no `vars.rack` here"
        );
        assert_eq!(
            refused("{{ target.name }}"),
            "http.url: there is no `target.name` here"
        );
        let long = "{{ service }}".repeat(RENDERED_MAX_BYTES / 3 + 1);
        assert!(refused(&long).contains("too large"));
    }

    #[test]
    fn a_program_is_told_what_it_is_asked_about_whatever_is_declared() {
        let run = Run {
            command: vec!["./check".to_owned(), "{{ release.version }}".to_owned()],
            environment: BTreeMap::from([
                ("HOLDFAST_VERSION".to_owned(), "9".to_owned()),
                ("LEVEL".to_owned(), "{{ parameters.severity }}".to_owned()),
            ]),
            on: Place::Target,
            timeout: Duration::from_secs(1),
        };
        let Ok(Request::Program(program)) = rendered_with(Check::Run(run)) else {
            panic!("it renders");
        };
        assert_eq!(program.command, ["./check", "1.4.0"]);
        let said: Vec<String> = program
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            said,
            [
                "HOLDFAST_DEPLOYMENT=12",
                "HOLDFAST_ENVIRONMENT=production",
                "HOLDFAST_SERVICE=web",
                "HOLDFAST_VERSION=1.4.0",
                "LEVEL=page",
            ]
        );
    }

    #[test]
    fn what_the_engine_judges_itself_is_not_performed() {
        let stable = Check::Stable {
            service: "db".parse().unwrap(),
            environment: None,
        };
        let refused = rendered_with(stable).unwrap_err();
        assert_eq!(
            refused,
            "alerts is a check of kind stable, which is not performed"
        );
    }
}
