//! Results on standard output, everything else on standard error, in the form that was asked for.

pub mod row;
pub mod table;
pub mod text;

use std::io::{IsTerminal as _, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::AnsiColor;
use clap::ValueEnum;
use holdfast_protocol::api::Items;
pub use holdfast_protocol::terminal::clean;
use serde::Serialize;

use crate::error::Failure;
use row::Row;
use table::Table;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people, within 100 characters
    Table,
    /// More columns, nothing cut
    Wide,
    /// One JSON object; a list is {"items": […]}
    Json,
    /// The same as YAML
    Yaml,
    /// Names alone, one a line
    Name,
    /// A unified diff of manifests; only `diff`
    Patch,
}

/// When colour is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Where and how this program prints.
pub struct Screen {
    /// The form of results.
    pub format: Format,
    /// Whether results have colour.
    pub colour: bool,
    /// Whether what stands beside results has colour.
    pub colour_beside: bool,
    /// Whether progress may be drawn on standard error.
    pub progress: bool,
    /// Widest line of a table, in characters.
    pub width: usize,
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
}

impl Screen {
    /// The real streams.
    #[must_use]
    pub fn standard(format: Format, colour: Colour) -> Self {
        let coloured = |choice: ColorChoice| match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => choice != ColorChoice::Never,
        };
        Self {
            format,
            colour: coloured(AutoStream::choice(&std::io::stdout())),
            colour_beside: coloured(AutoStream::choice(&std::io::stderr())),
            progress: std::io::stderr().is_terminal(),
            width: terminal_width().unwrap_or_default().max(TABLE_MAX_CHARS),
            out: Box::new(std::io::stdout()),
            err: Box::new(std::io::stderr()),
        }
    }

    /// The widest line that a table may have in the form that was asked for.
    #[must_use]
    pub const fn limit(&self) -> Option<usize> {
        match self.format {
            Format::Wide => None,
            Format::Table | Format::Json | Format::Yaml | Format::Name | Format::Patch => {
                Some(self.width)
            }
        }
    }

    /// Whether results are for a program.
    #[must_use]
    pub const fn structured(&self) -> bool {
        match self.format {
            Format::Json | Format::Yaml => true,
            Format::Table | Format::Wide | Format::Name | Format::Patch => false,
        }
    }

    /// One line of the result.
    ///
    /// # Errors
    /// The reader has gone, or the disk is full.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.write(&format!("{text}\n"))
    }

    /// A piece of the result as it is.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()?;
        Ok(())
    }

    /// A remark beside the result. That nobody reads it is no failure.
    pub fn note(&mut self, text: &str) {
        let _ = writeln!(self.err, "{}", text::filled(text, 0, NOTE_INDENT));
    }

    /// What a workload wrote, beside the result, as it wrote it.
    pub fn quote(&mut self, text: &str) {
        let _ = writeln!(self.err, "{text}");
    }

    /// A failure, in the form that was asked for.
    pub fn failure(&mut self, failure: &Failure) {
        let text = if self.structured() {
            failure.json()
        } else {
            self.headed(&failure.text())
        };
        let _ = self.err.write_all(text.as_bytes());
    }

    /// A failure's text, its first word in red.
    fn headed(&self, text: &str) -> String {
        match text.strip_prefix(ERROR) {
            Some(rest) if self.colour_beside => {
                let red = AnsiColor::Red.on_default().bold();
                format!("{red}{ERROR}{red:#}{rest}")
            }
            Some(_) | None => text.to_owned(),
        }
    }

    /// One object, for a program; `text` is the same for a person.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn object<T: Serialize>(
        &mut self,
        object: &T,
        text: impl FnOnce(bool) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.write(&json(object)),
            Format::Yaml => self.write(&yaml(object)?),
            Format::Table | Format::Wide | Format::Name | Format::Patch => {
                let text = text(self.colour);
                self.write(&text)
            }
        }
    }

    /// A list.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn list<T: Row + Serialize>(&mut self, rows: &[T], empty: &str) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.write(&json(&Items::from(rows.iter().collect::<Vec<_>>()))),
            Format::Yaml => {
                let text = yaml(&Items::from(rows.iter().collect::<Vec<_>>()))?;
                self.write(&text)
            }
            Format::Name => rows.iter().try_for_each(|row| self.line(&row.name())),
            Format::Table | Format::Wide | Format::Patch if rows.is_empty() => {
                self.note(empty);
                Ok(())
            }
            Format::Table | Format::Wide | Format::Patch => {
                let wide = self.format == Format::Wide;
                let text = Table::of(rows, wide).text(self.limit(), self.colour);
                self.write(&text)
            }
        }
    }

    /// One row of a list that goes on: a line, or a JSON line.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn change<T: Row + Serialize>(&mut self, row: &T) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json_line(row),
            Format::Yaml => {
                let text = yaml(row)?;
                self.write(&format!("---\n{text}"))
            }
            Format::Name => self.line(&row.name()),
            Format::Table | Format::Wide | Format::Patch => {
                let table = Table::of(std::slice::from_ref(row), self.format == Format::Wide);
                self.write(&table.lines_without_header(self.limit(), self.colour))
            }
        }
    }

    /// One JSON object on one line.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn json_line<T: Serialize>(&mut self, object: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(object).expect("API bodies become JSON");
        self.line(&text)
    }
}

fn json<T: Serialize>(object: &T) -> String {
    let text = serde_json::to_string_pretty(object).expect("API bodies become JSON");
    format!("{text}\n")
}

fn yaml<T: Serialize>(object: &T) -> Result<String, Failure> {
    let value = serde_json::to_value(object).expect("API bodies become JSON");
    let mut text = serde_saphyr::to_string(&value)
        .map_err(|e| Failure::failed(format!("cannot write YAML: {e}")))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    let size = stdout
        .is_terminal()
        .then(|| rustix::termios::tcgetwinsize(&stdout).ok())??;
    Some(usize::from(size.ws_col))
}

/// How the text of a failure begins.
const ERROR: &str = "error:";
/// Columns by which the further lines of a remark are indented.
const NOTE_INDENT: usize = 2;
/// Widest line of a table, in characters, unless a terminal has more.
pub const TABLE_MAX_CHARS: usize = 100;

#[cfg(test)]
pub mod tests;
