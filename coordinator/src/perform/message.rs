//! An event as each channel is told it: pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_certs::webhook;
use holdfast_confine::output::plain;
use holdfast_protocol::api::event::Event;
use holdfast_protocol::name::NotifierName;
use holdfast_protocol::time::Timestamp;
use serde_json::{Value, json};

/// Media type of an event in structured mode (`CloudEvents` 1.0, JSON format).
pub const CLOUD_EVENT: &str = "application/cloudevents+json; charset=utf-8";
/// Media type of messages for people.
pub const JSON: &str = "application/json";
/// What a key in base64 begins with (Standard Webhooks).
const KEY_PREFIX: &str = "whsec_";

/// The number of a message: the same at every try, another for every event and notifier.
#[must_use]
pub fn id(notifier: &NotifierName, event: &Event) -> String {
    let hash = event.hash.to_string();
    let hash = hash.rsplit(':').next().unwrap_or_default();
    let hash = hash.get(..16).unwrap_or(hash);
    format!("msg_{}_{hash}_{notifier}", event.sequence)
}

/// The event as a `CloudEvent` of `source`, the installation's URI.
#[must_use]
pub fn cloud_event(source: &str, event: &Event) -> Value {
    let subject = match (&event.service, &event.environment, &event.target) {
        (Some(service), Some(environment), _) => Some(format!("{service}@{environment}")),
        (None, _, Some(target)) => Some(target.to_string()),
        (None, Some(environment), None) => Some(environment.to_string()),
        (Some(service), None, _) => Some(service.to_string()),
        (None, None, None) => None,
    };
    let mut body = json!({
        "specversion": "1.0",
        "id": event.sequence.to_string(),
        "source": source,
        "type": format!("holdfast.{}", event.kind),
        "time": event.at.to_string(),
        "datacontenttype": "application/json",
        "data": event,
    });
    if let Some(subject) = subject {
        body["subject"] = Value::String(subject);
    }
    body
}

/// The signature of a message (Standard Webhooks 1.0, symmetric): over its number, the time of this try
/// and its body.
///
/// # Errors
/// In words, when the key begins with `whsec_` and goes on with something else than base64.
pub fn signature(key: &str, id: &str, at: Timestamp, body: &str) -> Result<String, String> {
    let key = match key.strip_prefix(KEY_PREFIX) {
        Some(encoded) => STANDARD
            .decode(encoded)
            .map_err(|_| format!("the key begins with {KEY_PREFIX} and is not base64 after it"))?,
        None => key.as_bytes().to_vec(),
    };
    let signed = format!("{id}.{}.{body}", seconds(at));
    let code = webhook::code(&key, signed.as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(code)))
}

/// Seconds since 1970.
#[must_use]
pub const fn seconds(at: Timestamp) -> u64 {
    at.as_millis() / 1_000
}

/// The event for Slack, as Block Kit.
#[must_use]
pub fn slack(event: &Event) -> Value {
    let message = slack_text(&event.message);
    let mut about = vec![format!("*{}*", slack_text(&event.kind))];
    about.extend(
        facts(event)
            .into_iter()
            .map(|(name, value)| format!("{name}: {}", slack_text(&value))),
    );
    json!({
        "text": format!("{}: {message}", event.kind),
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": message}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": about.join(" · ")}]},
        ],
    })
}

/// The event for Teams, as an adaptive card.
#[must_use]
pub fn teams(event: &Event) -> Value {
    let facts: Vec<Value> = facts(event)
        .into_iter()
        .map(|(name, value)| json!({"title": name, "value": card_text(&value)}))
        .collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": [
                    {"type": "TextBlock", "text": card_text(&event.kind), "weight": "Bolder"},
                    {"type": "TextBlock", "text": card_text(&event.message), "wrap": true},
                    {"type": "FactSet", "facts": facts},
                ],
            },
        }],
    })
}

/// What people want to see beside the message.
fn facts(event: &Event) -> Vec<(&'static str, String)> {
    let texts = [
        ("service", event.service.as_ref().map(ToString::to_string)),
        (
            "environment",
            event.environment.as_ref().map(ToString::to_string),
        ),
        ("target", event.target.as_ref().map(ToString::to_string)),
        ("deployment", event.deployment.map(|id| id.to_string())),
        ("by", Some(shown(&event.actor))),
        ("at", Some(event.at.to_string())),
    ];
    texts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// Longest text that a message for people repeats, in bytes; Slack takes 3,000 characters.
const SHOWN_MAX_BYTES: usize = 2_500;

fn shown(text: &str) -> String {
    holdfast_confine::output::cut(plain(text.as_bytes()), SHOWN_MAX_BYTES)
}

/// Nothing in it means anything to Slack.
fn slack_text(text: &str) -> String {
    let text = shown(text);
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Nothing in it means anything to a card: its texts are Markdown, with emphasis, links and lists, and a
/// line break in them needs an empty line.
fn card_text(text: &str) -> String {
    let lines = shown(text);
    let lines: Vec<String> = lines.lines().map(card_line).collect();
    lines.join("\n\n")
}

fn card_line(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for (at, character) in line.char_indices() {
        let before = line[..at].trim_start();
        let ends_word = !line[at + character.len_utf8()..].starts_with(|c: char| c != ' ');
        let begins_list = match character {
            '-' | '+' | '#' | '>' => before.is_empty(),
            '.' | ')' if ends_word => {
                !before.is_empty() && before.bytes().all(|byte| byte.is_ascii_digit())
            }
            _ => false,
        };
        let marks = matches!(
            character,
            '\\' | '*' | '_' | '[' | ']' | '`' | '~' | '<' | '&'
        );
        if marks || begins_list {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

#[cfg(test)]
mod tests {
    use holdfast_protocol::digest::Digest;

    use super::*;

    fn event() -> Event {
        Event {
            sequence: 12,
            at: Timestamp::from_millis(1_614_265_330_000),
            kind: "deployment.stable".to_owned(),
            actor: "coordinator".to_owned(),
            message: "web <!channel> & 1.4.0\x1b[31m is stable".to_owned(),
            service: Some("web".parse().unwrap()),
            environment: Some("production".parse().unwrap()),
            target: None,
            deployment: Some(4),
            occurred_at: None,
            hash: Digest::of(b"event"),
        }
    }

    /// The example of the Standard Webhooks specification's own libraries.
    #[test]
    fn the_signature_is_that_of_the_standard() {
        let signed = signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            Timestamp::from_millis(1_614_265_330_000),
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(
            signed.unwrap(),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        let now = Timestamp::from_millis(0);
        assert!(signature("whsec_?", "id", now, "").is_err());
        assert!(signature("any other text", "id", now, "").is_ok());
    }

    #[test]
    fn an_event_is_a_cloud_event() {
        let body = cloud_event("spiffe://example", &event());
        assert_eq!(body["specversion"], "1.0");
        assert_eq!(body["type"], "holdfast.deployment.stable");
        assert_eq!(body["subject"], "web@production");
        assert_eq!(body["time"], "2021-02-25T15:02:10.000Z");
        assert_eq!(body["data"]["sequence"], 12);
    }

    #[test]
    fn nothing_in_a_message_acts_on_slack_or_on_a_terminal() {
        let body = slack(&event());
        let text = body["blocks"][0]["text"]["text"].as_str().unwrap();
        assert_eq!(text, "web &lt;!channel&gt; &amp; 1.4.0 is stable");
        let about = body["blocks"][1]["elements"][0]["text"].as_str().unwrap();
        assert!(
            about.starts_with("*deployment.stable* · service: web"),
            "{about}"
        );
        let card = teams(&event()).to_string();
        assert!(!card.contains("\\u001b"), "{card}");
    }

    #[test]
    fn nothing_in_a_message_acts_on_a_card() {
        let mut event = event();
        event.message = "- job_1 *failed* [here](http://x)\n1. step\n1.4.0 of web-front".to_owned();
        let card = teams(&event);
        let body = &card["attachments"][0]["content"]["body"];
        let text = body[1]["text"].as_str().unwrap();
        assert_eq!(
            text,
            "\\- job\\_1 \\*failed\\* \\[here\\](http://x)\n\n1\\. step\n\n1.4.0 of web-front"
        );
        assert_eq!(body[0]["text"], "deployment.stable");
        assert_eq!(body[2]["facts"][0]["value"], "web");
    }

    #[test]
    fn a_number_is_stable_and_of_one_notifier() {
        let (chat, pager) = ("chat".parse().unwrap(), "pager".parse().unwrap());
        assert_eq!(id(&chat, &event()), id(&chat, &event()));
        assert_ne!(id(&chat, &event()), id(&pager, &event()));
    }
}
