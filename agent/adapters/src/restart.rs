//! What is to be done when a workload ends by itself: pure, asked by the agent's plan.

use std::time::Duration;

/// The restart rule of one workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// When to start it again.
    pub policy: Policy,
    /// The pause before the second restart in a row; the first one comes at once.
    pub initial: Duration,
    /// The longest pause; each is twice the one before.
    pub max: Duration,
}

/// When a workload that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Always.
    #[default]
    Always,
    /// Unless it exited with 0.
    OnFailure,
    /// Never.
    Never,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: Policy::Always,
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
        }
    }
}

/// The restart rule that a workload's template asks for; the default where the runtime has none.
#[must_use]
pub fn of(runtime: &str, template: &serde_json::Value) -> Restart {
    match runtime {
        "process" => crate::process::spec::restart(template),
        "systemd" => crate::systemd::spec::restart(template),
        "container" => crate::container::spec::restart(template),
        _ => Restart::default(),
    }
}
