//! From the wall clock to points in time: where clocks jump, and where they show a time twice.
//!
//! Between two changes of the clock, wall-clock time and time run alike. So the starts of a window
//! are found segment by segment, and only the borders need rules; `calendar.rs` has the table.

use std::sync::LazyLock;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp as Instant};

use holdfast_protocol::time::Timestamp;

use super::WindowError;
use super::cron::Cron;
use crate::diagnostic::nearest;

/// A time zone of the database that is compiled in.
#[derive(PartialEq, Eq)]
pub(super) struct Zone(TimeZone);

/// A stretch of time without a change of the clock: from `start`, inclusive, to `end`, exclusive.
struct Segment {
    start: Instant,
    end: Instant,
    offset: Offset,
}

impl Zone {
    pub(super) fn parse(name: &str) -> Result<Self, WindowError> {
        let found = DATABASE.get(name).ok();
        let named = found.filter(|zone| zone.iana_name().is_some() && !zone.is_unknown());
        named.map(Self).ok_or_else(|| WindowError::Timezone {
            name: name.chars().take(NAME_SHOWN_CHARS).collect(),
            near: meant(name),
        })
    }

    pub(super) fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The first start after `time`.
    pub(super) fn start_after(&self, cron: &Cron, time: Instant) -> Option<Instant> {
        let mut segment = self.segment(time);
        let mut from = segment.local(time);
        if cron.names_hours() {
            from = from.max(second_before(self.first_shown(&segment)));
        }
        let mut found = cron.after(from)?;
        for _ in 0..SEGMENTS_MAX {
            if found < segment.local_end() {
                return segment.instant(found);
            }
            let jump_from = segment.local_end();
            segment = self.segment(segment.end);
            let jump_to = segment.local(segment.start);
            if found < jump_to {
                if cron.names_hours() && !is_skipped_day(jump_from, jump_to) {
                    return Some(segment.start);
                }
                from = second_before(jump_to);
                found = cron.after(from)?;
            } else if !cron.names_hours() && jump_to <= from {
                // What is shown a second time lies before where the search began.
                from = second_before(jump_to);
                found = cron.after(from)?;
            }
        }
        None
    }

    /// The last start up to `time`, if it is after `floor`.
    pub(super) fn last_start_upto(
        &self,
        cron: &Cron,
        time: Instant,
        floor: Instant,
    ) -> Option<Instant> {
        let mut segment = self.segment(time);
        let mut upto = segment.local(time);
        for _ in 0..SEGMENTS_MAX {
            let found = cron.upto(upto)?;
            let first = if cron.names_hours() {
                self.first_shown(&segment)
            } else {
                segment.local(segment.start)
            };
            if found >= first {
                return segment.instant(found).filter(|start| *start > floor);
            }
            if segment.start <= floor {
                return None;
            }
            let before = self.segment(second_earlier(segment.start));
            let jump_from = before.local_end();
            let jumped = jump_from <= found && !is_skipped_day(jump_from, first);
            if cron.names_hours() && jumped {
                return Some(segment.start);
            }
            upto = second_before(jump_from);
            segment = before;
        }
        None
    }

    fn segment(&self, time: Instant) -> Segment {
        // Clocks change at whole seconds; one that changes just now belongs to what follows.
        let second = Instant::from_second(time.as_second()).unwrap_or(time);
        let next = second.checked_add(SECOND).unwrap_or(Instant::MAX);
        let start = self.0.preceding(next).next();
        let end = self.0.following(second).next();
        Segment {
            start: start.map_or(Instant::MIN, |change| change.timestamp()),
            end: end.map_or(Instant::MAX, |change| change.timestamp()),
            offset: self.0.to_offset(time),
        }
    }

    /// The first wall-clock time of a segment that was not shown before it already.
    fn first_shown(&self, segment: &Segment) -> DateTime {
        let own = segment.local(segment.start);
        if segment.start == Instant::MIN {
            return own;
        }
        let before = self.0.to_offset(second_earlier(segment.start));
        own.max(before.to_datetime(segment.start))
    }
}

impl Segment {
    fn local(&self, time: Instant) -> DateTime {
        self.offset.to_datetime(time)
    }

    fn local_end(&self) -> DateTime {
        self.local(self.end)
    }

    fn instant(&self, local: DateTime) -> Option<Instant> {
        self.offset.to_timestamp(local).ok()
    }
}

/// A point in time, to the second, as the calendar counts; the end of time where it is later.
pub(super) fn instant(time: Timestamp) -> Instant {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Instant::from_millisecond(millis).unwrap_or(Instant::MAX)
}

/// A point in time as the engine counts; the epoch where it is earlier.
pub(super) fn timestamp(time: Instant) -> Timestamp {
    Timestamp::from_millis(u64::try_from(time.as_millisecond()).unwrap_or(0))
}

/// `span` later, or the end of time.
pub(super) fn after(time: Instant, span: Duration) -> Instant {
    time.checked_add(span).unwrap_or(Instant::MAX)
}

/// `span` earlier, or the beginning of time.
pub(super) fn before(time: Instant, span: Duration) -> Instant {
    time.checked_sub(span).unwrap_or(Instant::MIN)
}

fn second_before(time: DateTime) -> DateTime {
    time.checked_sub(SECOND).unwrap_or(DateTime::MIN)
}

fn second_earlier(time: Instant) -> Instant {
    time.checked_sub(SECOND).unwrap_or(Instant::MIN)
}

/// Whether the clock jumped so far that a date is missing from the calendar.
fn is_skipped_day(from: DateTime, to: DateTime) -> bool {
    to.duration_since(from) >= SignedDuration::from_hours(DAY_HOURS)
}

/// The zone that `name` was probably meant to be: one that is spelled nearly so, or one whose last
/// part it is.
fn meant(name: &str) -> Option<String> {
    let names: Vec<String> = DATABASE.available().map(|zone| zone.to_string()).collect();
    let place = |zone: &&String| {
        let last = zone.rsplit('/').next();
        last.is_some_and(|last| last.eq_ignore_ascii_case(name)) && zone.contains('/')
    };
    let near = || nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
    names.iter().find(place).cloned().or_else(near)
}

static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
const SECOND: SignedDuration = SignedDuration::from_secs(1);
/// A jump of this many hours is no saving of daylight: the date line moved.
const DAY_HOURS: i64 = 23;
/// Most changes of the clock that are passed on the way to one start: 200 years with four a year.
const SEGMENTS_MAX: usize = 800;
/// Most characters of an unknown zone that are shown.
const NAME_SHOWN_CHARS: usize = 64;
