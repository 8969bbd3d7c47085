//! A slow and obvious model of a window: it goes through the minutes one by one, looks at the wall
//! clock of each, and remembers what the clock has shown. It shares no code with the calendar.

use std::collections::HashSet;

use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

/// What the scan says about one minute.
#[derive(Debug)]
pub(super) enum Scan {
    /// Open, until this minute.
    Open(i64),
    /// Open for longer than is scanned, or through more openings than an answer follows.
    OpenBeyond,
    /// Closed, until this minute if it is scanned.
    Closed(Option<i64>),
}

/// Whether a window that opens for some minutes is open in this minute since 1970.
pub(super) fn at(start: &str, duration: u64, zone: &str, minute: i64) -> Scan {
    let zone = TimeZoneDatabase::bundled().get(zone).expect("a zone");
    let duration = i64::try_from(duration).expect("small");
    let starts = starts(start, &zone, minute - duration, minute + AHEAD_MINUTES);
    let mut open_until = None;
    let mut followed = 0;
    for start in starts {
        match open_until {
            None if start + duration <= minute => {}
            None if start > minute => return Scan::Closed(Some(start)),
            Some(end) if start > end => break,
            None | Some(_) => {
                open_until = Some(start + duration);
                followed += 1;
            }
        }
    }
    match open_until {
        None => Scan::Closed(None),
        Some(end) if end < minute + AHEAD_MINUTES && followed < super::CHAIN_MAX => Scan::Open(end),
        Some(_) => Scan::OpenBeyond,
    }
}

/// All minutes from one to another at which the window opens.
fn starts(cron: &str, zone: &TimeZone, from: i64, to: i64) -> Vec<i64> {
    let fields: Vec<&str> = cron.split(' ').collect();
    let named = !fields[1].starts_with('*') && fields[1] != "0-23";
    let wall = |minute: i64| {
        let time = Timestamp::from_second(minute * 60).expect("in range");
        zone.to_datetime(time)
    };
    let mut shown = HashSet::new();
    let mut found = Vec::new();
    // Two days earlier, so that it is known what was shown already.
    for minute in from - 2880..=to {
        let (before, now) = (wall(minute - 1), wall(minute));
        let again = !shown.insert(now);
        let opens = matches(&fields, now) && !(named && again);
        let jump = now.duration_since(before);
        let skipped = named && jump > SignedDuration::from_mins(1) && jump.as_hours() < 23;
        let missed = skipped && between(before, now).any(|time| matches(&fields, time));
        if minute >= from && (opens || missed) {
            found.push(minute);
        }
    }
    found
}

fn between(before: DateTime, after: DateTime) -> impl Iterator<Item = DateTime> {
    let minutes = after.duration_since(before).as_mins();
    (1..minutes).map(move |n| before.saturating_add(SignedDuration::from_mins(n)))
}

fn matches(fields: &[&str], time: DateTime) -> bool {
    let weekday = i64::from(time.weekday().to_sunday_zero_offset());
    let day = one(fields[2], time.day().into(), 1);
    let of_week = one(fields[4], weekday, 0) || (weekday == 0 && one(fields[4], 7, 0));
    let day_matches = match (fields[2], fields[4]) {
        ("*", _) => of_week,
        (_, "*") => day,
        _ => day || of_week,
    };
    one(fields[0], time.minute().into(), 0)
        && one(fields[1], time.hour().into(), 0)
        && one(fields[3], time.month().into(), 1)
        && day_matches
}

/// Whether a field of a cron expression matches a number, of which `least` is the first.
fn one(field: &str, number: i64, least: i64) -> bool {
    field.split(',').any(|item| {
        if let Some(step) = item.strip_prefix("*/") {
            return (number - least) % step.parse::<i64>().expect("a step") == 0;
        }
        if let Some((from, to)) = item.split_once('-') {
            return (value(from)..=value(to)).contains(&number);
        }
        item == "*" || value(item) == number
    })
}

fn value(text: &str) -> i64 {
    match text {
        "SUN" => 0,
        "SAT" => 6,
        number => number.parse().expect("a number"),
    }
}

/// How far the scan looks ahead, in minutes.
pub(super) const AHEAD_MINUTES: i64 = 20 * 1440;
