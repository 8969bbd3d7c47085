//! `validate`, `schema`, `completion`: what needs no coordinator.

use holdfast_adapters::Context;
use holdfast_engine::compile::{Asked, TemplateProblem};
use holdfast_engine::manifest::{self as engine, schema as engine_schema};
use holdfast_protocol::api::apply::ManifestFile;
use holdfast_protocol::name::ArtifactName;
use holdfast_protocol::workload::Form;
use serde_json::json;

use super::{Outcome, manifest};
use crate::args;
use crate::args::access::Completion;
use crate::args::inputs::Validate;
use crate::error::{Exit, Failure};
use crate::output::{Screen, text};

/// `completion SHELL`.
///
/// # Errors
/// Standard output cannot be written.
pub fn completion(args: &Completion, screen: &mut Screen) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::command(), "holdfast", &mut script);
    screen.write(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// `schema`.
///
/// # Errors
/// Standard output cannot be written.
pub fn schema(screen: &mut Screen) -> Outcome {
    let schema = engine_schema::schema();
    let text = serde_json::to_string_pretty(&schema).expect("a JSON value becomes text");
    screen.line(&text)?;
    Ok(Exit::Done)
}

/// `validate -f PATH…`: the same reading and compiling that an apply begins with.
///
/// # Errors
/// 65 with every place where the manifests are wrong.
pub async fn validate(args: &Validate, screen: &mut Screen) -> Outcome {
    let files = manifest::gather(&args.file).await?;
    let set = check(&files)?;
    let kinds = [
        ("environment", "environments", set.environments.len()),
        ("service", "services", set.services.len()),
        ("protection", "protections", set.protections.len()),
        ("policy", "policies", set.policies.len()),
        ("notifier", "notifiers", set.notifiers.len()),
    ];
    let mut summary = json!({"valid": true, "files": files.len()});
    for (_, key, number) in kinds {
        summary[key] = number.into();
    }
    screen.object(&summary, |_| {
        let there = kinds.into_iter().filter(|(_, _, number)| *number > 0);
        let counts = there.map(|(one, many, number)| match number {
            1 => format!("1 {one}"),
            _ => format!("{number} {many}"),
        });
        let counts: Vec<String> = counts.collect();
        let files = text::count(files.len(), "file");
        format!("valid: {} in {files}\n", counts.join(", "))
    })?;
    Ok(Exit::Done)
}

fn check(files: &[ManifestFile]) -> Result<engine::ManifestSet, Failure> {
    let diagnostics = engine::validate_only(files, &template_problems);
    if !diagnostics.is_empty() {
        return Err(Failure::manifests(diagnostics));
    }
    let (set, _) = engine::parse(files);
    Ok(set)
}

/// What the adapters say of a template.
fn template_problems(asked: &Asked<'_>) -> Vec<TemplateProblem> {
    let artifacts: Vec<(ArtifactName, bool)> = asked
        .artifacts
        .iter()
        .map(|(name, file)| (name.clone(), Form::of_file(file) != Form::File))
        .collect();
    let context = Context {
        artifacts: &artifacts,
    };
    let job = holdfast_adapters::refused_job(asked.runtime).filter(|_| asked.is_job);
    holdfast_adapters::validate(asked.runtime, asked.template, &context)
        .into_iter()
        .chain(job)
        .map(|problem| TemplateProblem {
            path: problem.path,
            message: problem.message,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::output::Format;
    use crate::output::tests::screen;

    fn example() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/first/manifests")
    }

    #[tokio::test]
    async fn the_example_is_valid() {
        let args = Validate {
            file: vec![example()],
        };
        let (mut screen, out, _) = screen(Format::Table);
        let exit = validate(&args, &mut screen).await;
        assert_eq!(exit, Ok(Exit::Done), "{}", exit.clone().unwrap_err().text());
        assert_eq!(out.text(), "valid: 2 environments, 2 services in 2 files\n");
    }

    #[tokio::test]
    async fn a_wrong_template_is_found_with_its_place_without_a_server() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["environments.yaml", "services.yaml"] {
            let text = std::fs::read_to_string(example().join(name)).unwrap();
            let text = text.replace("grace: 2s", "grace: soon");
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let args = Validate {
            file: vec![folder.path().to_owned()],
        };
        let (mut screen, out, _) = screen(Format::Table);
        let failure = validate(&args, &mut screen).await.unwrap_err();
        assert_eq!(failure.exit, Exit::InvalidManifest);
        assert!(failure.text().contains("soon"), "{}", failure.text());
        assert_eq!(out.text(), "");
    }

    #[tokio::test]
    async fn a_job_is_refused_where_its_runtime_runs_none() {
        let folder = tempfile::tempdir().unwrap();
        let job = "\
apiVersion: holdfast/v1
kind: Environment
metadata: {name: staging, owner: platform}
---
apiVersion: holdfast/v1
kind: Service
metadata: {name: pages, owner: team-web}
spec:
  kind: job
  runtime: static
  artifacts: {site: {file: site.tar.gz}}
  template: {path: /srv/www/site}
";
        std::fs::write(folder.path().join("all.yaml"), job).unwrap();
        let args = Validate {
            file: vec![folder.path().to_owned()],
        };
        let (mut screen, ..) = screen(Format::Table);
        let failure = validate(&args, &mut screen).await.unwrap_err();
        let said = failure.text();
        assert!(
            said.contains("static runs no jobs; process, container, systemd, kubernetes do")
                && said.contains("all.yaml:10"),
            "{said}"
        );
    }

    #[test]
    fn the_schema_names_both_kinds() {
        let (mut screen, out, _) = screen(Format::Table);
        schema(&mut screen).unwrap();
        let value: serde_json::Value = serde_json::from_str(&out.text()).unwrap();
        let text = value.to_string();
        assert!(text.contains("Environment") && text.contains("Service"));
    }
}
