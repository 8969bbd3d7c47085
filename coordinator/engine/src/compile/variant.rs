//! What a service is on targets of other kinds: each variant by itself, and that no target is meant by
//! two of them.

use std::sync::Arc;

use holdfast_protocol::name::VariantName;

use crate::compile::Report;
use crate::compile::configuration::{configuration, selector};
use crate::compile::layers;
use crate::compile::policy::Rule;
use crate::compile::track::Merged;
use crate::compiled::{Rollout, Selector, Variant};
use crate::manifest::node::Node;
use crate::track::TrackName;

/// A variant with the layers that it comes from.
pub(super) type Differing<'a> = (Merged<'a>, VariantName, Variant);

/// The variants of a track, by name. One that says not which targets it means, and two that can mean the
/// same target, are reported.
pub(super) fn of<'a>(
    merged: &Merged<'a>,
    rules: &[&Rule<'a>],
    (name, rollout): (&TrackName, &Rollout),
    report: &mut Report<'_>,
) -> Vec<Differing<'a>> {
    let track = (merged.service, merged.environment);
    let mut variants: Vec<Differing<'a>> = Vec::new();
    for called in layers::variants(track, rules) {
        let Ok(variant) = VariantName::parse(called) else {
            continue;
        };
        let there = Merged {
            tree: layers::variant(track, rules, called).tree,
            service: merged.service,
            environment: merged.environment,
        };
        let when = selector(&there.tree, "when");
        let configuration = Arc::new(configuration(name, &there.tree, rollout));
        if when.labels.is_empty() {
            unsaid(&there, &variant, report);
        } else {
            variants.push((
                there,
                variant,
                Variant {
                    when,
                    configuration,
                },
            ));
        }
    }
    for (at, variant) in variants.iter().enumerate() {
        for other in &variants[..at] {
            apart(variant, other, report);
        }
    }
    variants
}

fn unsaid(merged: &Merged<'_>, variant: &VariantName, report: &mut Report<'_>) {
    let said = |spec: &Node| Some(spec.at("variants")?.entry(variant.as_str())?.place);
    let own = merged.service.document.spec().and_then(said);
    let there = layers::exception(merged.service.document, merged.environment.document);
    let place = own.or_else(|| there.and_then(said));
    let (owned, place) = match place {
        Some(place) => (merged.service, place),
        None => merged.place_of("when"),
    };
    let message = format!(
        "variant {variant} of {} does not say which targets it means",
        merged.words()
    );
    let help = "give it `when: {matchLabels: {KEY: VALUE}}`".to_owned();
    report.add(owned, place, message, Some(help));
}

/// Reports two variants that a target could be meant by both of: which one holds would be chance.
fn apart(
    (merged, name, one): &Differing<'_>,
    (_, other, two): &Differing<'_>,
    report: &mut Report<'_>,
) {
    let differs = |(key, value): (&_, &_)| {
        let there = two.when.labels.get(key);
        there.is_some_and(|there| there != value)
    };
    if one.when.labels.iter().any(differs) {
        return;
    }
    let (owned, place) = merged.place_of("when");
    let both = both(&one.when, &two.when);
    let message = format!(
        "variants {other} and {name} of {} both mean a target with {both}",
        merged.words()
    );
    let help = "give both the same label with different values".to_owned();
    report.add(owned, place, message, Some(help));
}

/// The labels of a target that both mean.
fn both(one: &Selector, two: &Selector) -> Selector {
    let labels = one.labels.iter().chain(&two.labels);
    Selector {
        labels: labels
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    }
}
