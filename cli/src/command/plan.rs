//! `plan`: what an apply would change.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use holdfast_protocol::api::apply::{ApplyRequest, Plan, PlannedAction, PlannedTrack};
use holdfast_protocol::api::wait::{Wait, WaitKind};
use holdfast_protocol::name::TargetName;

use super::{Outcome, Session, apply, manifest, wait};
use crate::args::inputs;
use crate::clock;
use crate::error::{Exit, Failure};
use crate::output::{clean, text};

/// `plan -f PATH…`.
///
/// # Errors
/// 65 when the manifests do not compile, 1 when the plan cannot be saved.
pub async fn run(session: &mut Session<'_>, args: &inputs::Plan) -> Outcome {
    let request = ApplyRequest {
        set: args.set.clone(),
        files: manifest::gather(&args.file).await?,
        dry_run: true,
        confirm_removal: false,
        plan: None,
    };
    let plan: Plan = session.client.post(&["plan"], &request).await?;
    session.screen.object(&plan, |_| told(&plan))?;
    if let Some(file) = &args.out {
        let text = serde_json::to_string_pretty(&plan).expect("API bodies become JSON");
        std::fs::write(file, text).map_err(|error| {
            Failure::failed(format!(
                "cannot save the plan to {}: {error}",
                file.display()
            ))
        })?;
        session.screen.note(&format!(
            "saved; carry out exactly this with `holdfast apply {}`",
            file.display()
        ));
    }
    let empty = plan.changes.is_empty() && plan.tracks.is_empty();
    Ok(if args.detailed_exitcode && !empty {
        Exit::Changes
    } else {
        Exit::Done
    })
}

/// A plan for a person: documents, tracks, one summary line.
fn told(plan: &Plan) -> String {
    if plan.changes.is_empty() && plan.tracks.is_empty() {
        return format!(
            "No changes: revision {} is already what these manifests say.\n",
            plan.base.revision
        );
    }
    let mut told = apply::changes(&plan.changes);
    for item in &plan.tracks {
        if !told.is_empty() {
            told.push('\n');
        }
        told.push_str(&track(item));
    }
    let now = clock::now();
    for wait in &plan.held {
        let _ = write!(told, "\nheld: {}", text::wait(wait, now));
    }
    let (changes, movements) = (apply::sum(&plan.changes), movements(&plan.tracks));
    let sum = format!(
        "Plan against revision {}: {changes}; {movements}.",
        plan.base.revision
    );
    let _ = writeln!(told, "\n{}", text::wrapped(&sum, 0, 4));
    told
}

fn track(track: &PlannedTrack) -> String {
    let PlannedTrack {
        service,
        environment,
        ..
    } = track;
    let from = track.from.as_ref().map(ToString::to_string);
    let to = track.to.as_ref().map(ToString::to_string);
    let (sign, what) = match track.action {
        PlannedAction::Deploy => match (from, to) {
            (Some(from), Some(to)) if from == to => ('~', format!("{to}, new configuration")),
            (Some(from), Some(to)) => ('~', format!("{from} -> {to}")),
            (None, to) => ('+', to.unwrap_or_default()),
            (Some(from), None) => ('~', from),
        },
        PlannedAction::Remove => ('-', format!("{} removed", from.unwrap_or_default())),
        PlannedAction::Await => ('+', "waits for its first release".to_owned()),
    };
    let mut told = format!(
        "{sign} {service} in {environment}: {what}{}{}\n",
        on(&track.targets),
        only(&track.runtimes)
    );
    if track.runtimes.len() > 1 {
        for (runtime, targets) in &track.runtimes {
            let _ = writeln!(told, "    {runtime}{}", on(targets));
        }
    }
    for field in &track.fields {
        let _ = writeln!(told, "    {}", clean(field));
    }
    let gates: Vec<Wait> = track
        .waits
        .iter()
        .filter(|wait| is_gate(wait))
        .cloned()
        .collect();
    if !gates.is_empty() {
        let gates = format!("waits for {}", clean(&wait::because(&gates)));
        let _ = writeln!(told, "    {}", text::wrapped(&gates, 4, 8));
    }
    told
}

/// Whether a wait stands before the deployment, rather than belonging to its way.
fn is_gate(wait: &Wait) -> bool {
    wait.kind != WaitKind::Target
}

/// ` (process)`, where all targets have the same runtime.
fn only(runtimes: &BTreeMap<String, Vec<TargetName>>) -> String {
    let mut names = runtimes.keys();
    match (names.next(), names.next()) {
        (Some(only), None) => format!(" ({only})"),
        (Some(_), Some(_)) | (None, _) => String::new(),
    }
}

/// `, on 2 targets: a, b`; of many, the first ones.
fn on<T: ToString>(targets: &[T]) -> String {
    if targets.is_empty() {
        return String::new();
    }
    let named: Vec<String> = targets
        .iter()
        .take(TARGETS_NAMED)
        .map(ToString::to_string)
        .collect();
    let more = targets.len().saturating_sub(TARGETS_NAMED);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!(
        ", on {}: {}{more}",
        text::count(targets.len(), "target"),
        named.join(", ")
    )
}

fn movements(tracks: &[PlannedTrack]) -> String {
    let count = |action| tracks.iter().filter(|track| track.action == action).count();
    format!(
        "{} to deploy, {} to remove, {} waiting for a first release",
        count(PlannedAction::Deploy),
        count(PlannedAction::Remove),
        count(PlannedAction::Await)
    )
}

/// How many targets of a track are named.
const TARGETS_NAMED: usize = 5;

#[cfg(test)]
pub mod tests {
    use expect_test::expect;
    use holdfast_protocol::api::apply::{Change, ChangeAction, ManifestFile, PlanBase};

    use super::*;
    use crate::output::tests::wait;

    pub fn plan() -> Plan {
        Plan {
            base: PlanBase { revision: 3 },
            request: ApplyRequest {
                set: "default".parse().unwrap(),
                files: vec![ManifestFile {
                    path: "web.yaml".to_owned(),
                    content: "kind: Service".to_owned(),
                }],
                dry_run: true,
                confirm_removal: false,
                plan: None,
            },
            changes: vec![Change {
                kind: "Service".to_owned(),
                name: "web".to_owned(),
                action: ChangeAction::Changed,
                fields: vec!["spec.vars.port: 8080 -> 9090".to_owned()],
            }],
            tracks: vec![PlannedTrack {
                service: "web".parse().unwrap(),
                environment: "production".parse().unwrap(),
                action: PlannedAction::Deploy,
                from: Some("1.4.0".parse().unwrap()),
                to: Some("1.4.0".parse().unwrap()),
                fields: vec!["vars.port: 8080 -> 9090".to_owned()],
                targets: vec!["web-1".parse().unwrap(), "web-2".parse().unwrap()],
                runtimes: [
                    ("container".to_owned(), vec!["web-2".parse().unwrap()]),
                    ("process".to_owned(), vec!["web-1".parse().unwrap()]),
                ]
                .into(),
                waits: vec![wait(WaitKind::Order), wait(WaitKind::Target)],
            }],
            held: Vec::new(),
        }
    }

    #[test]
    fn a_plan_shows_documents_tracks_gates_and_one_summary_line() {
        expect![[r#"
            ~ Service web
                spec.vars.port: 8080 -> 9090

            ~ web in production: 1.4.0, new configuration, on 2 targets: web-1, web-2
                container, on 1 target: web-2
                process, on 1 target: web-1
                vars.port: 8080 -> 9090
                waits for order staging: 1.4.0 is not stable in staging yet

            Plan against revision 3: 0 added, 1 changed, 0 removed; 1 to deploy, 0 to remove, 0 waiting for a
                first release.
        "#]]
        .assert_eq(&told(&plan()));
    }

    #[test]
    fn an_empty_plan_is_one_line() {
        let plan = Plan {
            changes: Vec::new(),
            tracks: Vec::new(),
            ..plan()
        };
        assert_eq!(told(&plan).lines().count(), 1);
    }

    #[test]
    fn of_many_targets_the_first_are_named() {
        let targets: Vec<u32> = (1..=7).collect();
        assert_eq!(on(&targets), ", on 7 targets: 1, 2, 3, 4, 5 and 2 more");
    }
}
