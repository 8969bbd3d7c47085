//! The fields of a protection, and of its use.

use crate::manifest::kinds::{DAY_MS, SECOND_MS, span, word};
use crate::manifest::shape::{Field, Grammar, Object, Shape, Word};

/// What a protection may say of itself.
pub(crate) static PROTECTION: Object = Object::of(&[
    Field::optional(
        "run",
        Shape::Object(&RUN),
        "A program that passes with exit code 0.",
    ),
    Field::optional(
        "http",
        Shape::TextOr(Grammar::Url, &HTTP),
        "A GET that passes with a status from 200 to 299.",
    ),
    Field::optional(
        "prometheus",
        Shape::Object(&PROMETHEUS),
        "A query of a Prometheus server.",
    ),
    Field::optional(
        "expression",
        Shape::Expression(CHECKED),
        "CEL over service, environment, release, deployment and observed that has to hold.",
    ),
    Field::optional("approval", Shape::Object(&APPROVAL), "People who agree."),
    Field::optional(
        "stable",
        Shape::Object(&STABLE),
        "Another service that is stable, and not moving. Asks nothing of that service itself.",
    ),
    Field::optional(
        "resource",
        Shape::Object(&RESOURCE),
        "Something outside that has to be there first: waited for, and whoever can bring it is told.",
    ),
    Field::optional(
        "parameters",
        Shape::Table {
            key: Grammar::Variable,
            value: &Shape::Object(&PARAMETER),
        },
        "What differs by use, as {{ parameters.NAME }}.",
    ),
    Field::or(
        "interval",
        r#""15s""#,
        INTERVAL,
        "Time between two checks.",
    ),
    Field::or(
        "failureThreshold",
        "1",
        FAILURES,
        "Checks in a row that must fail before it has failed.",
    ),
    Field::or(
        "skippable",
        "true",
        Shape::FlagOr(&SKIPPABLE),
        "Who may skip it for one deployment: whoever may steer the track, nobody, or some roles.",
    ),
    Field::optional(
        "notify",
        Shape::Object(&NOTIFY),
        "Whom to tell when it has been waited for too long.",
    ),
])
.one_of(CHECKS);

/// The kinds of check.
const CHECKS: &[&str] = &[
    "run",
    "http",
    "prometheus",
    "expression",
    "approval",
    "stable",
    "resource",
];

/// What the expression of a check may ask about.
pub(crate) const CHECKED: &[&str] = &[
    "service",
    "environment",
    "release",
    "deployment",
    "observed",
];

/// A program.
pub(crate) static RUN: Object = Object::of(&[
    Field::required(
        "command",
        Shape::Some(&Shape::Text(Grammar::Template)),
        "The program and its arguments, without a shell.",
    ),
    Field::optional(
        "environment",
        Shape::Table {
            key: Grammar::Variable,
            value: &Shape::Text(Grammar::Template),
        },
        "Its environment; nothing else is in it but PATH and HOLDFAST_….",
    ),
    Field::or(
        "on",
        r#""target""#,
        Shape::Word(&[
            word(
                "target",
                "One connected target of the environment, by its agent.",
            ),
            word(
                "coordinator",
                "The coordinator, where its operator allows that.",
            ),
        ]),
        "Where it runs.",
    ),
    Field::or(
        "timeout",
        r#""30s""#,
        span(100, 3600 * SECOND_MS),
        "Time it may take.",
    ),
]);

/// A GET.
pub(crate) static HTTP: Object = Object::of(&[
    Field::required("url", Shape::Text(Grammar::Url), "http://HOST:PORT/PATH"),
    Field::optional(
        "expect",
        Shape::Count {
            least: 100,
            most: 599,
        },
        "The one status that passes; 200 to 299 where left out.",
    ),
    Field::optional(
        "contains",
        Shape::Text(Grammar::Template),
        "What the body has to contain.",
    ),
    Field::or("timeout", r#""10s""#, TIMEOUT, "Time it may take."),
]);

/// A query.
pub(crate) static PROMETHEUS: Object = Object::of(&[
    Field::required("url", Shape::Text(Grammar::Url), "http://HOST:PORT"),
    Field::required("query", Shape::Text(Grammar::Template), "PromQL."),
    Field::required(
        "expect",
        Shape::WordOr(SAMPLES, &COMPARISON),
        "What passes: empty, some, or a comparison that each of at least one sample has to meet.",
    ),
    Field::or("timeout", r#""10s""#, TIMEOUT, "Time it may take."),
]);

const SAMPLES: &[Word] = &[
    word("empty", "No sample."),
    word("some", "At least one sample."),
];

static COMPARISON: Object = Object::of(&[
    Field::optional("lessThan", Shape::Real, "Each is less."),
    Field::optional("atMost", Shape::Real, "Each is less or equal."),
    Field::optional("greaterThan", Shape::Real, "Each is greater."),
    Field::optional("atLeast", Shape::Real, "Each is greater or equal."),
    Field::optional("equals", Shape::Real, "Each is equal."),
    Field::optional("differs", Shape::Real, "Each is another number."),
])
.one_of(&[
    "lessThan",
    "atMost",
    "greaterThan",
    "atLeast",
    "equals",
    "differs",
]);

/// People who agree.
pub(crate) static APPROVAL: Object = Object::of(&[
    Field::required("roles", ROLES, "Whoever has any of these roles may."),
    Field::or(
        "count",
        "1",
        Shape::Count {
            least: 1,
            most: 100,
        },
        "How many different people.",
    ),
    Field::or(
        "expires",
        r#""7d""#,
        span(60 * SECOND_MS, 365 * DAY_MS),
        "How long an approval holds before the deployment starts.",
    ),
]);

static STABLE: Object = Object::of(&[
    Field::required("service", Shape::Text(Grammar::Name), "Which service."),
    Field::optional(
        "environment",
        Shape::Text(Grammar::Name),
        "Where; in the same environment where left out.",
    ),
]);

static RESOURCE: Object = Object::of(&[Field::required(
    "run",
    Shape::Object(&RUN),
    "A program that passes with exit code 0 when it is there.",
)]);

static PARAMETER: Object = Object::of(&[Field::optional(
    "default",
    Shape::Scalar,
    "What it is where a use does not say; one without has to be given.",
)]);

static SKIPPABLE: Object = Object::of(&[Field::required(
    "roles",
    ROLES,
    "Only people with one of these roles.",
)]);

static NOTIFY: Object = Object::of(&[
    Field::required(
        "after",
        span(SECOND_MS, 30 * DAY_MS),
        "How long is too long.",
    ),
    Field::required(
        "to",
        Shape::Text(Grammar::Name),
        "The notifier that tells it.",
    ),
]);

/// The use of a protection.
pub(crate) static USE: Object = Object::of(&[
    Field::required("use", Shape::Text(Grammar::Name), "Which protection."),
    Field::optional(
        "as",
        Shape::Text(Grammar::Name),
        "What it is called here, where one protection is used twice.",
    ),
    Field::required(
        "when",
        Shape::Some(&Shape::Word(&[
            word("pre", "Before a deployment starts."),
            word("post", "After each wave, for the whole soak."),
            word(
                "always",
                "As post, and for as long as the release is stable.",
            ),
        ])),
        "When it is asked.",
    ),
    Field::optional(
        "parameters",
        Shape::Table {
            key: Grammar::Variable,
            value: &Shape::Scalar,
        },
        "Its parameters.",
    ),
    Field::optional(
        "interval",
        INTERVAL,
        "Time between two checks, instead of the protection's.",
    ),
    Field::optional(
        "failureThreshold",
        FAILURES,
        "Checks in a row that must fail, instead of the protection's.",
    ),
    Field::or(
        "onIncident",
        r#""tell""#,
        Shape::Word(&[
            word("tell", "It is told."),
            word("rollback", "The release before is put back."),
        ]),
        "What a failure under `always` does to what is stable.",
    ),
]);

/// Uses of protections.
pub(super) const USES: Shape = Shape::List(&Shape::Use(&USE));
pub(super) const PROTECTIONS: &str =
    "Checks that must pass. Those of all layers hold; none takes away another's.";

const ROLES: Shape = Shape::Some(&Shape::Text(Grammar::Name));
const INTERVAL: Shape = span(SECOND_MS, DAY_MS);
const TIMEOUT: Shape = span(100, 300 * SECOND_MS);
const FAILURES: Shape = Shape::Count {
    least: 1,
    most: 1000,
};
