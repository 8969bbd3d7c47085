//! Says what happens, with the time since the beginning: as text, or as one JSON object a step.

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::error::Failure;
use crate::output::{Format, Screen};

/// Tells the story.
pub(super) struct Teller<'a> {
    screen: &'a mut Screen,
    began: Instant,
}

/// A step as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Step<'a> {
    step: &'a str,
    elapsed_millis: u64,
    message: &'a str,
    facts: &'a Value,
}

impl<'a> Teller<'a> {
    /// Time begins now.
    pub(super) fn new(screen: &'a mut Screen) -> Self {
        Self {
            screen,
            began: Instant::now(),
        }
    }

    /// Something came true. `name` and `facts` are for programs.
    pub(super) fn step(&mut self, name: &str, message: &str, facts: &Value) -> Result<(), Failure> {
        let elapsed_millis = holdfast_protocol::time::millis(self.began.elapsed());
        if self.for_programs() {
            return self.screen.json_line(&Step {
                step: name,
                elapsed_millis,
                message,
                facts,
            });
        }
        let (seconds, tenths) = (elapsed_millis / 1000, elapsed_millis % 1000 / 100);
        let mut lines = wrapped(message).into_iter();
        let first = lines.next().unwrap_or_default();
        self.screen
            .line(&format!("{seconds:>4}.{tenths}s  {first}"))?;
        lines.try_for_each(|line| self.screen.line(&format!("{MARGIN}{line}")))
    }

    /// What is about to happen, and what a person would type for it.
    pub(super) fn scene(&mut self, title: &str, commands: &[&str]) -> Result<(), Failure> {
        if self.for_programs() {
            return Ok(());
        }
        self.screen.line(&format!("\n{title}"))?;
        commands
            .iter()
            .try_for_each(|command| self.screen.line(&format!("{MARGIN}$ {command}")))
    }

    /// What a command printed, as a person would see it.
    pub(super) fn shown(&mut self, text: &str) -> Result<(), Failure> {
        if self.for_programs() {
            return Ok(());
        }
        wrapped(text)
            .iter()
            .try_for_each(|line| self.screen.line(format!("{MARGIN}{line}").trim_end()))
    }

    /// A paragraph for people.
    pub(super) fn plain(&mut self, text: &str) -> Result<(), Failure> {
        if self.for_programs() {
            return Ok(());
        }
        self.screen.write(text)
    }

    /// Something beside the story.
    pub(super) fn beside(&mut self, text: &str) {
        if !text.is_empty() {
            self.screen.note(text);
        }
    }

    /// Whether results have colour.
    pub(super) const fn colour(&self) -> bool {
        self.screen.colour
    }

    fn for_programs(&self) -> bool {
        self.screen.format == Format::Json
    }
}

/// The lines of a text, long ones broken between words and indented like their beginning.
fn wrapped(text: &str) -> Vec<String> {
    text.lines().flat_map(wrapped_line).collect()
}

fn wrapped_line(line: &str) -> Vec<String> {
    let text = line.trim_start_matches(' ');
    let indent = " ".repeat(line.len() - text.len());
    let mut lines = Vec::new();
    let mut current = String::new();
    for (place, word) in text.split(' ').enumerate() {
        let length = indent.len() + current.chars().count() + 1 + word.chars().count();
        if place == 0 {
            current.push_str(word);
        } else if length > LINE_MAX_CHARS {
            lines.push(format!("{indent}{current}"));
            word.clone_into(&mut current);
        } else {
            current.push(' ');
            current.push_str(word);
        }
    }
    lines.push(format!("{indent}{current}"));
    lines
}

/// Longest line beside the margin, in characters; only a single longer word exceeds it.
const LINE_MAX_CHARS: usize = 92;
/// As wide as the time before a step.
pub(super) const MARGIN: &str = "        ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_between_words_and_keep_their_indent() {
        let text = format!("short\n    {}", "word ".repeat(40).trim_end());
        let lines = wrapped(&text);
        assert_eq!(lines[0], "short");
        assert!(lines.len() > 2);
        assert!(
            lines[1..].iter().all(|line| line.starts_with("    word")),
            "{lines:?}"
        );
        assert!(
            lines
                .iter()
                .all(|line| line.chars().count() <= LINE_MAX_CHARS)
        );
        let table = "ID  SERVICE  PHASE";
        assert_eq!(wrapped(table), [table], "columns stay where they are");
        assert_eq!(wrapped("a\n\nb"), ["a", "", "b"]);
    }
}
