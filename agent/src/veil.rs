//! What workloads write, without the values of the secrets that they were given: a program that fails
//! often prints its whole environment, and its last words travel to the coordinator and stay there.
//!
//! *Limits:* a value is found line by line and as it is; one that its workload changes first, to Base64
//! or with escapes of JSON, is not.

use holdfast_adapters::secret::masked;
use holdfast_protocol::stream::LogLine;
use zeroize::Zeroizing;

/// The values to be looked for; wiped when dropped, and never shown.
pub struct Veil(Vec<Zeroizing<String>>);

impl std::fmt::Debug for Veil {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Veil").finish_non_exhaustive()
    }
}

impl Veil {
    /// Over `values`. Those that are no text cannot stand in a line.
    pub fn over(values: impl IntoIterator<Item = Zeroizing<Vec<u8>>>) -> Self {
        let text = |value: Zeroizing<Vec<u8>>| {
            let text = std::str::from_utf8(&value).ok()?;
            Some(Zeroizing::new(text.to_owned()))
        };
        Self(values.into_iter().filter_map(text).collect())
    }

    /// Whether there is nothing to be looked for.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The line, with `[secret]` where a value stood.
    #[must_use]
    pub fn cover(&self, line: LogLine) -> LogLine {
        let values = self.0.iter().map(|value| value.as_str());
        LogLine {
            text: masked(values, line.text),
            ..line
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_covered_wherever_it_stands_and_each_of_its_lines() {
        let value = |bytes: &[u8]| Zeroizing::new(bytes.to_vec());
        let veil = Veil::over([
            value(b"hunter2"),
            value(b"hunter2-and-more"),
            value(b"first line\nsecond\n"),
        ]);
        let cover = |text: &str| {
            let text = text.to_owned();
            veil.cover(LogLine { at: None, text }).text
        };
        assert_eq!(cover("PASSWORD=hunter2-and-more;"), "PASSWORD=[secret];");
        assert_eq!(
            cover("a second one, first line"),
            "a [secret] one, [secret]"
        );
        assert_eq!(cover("hunter2-and-more"), "[secret]", "hunter2 is one, too");
        assert_eq!(cover("nothing of it"), "nothing of it");
        assert!(Veil::over([value(&[0xff, 0xfe])]).is_empty());
        assert_eq!(format!("{veil:?}"), "Veil { .. }");
    }
}
