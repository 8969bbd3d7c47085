//! Policies: rules over the compiled desired state, owned by other stakeholders than the service's.

use std::sync::Arc;

use holdfast_protocol::name::{InputSetName, PolicyName};

use crate::expression::Expression;

/// A policy as declared. What it sets, adds and limits is part of the tracks already.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: PolicyName,
    /// Who owns it; empty where nobody said.
    pub owner: String,
    /// The input set that declares it.
    pub set: InputSetName,
    /// What it does, in a few words for lists: `require 2, set rollout.soak`.
    pub summary: String,
}

/// What a policy requires.
#[derive(Debug, Clone, PartialEq)]
pub struct Requirement {
    /// Whose.
    pub policy: Arc<Policy>,
    /// What has to hold, over `service`, `environment`, `workload` and `release`.
    pub expression: Expression,
    /// What to say where it does not.
    pub message: String,
}
