//! `simulate`: the timeline of every track in virtual time.

use std::fmt::Write as _;
use std::time::Duration;

use holdfast_protocol::api::apply::ApplyRequest;
use holdfast_protocol::api::simulate::{Simulation, Timeline};
use holdfast_protocol::time::friendly;

use super::{Outcome, Session, manifest};
use crate::args::inputs;
use crate::error::Exit;
use crate::output::{clean, text};

/// `simulate [-f PATH…] [--until SPAN] [--fail SERVICE@ENV]`.
///
/// # Errors
/// 65 when the manifests do not compile.
pub async fn run(session: &mut Session<'_>, args: &inputs::Simulate) -> Outcome {
    let request = if args.file.is_empty() {
        None
    } else {
        Some(ApplyRequest {
            set: args.set.clone(),
            files: manifest::gather(&args.file).await?,
            dry_run: true,
            confirm_removal: false,
            plan: None,
        })
    };
    let simulation = Simulation {
        request,
        until: friendly(args.until),
        fail: args.fail.clone(),
    };
    let timeline: Timeline = session.client.post(&["simulate"], &simulation).await?;
    session.screen.object(&timeline, |_| told(&timeline))?;
    Ok(Exit::Done)
}

/// A timeline for a person: one line a moment, then what would still wait.
fn told(timeline: &Timeline) -> String {
    if timeline.items.is_empty() && timeline.waiting.is_empty() {
        return "Nothing would happen.\n".to_owned();
    }
    let mut told = String::new();
    let mut day = None;
    for moment in &timeline.items {
        let after = moment.at.since(timeline.began_at);
        // Where days pass, what counts is the date.
        if after >= FAR && day.replace(text::moment(moment.at)) != Some(text::moment(moment.at)) {
            let _ = writeln!(told, "{} UTC", text::moment(moment.at));
        }
        let track = format!("{}@{}", moment.service, moment.environment);
        // The track is said already.
        let message = clean(&moment.message).replace(&format!(" on {track}"), "");
        let line = format!("+{:<7} {track:<24} ", text::span(after));
        let rest = line.chars().count();
        let _ = writeln!(told, "{line}{}", text::wrapped(&message, rest, rest));
    }
    let _ = writeln!(told, "\n{}", end(timeline));
    for waiting in &timeline.waiting {
        let _ = writeln!(told, "\n{}@{} waits:", waiting.service, waiting.environment);
        for wait in &waiting.waits {
            let _ = writeln!(told, "  {}", text::wrapped(&text::wait_line(wait), 2, 6));
            for way in &wait.ends_by {
                let _ = writeln!(told, "    ended by: {}", clean(way));
            }
        }
    }
    told
}

/// From here on a timeline tells the date as well.
const FAR: Duration = Duration::from_secs(86_400);

fn end(timeline: &Timeline) -> String {
    let after = text::span(timeline.ended_at.since(timeline.began_at));
    match timeline.end.as_str() {
        "atRest" => format!("After {after} nothing more would happen by itself."),
        "until" => format!("The clock was stopped after {after}."),
        _ => format!("After {after} more would happen than a simulation tells."),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use holdfast_protocol::api::simulate::{Moment, Waiting};
    use holdfast_protocol::api::wait::WaitKind;
    use holdfast_protocol::time::Timestamp;

    use super::*;
    use crate::output::tests::wait;

    #[test]
    fn a_timeline_tells_each_moment_and_what_would_still_wait() {
        let moment = |millis, environment: &str, message: &str| Moment {
            at: Timestamp::from_millis(millis),
            service: "web".parse().unwrap(),
            environment: environment.parse().unwrap(),
            kind: "deployment.stable".to_owned(),
            message: message.to_owned(),
        };
        let timeline = Timeline {
            items: vec![
                moment(2_500, "staging", "1.4.0 on web@staging: no gate stands"),
                moment(600_000, "production", "1.4.0 on web@production: ready"),
            ],
            began_at: Timestamp::from_millis(0),
            ended_at: Timestamp::from_millis(600_000),
            end: "atRest".to_owned(),
            waiting: vec![Waiting {
                service: "web".parse().unwrap(),
                environment: "customer-a".parse().unwrap(),
                waits: vec![wait(WaitKind::Order)],
            }],
        };
        expect![[r#"
            +2.5s    web@staging              1.4.0: no gate stands
            +10m     web@production           1.4.0: ready

            After 10m nothing more would happen by itself.

            web@customer-a waits:
              order staging: 1.4.0 is not stable in staging yet
                ended by: holdfast retry web -e staging
        "#]]
        .assert_eq(&told(&timeline));
    }
}
