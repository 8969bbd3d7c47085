//! What is kept of answers.

use super::verdict;
use crate::compiled::protection::When;
use crate::track::check::{CheckResult, KeptResult, Verdict};
use holdfast_protocol::time::Timestamp;

fn result(name: &str, at: u64) -> KeptResult {
    KeptResult {
        name: name.parse().unwrap(),
        when: When::Post,
        verdict: Verdict {
            result: CheckResult::Failed,
            output: at.to_string(),
            at: Timestamp::from_millis(at),
        },
    }
}

#[test]
fn the_first_result_of_each_check_outlives_those_in_between() {
    let mut results: Vec<KeptResult> = vec![result("a", 1), result("b", 2)];
    results.extend((3..9).map(|at| result("a", at)));
    for _ in 0..5 {
        results.remove(verdict::least_worth(&results));
    }
    let kept: Vec<&str> = results.iter().map(|r| r.verdict.output.as_str()).collect();
    assert_eq!(kept, ["1", "2", "8"]);
}
