//! What the output forms look like, and which stream they go to.

use std::io::Write;
use std::sync::{Arc, Mutex};

use expect_test::{Expect, expect};
use holdfast_protocol::api::deployment::{
    Deployment, Phase, TargetCounts, Trigger, TriggerKind, WaveCount,
};
use holdfast_protocol::api::status::{Current, Stable, Status, Wanted};
use holdfast_protocol::api::wait::{Wait, WaitKind};
use holdfast_protocol::time::Timestamp;

use super::*;
use crate::output::row::Cell;
use crate::output::text::{age, span, until};

/// What a screen printed.
#[derive(Clone, Default)]
pub struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A screen whose two streams can be read.
pub fn screen(format: Format) -> (Screen, Printed, Printed) {
    let (out, err) = (Printed::default(), Printed::default());
    let screen = Screen {
        format,
        colour: false,
        colour_beside: false,
        progress: false,
        width: TABLE_MAX_CHARS,
        out: Box::new(out.clone()),
        err: Box::new(err.clone()),
    };
    (screen, out, err)
}

pub fn wait(kind: WaitKind) -> Wait {
    Wait {
        kind,
        subject: "staging".to_owned(),
        message: "1.4.0 is not stable in staging yet".to_owned(),
        since: Timestamp::from_millis(0),
        ends_by: vec!["holdfast retry web -e staging".to_owned()],
        until: None,
    }
}

pub fn deployment(id: u64, phase: Phase) -> Deployment {
    Deployment {
        id,
        service: "web".parse().unwrap(),
        environment: "production".parse().unwrap(),
        version: "1.4.0".parse().unwrap(),
        revision: 3,
        phase,
        reason: "it is so".to_owned(),
        started_at: Timestamp::from_millis(0),
        finished_at: phase.is_final().then(|| Timestamp::from_millis(4_200)),
        targets: TargetCounts {
            total: 2,
            updated: 2,
            ready: 1,
            failed: 0,
            disconnected: 0,
        },
        waits: if phase == Phase::Waiting {
            vec![wait(WaitKind::Order)]
        } else {
            Vec::new()
        },
        waves: WaveCount {
            current: 1,
            total: 2,
        },
        trigger: Trigger {
            kind: TriggerKind::Release,
            by: Some("ada".to_owned()),
            reason: None,
        },
        previous: None,
        protections: Vec::new(),
        skipped: Vec::new(),
        approvals: Vec::new(),
        hotfix: false,
        shown: None,
        configuration: None,
        last_lines: Vec::new(),
    }
}

pub fn status(phase: Phase) -> Status {
    Status {
        service: "web".parse().unwrap(),
        environment: "staging".parse().unwrap(),
        stable: Some(Stable {
            version: "1.4.0".parse().unwrap(),
            revision: 3,
        }),
        current: Some(Current {
            deployment: 7,
            version: "1.4.0".parse().unwrap(),
            phase,
        }),
        wanted: Some(Wanted {
            version: "1.4.0".parse().unwrap(),
            rule: "newest".to_owned(),
        }),
        targets: TargetCounts {
            total: 2,
            updated: 2,
            ready: 2,
            failed: 0,
            disconnected: 0,
        },
        runtimes: [("process".to_owned(), 2)].into(),
        waits: Vec::new(),
        paused: false,
    }
}

fn printed(format: Format, rows: &[Status], expected: &Expect) {
    let (mut screen, out, err) = screen(format);
    screen.list(rows, "nothing").unwrap();
    expected.assert_eq(&out.text());
    assert_eq!(err.text(), "", "a result goes to standard output alone");
}

#[test]
fn a_table_has_a_header_and_no_lines() {
    printed(
        Format::Table,
        &[status(Phase::Stable)],
        &expect![[r#"
            SERVICE  ENVIRONMENT  STABLE  CURRENT  PHASE   READY  WAITS FOR
            web      staging      1.4.0   1.4.0    Stable  2/2    -
        "#]],
    );
}

#[test]
fn wide_adds_columns() {
    printed(
        Format::Wide,
        &[status(Phase::Stable)],
        &expect![[r#"
            SERVICE  ENVIRONMENT  STABLE  CURRENT  PHASE   READY  WAITS FOR  DEPLOYMENT  WANTED          UPDATED  FAILED  AWAY  RUNTIMES
            web      staging      1.4.0   1.4.0    Stable  2/2    -          7           1.4.0 (newest)  2        0       0     process 2
        "#]],
    );
}

#[test]
fn names_stand_alone() {
    printed(
        Format::Name,
        &[status(Phase::Stable)],
        &expect![[r#"
            web/staging
        "#]],
    );
}

#[test]
fn json_is_one_object_with_items() {
    let (mut screen, out, _) = screen(Format::Json);
    screen.list(&[status(Phase::Rolling)], "nothing").unwrap();
    let value: serde_json::Value = serde_json::from_str(&out.text()).unwrap();
    let item = &value["items"][0];
    assert_eq!(item["current"]["phase"], "Rolling");
    assert_eq!(item["targets"]["disconnected"], 0);
    assert_eq!(item["wanted"]["rule"], "newest");
}

#[test]
fn yaml_says_the_same_as_json() {
    let (mut screen, out, _) = screen(Format::Yaml);
    screen.list(&[status(Phase::Rolling)], "nothing").unwrap();
    let value: serde_json::Value = serde_saphyr::from_str(&out.text()).unwrap();
    assert_eq!(value["items"][0]["current"]["deployment"], 7);
}

#[test]
fn an_empty_list_is_said_beside_the_result_and_is_empty_in_json() {
    let (mut table, out, err) = screen(Format::Table);
    table.list::<Status>(&[], "nothing here").unwrap();
    assert_eq!(
        (out.text().as_str(), err.text().as_str()),
        ("", "nothing here\n")
    );
    let (mut json, out, _) = screen(Format::Json);
    json.list::<Status>(&[], "nothing here").unwrap();
    let value: serde_json::Value = serde_json::from_str(&out.text()).unwrap();
    assert_eq!(value, serde_json::json!({"items": []}));
}

#[test]
fn a_table_fits_its_width_by_cutting_the_longest_column() {
    let mut long = status(Phase::Waiting);
    long.waits.push(Wait {
        message: "a reason that is told at length ".repeat(10),
        ..wait(WaitKind::Order)
    });
    let (mut table, out, _) = screen(Format::Table);
    table.list(std::slice::from_ref(&long), "").unwrap();
    let text = out.text();
    assert!(
        text.lines()
            .all(|line| line.chars().count() <= TABLE_MAX_CHARS),
        "{text}"
    );
    assert!(text.contains('…'));
    let (mut wide, out, _) = screen(Format::Wide);
    wide.list(&[long], "").unwrap();
    assert!(!out.text().contains('…'));
}

#[test]
fn a_path_is_not_cut_while_anything_else_can_be() {
    let path = Cell::from("template.environment.A_LONG_NAME_OF_A_VARIABLE").whole();
    let value = Cell::from(&"v".repeat(200));
    let table = Table::new(vec!["FIELD", "VALUE"], vec![vec![path.clone(), value]]);
    let text = table.text(Some(80), false);
    let row = text.lines().nth(1).unwrap();
    assert!(row.starts_with(&path.text), "{text}");
    assert_eq!(row.chars().count(), 80, "{text}");
}

#[test]
fn a_place_is_cut_at_its_beginning_so_that_its_line_stays() {
    let cell = Cell::from("a/very/long/path/".repeat(10) + "web.yaml:22");
    let table = Table::new(vec!["PLACE"], vec![vec![cell.keeping_end()]]);
    let text = table.text(Some(20), false);
    assert_eq!(text, "PLACE\n…ng/path/web.yaml:22\n");
}

#[test]
fn a_track_that_is_paused_says_so() {
    let mut paused = status(Phase::Stable);
    paused.paused = true;
    let (mut table, out, _) = screen(Format::Table);
    table.list(&[paused], "").unwrap();
    assert!(out.text().contains("paused"), "{}", out.text());
}

#[test]
fn a_text_of_others_stays_on_its_line_and_commands_no_terminal() {
    let mut hostile = status(Phase::Waiting);
    hostile.waits.push(Wait {
        message: "one\ntwo\u{1b}[2J".to_owned(),
        ..wait(WaitKind::Order)
    });
    let (mut table, out, _) = screen(Format::Wide);
    table.list(&[hostile], "").unwrap();
    assert_eq!(out.text().lines().count(), 2);
    assert!(!out.text().contains('\u{1b}'));
}

#[test]
fn colour_is_there_only_when_asked_for() {
    let (mut plain, out, _) = screen(Format::Table);
    plain.list(&[status(Phase::Stable)], "").unwrap();
    assert!(!out.text().contains('\u{1b}'));
    let (mut coloured, out, _) = screen(Format::Table);
    coloured.colour = true;
    coloured.list(&[status(Phase::Stable)], "").unwrap();
    assert!(out.text().contains('\u{1b}'));
}

#[test]
fn a_failure_goes_to_standard_error_as_json_when_json_is_asked_for() {
    let failure = Failure::not_found("no such thing");
    let (mut json, out, err) = screen(Format::Json);
    json.failure(&failure);
    let value: serde_json::Value = serde_json::from_str(&err.text()).unwrap();
    assert_eq!(value["error"]["code"], "notFound");
    assert_eq!(out.text(), "");
    let (mut table, _, err) = screen(Format::Table);
    table.failure(&failure);
    assert_eq!(err.text(), "error: no such thing\n");
}

#[test]
fn a_failure_has_colour_only_where_it_is_wanted() {
    let failure = Failure::not_found("no such thing");
    let (mut coloured, _, err) = screen(Format::Table);
    coloured.colour_beside = true;
    coloured.failure(&failure);
    assert!(err.text().contains("\u{1b}[31m"), "{:?}", err.text());
    assert!(err.text().ends_with(" no such thing\n"));
}

#[test]
fn a_change_is_one_line() {
    let (mut table, out, _) = screen(Format::Table);
    table.change(&status(Phase::Rolling)).unwrap();
    assert_eq!(out.text().lines().count(), 1);
    let (mut json, out, _) = screen(Format::Json);
    json.change(&status(Phase::Rolling)).unwrap();
    assert_eq!(out.text().lines().count(), 1);
}

#[test]
fn long_texts_are_cut_between_words_and_indented() {
    let words = "word ".repeat(30);
    let text = text::wrapped(&format!("{words}{}", "x".repeat(150)), 10, 4);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].chars().count() + 10 <= text::WIDTH && lines[0].ends_with("word"));
    assert!(lines[1..].iter().all(|line| line.starts_with("    ")));
    assert!(
        lines[1..]
            .iter()
            .all(|line| line.chars().count() <= text::WIDTH)
    );
    assert_eq!(text.matches('x').count(), 150);
    assert_eq!(text::wrapped("one\ntwo", 0, 2), "one\n  two");
    assert_eq!(text::wrapped("", 0, 2), "");
}

#[test]
fn spans_are_told_in_their_largest_unit() {
    let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
    for (seconds, text) in [
        (0, "0.0s"),
        (9, "9.0s"),
        (45, "45s"),
        (600, "10m"),
        (7_200, "2h"),
        (864_000, "10d"),
    ] {
        assert_eq!(age(at(seconds), at(0)), text);
    }
    assert_eq!(
        age(at(0), at(50)),
        "0.0s",
        "a clock that lags makes no negative age"
    );
    assert_eq!(until(at(0), at(3_600)), "in 60m");
    assert_eq!(until(at(10), at(10)), "passed");
    assert_eq!(span(std::time::Duration::from_millis(1_250)), "1.2s");
}

#[test]
fn what_others_wrote_neither_commands_a_terminal_nor_turns_what_is_read() {
    let written = "\u{1b}[2Jdone\u{7}\n\u{202e}txt.exe \u{2067}x\u{2069} é 👩‍🔧";
    assert_eq!(
        clean(written),
        "\u{fffd}[2Jdone\u{fffd}\n\u{fffd}txt.exe \u{fffd}x\u{fffd} é 👩‍🔧"
    );
}
