//! The fields of a service, and what may differ in one environment.

use crate::manifest::kinds::environment::{
    AFTER_FIELD, FOLLOW_FIELD, PROMOTION_FIELD, ROLLOUT, WINDOWS_FIELD,
};
use crate::manifest::kinds::protection::{PROTECTIONS, USES};
use crate::manifest::kinds::{DAY_MS, LABELS, NAMES, SECOND_MS, VARIABLES, span, word};
use crate::manifest::shape::{Field, Grammar, Object, Shape};

/// What a service may say of itself.
pub(crate) static SERVICE: Object = Object::of(&[
    Field::or(
        "kind",
        r#""service""#,
        Shape::Word(&[
            word("service", "It runs for ever."),
            word(
                "job",
                "It runs to completion; stable means that it has succeeded.",
            ),
        ]),
        "Whether it runs for ever or to completion.",
    ),
    Field::optional("dependsOn", NAMES, DEPENDS_ON),
    ARTIFACTS_FIELD,
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
    VARIANTS_FIELD,
    RELEASES_FIELD,
    PIN_FIELD,
    ONCE_FIELD,
    SCHEDULE_FIELD,
    ATTEMPTS_FIELD,
    TIME_LIMIT_FIELD,
    Field::optional("protections", USES, PROTECTIONS),
    Field::optional(
        "environments",
        Shape::Table {
            key: Grammar::Name,
            value: &Shape::Overrides(&OVERRIDE),
        },
        "What differs in one environment. Maps are merged over the above, lists and all else replace \
         it, null takes it away; protections are added.",
    ),
    Field::refused("rollout", OF_THE_ENVIRONMENT),
    Field::refused("windows", OF_THE_ENVIRONMENT),
    Field::refused("after", OF_THE_ENVIRONMENT),
    Field::refused("follow", OF_THE_ENVIRONMENT),
    Field::refused("promotion", OF_THE_ENVIRONMENT),
]);

const OF_THE_ENVIRONMENT: &str =
    "belongs to the environment; for one service, write it below environments";

static OVERRIDE: Object = Object::of(&[Field::or(
    "enabled",
    "true",
    Shape::Flag,
    "Whether the service runs in this environment.",
)])
.with(&TRACK);

/// What may be said of one service in one environment.
pub(crate) static TRACK: Object = Object::of(&[
    Field::optional("dependsOn", NAMES, DEPENDS_ON),
    ARTIFACTS_FIELD,
    VARIANTS_FIELD,
    OTHER_RUNTIME_FIELD,
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
    AFTER_FIELD,
    PROMOTION_FIELD,
    FOLLOW_FIELD,
    RELEASES_FIELD,
    PIN_FIELD,
    WINDOWS_FIELD,
    Field::optional("protections", USES, PROTECTIONS),
    ONCE_FIELD,
    SCHEDULE_FIELD,
    ATTEMPTS_FIELD,
    TIME_LIMIT_FIELD,
]);

/// What may be said of one service on targets of one kind.
pub(crate) static VARIANT: Object = Object::of(&[
    Field::optional(
        "when",
        Shape::Object(&SELECTOR),
        "Which targets: no target may be meant by two variants.",
    ),
    OTHER_RUNTIME_FIELD,
    ARTIFACTS_FIELD,
    Field::optional("template", Shape::AnyObject, TEMPLATE),
    Field::optional(
        "health",
        Shape::Object(&HEALTH),
        "How to tell that it is ready there; null where the runtime alone says.",
    ),
    Field::optional("vars", VARIABLES, "Variables that differ there."),
]);

static OF_VARIANT: Shape = Shape::Overrides(&VARIANT);
static OF_ARTIFACT: Shape = Shape::Object(&ARTIFACT);

const VARIANTS_FIELD: Field = Field::optional(
    "variants",
    Shape::Table {
        key: Grammar::Name,
        value: &OF_VARIANT,
    },
    "What differs on targets of other kinds, chosen by their labels. Maps are merged over the above, \
     lists and all else replace it, null takes it away. A target that none means runs the above.",
);
const ARTIFACTS_FIELD: Field = Field::optional(
    "artifacts",
    Shape::Table {
        key: Grammar::Name,
        value: &OF_ARTIFACT,
    },
    "What each release gives, by name: `{{ artifacts.NAME.path }}` is where it lies on the target.",
);
const OTHER_RUNTIME_FIELD: Field = Field::optional(
    "runtime",
    Shape::Text(Grammar::Runtime),
    "Another adapter. The template given with it then stands alone.",
);
const RELEASES_FIELD: Field = Field::optional(
    "releases",
    Shape::Object(&RELEASES),
    "Which releases may come here at all; all where left out.",
);
const PIN_FIELD: Field = Field::optional(
    "pin",
    Shape::Text(Grammar::Version),
    "This version and nothing else.",
);
const ONCE_FIELD: Field = Field::or(
    "once",
    "false",
    Shape::Flag,
    "For a job: on one elected target instead of on each.",
);
const SCHEDULE_FIELD: Field = Field::optional(
    "schedule",
    Shape::Window(&SCHEDULE),
    "For a job: when it runs again; once for each release where left out.",
);
const ATTEMPTS_FIELD: Field = Field::or(
    "attempts",
    "1",
    Shape::Count {
        least: 1,
        most: 100,
    },
    "For a job: how often one run is begun before it has failed.",
);
const TIME_LIMIT_FIELD: Field = Field::or(
    "timeLimit",
    r#""1h""#,
    span(SECOND_MS, 31 * DAY_MS),
    "For a job: how long one attempt may take; then it is stopped and has failed.",
);

static RELEASES: Object = Object::of(&[Field::required(
    "semver",
    Shape::Text(Grammar::Range),
    "A range of semantic versions: ^1.4, or >=2, <3. Other versions are in no range.",
)]);

static SCHEDULE: Object = Object::of(&[
    Field::required(
        "start",
        Shape::Text(Grammar::Line),
        "When a run begins, as cron: minute, hour, day of the month, month, day of the week.",
    ),
    Field::required(
        "timezone",
        Shape::Text(Grammar::Line),
        "Whose clock it goes by: an IANA name such as Europe/Berlin, or UTC.",
    ),
]);

static ARTIFACT: Object = Object::of(&[
    Field::optional(
        "file",
        Shape::Text(Grammar::FileName),
        "A file's name. .tar, .tar.gz, .tar.zst and .zip are unpacked on the target.",
    ),
    Field::optional(
        "image",
        Shape::Text(Grammar::Repository),
        "A container image's repository; each release says which image of it.",
    ),
    Field::optional(
        "credentials",
        Shape::Object(&CREDENTIALS),
        "With what the file is fetched from its home, or the image pulled by runtime container.",
    ),
    Field::later("chart", "A Helm chart."),
    Field::later("function", "A function package."),
])
.one_of(&["file", "image"]);

static CREDENTIALS: Object = Object::of(&[
    Field::required(
        "secret",
        Shape::Text(Grammar::Name),
        "The secret that holds USER:PASSWORD, Bearer TOKEN, or what `docker login` writes.",
    ),
    Field::optional(
        "host",
        Shape::Text(Grammar::Host),
        "For a file: the one host, with its port where it has one, that is told the secret. Where left \
         out, the secret has to say that by itself, as what `docker login` writes does.",
    ),
]);

static SELECTOR: Object = Object::of(&[Field::optional(
    "matchLabels",
    LABELS,
    "Labels that a target must all have, with these values.",
)]);

/// How to tell that a workload is ready.
pub(crate) static HEALTH: Object = Object::of(&[
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
])
.one_of(&["http", "tcp", "exec"]);

static HTTP_CHECK: Object = Object::of(&[
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

const ROLLBACK: Shape = Shape::Word(&[
    word("central", "The coordinator, by a new assignment."),
    word(
        "local",
        "The agent itself, at once and also while disconnected.",
    ),
]);
const DEPENDS_ON: &str = "Services that must be stable in the same environment first, and ready on \
                          the same target.";
const RUNTIME: &str = "The adapter that runs it: process, static, systemd, container, and others.";
const TEMPLATE: &str = "What the adapter is told. Texts may hold {{ }} over vars, env, target, \
                        release, service, artifacts and workload.";
