//! The kinds of document and their fields.
//!
//! A service runs in every environment of the installation, unless `environments: {ENV: {enabled:
//! false}}` leaves one out.

mod environment;
mod notifier;
pub(crate) mod policy;
pub(crate) mod protection;
mod service;

pub(crate) use environment::{ENVIRONMENT, LABELLED, REMOVAL_LIMIT, ROLLOUT};
pub use notifier::events;
pub(crate) use policy::bounded;
pub(crate) use service::{HEALTH, SERVICE, TRACK, VARIANT};

use crate::manifest::shape::{Field, Grammar, Object, Shape, Word};

/// The kinds that this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An environment.
    Environment,
    /// A service.
    Service,
    /// A check.
    Protection,
    /// A rule of another stakeholder.
    Policy,
    /// Where events are told outside.
    Notifier,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Environment,
        Self::Service,
        Self::Protection,
        Self::Policy,
        Self::Notifier,
    ];

    /// As it stands in a manifest.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Environment => "Environment",
            Self::Service => "Service",
            Self::Protection => "Protection",
            Self::Policy => "Policy",
            Self::Notifier => "Notifier",
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
            Self::Protection => &PROTECTION_DOCUMENT,
            Self::Policy => &POLICY_DOCUMENT,
            Self::Notifier => &NOTIFIER_DOCUMENT,
        }
    }
}

/// Kinds that a later version will know.
pub(crate) const LATER_KINDS: &[&str] = &["Source"];
/// The one version of the manifest language.
pub(crate) const API_VERSION: &str = "holdfast/v1";

static ENVIRONMENT_DOCUMENT: Object = Object::of(&[
    API_VERSION_FIELD,
    kind_field(&[word("Environment", "A named trust zone and stage.")]),
    METADATA_FIELD,
    Field::optional(
        "spec",
        Shape::Object(&ENVIRONMENT),
        "The environment's place in the order and its guardrails.",
    ),
]);

static SERVICE_DOCUMENT: Object = Object::of(&[
    API_VERSION_FIELD,
    kind_field(&[word("Service", "What is deployed.")]),
    METADATA_FIELD,
    Field::required(
        "spec",
        Shape::Object(&SERVICE),
        "What runs, and how it differs by environment.",
    ),
]);

static PROTECTION_DOCUMENT: Object = Object::of(&[
    API_VERSION_FIELD,
    kind_field(&[word(
        "Protection",
        "A check that must pass before, during or after a deployment.",
    )]),
    METADATA_FIELD,
    Field::required(
        "spec",
        Shape::Object(&protection::PROTECTION),
        "What is asked, and how often.",
    ),
]);

static POLICY_DOCUMENT: Object = Object::of(&[
    API_VERSION_FIELD,
    kind_field(&[word("Policy", "A rule over the compiled desired state.")]),
    METADATA_FIELD,
    Field::required(
        "spec",
        Shape::Object(&policy::POLICY),
        "For which tracks, and what it requires, adds, sets and limits.",
    ),
]);

static NOTIFIER_DOCUMENT: Object = Object::of(&[
    API_VERSION_FIELD,
    kind_field(&[word("Notifier", "Where events are told outside.")]),
    METADATA_FIELD,
    Field::required(
        "spec",
        Shape::Object(&notifier::NOTIFIER),
        "Which events, and where to.",
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

const fn word(word: &'static str, doc: &'static str) -> Word {
    Word { word, doc }
}

static METADATA: Object = Object::of(&[
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

const fn span(least_ms: u64, most_ms: u64) -> Shape {
    Shape::Span { least_ms, most_ms }
}

const VARIABLES: Shape = Shape::Table {
    key: Grammar::Variable,
    value: &Shape::Any,
};
/// Labels, with their values.
const LABELS: Shape = Shape::Table {
    key: Grammar::LabelKey,
    value: &Shape::Text(Grammar::LabelValue),
};
const NAMES: Shape = Shape::List(&Shape::Text(Grammar::Name));
const SECOND_MS: u64 = 1000;
const DAY_MS: u64 = 86_400_000;
