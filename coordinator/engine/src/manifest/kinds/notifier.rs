//! The fields of a notifier, and the kinds of event there are.

use crate::manifest::kinds::{NAMES, word};
use crate::manifest::shape::{Field, Grammar, Object, Shape, Word};

/// What a notifier may say of itself.
pub(super) static NOTIFIER: Object = Object::of(&[
    Field::optional(
        "on",
        Shape::List(&Shape::Word(EVENTS)),
        "Which events it tells; none where it is only named by protections.",
    ),
    Field::optional(
        "match",
        Shape::Object(&MATCH),
        "Only what is about these; all where left out.",
    ),
    Field::optional("slack", Shape::Object(&CHANNEL), "A message for people."),
    Field::optional("teams", Shape::Object(&CHANNEL), "An adaptive card."),
    Field::optional(
        "webhook",
        Shape::Object(&WEBHOOK),
        "CloudEvents JSON, signed where there is a key.",
    ),
])
.one_of(&["slack", "teams", "webhook"]);

static MATCH: Object = Object::of(&[
    Field::optional("environments", NAMES, "Of one of these environments."),
    Field::optional("services", NAMES, "Of one of these services."),
]);

static CHANNEL: Object = Object::of(&[URL]);

static WEBHOOK: Object = Object::of(&[
    URL,
    Field::optional(
        "key",
        Shape::TextOr(Grammar::Line, &SEALED),
        "The key of the signature (Standard Webhooks).",
    ),
]);

const URL: Field = Field::required(
    "url",
    Shape::TextOr(Grammar::Address, &SEALED),
    "Where to: the address itself, {secret: NAME, environment: NAME}, or {file: NAME}.",
);

static SEALED: Object = Object::of(&[
    Field::optional(
        "file",
        Shape::Text(Grammar::FileName),
        "The content of this file on the coordinator, in its directory for such files.",
    ),
    Field::optional(
        "secret",
        Shape::Text(Grammar::Name),
        "The newest value of this secret, of the environment that is named beside it.",
    ),
    Field::optional(
        "environment",
        Shape::Text(Grammar::Name),
        "The environment whose secret it is.",
    ),
])
.one_of(&["file", "secret"]);

/// The kinds of event: all that is written to the history.
pub fn events() -> impl Iterator<Item = &'static str> {
    EVENTS.iter().map(|event| event.word)
}

const EVENTS: &[Word] = &[
    word("approval.given", "Somebody agreed to a deployment."),
    word(
        "approval.void",
        "Somebody who had agreed may not do so any more; it counts no longer.",
    ),
    word("approval.requested", "A deployment waits for people."),
    word(
        "assignment.refused",
        "A target refused what it was assigned.",
    ),
    word("certificate.renewed", "A target has a new certificate."),
    word(
        "deployment.asked",
        "Somebody has asked for a release on a track.",
    ),
    word("deployment.failed", "A deployment has failed."),
    word(
        "deployment.halted",
        "A deployment stays as it is, and a person decides.",
    ),
    word("deployment.rejected", "A deployment was rejected."),
    word(
        "deployment.rollbackFailed",
        "The stable release could not be put back.",
    ),
    word("deployment.rolledBack", "The stable release was put back."),
    word(
        "deployment.rolling",
        "A deployment reaches its first targets.",
    ),
    word("deployment.stable", "A deployment has held."),
    word("deployment.started", "A deployment was begun."),
    word(
        "deployment.superseded",
        "A newer deployment took the place of one.",
    ),
    word(
        "deployment.verifying",
        "Every target is reached; checks have to hold.",
    ),
    word("deployment.wave", "A wave is done."),
    word(
        "engine.fault",
        "The step of a track failed; a fault of this program.",
    ),
    word(
        "environment.authority",
        "An environment has an authority for certificates.",
    ),
    word("freeze.begun", "Somebody has stopped all starts."),
    word("freeze.ended", "Starts are allowed again."),
    word(
        "incident.closed",
        "A check that always has to hold passes again.",
    ),
    word("incident.opened", "A check that always has to hold fails."),
    word("installation.created", "The installation was made."),
    word("join.refused", "Somebody could not join."),
    word(
        "notifier.dropped",
        "What was to be told was dropped: too much waits.",
    ),
    word("notifier.failed", "A notifier could not tell."),
    word(
        "protection.skipped",
        "Somebody has let a deployment pass by a check.",
    ),
    word(
        "protection.waiting",
        "A check has been waited for too long.",
    ),
    word("release.created", "There is a new release."),
    word("removal.confirmed", "Somebody has confirmed a removal."),
    word("renewal.refused", "A certificate was not renewed."),
    word("report.refused", "A target's report was refused."),
    word("revision.applied", "Manifests were applied."),
    word("role.changed", "Somebody has changed a role."),
    word("role.created", "There is a new role."),
    word("role.deleted", "Somebody has deleted a role."),
    word("secret.deleted", "Somebody has deleted a secret."),
    word(
        "secret.rekeyed",
        "The values of all secrets are kept under a new key.",
    ),
    word("secret.set", "Somebody has set a secret."),
    word("security.refused", "Somebody did what they may not."),
    word("target.ahead", "A target knows more than the coordinator."),
    word("target.connected", "A target is connected."),
    word("target.disconnected", "A target is not connected any more."),
    word("target.held", "A target's own site asks to be left alone."),
    word("target.joined", "There is a new target."),
    word("target.labelled", "Somebody has labelled a target."),
    word("target.left", "A target has left."),
    word(
        "target.released",
        "A target's own site asks no longer to be left alone.",
    ),
    word("target.resumed", "A target goes on."),
    word("target.revoked", "Somebody has shut out a target."),
    word("token.created", "There is a new join token."),
    word("token.revoked", "Somebody has revoked a join token."),
    word("track.paused", "Somebody has paused a track."),
    word("track.pinned", "Somebody has pinned a track to a version."),
    word("track.removed", "A track is declared no more."),
    word("track.resumed", "Somebody has resumed a track."),
    word("track.unpinned", "Somebody has taken a pin away."),
    word("user.assigned", "Somebody has given a user other roles."),
    word("user.created", "There is a new user."),
    word("user.revoked", "Somebody has made a user's token void."),
    word("user.rotated", "A user has a new token."),
    word("workload.failed", "A workload has failed."),
    word("workload.notReady", "A workload is not ready any more."),
    word("workload.pending", "A workload waits."),
    word("workload.progressing", "A workload is under way."),
    word("workload.ready", "A workload is ready."),
    word("workload.removed", "A workload is gone."),
];
