//! Windows on the hard dates of the calendar, bad windows, and a slow oracle that scans the minutes.

use super::*;

fn window(start: &str, span: &str, timezone: &str) -> Window {
    let span = holdfast_protocol::time::parse_span(span).expect("a span");
    Window::parse(start, span, timezone).expect("a window")
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

#[test]
fn a_window_says_until_when_it_is_open_and_when_it_opens() {
    let tuesdays = window("0 22 * * TUE", "4h", "Europe/Berlin");
    assert_eq!(
        tuesdays.at(time("2026-11-24T20:59:59.999Z")),
        Opening::Closed {
            opens: Some(time("2026-11-24T21:00:00Z"))
        }
    );
    assert_eq!(
        tuesdays.at(time("2026-11-24T21:00:00Z")),
        Opening::Open {
            until: Some(time("2026-11-25T01:00:00Z"))
        }
    );
}
