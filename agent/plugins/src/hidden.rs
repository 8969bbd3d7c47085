//! Values that must not be said: somebody else's words may repeat them.

use crate::Failure;

/// Shortest value that is looked for, in bytes: shorter ones are in every text.
const VALUE_MIN_BYTES: usize = 4;
/// What stands in its place.
const HIDDEN: &str = "***";

/// A failure without these values.
#[must_use]
pub fn hidden<'a>(failure: Failure, values: impl Iterator<Item = &'a String>) -> Failure {
    let mut values: Vec<&String> = values.filter(|one| one.len() >= VALUE_MIN_BYTES).collect();
    // One may be a part of another.
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    let without = |said: String| {
        values
            .iter()
            .fold(said, |said, value| said.replace(value.as_str(), HIDDEN))
    };
    match failure {
        Failure::Retryable(said) => Failure::Retryable(without(said)),
        Failure::Permanent(said) => Failure::Permanent(without(said)),
        Failure::Cancelled => Failure::Cancelled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_repeats_of_the_environment_is_hidden() {
        let values = ["hunter2", "hunter2-long", "no"].map(str::to_owned);
        let said = "Value '{A=hunter2-long, B=hunter2}' is no map".to_owned();
        let failure = hidden(Failure::Permanent(said), values.iter());
        let expected = "Value '{A=***, B=***}' is no map".to_owned();
        assert_eq!(failure, Failure::Permanent(expected));
        assert_eq!(
            hidden(Failure::Cancelled, values.iter()),
            Failure::Cancelled
        );
    }
}
