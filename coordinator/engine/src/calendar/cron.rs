//! The start of a window: a cron expression over wall-clock time that knows nothing of zones.

use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;

use super::WindowError;

/// Times of the wall clock that match a cron expression of five fields. At least one does.
#[derive(PartialEq, Eq)]
pub(super) struct Cron {
    text: String,
    parsed: croner::Cron,
    /// Whether its hours are named, rather than every one or every n-th of the day.
    names_hours: bool,
}

impl Cron {
    pub(super) fn parse(text: &str) -> Result<Self, WindowError> {
        if text.len() > TEXT_MAX_BYTES {
            return Err(WindowError::Start(format!(
                "the start is longer than {TEXT_MAX_BYTES} bytes"
            )));
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let text = fields.join(" ");
        if fields.len() != FIELDS.len() {
            return Err(WindowError::Start(format!(
                "the start {text:?} has {} fields instead of five",
                fields.len()
            )));
        }
        for (at, field) in fields.iter().enumerate() {
            check_field(at, field)?;
        }
        // Every field is one on its own, so all together are; what is said here is never shown
        // unless that is wrong.
        let parsed = parser().parse(&text).map_err(|_| refused(&text))?;
        let names_hours = !fields[1].starts_with('*') && parsed.pattern.hours.values().len() < 24;
        let cron = Self {
            text,
            parsed,
            names_hours,
        };
        if cron.after(LAST_CYCLE).is_none() {
            return Err(WindowError::Never(cron.text));
        }
        Ok(cron)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) const fn names_hours(&self) -> bool {
        self.names_hours
    }

    /// The first time that matches after this one, or none before the end of time.
    pub(super) fn after(&self, time: DateTime) -> Option<DateTime> {
        let found = self.parsed.find_next_occurrence(&time, false);
        found.ok().filter(|found| found.year() < YEAR_END)
    }

    /// The last time that matches up to this one, itself included.
    pub(super) fn upto(&self, time: DateTime) -> Option<DateTime> {
        self.parsed.find_previous_occurrence(&time, true).ok()
    }
}

/// Refuses a field that no cron expression has, and says what it may be.
fn check_field(at: usize, field: &str) -> Result<(), WindowError> {
    let Field {
        name,
        letters,
        allowed,
    } = FIELDS[at];
    let known = |c: char| c.is_ascii_digit() || "*,-/".contains(c) || letters.contains(c);
    let written = field.to_ascii_uppercase().chars().all(known);
    let listed = field.split(',').all(|item| !item.is_empty());
    let mut alone = ["*"; 5];
    alone[at] = field;
    if written && listed && parser().parse(&alone.join(" ")).is_ok() {
        return Ok(());
    }
    Err(WindowError::Start(format!(
        "the {name} of the start, `{field}`, is not understood: {allowed}"
    )))
}

fn refused(text: &str) -> WindowError {
    WindowError::Start(format!("the start `{text}` is not understood"))
}

fn parser() -> CronParser {
    CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build()
}

/// One of the five fields.
struct Field {
    name: &'static str,
    /// What it may hold besides digits and `*,-/`.
    letters: &'static str,
    /// How to write it.
    allowed: &'static str,
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        letters: "",
        allowed: "write 0 to 59, `*`, a list 0,30, a range 0-10 or a step */15",
    },
    Field {
        name: "hour",
        letters: "",
        allowed: "write 0 to 23, `*`, a list 9,17, a range 9-17 or a step */6",
    },
    Field {
        name: "day of the month",
        letters: "LW?",
        allowed: "write 1 to 31, `*`, `L` for the last one, a list, a range or a step",
    },
    Field {
        name: "month",
        letters: "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        allowed: "write 1 to 12, JAN to DEC, `*`, a list 1,4,7,10, a range or a step */3",
    },
    Field {
        name: "day of the week",
        letters: "ABCDEFGHIJKLMNOPQRSTUVWXYZ#+?",
        allowed: "write 0 (Sunday) to 6, SUN to SAT, `*`, a list, a range MON-FRI, MON#1 for the \
            first Monday or FRI#L for the last Friday",
    },
];

/// Longest cron expression, in bytes.
const TEXT_MAX_BYTES: usize = 128;
/// Times from this year on do not exist for us; RFC 3339 has four digits.
const YEAR_END: i16 = 9999;
/// The calendar repeats every 400 years, and the search ends in the year 5000: what does not come
/// between here and there never comes.
const LAST_CYCLE: DateTime = DateTime::constant(4599, 12, 31, 23, 59, 59, 0);
