//! What policies bound: whether every value of a track is within.

use std::cmp::Ordering;
use std::time::Duration;

use holdfast_protocol::time::parse_span;

use crate::compile::Report;
use crate::compile::policy::Rule;
use crate::compile::track::Merged;
use crate::compiled::Layer;
use crate::manifest::node::Node;
use crate::manifest::{AT_LEAST, AT_MOST, Reach, read_extent};

/// Reports every value of a track that a policy does not allow, where the value stands. A bound of
/// something that a track does not have says nothing.
pub(super) fn check(merged: &Merged<'_>, rules: &[&Rule<'_>], report: &mut Report<'_>) {
    for rule in rules {
        for limit in rule.limits() {
            let field = Field {
                merged,
                rule,
                path: &limit.key,
            };
            if let Some(least) = limit.node.at(AT_LEAST) {
                field.compare(least, Ordering::Less, "less", report);
            }
            if let Some(most) = limit.node.at(AT_MOST) {
                field.compare(most, Ordering::Greater, "more", report);
            }
        }
    }
}

/// A field that a policy bounds.
struct Field<'f, 'a> {
    merged: &'f Merged<'a>,
    rule: &'f Rule<'a>,
    path: &'f str,
}

impl Field<'_, '_> {
    fn compare(&self, bound: &Node, outside: Ordering, word: &str, report: &mut Report<'_>) {
        let allows = format!("allows no {word} than {}", shown(bound));
        let Some((value, source)) = self.merged.tree.leaf_at(self.path) else {
            return;
        };
        let by_default = match source.layer {
            Layer::Default => " by default",
            Layer::Service
            | Layer::Environment
            | Layer::Override
            | Layer::Variant
            | Layer::Policy => "",
        };
        match Measure::of(value)
            .zip(Measure::of(bound))
            .map(|(a, b)| a.compared(b))
        {
            Some(Some(ordering)) if ordering == outside => {
                self.refuse(&format!("is {}{by_default}", shown(value)), &allows, report);
            }
            Some(Some(_)) => {}
            Some(None) | None => {
                let allows = format!("{allows}, which cannot be compared with it");
                self.refuse(&format!("is {}{by_default}", shown(value)), &allows, report);
            }
        }
    }

    fn refuse(&self, is: &str, allows: &str, report: &mut Report<'_>) {
        let policy = &self.rule.policy;
        let (owned, place) = self.merged.place_of(self.path);
        let message = format!("`{}` {is}, and policy {} {allows}", self.path, policy.name);
        let document = self.rule.owned.document;
        let owner = match policy.owner.as_str() {
            "" => String::new(),
            owner => format!(", owned by {owner}"),
        };
        let help = format!(
            "it counts for {}; the policy is described in {}{owner}",
            self.merged.words(),
            document.described_in()
        );
        report.add(owned, place, message, Some(help));
    }
}

/// What can be compared.
#[derive(Clone, Copy)]
enum Measure {
    Count(u64),
    Span(Duration),
    Share(u8),
}

impl Measure {
    fn of(node: &Node) -> Option<Self> {
        if let Some(count) = node.number() {
            return Some(Self::Count(count));
        }
        match read_extent(node) {
            Some(Reach::Percent(share)) => Some(Self::Share(share)),
            Some(Reach::Count(_)) | None => Some(Self::Span(parse_span(node.text()?).ok()?)),
        }
    }

    fn compared(self, bound: Self) -> Option<Ordering> {
        match (self, bound) {
            (Self::Count(value), Self::Count(bound)) => Some(value.cmp(&bound)),
            (Self::Span(value), Self::Span(bound)) => Some(value.cmp(&bound)),
            (Self::Share(value), Self::Share(bound)) => Some(value.cmp(&bound)),
            (Self::Count(_) | Self::Span(_) | Self::Share(_), _) => None,
        }
    }
}

fn shown(node: &Node) -> String {
    match (node.text(), node.number()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(number)) => number.to_string(),
        (None, None) => node.kind().to_owned(),
    }
}
