//! How a workload becomes real in one runtime.
//!
//! An adapter does four things, all idempotent, all cancellable, none of them deciding policy:
//! *validate* a template, *observe* what it owns, *converge* one workload, *remove* one. Retries with
//! back-off, time limits, ordering, health checks, local rollback and reporting belong to the
//! agent's driver, once, for all adapters.
//!
//! **Ownership** is marked in the runtime itself, so that a lost cache never orphans or duplicates a
//! workload, and what Holdfast did not make it never touches.
//!
//! To add an adapter: one folder here, one arm in [`validate`], one line in [`run::adapters`].
//!
//! Without the feature `run` this crate is pure and only validates; that half is also part of the
//! coordinator and of `holdfast validate`, so that a bad manifest is refused before it travels.

pub mod container;
pub mod failure;
mod fields;
pub mod kubernetes;
pub mod plugin;
pub mod process;
pub mod restart;
pub mod secret;
pub mod static_files;
pub mod systemd;

#[cfg(feature = "run")]
mod changes;
#[cfg(feature = "run")]
mod clock;
#[cfg(feature = "run")]
pub mod conformance;
#[cfg(feature = "run")]
mod durable;
#[cfg(feature = "run")]
mod readers;
#[cfg(feature = "run")]
pub mod run;
#[cfg(feature = "run")]
mod turns;
#[cfg(feature = "run")]
mod unpack;
#[cfg(feature = "run")]
mod unpacked;

/// One thing wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, as a path of keys and indices below `template`: `restart.policy`, `command[0]`.
    pub path: String,
    /// What is wrong, and what is expected.
    pub message: String,
}

/// What a template may refer to.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Names of the service's artifacts, each with whether it is unpacked into a directory.
    pub artifacts: &'a [(holdfast_protocol::name::ArtifactName, bool)],
}

/// The runtimes that are built in, in the order people should see them.
pub const RUNTIMES: &[&str] = &["process", "static", "container", "systemd", "kubernetes"];

/// Everything wrong with `template` for `runtime`, and nothing when it is right. Strings may hold
/// placeholders (`holdfast_protocol::workload::Placeholder`) and, before a release and a target are
/// known, unrendered `{{ }}` expressions; both count as some text.
#[must_use]
pub fn validate(
    runtime: &str,
    template: &serde_json::Value,
    context: &Context<'_>,
) -> Vec<Problem> {
    match runtime {
        "process" => process::spec::validate(template, context),
        "static" => static_files::spec::validate(template, context),
        "systemd" => systemd::spec::validate(template, context),
        "container" => container::spec::validate(template, context),
        "kubernetes" => kubernetes::spec::validate(template, context),
        plugin if plugin.starts_with(plugin::PREFIX) => {
            plugin::spec::validate(plugin, template, context)
        }
        unknown => vec![Problem {
            path: String::new(),
            message: format!(
                "unknown runtime {unknown:?}; known are {} and plugin/NAME",
                RUNTIMES.join(", ")
            ),
        }],
    }
}

/// The runtimes that run jobs, in the order of [`RUNTIMES`].
const RUN_JOBS: &[&str] = &["process", "container", "systemd", "kubernetes"];

/// Why a runtime that is known runs no jobs; nothing where it runs them.
#[must_use]
pub fn refused_job(runtime: &str) -> Option<Problem> {
    let refuses = runtime == "static" || runtime.starts_with(plugin::PREFIX);
    refuses.then(|| Problem {
        path: String::new(),
        message: format!("{runtime} runs no jobs; {} do", RUN_JOBS.join(", ")),
    })
}

/// The adapter that answers for a runtime: its own name, and one for all of `plugin/NAME`.
#[must_use]
pub fn adapter_of(runtime: &str) -> &str {
    if runtime.starts_with(plugin::PREFIX) {
        "plugin"
    } else {
        runtime
    }
}

/// Problems as one line, for a failure's message.
#[cfg(feature = "run")]
pub(crate) fn list(problems: &[Problem]) -> String {
    let one = |p: &Problem| match p.path.as_str() {
        "" => p.message.clone(),
        path => format!("{path}: {}", p.message),
    };
    problems.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runtime_runs_jobs_or_says_who_does() {
        for runtime in RUNTIMES {
            assert_eq!(
                refused_job(runtime).is_none(),
                RUN_JOBS.contains(runtime),
                "{runtime}"
            );
        }
        let said = refused_job("plugin/dns").expect("plugins run none").message;
        assert!(
            said.starts_with("plugin/dns runs no jobs; process, "),
            "{said}"
        );
    }

    #[test]
    fn one_adapter_answers_for_every_plugin() {
        assert_eq!(adapter_of("plugin/dns"), "plugin");
        assert_eq!(adapter_of("process"), "process");
        let context = Context { artifacts: &[] };
        let said = |runtime| {
            validate(
                runtime,
                &serde_json::json!({"zone": "{{ vars.zone }}"}),
                &context,
            )
        };
        assert!(said("plugin/dns").is_empty());
        assert!(said("plugin/../dns")[0].message.contains("../dns"));
        assert!(said("plugin")[0].message.contains("plugin/NAME"));
    }
}
