//! `apply`: uploads one input set.

use std::fmt::Write as _;
use std::path::Path;

use holdfast_protocol::api::apply::{
    Applied, ApplyRequest, Change, ChangeAction, Plan, default_set,
};

use super::{Outcome, Session, manifest, patch, wait};
use crate::args::inputs::Apply;
use crate::clock;
use crate::context;
use crate::error::{Exit, Failure};
use crate::output::row::record::change;
use crate::output::{clean, text};

/// `apply -f PATH…`, of manifests or of one patch, and `apply PLANFILE`.
///
/// # Errors
/// 65 when the manifests do not compile, 8 when the plan is stale; with `--wait`, 6 and 7.
pub async fn run(session: &mut Session<'_>, args: &Apply) -> Outcome {
    let request = match &args.plan {
        Some(file) => planned(file, args)?,
        None => given(session, args).await?,
    };
    let applied: Applied = session.client.post(&["apply"], &request).await?;
    session.screen.object(&applied, |_| told(&applied))?;
    if !session.screen.structured() {
        session.screen.note(&next(&applied));
    }
    if args.wait.wait && !applied.dry_run {
        return wait::deployments(session, &applied.deployments, args.wait.timeout).await;
    }
    Ok(Exit::Done)
}

/// The request of manifests, or of a patch of them.
async fn given(session: &Session<'_>, args: &Apply) -> Result<ApplyRequest, Failure> {
    let files = manifest::gather(&args.file).await?;
    let request = match files.as_slice() {
        [file] if patch::is_patch(&file.content) => patch::request(session, &file.content).await?,
        _ => ApplyRequest {
            set: args.set.clone(),
            files,
            dry_run: false,
            confirm_removal: false,
            plan: None,
        },
    };
    Ok(ApplyRequest {
        dry_run: args.dry_run,
        confirm_removal: args.confirm_removal,
        ..request
    })
}

/// The request of a saved plan, bound to what it was planned against.
fn planned(file: &Path, args: &Apply) -> Result<ApplyRequest, Failure> {
    let text = context::read(file, "the plan")?;
    let plan: Plan = serde_json::from_str(&text).map_err(|error| {
        Failure::usage(format!("{} is not a saved plan: {error}", file.display()))
            .help("save one with `holdfast plan -f PATH --out FILE`; manifests are given with -f")
    })?;
    if args.set != default_set() && args.set != plan.request.set {
        return Err(Failure::usage(format!(
            "the plan is of set {}, not {}",
            plan.request.set, args.set
        )));
    }
    Ok(ApplyRequest {
        dry_run: args.dry_run,
        confirm_removal: args.confirm_removal || plan.request.confirm_removal,
        plan: Some(plan.base),
        ..plan.request
    })
}

/// What an apply did, for a person.
fn told(applied: &Applied) -> String {
    let mut told = changes(&applied.changes);
    let Applied { revision, set, .. } = applied;
    if applied.dry_run {
        let _ = writeln!(
            told,
            "dry run: {}; nothing was changed",
            sum(&applied.changes)
        );
    } else if applied.changed {
        let _ = writeln!(
            told,
            "revision {revision} of set {set}: {}",
            sum(&applied.changes)
        );
    } else {
        let _ = writeln!(told, "nothing changed; revision {revision} is in force");
    }
    let now = clock::now();
    for wait in &applied.held {
        let _ = write!(told, "held: {}", text::wait(wait, now));
    }
    told
}

/// Document by document, with the fields that differ.
pub fn changes(changes: &[Change]) -> String {
    let mut told = String::new();
    for item in changes {
        let _ = writeln!(told, "{}", clean(&change(item)));
        for field in &item.fields {
            let _ = writeln!(told, "    {}", clean(field));
        }
    }
    told
}

/// `1 added, 2 changed, 0 removed`.
pub fn sum(changes: &[Change]) -> String {
    let count = |action| changes.iter().filter(|item| item.action == action).count();
    format!(
        "{} added, {} changed, {} removed",
        count(ChangeAction::Added),
        count(ChangeAction::Changed),
        count(ChangeAction::Removed)
    )
}

/// What to type next.
fn next(applied: &Applied) -> String {
    if applied.dry_run {
        return "apply it by leaving --dry-run out".to_owned();
    }
    let numbers = applied
        .deployments
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if numbers.is_empty() {
        "no deployment was started; `holdfast status` shows how everything stands".to_owned()
    } else {
        format!("started deployment {numbers}: follow with `holdfast status -w`")
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn applied() -> Applied {
        Applied {
            revision: 3,
            set: "default".parse().unwrap(),
            changed: true,
            changes: vec![
                Change {
                    kind: "Environment".to_owned(),
                    name: "staging".to_owned(),
                    action: ChangeAction::Added,
                    fields: Vec::new(),
                },
                Change {
                    kind: "Service".to_owned(),
                    name: "web".to_owned(),
                    action: ChangeAction::Changed,
                    fields: vec!["spec.vars.port: 8080 -> 9090".to_owned()],
                },
            ],
            held: Vec::new(),
            deployments: vec![7],
            dry_run: false,
        }
    }

    #[test]
    fn an_apply_says_what_it_changed_and_what_to_do_next() {
        expect![[r#"
            + Environment staging
            ~ Service web
                spec.vars.port: 8080 -> 9090
            revision 3 of set default: 1 added, 1 changed, 0 removed
        "#]]
        .assert_eq(&told(&applied()));
        assert!(next(&applied()).contains("deployment 7"));
    }

    #[test]
    fn an_apply_that_changes_nothing_says_so() {
        let applied = Applied {
            changed: false,
            changes: Vec::new(),
            deployments: Vec::new(),
            ..applied()
        };
        assert_eq!(told(&applied), "nothing changed; revision 3 is in force\n");
    }

    #[test]
    fn a_saved_plan_is_applied_against_what_it_was_planned_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plan.json");
        let plan = super::super::plan::tests::plan();
        std::fs::write(&file, serde_json::to_string(&plan).unwrap()).unwrap();
        let typed = |line: &str| {
            let line = format!("holdfast apply {} {line}", file.display());
            let cli = crate::args::parse(line.split_whitespace()).unwrap();
            let crate::args::Command::Apply(args) = cli.command else {
                panic!("{line}");
            };
            planned(&file, &args)
        };
        let request = typed("").unwrap();
        assert_eq!(request.plan, Some(plan.base.clone()));
        assert_eq!(request.files, plan.request.files);
        assert!(!request.dry_run, "a plan is made to be carried out");
        assert!(typed("--dry-run").unwrap().dry_run);
        assert_eq!(typed("--set other").unwrap_err().exit, Exit::Usage);
        std::fs::write(&file, "kind: Service").unwrap();
        assert_eq!(typed("").unwrap_err().exit, Exit::Usage);
    }
}
