//! The fields of an environment: its place in the order and its guardrails.

use crate::manifest::kinds::protection::{PROTECTIONS, USES};
use crate::manifest::kinds::{DAY_MS, LABELS, NAMES, VARIABLES, word};
use crate::manifest::shape::{Field, Grammar, Object, Shape};

/// What an environment may say of itself.
pub(crate) static ENVIRONMENT: Object = Object::of(&[
    AFTER_FIELD,
    PROMOTION_FIELD,
    FOLLOW_FIELD,
    Field::optional(
        "rollout",
        Shape::Object(&ROLLOUT),
        "How a release spreads over the targets.",
    ),
    WINDOWS_FIELD,
    Field::optional("protections", USES, PROTECTIONS),
    Field::optional(
        "vars",
        VARIABLES,
        "Variables for templates; stronger than the service's own.",
    ),
    Field::optional(
        "removalLimit",
        Shape::Object(&REMOVAL_LIMIT),
        "How much one apply may remove here, the larger of the two, before a person has to confirm \
         it.",
    ),
]);

pub(super) const AFTER_FIELD: Field = Field::optional(
    "after",
    NAMES,
    "Environments in which a release has to be stable before it may come here. Where a service \
     does not run in one of them, those before that one count.",
);
pub(super) const PROMOTION_FIELD: Field = Field::or(
    "promotion",
    r#""latest""#,
    Shape::Word(&[
        word(
            "latest",
            "The newest release that is stable in all of `after`.",
        ),
        word("every", "Each release in turn: a release train."),
        word("manual", "None, until a person promotes one."),
    ]),
    "Which of the releases that may come here is taken.",
);
pub(super) const FOLLOW_FIELD: Field = Field::optional(
    "follow",
    Shape::Text(Grammar::Name),
    "An environment whose stable release is mirrored; it takes the place of `after` and `promotion`.",
);
pub(super) const WINDOWS_FIELD: Field = Field::optional(
    "windows",
    WINDOWS,
    "When deployments may start; at any time where there are none.",
);

const WINDOWS: Shape = Shape::List(&Shape::Window(&WINDOW));

/// When something may happen.
pub(crate) static WINDOW: Object = Object::of(&[
    Field::required(
        "start",
        Shape::Text(Grammar::Line),
        "When it opens, as cron: minute, hour, day of the month, month, day of the week.",
    ),
    Field::required(
        "duration",
        Shape::Span {
            least_ms: 60_000,
            most_ms: 31 * DAY_MS,
        },
        "How long it stays open.",
    ),
    Field::required(
        "timezone",
        Shape::Text(Grammar::Line),
        "Whose clock it goes by: an IANA name such as Europe/Berlin, or UTC.",
    ),
]);

/// A wave by labels.
pub(crate) static LABELLED: Object = Object::of(&[Field::required(
    "matchLabels",
    LABELS,
    "Labels that a target must all have, with these values.",
)]);

/// The guardrails of a rollout.
pub(crate) static ROLLOUT: Object = Object::of(&[
    Field::or(
        "waves",
        r#"[1, "25%", "100%"]"#,
        Shape::List(&Shape::Wave),
        "How far each wave reaches, counted from the first target: counts, then shares, each further \
         than the one before; or the targets with some labels, besides all before. The last one takes \
         whoever is left: 100%, or labels.",
    ),
    Field::or(
        "maxUnavailable",
        r#""25%""#,
        Shape::Extent,
        "Targets that may be unavailable at a time, of those connected; a share is rounded up.",
    ),
    Field::or(
        "maxFailures",
        "0",
        Shape::Count {
            least: 0,
            most: 1_000_000,
        },
        "Targets that may fail before the deployment has failed.",
    ),
    Field::or(
        "soak",
        r#""30s""#,
        Shape::Span {
            least_ms: 0,
            most_ms: 30 * DAY_MS,
        },
        "How long everything has to hold after each wave.",
    ),
    Field::or(
        "minReady",
        r#""0s""#,
        Shape::Span {
            least_ms: 0,
            most_ms: DAY_MS,
        },
        "How long a target has to be ready before it counts as done.",
    ),
    Field::or(
        "progressDeadline",
        r#""10m""#,
        Shape::Span {
            least_ms: 1000,
            most_ms: 7 * DAY_MS,
        },
        "How long a target may take to become ready before it counts as failed.",
    ),
    Field::or(
        "onFailure",
        r#""rollback""#,
        Shape::Word(&[
            word("rollback", "The stable release is put back."),
            word("halt", "It stays as it is, and a person decides."),
        ]),
        "What a failed deployment does.",
    ),
    Field::or(
        "disconnected",
        r#""skip""#,
        Shape::Word(&[
            word(
                "skip",
                "They are passed over, and converge when they return.",
            ),
            word("wait", "The wave waits for them."),
        ]),
        "What targets that are away do to a wave.",
    ),
    Field::or(
        "maxDisconnected",
        r#""100%""#,
        Shape::Extent,
        "Targets that may be away while a wave begins; a share is rounded up.",
    ),
    Field::or(
        "onWindowClose",
        r#""finish""#,
        Shape::Word(&[
            word("finish", "It goes on to its end."),
            word(
                "hold",
                "No further wave begins before a window opens again.",
            ),
            word("rollback", "The stable release is put back."),
        ]),
        "What a rollout does when the last open window closes.",
    ),
]);

/// The bounds of the removal guard.
pub(crate) static REMOVAL_LIMIT: Object = Object::of(&[
    Field::or(
        "services",
        "1",
        Shape::Count {
            least: 0,
            most: 1_000_000,
        },
        "So many services.",
    ),
    Field::or(
        "workloads",
        r#""10%""#,
        Shape::Percent,
        "Such a share of the workloads.",
    ),
]);
