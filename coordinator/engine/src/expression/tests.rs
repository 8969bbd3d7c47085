//! What is asked and answered, what is refused and how it says so, and that nothing takes long.

use serde_json::json;

use super::*;

const NAMES: [&str; 6] = [
    "service",
    "environment",
    "release",
    "deployment",
    "observed",
    "workload",
];

fn parse(text: &str) -> Result<Expression, ExpressionError> {
    Expression::parse(text, &NAMES)
}

#[test]
fn a_question_over_values_is_answered() {
    let expression = parse("workload.image.startsWith('registry.internal/')").expect("fine");
    let inside = json!({"workload": {"image": "registry.internal/web"}});
    let outside = json!({"workload": {"image": "docker.example/web"}});
    assert_eq!(expression.holds(&inside), Ok(true));
    assert_eq!(expression.holds(&outside), Ok(false));
}
