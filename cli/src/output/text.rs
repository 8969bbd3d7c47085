//! Small texts that several commands share: ages, marks, blocks of waits.

use std::fmt::Write as _;
use std::time::Duration;

use holdfast_protocol::api::deployment::Phase;
use holdfast_protocol::api::wait::{Wait, WaitKind};
use holdfast_protocol::time::{Timestamp, millis};

use super::clean;
use super::row::Tone;

/// How long ago `then` was, in its largest unit: `45s`, `3m`, `2h`, `9d`.
#[must_use]
pub fn age(now: Timestamp, then: Timestamp) -> String {
    span(now.since(then))
}

/// How long until `then`, with the time itself where that is far, or that it has passed.
#[must_use]
pub fn until(now: Timestamp, then: Timestamp) -> String {
    if then <= now {
        return "passed".to_owned();
    }
    let left = then.since(now);
    if left < FAR {
        return format!("in {}", span(left));
    }
    format!("in {}, at {} UTC", span(left), moment(then))
}

/// From here on the time itself says more than how long it is until then.
const FAR: Duration = Duration::from_secs(7_200);

/// A span in its largest unit; below ten seconds with tenths.
#[must_use]
pub fn span(span: Duration) -> String {
    let total_millis = millis(span);
    match total_millis / 1000 {
        0..10 => format!("{}.{}s", total_millis / 1000, total_millis % 1000 / 100),
        seconds @ 10..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// A time to the second: `2026-11-21 07:41:56`.
#[must_use]
pub fn moment(time: Timestamp) -> String {
    let text = time.to_string();
    text.split('.').next().unwrap_or_default().replace('T', " ")
}

/// `1 target`, `2 targets`.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// The mood of a phase.
#[must_use]
pub const fn tone(phase: Phase) -> Tone {
    match phase {
        Phase::Stable => Tone::Good,
        Phase::Waiting | Phase::Rolling | Phase::Verifying => Tone::Busy,
        Phase::RollingBack
        | Phase::RolledBack
        | Phase::RollbackFailed
        | Phase::Halted
        | Phase::Rejected => Tone::Bad,
        Phase::Superseded => Tone::Plain,
    }
}

/// The word of a kind of wait, as in JSON.
#[must_use]
pub const fn wait_kind(kind: WaitKind) -> &'static str {
    match kind {
        WaitKind::Order => "order",
        WaitKind::Dependency => "dependency",
        WaitKind::Policy => "policy",
        WaitKind::Protection => "protection",
        WaitKind::Approval => "approval",
        WaitKind::Window => "window",
        WaitKind::Pause => "pause",
        WaitKind::Freeze => "freeze",
        WaitKind::Removal => "removal",
        WaitKind::Hold => "hold",
        WaitKind::Capacity => "capacity",
        WaitKind::Target => "target",
        WaitKind::Failed => "failed",
    }
}

/// A wait in one line: its kind, what it is about where that says more, and why.
#[must_use]
pub fn wait_line(wait: &Wait) -> String {
    let kind = wait_kind(wait.kind);
    let message = clean(&wait.message);
    if wait.subject.trim_end_matches('s') == kind {
        return format!("{kind}: {message}");
    }
    format!("{kind} {}: {message}", clean(&wait.subject))
}

/// A wait for a person: what, since when, how it ends.
#[must_use]
pub fn wait(wait: &Wait, now: Timestamp) -> String {
    wait_at(wait, now, 0)
}

/// [`wait`], all of it indented by so many columns.
#[must_use]
pub fn wait_at(wait: &Wait, now: Timestamp, indent: usize) -> String {
    let rest = indent + 4;
    let line = wrapped(&wait_line(wait), indent, rest);
    let mut text = format!("{:indent$}{line}\n", "");
    let _ = writeln!(text, "{:rest$}since {} ago", "", age(now, wait.since));
    if let Some(then) = wait.until {
        // Of a check it says when the next answer is due, which need not be another one.
        let what = match wait.kind {
            WaitKind::Protection if wait.subject != "soak" => "asked again",
            _ => "ends by itself",
        };
        let _ = writeln!(text, "{:rest$}{what} {}", "", until(now, then));
    }
    for way in &wait.ends_by {
        let _ = writeln!(text, "{:rest$}ended by: {}", "", clean(way));
    }
    text
}

/// Text in lines of at most [`WIDTH`] columns: the first begins at column `first`, the others are indented
/// by `rest`. Lines end between words; a word that fits on no line is cut.
#[must_use]
pub fn wrapped(text: &str, first: usize, rest: usize) -> String {
    lined(text, (first, rest), LongWord::Cut)
}

/// [`wrapped`], but a word that fits on no line stays whole: a path or an address that somebody copies.
#[must_use]
pub fn filled(text: &str, first: usize, rest: usize) -> String {
    lined(text, (first, rest), LongWord::Whole)
}

/// What becomes of a word that is longer than a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LongWord {
    Cut,
    Whole,
}

fn lined(text: &str, (first, rest): (usize, usize), long: LongWord) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let begin = if lines.is_empty() { first } else { rest };
        fill(line, (begin, rest), long, &mut lines);
    }
    lines.join(&format!("\n{:rest$}", ""))
}

/// Cuts one line of text, which begins at a column, into `lines`.
fn fill(text: &str, (begin, rest): (usize, usize), long: LongWord, lines: &mut Vec<String>) {
    let mut line: Vec<char> = Vec::new();
    let mut room = WIDTH.saturating_sub(begin);
    for word in text.split(' ') {
        if !line.is_empty() && line.len() + 1 + word.chars().count() > room {
            lines.push(line.drain(..).collect());
            room = WIDTH.saturating_sub(rest);
        } else if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars());
        while long == LongWord::Cut && line.len() > room.max(1) {
            lines.push(line.drain(..room.max(1)).collect());
            room = WIDTH.saturating_sub(rest);
        }
    }
    lines.push(line.into_iter().collect());
}

/// Columns that a line for a person takes at most.
pub const WIDTH: usize = 100;

/// Lines `name   value`, the values under each other.
#[must_use]
pub fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields
        .iter()
        .fold(String::new(), |mut text, (name, value)| {
            let value = wrapped(&clean(value), width + 2, width + 2);
            let _ = writeln!(text, "{name:width$}  {value}");
            text
        })
}
