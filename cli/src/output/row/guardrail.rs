//! Rows of guardrails: protections, policies, notifiers, freezes.

use holdfast_protocol::api::freeze::Freeze;
use holdfast_protocol::api::guardrail::{Notifier, Policy, Protection};
use holdfast_protocol::time::Timestamp;

use super::{Cell, Row, several};
use crate::output::text::age;

impl Row for Protection {
    const HEADER: &'static [&'static str] = &["NAME", "KIND", "INTERVAL", "SKIPPABLE", "TRACKS"];
    const WIDE: &'static [&'static str] = &["FAILURES", "OWNER", "SET"];

    fn name(&self) -> String {
        self.name.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::from(&self.name),
            Cell::from(&self.kind),
            Cell::from(&self.interval),
            several(&self.skippable),
            several(&self.tracks),
        ]
    }

    fn wide(&self, _now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::from(&self.failure_threshold),
            Cell::from(&self.owner),
            Cell::from(&self.set),
        ]
    }
}

impl Row for Policy {
    const HEADER: &'static [&'static str] = &["NAME", "OWNER", "SET", "DOES"];
    const WIDE: &'static [&'static str] = &[];

    fn name(&self) -> String {
        self.name.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::from(&self.name),
            Cell::from(&self.owner),
            Cell::from(&self.set),
            Cell::from(&self.summary),
        ]
    }

    fn wide(&self, _now: Timestamp) -> Vec<Cell> {
        Vec::new()
    }
}

impl Row for Notifier {
    const HEADER: &'static [&'static str] = &["NAME", "CHANNEL", "ON", "OWNER"];
    const WIDE: &'static [&'static str] = &["SET"];

    fn name(&self) -> String {
        self.name.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::from(&self.name),
            Cell::from(&self.channel),
            several(&self.on),
            Cell::from(&self.owner),
        ]
    }

    fn wide(&self, _now: Timestamp) -> Vec<Cell> {
        vec![Cell::from(&self.set)]
    }
}

impl Row for Freeze {
    const HEADER: &'static [&'static str] = &["ENVIRONMENT", "SINCE", "BY", "REASON"];
    const WIDE: &'static [&'static str] = &[];

    fn name(&self) -> String {
        let environment = self.environment.as_ref();
        environment.map_or_else(|| "all".to_owned(), ToString::to_string)
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::from(self.name()),
            Cell::from(age(now, self.since)),
            Cell::from(&self.by),
            Cell::from(&self.reason),
        ]
    }

    fn wide(&self, _now: Timestamp) -> Vec<Cell> {
        Vec::new()
    }
}
