//! The operator's command line, run as a person would, and what it said.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

/// What a command said and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// What was run, for failures.
    pub line: String,
    /// Exit code; nothing where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Said {
    /// Of a command that has ended.
    #[must_use]
    pub fn new(program: &Path, arguments: &[&str], output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        Self {
            line: format!("{name} {}", arguments.join(" ")),
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Standard error in one line: what is searched for may have been wrapped.
    #[must_use]
    pub fn complaint(&self) -> String {
        let words: Vec<&str> = self.stderr.split_whitespace().collect();
        words.join(" ")
    }

    /// It must have ended with this exit code.
    #[track_caller]
    #[must_use]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "{}\n{}{}",
            self.line,
            self.stdout,
            self.stderr
        );
        self
    }

    /// It must have succeeded; gives its standard output.
    #[track_caller]
    #[must_use]
    pub fn succeeds(self) -> String {
        self.ends_with(0).stdout
    }

    /// It must have succeeded and printed one JSON object.
    #[track_caller]
    #[must_use]
    pub fn json(self) -> Value {
        let line = self.line.clone();
        let text = self.succeeds();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}\n{text}"))
    }
}
