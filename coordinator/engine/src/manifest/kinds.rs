//! The kinds of document and their fields.
//!
//! A service runs in every environment of the installation, unless `environments: {ENV: {enabled:
//! false}}` leaves one out.

use crate::manifest::shape::{Field, Grammar, Need, Object, Shape, Word};

/// The kinds that this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An environment.
    Environment,
    /// A service.
    Service,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Environment, Self::Service];

    /// As it stands in a manifest.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Environment => "Environment",
            Self::Service => "Service",
        }
    }

    /// The kind of that name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The fields of a whole document of this kind.
    pub(crate) const fn document(self) -> &'static Object {
        match self {
            Self::Environment => &ENVIRONMENT_DOCUMENT,
            Self::Service => &SERVICE_DOCUMENT,
        }
    }
}

/// Kinds that a later version will know.
pub(crate) const LATER_KINDS: &[&str] = &["Protection", "Policy", "Source", "Notifier"];
/// The one version of the manifest language.
pub(crate) const API_VERSION: &str = "holdfast/v1";

static ENVIRONMENT_DOCUMENT: Object = document(&[
    API_VERSION_FIELD,
    kind_field(&[word("Environment", "A named trust zone and stage.")]),
    METADATA_FIELD,
    Field::optional(
        "spec",
        Shape::Object(&ENVIRONMENT),
        "The environment's place in the order and its guardrails.",
    ),
]);

static SERVICE_DOCUMENT: Object = document(&[
    API_VERSION_FIELD,
    kind_field(&[word("Service", "What is deployed.")]),
    METADATA_FIELD,
    Field::required(
        "spec",
        Shape::Object(&SERVICE),
        "What runs, and how it differs by environment.",
    ),
]);

const API_VERSION_FIELD: Field = Field::required(
    "apiVersion",
    Shape::Text(Grammar::ApiVersion),
    "The version of the manifest language: holdfast/v1.",
);

const METADATA_FIELD: Field =
    Field::required("metadata", Shape::Object(&METADATA), "What it is called.");

const fn kind_field(words: &'static [Word]) -> Field {
    Field::required("kind", Shape::Word(words), "What is described.")
}

const fn document(fields: &'static [Field]) -> Object {
    Object {
        fields,
        one_of: &[],
    }
}

const fn word(word: &'static str, doc: &'static str) -> Word {
    Word {
        word,
        doc,
        supported: true,
    }
}

const fn later_word(word: &'static str, doc: &'static str) -> Word {
    Word {
        word,
        doc,
        supported: false,
    }
}

static METADATA: Object = document(&[
    Field::required(
        "name",
        Shape::Text(Grammar::Name),
        "Its name: lower-case letters, digits and hyphens, unique among its kind.",
    ),
    Field::optional("owner", Shape::Text(Grammar::Line), "Who answers for it."),
    Field::optional(
        "labels",
        Shape::Table {
            key: Grammar::LabelKey,
            value: &Shape::Text(Grammar::LabelValue),
        },
        "Words to find it by.",
    ),
    Field::optional(
        "annotations",
        Shape::Table {
            key: Grammar::LabelKey,
            value: &Shape::Text(Grammar::Template),
        },
        "Notes for people and programs; not interpreted.",
    ),
]);

/// What an environment may say of itself.
pub(crate) static ENVIRONMENT: Object = document(&[
    Field::optional(
        "after",
        Shape::List(&Shape::Text(Grammar::Name)),
        "Environments in which a release has to be stable before it may come here. Where a service \
         does not run in one of them, those before that one count.",
    ),
    Field::or(
        "promotion",
        r#""latest""#,
        Shape::Word(&[
            word(
                "latest",
                "The newest release that is stable in all of `after`.",
            ),
            later_word("every", "Each release in turn."),
            later_word("manual", "What a person promotes."),
        ]),
        "Which of the releases that may come here is taken.",
    ),
    Field::later("follow", "An environment whose stable release is mirrored."),
    Field::optional(
        "rollout",
        Shape::Object(&ROLLOUT),
        "How a release spreads over the targets.",
    ),
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
    Field::later("windows", "When deployments may start."),
    Field::later("protections", "Checks that must pass."),
]);

/// The guardrails of a rollout.
pub(crate) static ROLLOUT: Object = document(&[
    Field::or(
        "waves",
        r#"[1, "25%", "100%"]"#,
        Shape::List(&Shape::Wave),
        "How far each wave reaches, counted from the first target: counts, then shares, each further \
         than the one before; the last one is 100%.",
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
]);

/// The bounds of the removal guard.
pub(crate) static REMOVAL_LIMIT: Object = document(&[
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

/// What a service may say of itself.
pub(crate) static SERVICE: Object = document(&[
    Field::optional("dependsOn", SERVICE_NAMES, DEPENDS_ON),
    Field::optional(
        "artifacts",
        Shape::Table {
            key: Grammar::Name,
            value: &Shape::Object(&ARTIFACT),
        },
        "What each release gives, by name: `{{ artifacts.NAME.path }}` is where it lies on the \
         target.",
    ),
    Field::required("runtime", Shape::Text(Grammar::Runtime), RUNTIME),
    Field::optional("template", Shape::AnyObject, TEMPLATE),
    Field::optional(
        "health",
        Shape::Object(&HEALTH),
        "How to tell that it is ready.",
    ),
    Field::optional(
        "vars",
        VARIABLES,
        "Variables for templates, as `{{ vars.NAME }}`.",
    ),
    Field::optional(
        "targets",
        Shape::Object(&SELECTOR),
        "Which targets; all where left out.",
    ),
    Field::or(
        "rollback",
        r#""central""#,
        ROLLBACK,
        "Who puts the previous release back.",
    ),
    Field::optional(
        "environments",
        Shape::Table {
            key: Grammar::Name,
            value: &Shape::Overrides(&OVERRIDE),
        },
        "What differs in one environment. Maps are merged over the above, lists and all else replace \
         it, null takes it away.",
    ),
    Field {
        name: "rollout",
        shape: Shape::Any,
        need: Need::Refused(
            "belongs to the environment; for one service, write it below environments",
        ),
        doc: "",
    },
    Field::later("kind", "Whether it runs for ever or to completion."),
    Field::later("once", "One elected target."),
    Field::later("schedule", "When a job runs."),
    Field::later("pin", "One version and nothing else."),
    Field::later("protections", "Checks that must pass."),
]);

static OVERRIDE: Object = document(&[
    Field::or(
        "enabled",
        "true",
        Shape::Flag,
        "Whether the service runs in this environment.",
    ),
    Field::optional("dependsOn", SERVICE_NAMES, DEPENDS_ON),
    Field::optional(
        "runtime",
        Shape::Text(Grammar::Runtime),
        "Another adapter. The template given with it then stands alone.",
    ),
    Field::optional("template", Shape::AnyObject, TEMPLATE),
    Field::optional(
        "health",
        Shape::Object(&HEALTH),
        "How to tell that it is ready.",
    ),
    Field::optional("vars", VARIABLES, "Variables; stronger than all others."),
    Field::optional("targets", Shape::Object(&SELECTOR), "Which targets."),
    Field::optional("rollback", ROLLBACK, "Who puts the previous release back."),
    Field::optional(
        "rollout",
        Shape::Object(&ROLLOUT),
        "How a release spreads over the targets.",
    ),
    Field::later("pin", "One version and nothing else."),
    Field::later("protections", "Checks that must pass."),
    Field::later("windows", "When deployments may start."),
]);

static ARTIFACT: Object = Object {
    fields: &[
        Field::optional(
            "file",
            Shape::Text(Grammar::FileName),
            "A file's name. .tar, .tar.gz, .tar.zst and .zip are unpacked on the target.",
        ),
        Field::later("image", "A container image."),
        Field::later("chart", "A Helm chart."),
        Field::later("function", "A function package."),
    ],
    one_of: &["file"],
};

static SELECTOR: Object = document(&[Field::optional(
    "matchLabels",
    Shape::Table {
        key: Grammar::LabelKey,
        value: &Shape::Text(Grammar::LabelValue),
    },
    "Labels that a target must all have, with these values.",
)]);

/// How to tell that a workload is ready.
pub(crate) static HEALTH: Object = Object {
    fields: &[
        Field::optional(
            "http",
            Shape::TextOr(Grammar::Template, &HTTP_CHECK),
            "A GET that must answer with a status from 200 to 399.",
        ),
        Field::optional(
            "tcp",
            Shape::Text(Grammar::Template),
            "HOST:PORT to which a connection must be accepted.",
        ),
        Field::optional(
            "exec",
            Shape::List(&Shape::Text(Grammar::Template)),
            "A program and its arguments, without a shell, that must exit with 0.",
        ),
        Field::or(
            "interval",
            r#""2s""#,
            check_span(100),
            "Time between two checks.",
        ),
        Field::or(
            "timeout",
            r#""1s""#,
            check_span(10),
            "Time one check may take.",
        ),
        Field::or(
            "successThreshold",
            "1",
            Shape::Count {
                least: 1,
                most: 1000,
            },
            "Checks in a row that must pass before it is ready.",
        ),
        Field::or(
            "failureThreshold",
            "3",
            Shape::Count {
                least: 1,
                most: 1000,
            },
            "Checks in a row that must fail before it is no longer ready.",
        ),
        Field::or(
            "startPeriod",
            r#""0s""#,
            Shape::Span {
                least_ms: 0,
                most_ms: DAY_MS,
            },
            "Time after a start in which failures do not count.",
        ),
    ],
    one_of: &["http", "tcp", "exec"],
};

static HTTP_CHECK: Object = document(&[
    Field::required(
        "url",
        Shape::Text(Grammar::Template),
        "http://HOST:PORT/PATH",
    ),
    Field::optional(
        "expect",
        Shape::Count {
            least: 100,
            most: 599,
        },
        "The one status that passes; 200 to 399 where left out.",
    ),
]);

const fn check_span(least_ms: u64) -> Shape {
    Shape::Span {
        least_ms,
        most_ms: 3_600_000,
    }
}

const VARIABLES: Shape = Shape::Table {
    key: Grammar::Variable,
    value: &Shape::Any,
};
const SERVICE_NAMES: Shape = Shape::List(&Shape::Text(Grammar::Name));
const ROLLBACK: Shape = Shape::Word(&[
    word("central", "The coordinator, by a new assignment."),
    word(
        "local",
        "The agent itself, at once and also while disconnected.",
    ),
]);
const DEPENDS_ON: &str = "Services that must be stable in the same environment first, and ready on \
                          the same target.";
const RUNTIME: &str = "The adapter that runs it: process, static.";
const TEMPLATE: &str = "What the adapter is told. Texts may hold {{ }} over vars, env, target, \
                        release, service, artifacts and workload.";
const DAY_MS: u64 = 86_400_000;
