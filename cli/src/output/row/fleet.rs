//! Rows of what is declared and what runs: environments, services, targets, status, whereabouts,
//! join tokens, waits.

use holdfast_protocol::api::deployment::TargetCounts;
use holdfast_protocol::api::environment::Environment;
use holdfast_protocol::api::service::Service;
use holdfast_protocol::api::status::Status;
use holdfast_protocol::api::target::Target;
use holdfast_protocol::api::token::Token;
use holdfast_protocol::api::wait::WaitKind;
use holdfast_protocol::api::whereabouts::{Stay, Whereabouts};
use holdfast_protocol::api::why::Reason;
use holdfast_protocol::time::Timestamp;

use super::{Cell, Row, Tone, or_dash, several};
use crate::output::text::{age, span, tone, until, wait_kind};

impl Row for Environment {
    const HEADER: &'static [&'static str] = &["NAME", "AFTER", "PROMOTION", "WAVES", "CONNECTED"];
    const WIDE: &'static [&'static str] = &["OWNER"];

    fn name(&self) -> String {
        self.name.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::from(&self.name),
            several(&self.after),
            Cell::from(&self.promotion),
            several(&self.waves),
            Cell::from(format!("{}/{}", self.connected, self.targets)),
        ]
    }

    fn wide(&self, _now: Timestamp) -> Vec<Cell> {
        vec![Cell::from(&self.owner)]
    }
}

impl Row for Service {
    const HEADER: &'static [&'static str] =
        &["NAME", "RUNTIME", "LATEST", "DEPENDS ON", "ENVIRONMENTS"];
    const WIDE: &'static [&'static str] = &["ARTIFACTS", "OWNER"];

    fn name(&self) -> String {
        self.name.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::from(&self.name),
            Cell::from(&self.runtime),
            or_dash(self.latest.as_ref()),
            several(&self.depends_on),
            several(&self.environments),
        ]
    }

    fn wide(&self, _now: Timestamp) -> Vec<Cell> {
        vec![several(&self.artifacts), Cell::from(&self.owner)]
    }
}

impl Row for Target {
    const HEADER: &'static [&'static str] = &[
        "NAME",
        "ENVIRONMENT",
        "CONNECTED",
        "SINCE",
        "GENERATION",
        "CONDITIONS",
    ];
    const WIDE: &'static [&'static str] = &["AGENT", "CERTIFICATE", "LABELS"];

    fn name(&self) -> String {
        self.name.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let connected = match (self.revoked, self.connected) {
            (true, _) => Cell::toned("revoked", Tone::Bad),
            (false, true) => Cell::toned("yes", Tone::Good),
            (false, false) => Cell::toned("no", Tone::Busy),
        };
        let conditions = self.conditions.iter().map(|one| one.message.clone());
        let (reached, wanted) = (self.converged_generation, self.generation);
        let generation = if reached == wanted {
            Cell::from(wanted.to_string())
        } else {
            Cell::toned(format!("{reached} of {wanted}"), Tone::Busy)
        };
        vec![
            Cell::from(&self.name),
            Cell::from(&self.environment),
            connected,
            Cell::from(age(now, self.since)),
            generation,
            several(held(self, now).into_iter().chain(conditions)),
        ]
    }

    fn wide(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::from(&self.agent_version),
            Cell::from(until(now, self.certificate_expires)),
            several(pairs(&self.labels)),
        ]
    }
}

/// That its own site asks for it to be left alone, and until when.
fn held(target: &Target, now: Timestamp) -> Option<String> {
    let hold = target.hold.as_ref().filter(|hold| now < hold.until)?;
    let until = until(now, hold.until);
    Some(format!("held, ends {until}: {}", hold.reason))
}

impl Row for Status {
    const HEADER: &'static [&'static str] = &[
        "SERVICE",
        "ENVIRONMENT",
        "STABLE",
        "CURRENT",
        "PHASE",
        "READY",
        "WAITS FOR",
    ];
    const WIDE: &'static [&'static str] = &[
        "DEPLOYMENT",
        "WANTED",
        "UPDATED",
        "FAILED",
        "AWAY",
        "RUNTIMES",
    ];

    fn name(&self) -> String {
        format!("{}/{}", self.service, self.environment)
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let phase = self.current.as_ref().map_or_else(
            || Cell::from("-"),
            |current| Cell::toned(format!("{:?}", current.phase), tone(current.phase)),
        );
        vec![
            Cell::from(&self.service),
            Cell::from(&self.environment),
            or_dash(self.stable.as_ref().map(|stable| &stable.version)),
            or_dash(self.current.as_ref().map(|current| &current.version)),
            phase,
            ready(self.targets),
            waits(self, now),
        ]
    }

    fn wide(&self, _now: Timestamp) -> Vec<Cell> {
        let wanted = self
            .wanted
            .as_ref()
            .map(|wanted| format!("{} ({})", wanted.version, wanted.rule));
        vec![
            or_dash(self.current.as_ref().map(|current| &current.deployment)),
            or_dash(wanted.as_ref()),
            Cell::from(&self.targets.updated),
            Cell::from(&self.targets.failed),
            Cell::from(&self.targets.disconnected),
            several(
                self.runtimes
                    .iter()
                    .map(|(name, count)| format!("{name} {count}")),
            ),
        ]
    }
}

impl Row for Whereabouts {
    const HEADER: &'static [&'static str] = &[
        "SERVICE",
        "VERSION",
        "ENVIRONMENT",
        "TARGET",
        "RUNTIME",
        "READY",
        "SINCE",
    ];
    const WIDE: &'static [&'static str] = &[];

    fn name(&self) -> String {
        format!("{}/{}", self.target, self.service)
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::from(&self.service),
            Cell::from(&self.version),
            Cell::from(&self.environment),
            Cell::from(&self.target),
            or_dash(Some(&self.runtime).filter(|runtime| !runtime.is_empty())),
            if self.ready {
                Cell::toned("yes", Tone::Good)
            } else {
                Cell::toned("no", Tone::Bad)
            },
            Cell::from(age(now, self.since)),
        ]
    }

    fn wide(&self, _now: Timestamp) -> Vec<Cell> {
        Vec::new()
    }
}

impl Row for Token {
    const HEADER: &'static [&'static str] = &["ID", "ENVIRONMENT", "USED", "ENDS", "LABELS"];
    const WIDE: &'static [&'static str] = &["MADE BY", "MADE"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::from(&self.id),
            Cell::from(&self.environment),
            Cell::from(format!("{}/{}", self.used, self.uses)),
            if self.revoked {
                Cell::toned("revoked", Tone::Bad)
            } else {
                Cell::from(until(now, self.expires_at))
            },
            several(pairs(&self.labels)),
        ]
    }

    fn wide(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::from(&self.created_by),
            Cell::from(age(now, self.created_at)),
        ]
    }
}

impl Row for Reason {
    const HEADER: &'static [&'static str] =
        &["TRACK", "KIND", "SUBJECT", "SINCE", "MESSAGE", "ENDED BY"];
    const WIDE: &'static [&'static str] = &["UNTIL", "ROOT"];

    fn name(&self) -> String {
        format!(
            "{}@{}/{}/{}",
            self.service,
            self.environment,
            wait_kind(self.wait.kind),
            self.wait.subject
        )
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let wait = &self.wait;
        vec![
            Cell::from(format!("{}@{}", self.service, self.environment)),
            Cell::from(wait_kind(wait.kind)),
            Cell::from(&wait.subject),
            Cell::from(age(now, wait.since)),
            Cell::from(&wait.message),
            several(&wait.ends_by),
        ]
    }

    fn wide(&self, _now: Timestamp) -> Vec<Cell> {
        let root = if self.root { "yes" } else { "no" };
        vec![or_dash(self.wait.until.as_ref()), Cell::from(root)]
    }
}

impl Row for Stay {
    const HEADER: &'static [&'static str] = &[
        "SERVICE",
        "VERSION",
        "ENVIRONMENT",
        "PHASE",
        "FIRST",
        "STABLE FOR",
        "DEPLOYMENTS",
        "PASSED",
    ];
    const WIDE: &'static [&'static str] = &["STABLE SINCE", "UNTIL"];

    fn name(&self) -> String {
        format!("{}/{}@{}", self.service, self.version, self.environment)
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let held = self.stable_since.map(|since| {
            let end = self.until.unwrap_or(now);
            span(end.since(since))
        });
        vec![
            Cell::from(&self.service),
            Cell::from(&self.version),
            Cell::from(&self.environment),
            Cell::toned(format!("{:?}", self.phase), tone(self.phase)),
            Cell::from(age(now, self.first)),
            or_dash(held.as_ref()),
            several(&self.deployments),
            several(&self.passed),
        ]
    }

    fn wide(&self, _now: Timestamp) -> Vec<Cell> {
        vec![
            or_dash(self.stable_since.as_ref()),
            or_dash(self.until.as_ref()),
        ]
    }
}

/// `2/3`: ready of all.
pub(super) fn ready(targets: TargetCounts) -> Cell {
    let tone = if targets.failed > 0 {
        Tone::Bad
    } else if targets.ready < targets.total {
        Tone::Busy
    } else {
        Tone::Plain
    };
    Cell::toned(format!("{}/{}", targets.ready, targets.total), tone)
}

/// `KEY=VALUE` of each.
pub(super) fn pairs(
    map: &std::collections::BTreeMap<String, String>,
) -> impl Iterator<Item = String> {
    map.iter().map(|(key, value)| format!("{key}={value}"))
}

/// That a person has paused it, the first wait with its age, and how many more there are.
fn waits(track: &Status, now: Timestamp) -> Cell {
    let paused = (track.paused && track.waits.iter().all(|wait| wait.kind != WaitKind::Pause))
        .then(|| "paused".to_owned());
    let first = track.waits.first().map(|first| {
        let (kind, since) = (wait_kind(first.kind), age(now, first.since));
        format!("{kind} {since}: {}", first.message)
    });
    let more = match track.waits.len() {
        0 | 1 => None,
        count => Some(format!("{} more", count - 1)),
    };
    let parts: Vec<String> = [paused, first, more].into_iter().flatten().collect();
    if parts.is_empty() {
        return Cell::from("-");
    }
    Cell::toned(parts.join("; "), Tone::Busy)
}
