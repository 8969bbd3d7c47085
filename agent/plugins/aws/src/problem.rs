//! Everything that is wrong with a template, by field. Pure.

use holdfast_plugins::{Failure, Wrong};

/// Pairs of a path below the template and what is wrong there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems(pub(crate) Vec<(String, String)>);

impl Problems {
    /// The only thing that is wrong.
    pub(crate) fn one(path: &str, message: impl Into<String>) -> Self {
        let mut problems = Self::default();
        problems.add(path, message);
        problems
    }

    /// Notes one thing.
    pub(crate) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push((path.into(), message.into()));
    }

    /// What was read, where nothing is wrong.
    pub(crate) fn or<T>(self, read: T) -> Result<T, Self> {
        if self.0.is_empty() {
            Ok(read)
        } else {
            Err(self)
        }
    }

    /// In the words of the protocol.
    pub(crate) fn wrong(self) -> Vec<Wrong> {
        let wrong = |(path, message): (String, String)| Wrong::at(&path, &message);
        self.0.into_iter().map(wrong).collect()
    }

    /// Where a template that was never validated is asked for.
    pub(crate) fn failure(self) -> Failure {
        let said = self
            .0
            .into_iter()
            .map(|(path, message)| format!("{path}: {message}"));
        let said: Vec<String> = said.collect();
        Failure::Permanent(format!("the template is wrong: {}", said.join("; ")))
    }
}
