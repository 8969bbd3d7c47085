//! The fields of a policy, and which fields it may bound.

use crate::manifest::join;
use crate::manifest::kinds::protection::USES;
use crate::manifest::kinds::service::TRACK;
use crate::manifest::kinds::{LABELS, NAMES};
use crate::manifest::shape::{Field, Grammar, Object, Shape};

/// What a policy may say of itself.
pub(super) static POLICY: Object = Object::of(&[
    Field::optional(
        "match",
        Shape::Object(&MATCH),
        "For which tracks; for all where left out.",
    ),
    Field::optional(
        "require",
        Shape::List(&Shape::Object(&REQUIREMENT)),
        "What has to hold, or nothing is applied; what asks about a release is checked before a \
         deployment starts.",
    ),
    Field::optional(
        "add",
        Shape::Object(&ADDITION),
        "What is added to all else.",
    ),
    Field::optional(
        "set",
        Shape::Overrides(&TRACK),
        "What is set, whoever else says otherwise.",
    ),
    Field::optional(
        "limit",
        Shape::Limits,
        "Bounds of numbers and spans, by path.",
    ),
]);

static MATCH: Object = Object::of(&[
    Field::optional("environments", NAMES, "In one of these environments."),
    Field::optional("services", NAMES, "One of these services."),
    Field::optional(
        "labels",
        LABELS,
        "Services whose metadata has all of these labels.",
    ),
]);

static REQUIREMENT: Object = Object::of(&[
    Field::required(
        "expression",
        Shape::Expression(REQUIRED),
        "CEL over service, environment, workload and release that has to hold.",
    ),
    Field::required(
        "message",
        Shape::Text(Grammar::Line),
        "What to say where it does not.",
    ),
]);

/// What the expression of a requirement may ask about.
pub(crate) const REQUIRED: &[&str] = &["service", "environment", "workload", "release"];

static ADDITION: Object = Object::of(&[Field::optional(
    "protections",
    USES,
    "Checks that must pass as well.",
)]);

/// Every field of a track that a policy may bound, with its path.
pub(crate) fn bounded() -> impl Iterator<Item = (String, &'static Field)> {
    let below = |field: &'static Field| {
        let fields = field.object().into_iter().flat_map(Object::fields);
        fields.map(|below| (join(field.name, below.name), below))
    };
    let own = TRACK.fields().map(|field| (field.name.to_owned(), field));
    own.chain(TRACK.fields().flat_map(below))
        .filter(|(_, field)| is_bounded(field))
}

fn is_bounded(field: &Field) -> bool {
    matches!(
        field.shape,
        Shape::Count { .. } | Shape::Span { .. } | Shape::Extent
    ) && !field.is_refused()
}
