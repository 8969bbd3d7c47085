//! How each object of the API becomes a row: one implementation a noun.

pub mod access;
pub mod fleet;
pub mod guardrail;
pub mod record;
pub mod secret;

use holdfast_protocol::time::Timestamp;

/// An object that can stand in a table.
pub trait Row {
    /// Titles of the columns.
    const HEADER: &'static [&'static str];
    /// Titles of the columns that only `-o wide` shows.
    const WIDE: &'static [&'static str];
    /// What `-o name` prints, and what tells two objects of a list apart.
    fn name(&self) -> String;
    /// One cell for each title of [`Self::HEADER`].
    fn cells(&self, now: Timestamp) -> Vec<Cell>;
    /// One cell for each title of [`Self::WIDE`].
    fn wide(&self, now: Timestamp) -> Vec<Cell>;
}

/// A text and its mood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The text.
    pub text: String,
    /// Its mood.
    pub tone: Tone,
    /// Which part is worth most when there is not enough room.
    pub keep: Keep,
}

/// Which part of a text stays when it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Its beginning.
    Beginning,
    /// Its end: a path with a line number.
    End,
    /// All of it: the table is rather too wide.
    Whole,
}

/// The mood of a text, shown as colour on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// None.
    Plain,
    /// As it should be.
    Good,
    /// On its way.
    Busy,
    /// Wrong.
    Bad,
}

impl Cell {
    /// A text with a mood.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone,
            keep: Keep::Beginning,
        }
    }

    /// The same cell, which is never cut.
    #[must_use]
    pub fn whole(self) -> Self {
        Self {
            keep: Keep::Whole,
            ..self
        }
    }

    /// The same cell, whose end stays when it is cut.
    #[must_use]
    pub fn keeping_end(self) -> Self {
        Self {
            keep: Keep::End,
            ..self
        }
    }
}

impl<T: ToString + ?Sized> From<&T> for Cell {
    fn from(text: &T) -> Self {
        Self::toned(text.to_string(), Tone::Plain)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// The text, or a dash where there is nothing.
fn or_dash<T: ToString>(value: Option<&T>) -> Cell {
    Cell::from(value.map_or_else(|| "-".to_owned(), ToString::to_string))
}

/// Several texts with commas, or a dash where there are none.
fn several<T: ToString>(values: impl IntoIterator<Item = T>) -> Cell {
    let text = values
        .into_iter()
        .map(|value| value.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    Cell::from(if text.is_empty() {
        "-".to_owned()
    } else {
        text
    })
}
