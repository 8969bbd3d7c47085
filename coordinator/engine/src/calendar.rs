//! Windows of time: when something may happen, and when the answer changes.
//!
//! A [`Window`] opens at the local times of a cron expression in an IANA time zone, and stays open
//! for a span. The database of zones is compiled in: the answer depends on the arguments and on the
//! version of the program, never on the machine.
//!
//! # When clocks change
//! The start is wall-clock time, the duration is time that really passes: a window of four hours
//! lasts four hours in every night of the year, and ends at another wall-clock time in two of them.
//!
//! | the clock | a start in a named hour, `30 2 * * *` | a start in every hour, `*/30 * * * *` |
//! | --- | --- | --- |
//! | jumps over it (spring) | opens when the jump ends, `03:00` | not in that hour, there is none |
//! | shows it twice (autumn) | opens the first time only | opens both times |
//!
//! An hour field is "every hour" where it begins with `*` or names all 24. Where a zone once left
//! out a whole day (Samoa, 2011-12-30), what would have opened on that day did not.
//!
//! # Cron
//! Five fields, minute first. A day matches if the day of the month *or* the day of the week does,
//! where both are restricted, as in every cron; a `+` before the day of the week makes it *and*.
//! `MON#1` is the first Monday, `FRI#L` the last Friday, `L` the last day of the month.
//!
//! # Cost
//! [`Window::at`] takes about a microsecond; some tens where as many openings touch as are followed;
//! and up to 0.3 ms for a start that is decades away, such as the 29th of February on a Monday.

mod cron;
#[cfg(test)]
mod tests;
mod zone;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use holdfast_protocol::time::{Timestamp, friendly};

use cron::Cron;
use zone::Zone;

/// When something may happen: local times at which it opens, and how long it stays open then.
/// Equal if it was written equally. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Window(Arc<Parts>);

#[derive(PartialEq, Eq)]
struct Parts {
    cron: Cron,
    duration: Duration,
    zone: Zone,
}

/// Whether a calendar is open at some point in time, and until when that stays so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// It is open, without a break, until (exclusive) this time at least. Openings that overlap or
    /// touch are one, up to [`CHAIN_MAX`] of them: after so many, it may turn out to be open still
    /// when the time has come. `None`: nothing closes it, ever.
    Open {
        /// When to ask again.
        until: Option<Timestamp>,
    },
    /// It is closed, until this time at least. `None`: it does not open again while clocks run.
    Closed {
        /// When to ask again.
        opens: Option<Timestamp>,
    },
}

/// Why a window is refused. Display says what is wrong; [`WindowError::help`] says what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// The start is no cron expression.
    #[error("{0}")]
    Start(String),
    /// The start is one, but no date matches it.
    #[error("the start `{0}` never comes: no date matches it in any year")]
    Never(String),
    /// No time zone has this name.
    #[error("there is no time zone `{name}`")]
    Timezone {
        /// As it was written, shortened.
        name: String,
        /// What was probably meant.
        near: Option<String>,
    },
    /// The duration is out of bounds.
    #[error("a window of {} is too {}", friendly(*.0), if *.0 < DURATION_MIN { "short" } else { "long" })]
    Duration(Duration),
}

/// Whether any of these windows is open now, until none is, or when the first one opens.
///
/// No windows at all restrict nothing: it is open, and nothing closes it.
#[must_use]
pub fn at(windows: &[Window], now: Timestamp) -> Opening {
    if windows.is_empty() {
        return Opening::Open { until: None };
    }
    let answers = || windows.iter().map(|window| window.at(now));
    if answers().any(Opening::is_open) {
        return Opening::Open {
            until: Some(end_of_all(windows, now)),
        };
    }
    Opening::Closed {
        opens: answers().filter_map(Opening::changes).min(),
    }
}

/// The inverse of [`at`], for times at which something may *not* happen: closed while any of these
/// windows is open. No windows close nothing.
#[must_use]
pub fn blackout(windows: &[Window], now: Timestamp) -> Opening {
    if windows.is_empty() {
        return Opening::Open { until: None };
    }
    match at(windows, now) {
        Opening::Open { until } => Opening::Closed { opens: until },
        Opening::Closed { opens } => Opening::Open { until: opens },
    }
}

impl Window {
    /// A window that opens at `start`, a cron expression of five fields, in the local time of
    /// `timezone`, a name such as `Europe/Berlin`, and stays open for `duration`.
    ///
    /// # Errors
    /// Any part is not valid, or the start never comes.
    pub fn parse(start: &str, duration: Duration, timezone: &str) -> Result<Self, WindowError> {
        let cron = Cron::parse(start)?;
        if !(DURATION_MIN..=DURATION_MAX).contains(&duration) {
            return Err(WindowError::Duration(duration));
        }
        let zone = Zone::parse(timezone)?;
        Ok(Self(Arc::new(Parts {
            cron,
            duration,
            zone,
        })))
    }

    /// Whether it is open now, until when, or when it opens.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Opening {
        let now = zone::instant(now);
        let Parts {
            cron,
            duration,
            zone,
        } = &*self.0;
        // An opening that holds now began less than the duration ago.
        let first = zone.start_after(cron, zone::before(now, *duration));
        match first {
            Some(start) if start <= now => Opening::Open {
                until: Some(zone::timestamp(self.end_of_chain(start))),
            },
            Some(start) => Opening::Closed {
                opens: Some(zone::timestamp(start)),
            },
            None => Opening::Closed { opens: None },
        }
    }

    /// The newest opening up to `now`, if it is after `floor`.
    #[must_use]
    pub fn opened(&self, now: Timestamp, floor: Timestamp) -> Option<Timestamp> {
        let Parts { cron, zone, .. } = &*self.0;
        let found = zone.last_start_upto(cron, zone::instant(now), zone::instant(floor));
        found.map(zone::timestamp)
    }

    /// The first opening after `now`.
    #[must_use]
    pub fn opens(&self, now: Timestamp) -> Option<Timestamp> {
        let Parts { cron, zone, .. } = &*self.0;
        zone.start_after(cron, zone::instant(now))
            .map(zone::timestamp)
    }

    /// The cron expression, as it was written, with single spaces.
    #[must_use]
    pub fn start(&self) -> &str {
        self.0.cron.text()
    }

    /// How long it stays open.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.0.duration
    }

    /// The name of its time zone, spelled as the database spells it.
    #[must_use]
    pub fn timezone(&self) -> &str {
        self.0.zone.name()
    }

    /// The end of the openings that overlap or touch, from the one that began at `start`.
    fn end_of_chain(&self, start: jiff::Timestamp) -> jiff::Timestamp {
        let Parts {
            cron,
            duration,
            zone,
        } = &*self.0;
        let mut last = start;
        for _ in 0..CHAIN_MAX {
            let end = zone::after(last, *duration);
            match zone.last_start_upto(cron, end, last) {
                Some(later) => last = later,
                None => break,
            }
        }
        zone::after(last, *duration)
    }
}

impl Opening {
    /// Whether it is open.
    #[must_use]
    pub const fn is_open(self) -> bool {
        match self {
            Self::Open { .. } => true,
            Self::Closed { .. } => false,
        }
    }

    /// When the answer may change: when to look again.
    #[must_use]
    pub const fn changes(self) -> Option<Timestamp> {
        match self {
            Self::Open { until: at } | Self::Closed { opens: at } => at,
        }
    }
}

impl WindowError {
    /// The field of a window that is wrong: `start`, `duration` or `timezone`.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Start(_) | Self::Never(_) => "start",
            Self::Timezone { .. } => "timezone",
            Self::Duration(_) => "duration",
        }
    }

    /// What to write instead.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Start(_) => "write minute, hour, day of the month, month and day of the week, \
                such as `0 22 * * TUE` for 22:00 on Tuesdays"
                .to_owned(),
            Self::Never(_) => {
                "take a day that the month has; `L` is the last day of any month".to_owned()
            }
            Self::Timezone {
                near: Some(near), ..
            } => format!("did you mean `{near}`?"),
            Self::Timezone { near: None, .. } => {
                "write the IANA name of a place, such as Europe/Berlin, or UTC".to_owned()
            }
            Self::Duration(_) => format!(
                "write between {} and {}",
                friendly(DURATION_MIN),
                friendly(DURATION_MAX)
            ),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = friendly(self.duration());
        write!(f, "{} for {span}, {}", self.start(), self.timezone())
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window({self})")
    }
}

/// The time at which none of the windows is open, of which one is open at `now`.
fn end_of_all(windows: &[Window], now: Timestamp) -> Timestamp {
    let mut end = now;
    for _ in 0..CHAIN_MAX {
        let ends = windows.iter().map(|window| window.at(end));
        let ends = ends.filter(|opening| opening.is_open());
        match ends.filter_map(Opening::changes).max() {
            Some(later) if later > end => end = later,
            Some(_) | None => break,
        }
    }
    end
}

/// Shortest time that a window is open; less would be over before everything is asked.
pub const DURATION_MIN: Duration = Duration::from_secs(60);
/// Longest time that one opening lasts.
pub const DURATION_MAX: Duration = Duration::from_secs(31 * 86_400);
/// Most openings that are followed because they overlap or touch, in one answer.
pub const CHAIN_MAX: usize = 32;
/// Most windows that one list in a manifest may hold.
pub const WINDOWS_MAX: usize = 32;
