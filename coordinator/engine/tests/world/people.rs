//! Checks that answer, policies, freezes, what people say, targets that are held.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_engine::check::{self, Answer};
use holdfast_engine::compiled::protection::{
    Approval, Check, Guard, Http, Notify, OnIncident, Place, Prometheus, Protection, Run, Samples,
    Skippable, When,
};
use holdfast_engine::compiled::{Policy, Requirement, TrackSpec};
use holdfast_engine::effect::Ask;
use holdfast_engine::expression::Expression;
use holdfast_engine::input::{Freeze, Held};
use holdfast_engine::steer::human::{Human, Word, say, withdraw};
use holdfast_engine::track::TrackName;
use holdfast_engine::track::check::CheckResult;
use holdfast_engine::wake::Change;
use holdfast_protocol::api::release::Release;
use holdfast_protocol::name::{EnvironmentName, LabelKey, LabelValue, ProtectionName, RoleName};
use holdfast_protocol::time::parse_span;

use super::super::event::Gate;
use super::{World, drive};

impl World {
    pub(super) fn gate(&mut self, gate: &Gate) {
        match gate {
            Gate::Protect {
                environment,
                name,
                settings,
            } => {
                let guard = guard(name, settings);
                self.redeclare(environment, |spec| {
                    spec.guards.retain(|old| old.name != guard.name);
                    spec.guards.push(guard.clone());
                });
            }
            Gate::Unprotect { environment, name } => {
                self.redeclare(environment, |spec| spec.guards.retain(|g| g.name != *name));
            }
            Gate::Answers { name, answer } => {
                match answer {
                    Some(answer) => self.answers.insert(name.clone(), answer.clone()),
                    None => self.answers.remove(name),
                };
            }
            Gate::Late { name, answer } => self.late(name, answer),
            Gate::Require { .. } => self.require(gate),
            Gate::Allow {
                environment,
                policy,
            } => self.redeclare(environment, |spec| {
                spec.requirements.retain(|r| r.policy.name != *policy);
            }),
            Gate::Freeze {
                environment,
                by,
                reason,
            } => self.freeze(environment.clone(), Some((by.clone(), reason.clone()))),
            Gate::Unfreeze { environment } => self.freeze(environment.clone(), None),
            Gate::Approve { .. }
            | Gate::Withdraw { .. }
            | Gate::Reject { .. }
            | Gate::Skip { .. } => self.person_says(gate),
            Gate::Hold { .. } | Gate::Label { .. } => self.target_says(gate),
            Gate::About {
                service,
                version,
                meta,
            } => {
                let meta = meta.iter().cloned().collect();
                self.about.insert((service.clone(), version.clone()), meta);
            }
        }
    }

    fn require(&mut self, gate: &Gate) {
        let Gate::Require {
            environment,
            policy,
            expression,
            message,
        } = gate
        else {
            return;
        };
        let requirement = Requirement {
            policy: Arc::new(Policy {
                name: policy.clone(),
                owner: "security".to_owned(),
                set: "security".parse().expect("a name"),
                summary: "require 1".to_owned(),
            }),
            expression: parsed(expression),
            message: message.clone(),
        };
        self.redeclare(environment, |spec| {
            spec.requirements.push(requirement.clone());
        });
    }

    fn person_says(&mut self, gate: &Gate) {
        match gate {
            Gate::Approve { track, by, roles } => {
                self.say(track, &Word::Approve { shown: None }, (by, roles, ""));
            }
            Gate::Withdraw { track, by, roles } => self.withdraw(track, (by, roles)),
            Gate::Reject { track, by, reason } => {
                self.say(track, &Word::Reject, (by, &[], reason));
            }
            Gate::Skip {
                track,
                name,
                by,
                roles,
                reason,
            } => {
                let guard = name.clone();
                self.say(track, &Word::Skip { guard }, (by, roles, reason));
            }
            _ => {}
        }
    }

    fn target_says(&mut self, gate: &Gate) {
        let now = self.now;
        let (Gate::Hold { target, .. } | Gate::Label { target, .. }) = gate else {
            return;
        };
        let Some(there) = self.targets.get_mut(target) else {
            return;
        };
        if let Gate::Hold { millis, reason, .. } = gate {
            let (until, reason) = (now.after(Duration::from_millis(*millis)), reason.clone());
            there.held = (*millis > 0).then_some(Held { until, reason });
        }
        if let Gate::Label { labels, .. } = gate {
            let label = |(key, value): &(String, String)| {
                let key: LabelKey = key.parse().expect("a key");
                let value: LabelValue = value.parse().expect("a value");
                (key, value)
            };
            there.labels = Arc::new(labels.iter().map(label).collect());
        }
        let environment = there.environment.clone();
        self.touch(Change::Targets(&environment));
    }

    fn freeze(&mut self, environment: Option<EnvironmentName>, who: Option<(String, String)>) {
        self.freezes.retain(|old| old.environment != environment);
        let since = self.now;
        self.freezes.extend(who.map(|(by, reason)| Freeze {
            environment,
            by,
            reason,
            since,
        }));
        self.touch(Change::Everything);
    }

    /// Changes what is declared of every track of an environment, now and later.
    pub(super) fn redeclare(
        &mut self,
        environment: &EnvironmentName,
        change: impl Fn(&mut TrackSpec),
    ) {
        if let Some(shape) = self.environments.get_mut(environment) {
            change(&mut shape.gates);
        }
        let there = |name: &TrackName| name.environment == *environment;
        for (_, spec) in self
            .compiled
            .tracks
            .iter_mut()
            .filter(|(name, _)| there(name))
        {
            change(Arc::make_mut(spec));
        }
        self.revised();
    }

    fn withdraw(&mut self, name: &TrackName, who: (&str, &[RoleName])) {
        let Some(track) = self.tracks.get(name).cloned() else {
            return;
        };
        let parts = self.parts(name);
        let inputs = parts.inputs(self, name);
        if let Some(outcome) = withdraw(&track, who, &inputs, self.now) {
            self.watched(&track, &inputs, &outcome, None);
            self.commit(name, outcome);
            self.move_track(name);
        }
    }

    fn say(&mut self, name: &TrackName, word: &Word, who: (&str, &[RoleName], &str)) {
        let Some(track) = self.tracks.get(name).cloned() else {
            return;
        };
        let (by, roles, reason) = who;
        let id = track.current.as_ref().map_or(0, |current| current.id);
        let human = Human { by, roles, reason };
        let parts = self.parts(name);
        let inputs = parts.inputs(self, name);
        let said = say(&track, id, word, human, &inputs, self.now);
        match said {
            Ok(steered) => {
                self.watched(&track, &inputs, &steered.outcome, None);
                let changed = if steered.changed { "" } else { " (already so)" };
                self.said
                    .push(format!("{name}: {}{changed}", steered.message));
                self.commit(name, steered.outcome);
                self.move_track(name);
            }
            Err(refusal) => self.said.push(drive::refused(name, &refusal)),
        }
    }

    /// Answers one ask that somebody waits for, if there is one that can be answered.
    pub(super) fn answer_one(&mut self) -> bool {
        let known = |(_, ask): &(TrackName, Ask)| self.answers.contains_key(&ask.guard);
        let Some(at) = self.asks.iter().position(known) else {
            return false;
        };
        let (name, ask) = self.asks.remove(at);
        let answer = self.answers[&ask.guard].clone();
        self.answer(&name, ask.clone(), &answer);
        self.answered.push((name, ask));
        let surplus = self.answered.len().saturating_sub(ANSWERED_MAX);
        self.answered.drain(..surplus);
        true
    }

    fn answer(&mut self, name: &TrackName, ask: Ask, (result, output): &(CheckResult, String)) {
        let Some(track) = self.tracks.get(name).cloned() else {
            return;
        };
        let answer = Answer {
            guard: ask.guard,
            when: ask.when,
            deployment: ask.deployment,
            asked_at: ask.asked_at,
            result: *result,
            output: output.clone(),
        };
        let parts = self.parts(name);
        let inputs = parts.inputs(self, name);
        let outcome = check::answer(&track, &answer, &inputs, self.now);
        self.watched(&track, &inputs, &outcome, None);
        self.commit(name, outcome);
    }

    /// Answers everything that was answered already, and what nobody has answered yet.
    fn late(&mut self, guard: &ProtectionName, answer: &(CheckResult, String)) {
        let asks = self.answered.iter().chain(&self.asks);
        let asks = asks.filter(|(_, ask)| ask.guard == *guard).cloned();
        for (name, ask) in asks.collect::<Vec<_>>() {
            self.answer(&name, ask, answer);
        }
        self.asks.retain(|(_, ask)| ask.guard != *guard);
    }

    /// What nobody has answered when the coordinator starts is asked again.
    pub(super) fn ask_again(&mut self) {
        let mut asks = Vec::new();
        for (name, track) in &self.tracks {
            let parts = self.parts(name);
            let outstanding = check::outstanding(track, &parts.inputs(self, name));
            asks.extend(outstanding.into_iter().map(|ask| (name.clone(), ask)));
        }
        self.asks = asks;
    }

    /// What the author said of a release.
    pub(super) fn release_about(
        &self,
        service: &holdfast_protocol::name::ServiceName,
        version: &holdfast_protocol::name::Version,
        sequence: u64,
    ) -> Option<Arc<Release>> {
        let meta = self.about.get(&(service.clone(), version.clone()))?.clone();
        Some(Arc::new(Release {
            service: service.clone(),
            version: version.clone(),
            sequence,
            artifacts: BTreeMap::new(),
            commit: None,
            meta,
            created_at: self.now,
            created_by: "ci".to_owned(),
        }))
    }
}

/// Most answered asks that are remembered for `late`.
const ANSWERED_MAX: usize = 50;

/// A check from the words of a script: `kind` (run, resource, http, prometheus, expression, approval,
/// stable), `when`,
/// `interval`, `timeout`, `threshold`, `skippable` (nobody or roles), `notify=SPAN:WHOM`, `onIncident`,
/// and what the kind needs: `roles`, `count`, `expires`; `of=SERVICE@ENV`; `holds=EXPRESSION`.
fn guard(name: &ProtectionName, settings: &[(String, String)]) -> Guard {
    let of = |key: &str| {
        settings
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    };
    let span = |key: &str, default: &str| parse_span(of(key).unwrap_or(default)).expect("a span");
    let protection = Protection {
        name: name.clone(),
        owner: "sre".to_owned(),
        set: "sre".parse().expect("a name"),
        check: kind(&of, span("timeout", "10s")),
        parameters: BTreeMap::new(),
        interval: span("interval", "15s"),
        failure_threshold: of("threshold").map_or(1, |text| text.parse().expect("a number")),
        skippable: match of("skippable") {
            None => Skippable::Anyone,
            Some("nobody") => Skippable::Nobody,
            Some(names) => Skippable::Roles(roles(names)),
        },
        notify: of("notify").map(|text| {
            let (after, to) = text.split_once(':').expect("SPAN:WHOM");
            let (after, to) = (
                parse_span(after).expect("a span"),
                to.parse().expect("a name"),
            );
            Notify { after, to }
        }),
    };
    let when = of("when")
        .unwrap_or("pre")
        .split(',')
        .map(|word| match word {
            "pre" => When::Pre,
            "post" => When::Post,
            _ => When::Always,
        });
    Guard {
        name: name.clone(),
        protection: Arc::new(protection),
        when: when.collect(),
        parameters: BTreeMap::new(),
        on_incident: match of("onIncident") {
            Some("rollback") => OnIncident::Rollback,
            Some(_) | None => OnIncident::Tell,
        },
    }
}

fn kind<'s>(of: &impl Fn(&str) -> Option<&'s str>, timeout: Duration) -> Check {
    let run = || Run {
        command: vec!["./check.sh".to_owned()],
        environment: BTreeMap::new(),
        on: Place::Coordinator,
        timeout,
    };
    match of("kind").unwrap_or("run") {
        "resource" => Check::Resource(run()),
        "expression" => Check::Expression(parsed(of("holds").expect("an expression"))),
        "approval" => Check::Approval(Approval {
            roles: roles(of("roles").unwrap_or("release-manager")),
            count: of("count").map_or(1, |text| text.parse().expect("a number")),
            expires: parse_span(of("expires").unwrap_or("7d")).expect("a span"),
        }),
        "stable" => {
            let (service, environment) = of("of").expect("a track").split_once('@').expect("@");
            Check::Stable {
                service: service.parse().expect("a name"),
                environment: Some(environment.parse().expect("a name")),
            }
        }
        "http" => Check::Http(Http {
            url: "http://127.0.0.1/".to_owned(),
            expect: None,
            contains: None,
            timeout,
        }),
        "prometheus" => Check::Prometheus(Prometheus {
            url: "http://127.0.0.1".to_owned(),
            query: "ALERTS".to_owned(),
            expect: Samples::Empty,
            timeout,
        }),
        _ => Check::Run(run()),
    }
}

fn roles(text: &str) -> Vec<RoleName> {
    text.split(',')
        .map(|name| name.parse().expect("a role"))
        .collect()
}

fn parsed(text: &str) -> Expression {
    let names = [
        "service",
        "environment",
        "release",
        "workload",
        "deployment",
        "observed",
    ];
    Expression::parse(text, &names).expect("an expression")
}
