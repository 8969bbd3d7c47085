//! Rows of what was made and what happened: releases, deployments, revisions, events, fields.

use holdfast_protocol::api::apply::{Change, ChangeAction, Revision};
use holdfast_protocol::api::deployment::{Deployment, Trigger, TriggerKind};
use holdfast_protocol::api::event::Event;
use holdfast_protocol::api::explain::Field;
use holdfast_protocol::api::release::Release;
use holdfast_protocol::time::Timestamp;

use super::fleet::{pairs, ready};
use super::{Cell, Row, or_dash, several};
use crate::output::text::{age, moment, span, tone};

impl Row for Release {
    const HEADER: &'static [&'static str] = &[
        "SERVICE",
        "VERSION",
        "NUMBER",
        "AGE",
        "MADE BY",
        "ARTIFACTS",
    ];
    const WIDE: &'static [&'static str] = &["COMMIT", "META"];

    fn name(&self) -> String {
        format!("{}/{}", self.service, self.version)
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let artifacts = self.artifacts.iter().map(|(name, artifact)| {
            let gone = if artifact.gone { " (gone)" } else { "" };
            format!("{name}={}{gone}", artifact.digest.short())
        });
        vec![
            Cell::from(&self.service),
            Cell::from(&self.version),
            Cell::from(&self.sequence),
            Cell::from(age(now, self.created_at)),
            Cell::from(&self.created_by),
            several(artifacts),
        ]
    }

    fn wide(&self, _now: Timestamp) -> Vec<Cell> {
        vec![or_dash(self.commit.as_ref()), several(pairs(&self.meta))]
    }
}

impl Row for Deployment {
    const HEADER: &'static [&'static str] = &[
        "ID",
        "SERVICE",
        "ENVIRONMENT",
        "VERSION",
        "PHASE",
        "READY",
        "STARTED",
        "TOOK",
        "REASON",
    ];
    const WIDE: &'static [&'static str] = &["TRIGGER", "PREVIOUS", "REVISION", "WAVE"];

    fn name(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let took = self
            .finished_at
            .map(|finished| span(finished.since(self.started_at)));
        vec![
            Cell::from(&self.id),
            Cell::from(&self.service),
            Cell::from(&self.environment),
            Cell::from(&self.version),
            Cell::toned(format!("{:?}", self.phase), tone(self.phase)),
            ready(self.targets),
            Cell::from(age(now, self.started_at)),
            or_dash(took.as_ref()),
            Cell::from(&self.reason),
        ]
    }

    fn wide(&self, _now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::from(trigger(&self.trigger)),
            or_dash(self.previous.as_ref()),
            Cell::from(&self.revision),
            Cell::from(format!("{}/{}", self.waves.current, self.waves.total)),
        ]
    }
}

/// Why a deployment was made: `release`, `rollback by ada: too slow`.
#[must_use]
pub fn trigger(trigger: &Trigger) -> String {
    let kind = match trigger.kind {
        TriggerKind::Release => "release",
        TriggerKind::Configuration => "configuration",
        TriggerKind::Promotion => "promotion",
        TriggerKind::Rollback => "rollback",
        TriggerKind::Retry => "retry",
        TriggerKind::Deploy => "deploy",
        TriggerKind::Hotfix => "hotfix",
        TriggerKind::Pin => "pin",
        TriggerKind::Mirror => "mirror",
        TriggerKind::Schedule => "schedule",
        TriggerKind::Protection => "protection",
    };
    let by = trigger.by.iter().map(|by| format!(" by {by}"));
    let reason = trigger.reason.iter().map(|reason| format!(": {reason}"));
    std::iter::once(kind.to_owned())
        .chain(by)
        .chain(reason)
        .collect()
}

impl Row for Revision {
    const HEADER: &'static [&'static str] = &["NUMBER", "SET", "AGE", "MADE BY", "CHANGES"];
    const WIDE: &'static [&'static str] = &[];

    fn name(&self) -> String {
        self.number.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::from(&self.number),
            Cell::from(&self.set),
            Cell::from(age(now, self.created_at)),
            Cell::from(&self.created_by),
            several(self.changes.iter().map(change)),
        ]
    }

    fn wide(&self, _now: Timestamp) -> Vec<Cell> {
        Vec::new()
    }
}

/// `+ Service web`, `~ …`, `- …`.
#[must_use]
pub fn change(change: &Change) -> String {
    let sign = match change.action {
        ChangeAction::Added => '+',
        ChangeAction::Changed => '~',
        ChangeAction::Removed => '-',
    };
    format!("{sign} {} {}", change.kind, change.name)
}

impl Row for Event {
    const HEADER: &'static [&'static str] = &["NUMBER", "AT (UTC)", "KIND", "MESSAGE"];
    const WIDE: &'static [&'static str] = &["ACTOR", "OCCURRED", "HASH"];

    fn name(&self) -> String {
        self.sequence.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::from(&self.sequence),
            Cell::from(moment(self.at)),
            Cell::from(&self.kind),
            Cell::from(&self.message),
        ]
    }

    fn wide(&self, _now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::from(&self.actor),
            or_dash(self.occurred_at.as_ref()),
            Cell::from(&self.hash),
        ]
    }
}

impl Row for Field {
    const HEADER: &'static [&'static str] = &["FIELD", "VALUE", "LAYER", "OWNER", "PLACE"];
    const WIDE: &'static [&'static str] = &[];

    fn name(&self) -> String {
        self.path.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Cell> {
        let place = self.file.as_ref().map(|file| {
            self.line
                .map_or_else(|| file.clone(), |line| format!("{file}:{line}"))
        });
        let layer = match &self.locked_by {
            Some(policy) => format!("locked by {policy}"),
            None => self.layer.clone(),
        };
        vec![
            Cell::from(&self.path).whole(),
            Cell::from(&self.value),
            Cell::from(&layer),
            or_dash(Some(&self.owner).filter(|owner| !owner.is_empty())),
            or_dash(place.as_ref()).keeping_end(),
        ]
    }

    fn wide(&self, _now: Timestamp) -> Vec<Cell> {
        Vec::new()
    }
}
