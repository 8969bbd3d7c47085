//! What `fetch` printed, and how it differs from what is expected. Pure.

use holdfast_protocol::digest::Digest;
use serde_json::Value;

/// Longest value that is shown, in characters.
const SHOWN_MAX: usize = 60;

/// What there is, by the word of `fetch`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    /// Nothing was printed.
    Nothing,
    /// One JSON value.
    Json(Value),
    /// Any other text.
    Text(String),
}

impl Found {
    pub(super) fn read(text: &str) -> Self {
        let text = text.trim();
        match serde_json::from_str(text) {
            Ok(value) => Self::Json(value),
            Err(_) if text.is_empty() => Self::Nothing,
            Err(_) => Self::Text(text.to_owned()),
        }
    }

    /// The same for the same state: the order and the spaces of JSON do not count.
    pub(super) fn digest(&self) -> Digest {
        match self {
            Self::Nothing => Digest::of(b""),
            Self::Json(value) => Digest::of(value.to_string().as_bytes()),
            Self::Text(text) => Digest::of(text.as_bytes()),
        }
    }

    /// The first thing that is not as expected: of objects, the fields that are named count, and
    /// everything else is to be equal. A text that is expected may be printed bare.
    pub(super) fn difference(&self, expect: &Value) -> Option<String> {
        match (self, expect) {
            (Self::Text(found), Value::String(wanted)) if found == wanted.trim() => None,
            (Self::Json(found), wanted) if as_printed(found, wanted) => None,
            (Self::Json(found), wanted) => differs(wanted, found, ""),
            (Self::Text(found), wanted) => Some(said("", wanted, &Value::String(found.clone()))),
            (Self::Nothing, _) => Some("fetch prints nothing".to_owned()),
        }
    }
}

/// Whether a text is expected that happens to look like JSON, such as a number.
fn as_printed(found: &Value, wanted: &Value) -> bool {
    wanted.as_str().is_some_and(|wanted| {
        serde_json::from_str::<Value>(wanted).is_ok_and(|wanted| wanted == *found)
    })
}

fn differs(wanted: &Value, found: &Value, path: &str) -> Option<String> {
    let (Value::Object(wanted), Value::Object(found)) = (wanted, found) else {
        return (wanted != found).then(|| said(path, wanted, found));
    };
    wanted.iter().find_map(|(key, wanted)| {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        match found.get(key) {
            Some(found) => differs(wanted, found, &path),
            None => Some(format!("{path}: expected {}, found nothing", shown(wanted))),
        }
    })
}

fn said(path: &str, wanted: &Value, found: &Value) -> String {
    let place = if path.is_empty() { "state" } else { path };
    format!(
        "{place}: expected {}, found {}",
        shown(wanted),
        shown(found)
    )
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN_MAX {
        return text;
    }
    let start: String = text.chars().take(SHOWN_MAX).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(printed: &str, expect: &Value) -> String {
        Found::read(printed).difference(expect).unwrap_or_default()
    }

    #[test]
    fn named_fields_are_compared_and_others_are_not() {
        let expect = json!({"size": 3, "disk": {"kind": "ssd"}});
        let printed = r#"{"age": 12, "disk": {"kind": "ssd", "free": 1}, "size": 3}"#;
        assert_eq!(check(printed, &expect), "");
        assert_eq!(
            check(r#"{"size": 3, "disk": {"kind": "hdd"}}"#, &expect),
            "disk.kind: expected \"ssd\", found \"hdd\""
        );
        assert_eq!(
            check(r#"{"disk": {"kind": "ssd"}}"#, &expect),
            "size: expected 3, found nothing"
        );
        assert_eq!(
            check("[1]", &json!([1, 2])),
            "state: expected [1,2], found [1]"
        );
        assert_eq!(check("", &expect), "fetch prints nothing");
    }

    #[test]
    fn texts_are_compared_bare() {
        assert_eq!(check("on\n", &json!("on")), "");
        assert_eq!(check("\"on\"", &json!("on")), "");
        assert_eq!(check("12", &json!("12")), "");
        assert_eq!(
            check("off", &json!("on")),
            "state: expected \"on\", found \"off\""
        );
        assert_eq!(
            check("off", &json!({"a": 1})),
            "state: expected {\"a\":1}, found \"off\""
        );
    }

    #[test]
    fn the_same_state_has_the_same_digest() {
        let one = Found::read("{\"a\": 1, \"b\": 2}");
        assert_eq!(one.digest(), Found::read("{\"b\":2,\"a\":1}").digest());
        assert_ne!(one.digest(), Found::read("{\"b\":2}").digest());
    }
}
