//! Windows on the hard dates of the calendar, bad windows, and a slow oracle that scans the minutes.

use jiff::tz::TimeZoneDatabase;
use proptest::prelude::*;

use super::*;

mod oracle;

fn span(text: &str) -> Duration {
    holdfast_protocol::time::parse_span(text).expect("a span")
}

fn window(start: &str, duration: &str, timezone: &str) -> Window {
    Window::parse(start, span(duration), timezone).expect("a window")
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn open_until(text: &str) -> Opening {
    Opening::Open {
        until: Some(time(text)),
    }
}

fn closed_until(text: &str) -> Opening {
    Opening::Closed {
        opens: Some(time(text)),
    }
}

/// Beginnings and ends of all openings in a span of time, in the local time of the window.
fn openings(window: &Window, from: &str, to: &str) -> Vec<String> {
    let zone = TimeZoneDatabase::bundled()
        .get(window.timezone())
        .expect("known");
    let local = |at: Timestamp| {
        let at = zone::instant(at).to_zoned(zone.clone());
        at.strftime("%Y-%m-%d %H:%M %:z").to_string()
    };
    let mut found = Vec::new();
    let mut now = time(from);
    while now < time(to) {
        match window.at(now) {
            Opening::Open { until } => {
                let until = until.expect("ends");
                found.push(format!("{} to {}", local(now), local(until)));
                now = until;
            }
            Opening::Closed { opens } => now = opens.expect("opens"),
        }
    }
    found
}

#[test]
fn a_window_says_until_when_it_is_open_and_when_it_opens() {
    let tuesdays = window("0 22 * * TUE", "4h", "Europe/Berlin");
    for (now, opening) in [
        ("2026-11-21T12:00:00Z", closed_until("2026-11-24T21:00:00Z")),
        (
            "2026-11-24T20:59:59.999Z",
            closed_until("2026-11-24T21:00:00Z"),
        ),
        ("2026-11-24T21:00:00Z", open_until("2026-11-25T01:00:00Z")),
        (
            "2026-11-25T00:59:59.999Z",
            open_until("2026-11-25T01:00:00Z"),
        ),
        ("2026-11-25T01:00:00Z", closed_until("2026-12-01T21:00:00Z")),
    ] {
        assert_eq!(tuesdays.at(time(now)), opening, "{now}");
    }
    assert_eq!(tuesdays.to_string(), "0 22 * * TUE for 4h, Europe/Berlin");
}

#[test]
fn windows_open_and_close_on_the_hard_dates_as_the_table_says() {
    let table = include_str!("tests/dates.txt");
    let blocks = table.split("\n\n").filter(|block| block.contains(" | "));
    let blocks: Vec<_> = blocks.map(str::trim_end).collect();
    assert_eq!(blocks.len(), 20);
    for block in blocks {
        let (head, openings) = block.split_once('\n').expect("a head and openings");
        assert_eq!(shown(head, openings.lines().count()), block);
    }
}

/// The first openings of the window of a block, as the block should show them.
fn shown(head: &str, count: usize) -> String {
    let parts: Vec<_> = head.split(" | ").collect();
    let [timezone, day, start, duration] = parts[..] else {
        unreachable!("{head}");
    };
    let window = window(start, duration, timezone);
    let zone = TimeZoneDatabase::bundled().get(timezone).expect("known");
    let day: jiff::civil::Date = day.parse().expect("a date");
    let midnight = day.to_zoned(zone).expect("a day").timestamp();
    let at = |hours: i64| zone::timestamp(midnight + jiff::SignedDuration::from_hours(hours));
    let found = openings(&window, &at(-2).to_string(), &at(70).to_string());
    let lines = found.iter().take(count).map(|line| format!("\n    {line}"));
    format!("{head}{}", lines.collect::<String>())
}

#[test]
fn an_hour_that_is_shown_twice_or_not_at_all_is_right_from_within() {
    // 02:10 is shown the second time, and what opens at 02:30 has been open already.
    let night = window("30 2 * * *", "1m", "Europe/Berlin");
    assert_eq!(
        night.at(time("2026-10-25T01:10:00Z")),
        closed_until("2026-10-26T01:30:00Z")
    );
    // Every hour means every hour that passes.
    let hourly = window("30 * * * *", "1m", "Europe/Berlin");
    assert_eq!(
        hourly.at(time("2026-10-25T01:10:00Z")),
        closed_until("2026-10-25T01:30:00Z")
    );
    // What was jumped over opens at 03:00, while the day before it is still open.
    let days = window("30 2 28,29 3 *", "1d", "Europe/Berlin");
    assert_eq!(
        days.at(time("2026-03-28T12:00:00Z")),
        open_until("2026-03-30T01:00:00Z")
    );
}

#[test]
fn quarters_and_leap_days() {
    let year = |start: &str| {
        let found = openings(
            &window(start, "1d", "Europe/Berlin"),
            "2026-01-01T12:00:00Z",
            "2027-01-01T00:00:00Z",
        );
        found
            .into_iter()
            .map(|text| text[..16].to_owned())
            .collect::<Vec<_>>()
    };
    let first_days = ["2026-04-01 09:00", "2026-07-01 09:00", "2026-10-01 09:00"];
    assert_eq!(year("0 9 1 */3 *")[1..], first_days);
    assert_eq!(
        year("0 9 * 1,4,7,10 MON#1"),
        [
            "2026-01-05 09:00",
            "2026-04-06 09:00",
            "2026-07-06 09:00",
            "2026-10-05 09:00"
        ]
    );
    assert_eq!(
        year("0 9 * JAN,apr,Jul,OCT mon#1"),
        year("0 9 * 1,4,7,10 MON#1")
    );
    assert_eq!(year("0 9 1-7 1,4,7,10 +MON"), year("0 9 * 1,4,7,10 MON#1"));
    assert_eq!(
        year("0 18 * */6 FRI#L"),
        ["2026-01-30 18:00", "2026-07-31 18:00"]
    );
    let leap = window("0 0 29 2 *", "1h", "UTC");
    let far = time("2097-01-01T00:00:00Z");
    assert_eq!(leap.at(far), closed_until("2104-02-29T00:00:00.000Z"));
}

#[test]
fn openings_that_overlap_or_touch_are_one() {
    let nights = window("0 20 * * *", "12h", "UTC");
    let days = window("0 8 * * MON-FRI", "12h", "UTC");
    let friday = time("2026-11-20T21:00:00Z");
    assert_eq!(nights.at(friday), open_until("2026-11-21T08:00:00Z"));
    let both = [nights, days];
    // From Saturday 08:00 to 20:00 neither is open.
    assert_eq!(at(&both, friday), open_until("2026-11-21T08:00:00Z"));
    assert_eq!(
        at(&both, time("2026-11-21T09:00:00Z")),
        closed_until("2026-11-21T20:00:00Z")
    );
    assert_eq!(
        at(&both, time("2026-11-22T23:00:00Z")),
        open_until("2026-11-28T08:00:00Z")
    );
    let hours = window("0 9-11 * * MON", "90m", "UTC");
    assert_eq!(
        hours.at(time("2026-11-23T09:30:00Z")),
        open_until("2026-11-23T12:30:00Z")
    );
}

#[test]
fn what_is_always_open_is_looked_at_as_far_as_its_bound() {
    let minutes = window("* * * * *", "1m", "UTC");
    let now = time("2026-11-21T12:00:30Z");
    assert_eq!(minutes.at(now), open_until("2026-11-21T12:33:00Z"));
    let months = window("0 0 1 * *", "31d", "UTC");
    let Opening::Open { until: Some(until) } = months.at(now) else {
        unreachable!("each month has 31 days at most");
    };
    assert!(until > time("2029-01-01T00:00:00Z"), "{until}");
    // Whoever asks again then is told that it is open.
    assert!(months.at(until).is_open());
    assert!(at(&[minutes, months], now).is_open());
}

#[test]
fn no_windows_restrict_nothing() {
    let now = time("2026-11-21T12:00:00Z");
    assert_eq!(at(&[], now), Opening::Open { until: None });
    assert_eq!(blackout(&[], now), Opening::Open { until: None });
}

#[test]
fn a_blackout_is_the_inverse() {
    let holidays = [
        window("0 0 24 12 *", "3d", "Europe/Berlin"),
        window("0 0 27 12 *", "6d", "Europe/Berlin"),
    ];
    assert_eq!(
        blackout(&holidays, time("2026-12-20T00:00:00Z")),
        open_until("2026-12-23T23:00:00Z")
    );
    assert_eq!(
        blackout(&holidays, time("2026-12-25T00:00:00Z")),
        closed_until("2027-01-01T23:00:00Z")
    );
}

#[test]
fn times_at_both_ends_of_the_calendar_are_answered() {
    let daily = window("0 0 * * *", "1h", "America/New_York");
    assert_eq!(
        daily.at(Timestamp::from_millis(0)),
        closed_until("1970-01-01T05:00:00Z")
    );
    let none = Opening::Closed { opens: None };
    assert_eq!(daily.at(Timestamp::from_millis(u64::MAX)), none);
    assert_eq!(daily.at(time("9999-06-01T00:00:00Z")), none);
}

#[test]
fn bad_windows_are_refused_with_what_to_write() {
    let said = |start: &str, duration: Duration, timezone: &str| {
        let error = Window::parse(start, duration, timezone).expect_err(start);
        format!("{}: {error}; {}", error.field(), error.help())
    };
    let hour = span("1h");
    let fields = "write minute, hour, day of the month, month and day of the week, such as \
                  `0 22 * * TUE` for 22:00 on Tuesdays";
    for (start, problem) in [
        ("", "the start \"\" has 0 fields instead of five"),
        (
            "@daily",
            "the start \"@daily\" has 1 fields instead of five",
        ),
        (
            "0 0 22 * * TUE",
            "the start \"0 0 22 * * TUE\" has 6 fields instead of five",
        ),
        (
            "60 22 * * TUE",
            "the minute of the start, `60`, is not understood: write 0 to 59, `*`, a list 0,30, \
             a range 0-10 or a step */15",
        ),
        (
            "0 24 * * TUE",
            "the hour of the start, `24`, is not understood: write 0 to 23, `*`, a list 9,17, a \
             range 9-17 or a step */6",
        ),
        (
            "0 22 32 * *",
            "the day of the month of the start, `32`, is not understood: write 1 to 31, `*`, `L` \
             for the last one, a list, a range or a step",
        ),
        (
            "0 22 * JANUAR *",
            "the month of the start, `JANUAR`, is not understood: write 1 to 12, JAN to DEC, \
             `*`, a list 1,4,7,10, a range or a step */3",
        ),
        (
            "0 22 * * TUESDAY",
            "the day of the week of the start, `TUESDAY`, is not understood: write 0 (Sunday) to \
             6, SUN to SAT, `*`, a list, a range MON-FRI, MON#1 for the first Monday or FRI#L \
             for the last Friday",
        ),
    ] {
        assert_eq!(
            said(start, hour, "UTC"),
            format!("start: {problem}; {fields}")
        );
    }
}

#[test]
fn starts_that_are_no_cron_or_never_come_are_refused() {
    let hour = span("1h");
    let said = |start: &str| {
        let error = Window::parse(start, hour, "UTC").expect_err(start);
        assert_eq!(error.field(), "start");
        format!("{error}; {}", error.help())
    };
    for start in [
        "MON 22 * * *",
        "0 , * * *",
        "0 22, * * *",
        "*/0 * * * *",
        "5-1 * * * *",
        "ä * * * *",
    ] {
        assert!(said(start).starts_with("the "), "{start}");
    }
    assert!(said(&"0 ".repeat(100)).starts_with("the start is longer than 128 bytes; "));
    for start in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30 2 +MON"] {
        assert_eq!(
            said(start),
            format!(
                "the start `{start}` never comes: no date matches it in any year; take a \
                 day that the month has; `L` is the last day of any month"
            )
        );
    }
    assert!(Window::parse("0 0 29 2 +MON", hour, "UTC").is_ok());
}

#[test]
fn bad_zones_and_durations_are_refused_with_what_to_write() {
    let hour = span("1h");
    for (timezone, help) in [
        ("Europe/Berln", "did you mean `Europe/Berlin`?"),
        ("Europa/Berlin", "did you mean `Europe/Berlin`?"),
        ("berlin", "did you mean `Europe/Berlin`?"),
        ("America/New York", "did you mean `America/New_York`?"),
        (
            "Local",
            "write the IANA name of a place, such as Europe/Berlin, or UTC",
        ),
        (
            "",
            "write the IANA name of a place, such as Europe/Berlin, or UTC",
        ),
        (
            "../../etc/passwd",
            "write the IANA name of a place, such as Europe/Berlin, or UTC",
        ),
    ] {
        let error = Window::parse("0 0 * * *", hour, timezone).expect_err(timezone);
        assert_eq!(
            error.to_string(),
            format!("there is no time zone `{timezone}`")
        );
        assert_eq!(
            (error.field(), error.help().as_str()),
            ("timezone", help),
            "{timezone}"
        );
    }
    let berlin = window("0  22 * *   TUE", "4h", "europe/berlin");
    assert_eq!(berlin.timezone(), "Europe/Berlin");
    assert_eq!(berlin, window("0 22 * * TUE", "4h", "Europe/Berlin"));
    for (duration, problem) in [
        (Duration::ZERO, "a window of 0s is too short"),
        (span("59s"), "a window of 59s is too short"),
        (span("31d 1s"), "a window of 31d 1s is too long"),
    ] {
        let error = Window::parse("0 0 * * *", duration, "UTC").expect_err(problem);
        assert_eq!(error.to_string(), problem);
        assert_eq!(
            (error.field(), error.help().as_str()),
            ("duration", "write between 1m and 31d")
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    #[test]
    fn the_answer_is_the_one_of_a_scan_over_the_minutes(
        start in crons(), minutes in durations(), (zone, near) in places(),
        offset in prop_oneof![4 => -150..150_i64, 1 => -2880..2880_i64], part in 0..60_000_u64,
    ) {
        let Ok(window) = Window::parse(&start, Duration::from_secs(minutes * 60), zone) else {
            return Ok(());
        };
        let minute = near.as_second().div_euclid(60) + offset;
        let now = Timestamp::from_millis(u64::try_from(minute).expect("after 1970") * 60_000 + part);
        match (window.at(now), oracle::at(&start, minutes, zone, minute)) {
            (Opening::Open { until }, oracle::Scan::Open(end)) => {
                prop_assert_eq!(until, Some(of_minute(end)), "{} at {}", window, now);
            }
            (Opening::Closed { opens }, oracle::Scan::Closed(Some(start))) => {
                prop_assert_eq!(opens, Some(of_minute(start)), "{} at {}", window, now);
            }
            (Opening::Closed { opens }, oracle::Scan::Closed(None)) => {
                let horizon = of_minute(minute + oracle::AHEAD_MINUTES);
                prop_assert!(opens.is_none_or(|at| at > horizon), "{} at {}", window, now);
            }
            (Opening::Open { until: Some(until) }, oracle::Scan::OpenBeyond) => {
                prop_assert!(until > now, "{} at {}", window, now);
            }
            (said, scanned) => prop_assert!(false, "{window} at {now}: {said:?}, {scanned:?}"),
        }
    }

    #[test]
    fn nothing_changes_before_the_time_that_is_said(
        starts in proptest::collection::vec((crons(), durations(), zones()), 0..4),
        near in hard_times(), offset in -400_000..400_000_i64, share in 0.0..1.0_f64,
    ) {
        let windows = starts.iter().filter_map(|(start, minutes, zone)| {
            Window::parse(start, Duration::from_secs(minutes * 60), zone).ok()
        });
        let windows: Vec<_> = windows.collect();
        let now = of_minute(near.as_second().div_euclid(60) + offset);
        let opening = at(&windows, now);
        prop_assert_eq!(opening.is_open() && !windows.is_empty(), !blackout(&windows, now).is_open());
        let Some(change) = opening.changes() else {
            return Ok(());
        };
        prop_assert!(change > now);
        let between = now.after(change.since(now).mul_f64(share * 0.999));
        prop_assert_eq!(at(&windows, between).is_open(), opening.is_open());
        let last = Timestamp::from_millis(change.as_millis() - 1);
        prop_assert_eq!(at(&windows, last).is_open(), opening.is_open());
        if !opening.is_open() {
            prop_assert!(at(&windows, change).is_open());
        }
    }

    #[test]
    fn whatever_is_written_as_a_start_is_a_window_or_refused(start in "[0-9*/,LW#+?A-Za-z@ -]{0,24}") {
        if let Ok(window) = Window::parse(&start, DURATION_MIN, "Europe/Berlin") {
            let _ = window.at(Timestamp::from_millis(1_795_000_000_000));
        }
    }
}

fn of_minute(minute: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(minute).expect("after 1970") * 60_000)
}

fn crons() -> impl Strategy<Value = String> {
    use proptest::sample::select;
    let minute = select(vec![
        "0", "30", "15", "45", "*", "*/15", "*/7", "0,59", "10-20",
    ]);
    let hour = select(vec![
        "0", "1", "2", "2", "1-2", "3", "23", "*", "*/2", "*/3", "1-3", "0-23", "2,14",
    ]);
    let day = select(vec!["*", "1", "28", "29", "30", "31", "1-7", "*/2"]);
    let month = select(vec!["*", "*", "*", "3", "10", "*/3", "2,4,11"]);
    let weekday = select(vec!["*", "*", "*", "SUN", "0", "7", "1-5", "6,3"]);
    // A minute that is a list only where it is short: `5-1` and the like are in the refusals.
    (minute, hour, day, month, weekday).prop_map(|(a, b, c, d, e)| format!("{a} {b} {c} {d} {e}"))
}

fn durations() -> impl Strategy<Value = u64> {
    proptest::sample::select(vec![
        1, 7, 15, 30, 60, 61, 90, 240, 1439, 1440, 1500, 10_080,
    ])
}

fn zones() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "America/Sao_Paulo",
        "Asia/Kathmandu",
        "Africa/Casablanca",
        "America/Nuuk",
        "Pacific/Chatham",
    ])
}

/// A zone and a change of its clock, or any zone at any of these times.
fn places() -> impl Strategy<Value = (&'static str, jiff::Timestamp)> {
    let own = [
        ("Europe/Berlin", "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", "2026-10-25T01:00:00Z"),
        ("America/New_York", "2026-11-01T06:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
        ("Africa/Casablanca", "2026-02-15T02:00:00Z"),
    ];
    let own = own.map(|(zone, text)| (zone, text.parse().expect("a time")));
    prop_oneof![
        proptest::sample::select(own.to_vec()),
        (zones(), hard_times()),
    ]
}

/// Changes of some clock, and a day without one.
fn hard_times() -> impl Strategy<Value = jiff::Timestamp> {
    let times = [
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-03-08T07:00:00Z",
        "2026-11-01T06:00:00Z",
        "2026-10-03T15:30:00Z",
        "2026-04-04T15:00:00Z",
        "2011-12-30T10:00:00Z",
        "2018-11-04T03:00:00Z",
        "2018-02-18T02:00:00Z",
        "2026-02-15T02:00:00Z",
        "2026-03-22T02:00:00Z",
        "2028-02-29T00:00:00Z",
        "2026-12-31T23:00:00Z",
    ];
    proptest::sample::select(times.map(|text| text.parse().expect("a time")).to_vec())
}
