//! Points in time and spans as they are stored and sent: whole milliseconds.

use std::fmt;
use std::time::Duration;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, without leap seconds. In JSON and for
/// people it is RFC 3339 in UTC.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Encode,
    Decode,
    Serialize,
    Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(u64);

/// Why a text is not a point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time in RFC 3339 form, such as 2026-11-21T06:36:00Z")]
pub struct TimestampError(String);

impl Timestamp {
    /// From milliseconds since the epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This time and `span` later; the end of time where that overflows.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// How long after `earlier` this is; nothing where it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Whole milliseconds of a span, saturating.
#[must_use]
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A span for people and JSON, in the form manifests use: `1h 30m`, `250ms`, `0s`.
#[must_use]
pub fn friendly(span: Duration) -> String {
    let total = millis(span);
    let parts = [
        (total / 86_400_000, "d"),
        (total / 3_600_000 % 24, "h"),
        (total / 60_000 % 60, "m"),
        (total / 1000 % 60, "s"),
        (total % 1000, "ms"),
    ];
    let text: Vec<String> = parts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, unit)| format!("{n}{unit}"))
        .collect();
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text.join(" ")
    }
}

/// Reads a span in the form of [`friendly`]: `90s`, `1h 30m`, `1h30m`, `250ms`.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let refused = || {
        format!("{text:?} is not a duration: write a number and a unit, such as 90s, 10m, 1h 30m")
    };
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(refused());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let scale = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(refused()),
        };
        let number: u64 = number.parse().map_err(|_| refused())?;
        let part = number.checked_mul(scale).ok_or_else(refused)?;
        total = total.checked_add(part).ok_or_else(refused)?;
        rest = tail.trim_start();
    }
    Ok(Duration::from_millis(total))
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = i64::try_from(self.0)
            .ok()
            .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
            .unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{time:.3}")
    }
}

impl std::str::FromStr for Timestamp {
    type Err = TimestampError;
    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let refused = || TimestampError(text.chars().take(80).collect());
        let time: jiff::Timestamp = text.parse().map_err(|_| refused())?;
        u64::try_from(time.as_millisecond())
            .map(Self)
            .map_err(|_| refused())
    }
}

impl TryFrom<String> for Timestamp {
    type Error = TimestampError;
    fn try_from(text: String) -> Result<Self, TimestampError> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .into()
    }
}

impl utoipa::ToSchema for Timestamp {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_rfc_3339_and_read_back() {
        let time = Timestamp::from_millis(1_795_329_360_250);
        assert_eq!(time.to_string(), "2026-11-22T06:36:00.250Z");
        assert_eq!("2026-11-22T06:36:00.250Z".parse(), Ok(time));
        assert!("yesterday".parse::<Timestamp>().is_err());
        assert!("1969-01-01T00:00:00Z".parse::<Timestamp>().is_err());
    }

    #[test]
    fn a_span_is_written_as_people_write_it() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("1h 30m", 5_400_000),
            ("2d", 172_800_000),
        ] {
            assert_eq!(friendly(Duration::from_millis(millis)), text);
            assert_eq!(parse_span(text), Ok(Duration::from_millis(millis)));
        }
        assert_eq!(parse_span("1h30m"), Ok(Duration::from_secs(5400)));
        for bad in [
            "",
            "10",
            "m",
            "10 parsecs",
            "-1s",
            "99999999999999999999s",
            "1.5s",
        ] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }
}
