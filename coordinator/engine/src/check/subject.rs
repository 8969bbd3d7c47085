//! What expressions of checks and of policies are told.

use holdfast_protocol::api::deployment::TriggerKind;
use serde_json::{Value, json};

use crate::compiled::TrackSpec;
use crate::step::{Turn, counts};
use crate::track::{Deployment, Point};

/// The values of an expression that is asked about `point`:
///
/// | name | what it is |
/// | --- | --- |
/// | `service`, `environment` | their names |
/// | `release` | `version`, `sequence`, `commit` (empty where none is named), `meta`, and where they are known `createdAt`, `createdBy`, `artifacts.NAME.{ref,digest,size}` |
/// | `workload` | as in [`Configuration::workload`](crate::compiled::Configuration::workload) |
/// | `deployment` | `id`, `trigger`, `by`, `startedAt`, `phase`, `hotfix`; of the newest one where what is stable is asked about |
/// | `observed` | `total`, `updated`, `ready`, `failed`, `disconnected`: numbers of targets |
pub(crate) fn subject(turn: &Turn<'_>, spec: &TrackSpec, point: &Point) -> Value {
    let name = &turn.track.name;
    json!({
        "service": name.service,
        "environment": name.environment,
        "release": release(turn, point),
        "workload": spec.configuration.workload(),
        "deployment": turn.track.current.as_ref().map(deployment),
        "observed": counts(&turn.track, turn.inputs),
    })
}

fn release(turn: &Turn<'_>, point: &Point) -> Value {
    let mut releases = turn.inputs.releases.iter();
    let release = releases.find(|release| release.sequence == point.sequence);
    let about = release.and_then(|release| release.about.as_deref());
    let known = about.and_then(|about| serde_json::to_value(about).ok());
    let mut release = known.unwrap_or_else(
        || json!({"version": point.version, "sequence": point.sequence, "meta": {}}),
    );
    if release["commit"].is_null() {
        // A question such as `release.commit != ''` has to hold of releases that name one.
        release["commit"] = json!("");
    }
    release
}

fn deployment(deployment: &Deployment) -> Value {
    json!({
        "id": deployment.id,
        "trigger": trigger(deployment.trigger.kind),
        "by": deployment.trigger.by,
        "startedAt": deployment.started_at,
        "phase": deployment.phase.name(),
        "hotfix": deployment.hotfix,
    })
}

fn trigger(kind: TriggerKind) -> Value {
    serde_json::to_value(kind).unwrap_or_default()
}
