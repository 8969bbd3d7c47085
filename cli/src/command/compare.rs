//! `diff`: what differs between two deployments.

use std::fmt::Write as _;

use holdfast_protocol::api::diff::{DeploymentDiff, FieldChange, Side};

use super::{Outcome, Session};
use crate::args::observe;
use crate::error::Exit;
use crate::output::{Format, clean};

/// `diff DEPLOYMENT DEPLOYMENT [-o patch]`.
///
/// # Errors
/// The coordinator does not answer, or one of them does not exist.
pub async fn run(session: &mut Session<'_>, args: &observe::Diff) -> Outcome {
    let query = [
        ("from", Some(args.from.to_string())),
        ("to", Some(args.to.to_string())),
    ];
    let diff: DeploymentDiff = session.client.fetch(&["diff"], &query).await?;
    if session.screen.format == Format::Patch {
        session.screen.write(&diff.patch)?;
    } else {
        session.screen.object(&diff, |_| told(&diff))?;
    }
    Ok(Exit::Done)
}

/// A comparison for a person.
fn told(diff: &DeploymentDiff) -> String {
    let mut told = format!("--- {}\n+++ {}\n", side(&diff.from), side(&diff.to));
    if diff.release.is_empty() && diff.configuration.is_empty() {
        told.push_str("\nThey bring the same.\n");
        return told;
    }
    section(&mut told, "release", &diff.release);
    section(&mut told, "configuration", &diff.configuration);
    told
}

fn side(side: &Side) -> String {
    format!(
        "deployment {}: {} {} in {}, revision {}",
        side.id, side.service, side.version, side.environment, side.revision
    )
}

fn section(told: &mut String, title: &str, changes: &[FieldChange]) {
    if changes.is_empty() {
        return;
    }
    let _ = writeln!(told, "\n{title}");
    for change in changes {
        let text = |value: &Option<String>| value.as_deref().map(clean);
        let line = match (text(&change.from), text(&change.to)) {
            (Some(from), Some(to)) => format!("~ {}: {from} -> {to}", change.path),
            (Some(from), None) => format!("- {}: {from}", change.path),
            (None, Some(to)) => format!("+ {}: {to}", change.path),
            (None, None) => continue,
        };
        let _ = writeln!(told, "  {line}");
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn one(id: u64, version: &str) -> Side {
        Side {
            id,
            service: "web".parse().unwrap(),
            environment: "production".parse().unwrap(),
            version: version.parse().unwrap(),
            revision: id,
        }
    }

    #[test]
    fn a_comparison_tells_what_was_added_changed_and_taken_away() {
        let change = |path: &str, from: Option<&str>, to: Option<&str>| FieldChange {
            path: path.to_owned(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        let diff = DeploymentDiff {
            from: one(12, "1.4.0"),
            to: one(17, "1.4.1"),
            release: vec![change("commit", Some("\"abc\""), Some("\"def\""))],
            configuration: vec![
                change("vars.port", Some("8080"), Some("9090")),
                change("vars.debug", Some("true"), None),
                change("template.command[2]", None, Some("\"-v\"")),
            ],
            patch: String::new(),
        };
        expect![[r#"
            --- deployment 12: web 1.4.0 in production, revision 12
            +++ deployment 17: web 1.4.1 in production, revision 17

            release
              ~ commit: "abc" -> "def"

            configuration
              ~ vars.port: 8080 -> 9090
              - vars.debug: true
              + template.command[2]: "-v"
        "#]]
        .assert_eq(&told(&diff));
    }

    #[test]
    fn two_that_bring_the_same_say_so() {
        let diff = DeploymentDiff {
            from: one(12, "1.4.0"),
            to: one(17, "1.4.0"),
            release: Vec::new(),
            configuration: Vec::new(),
            patch: String::new(),
        };
        assert!(told(&diff).ends_with("They bring the same.\n"));
    }
}
