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
        let mut lines = message.lines();
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
        text.lines()
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

/// As wide as the time before a step.
const MARGIN: &str = "        ";
