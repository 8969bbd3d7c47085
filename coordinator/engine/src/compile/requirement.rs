//! What policies require: judged here where it is about what is compiled, and kept for the gates where
//! it is about a release.

use serde_json::{Value, json};

use crate::compile::Report;
use crate::compile::field::text;
use crate::compile::policy::Rule;
use crate::compile::track::Merged;
use crate::compiled::{Configuration, Requirement};
use crate::expression::Expression;
use crate::manifest::kinds::policy::REQUIRED;

/// A requirement, and whether it can be judged without a release.
pub(super) struct Demand {
    requirement: Requirement,
    is_timeless: bool,
}

/// What each of the policies requires, in their order.
pub(super) fn demands(rules: &[Rule<'_>]) -> Vec<Vec<Demand>> {
    rules.iter().map(of_rule).collect()
}

fn of_rule(rule: &Rule<'_>) -> Vec<Demand> {
    let without_release: Vec<&str> = REQUIRED
        .iter()
        .copied()
        .filter(|name| *name != RELEASE)
        .collect();
    let demands = rule.required().iter().filter_map(|node| {
        let written = text(node.at("expression")?);
        Some(Demand {
            requirement: Requirement {
                policy: std::sync::Arc::clone(&rule.policy),
                expression: Expression::parse(written, REQUIRED).ok()?,
                message: node.at("message").map_or("", text).to_owned(),
            },
            is_timeless: Expression::parse(written, &without_release).is_ok(),
        })
    });
    demands.collect()
}

/// Reports what a track violates, at its service; gives what has to be asked of each release.
pub(super) fn judged<'d>(
    demands: impl Iterator<Item = &'d Demand>,
    configuration: &Configuration,
    merged: &Merged<'_>,
    report: &mut Report<'_>,
) -> Vec<Requirement> {
    let mut later = Vec::new();
    let mut values = None;
    for demand in demands {
        let requirement = &demand.requirement;
        if !demand.is_timeless {
            later.push(requirement.clone());
            continue;
        }
        let values = values.get_or_insert_with(|| subject(configuration));
        let why = match requirement.expression.holds(values) {
            Ok(true) => continue,
            Ok(false) => None,
            Err(why) => Some(why),
        };
        refuse(requirement, why, merged, report);
    }
    later
}

fn subject(configuration: &Configuration) -> Value {
    json!({
        "service": configuration.service,
        "environment": configuration.environment,
        "workload": configuration.workload(),
    })
}

fn refuse(
    requirement: &Requirement,
    why: Option<String>,
    merged: &Merged<'_>,
    report: &mut Report<'_>,
) {
    let policy = &requirement.policy;
    let owner = match policy.owner.as_str() {
        "" => String::new(),
        owner => format!(" of {owner}"),
    };
    let message = format!(
        "{} violates policy {}{owner}: {}",
        merged.words(),
        policy.name,
        requirement.message
    );
    let expression = requirement.expression.text();
    let help = match why {
        None => format!("it has to hold that {expression}"),
        Some(why) => format!("it has to hold that {expression}; it cannot be judged: {why}"),
    };
    report.add(
        merged.service,
        merged.service.document.place,
        message,
        Some(help),
    );
}

const RELEASE: &str = "release";
