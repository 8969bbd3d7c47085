//! Texts: their grammars, spans of time, expressions, windows.

use std::time::Duration;

use holdfast_protocol::image::Repository;
use holdfast_protocol::login::check_host;
use holdfast_protocol::name::{EnvironmentName, LabelKey, LabelValue, NameError, Version};
use holdfast_protocol::time::{friendly, parse_span};

use super::{At, Check, Whole};
use crate::calendar::{DURATION_MIN, Window, WindowError};
use crate::diagnostic::count;
use crate::expression::{Expression, ExpressionError};
use crate::manifest::kinds::API_VERSION;
use crate::manifest::node::{Node, NodeValue};
use crate::manifest::shape::{Grammar, Object};

impl Check<'_> {
    pub(super) fn text(&mut self, at: &At<'_>, wanted: Grammar) {
        match at.node.text() {
            None => {
                let help = match &at.node.value {
                    NodeValue::Number(number) => Some(format!("write \"{number}\"")),
                    NodeValue::Flag(flag) => Some(format!("write \"{flag}\"")),
                    NodeValue::Null
                    | NodeValue::Text(_)
                    | NodeValue::List(_)
                    | NodeValue::Map(_) => None,
                };
                self.wrong(at, "text", help);
            }
            Some(text) => {
                if let Err(message) = grammar(wanted, text) {
                    let help =
                        (wanted == Grammar::ApiVersion).then(|| format!("write {API_VERSION}"));
                    self.problem(at.place, message, help);
                }
            }
        }
    }

    pub(super) fn span(&mut self, at: &At<'_>, least_ms: u64, most_ms: u64) {
        let Some(text) = at.node.text() else {
            let help = Some("write a number and a unit, such as 30s, 10m, 1h 30m".to_owned());
            return self.wrong(at, "a duration", help);
        };
        let [least, most] = [least_ms, most_ms].map(Duration::from_millis);
        match parse_span(text) {
            Err(message) => self.problem(at.place, message, None),
            Ok(span) if span < least || span > most => {
                let [least, most] = [least, most].map(friendly);
                let message = format!("`{}` has to be from {least} to {most}", at.name());
                self.problem(at.place, message, None);
            }
            Ok(_) => {}
        }
    }

    /// The expression, and where in it something is wrong.
    pub(super) fn expression(&mut self, at: &At<'_>, names: &[&str]) {
        let Some(text) = at.node.text() else {
            return self.wrong(at, "an expression", Some("write it in quotes".to_owned()));
        };
        if let Err(error) = Expression::parse(text, names) {
            let place = self.place_in(at, text, &error);
            let message = format!("`{}`: {}", at.name(), error.problem());
            self.problem(place, message, error.help().map(str::to_owned));
        }
    }

    /// Where in the file an expression is wrong: from there to the end of its word.
    fn place_in(
        &self,
        at: &At<'_>,
        text: &str,
        error: &ExpressionError,
    ) -> crate::diagnostic::Place {
        let Some((line, column)) = error.place() else {
            return at.place;
        };
        let line = text.lines().nth(line as usize - 1).unwrap_or_default();
        let rest: String = line.chars().skip(column as usize - 1).collect();
        if rest.trim().is_empty() {
            return at.place;
        }
        let found = self.file.narrowed(at.place, &rest);
        if found == at.place {
            return found;
        }
        let word = rest
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_');
        let length = count(word.count()).max(1);
        crate::diagnostic::Place { length, ..found }
    }

    /// An object that says when something may happen.
    pub(super) fn window(&mut self, at: &At<'_>, object: &'static Object) {
        let before = self.problems.len();
        self.object(at, object, Whole::Yes);
        if self.problems.len() > before {
            return;
        }
        if let Err(error) = read_window(at.node) {
            let field = match &error {
                WindowError::Start(_) | WindowError::Never(_) => "start",
                WindowError::Timezone { .. } => "timezone",
                WindowError::Duration(_) => "duration",
            };
            let place = at.node.at(field).map_or(at.place, |node| node.place);
            let message = format!("`{}.{field}`: {error}", at.name());
            self.problem(place, message, Some(error.help()));
        }
    }
}

/// The window that a value is; one without a duration is as short as can be.
pub(crate) fn read_window(node: &Node) -> Result<Window, WindowError> {
    let text = |key| node.at(key).and_then(Node::text).unwrap_or_default();
    let duration = match node.at("duration") {
        Some(_) => parse_span(text("duration")).unwrap_or_default(),
        None => DURATION_MIN,
    };
    Window::parse(text("start"), duration, text("timezone"))
}

pub(super) fn grammar(wanted: Grammar, text: &str) -> Result<(), String> {
    let refused = |e: NameError| format!("{:?} {}", e.text, e.problem);
    match wanted {
        Grammar::ApiVersion if text == API_VERSION => Ok(()),
        Grammar::ApiVersion => Err(format!("{text:?} is not an apiVersion of this program")),
        Grammar::Name => EnvironmentName::parse(text).map(drop).map_err(refused),
        Grammar::LabelKey => LabelKey::parse(text).map(drop).map_err(refused),
        Grammar::LabelValue => LabelValue::parse(text).map(drop).map_err(refused),
        Grammar::Variable => variable(text),
        Grammar::FileName => file_name(text),
        Grammar::Repository => Repository::parse(text).map(drop),
        Grammar::Host => check_host(text),
        Grammar::Runtime => runtime(text),
        Grammar::Version => Version::parse(text).map(drop).map_err(refused),
        Grammar::Range => range(text),
        Grammar::Url if text.starts_with("{{") => Ok(()),
        Grammar::Url | Grammar::Address => url(text),
        Grammar::Line if text.contains(char::is_control) => {
            Err("has to be one line without control characters".to_owned())
        }
        Grammar::Line | Grammar::Template => Ok(()),
    }
}

fn variable(text: &str) -> Result<(), String> {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let goes_on = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if starts && goes_on && text.len() <= NAME_MAX_BYTES {
        return Ok(());
    }
    Err(format!(
        "{text:?} is not the name of a variable: a letter, then letters, digits and underscores"
    ))
}

fn file_name(text: &str) -> Result<(), String> {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let rest = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b));
    if first && rest && text.len() <= FILE_NAME_MAX_BYTES {
        return Ok(());
    }
    Err(format!(
        "{text:?} is not a plain file name: a letter or digit, then letters, digits and . _ + -"
    ))
}

fn runtime(text: &str) -> Result<(), String> {
    let name = text.strip_prefix("plugin/").unwrap_or(text);
    match EnvironmentName::parse(name) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("runtime {:?} {}", error.text, error.problem)),
    }
}

fn range(text: &str) -> Result<(), String> {
    semver::VersionReq::parse(text).map(drop).map_err(|why| {
        format!("{text:?} is not a range of versions such as ^1.4 or >=2, <3: {why}")
    })
}

fn url(text: &str) -> Result<(), String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let sound =
        |rest: &str| !rest.starts_with('/') && !rest.is_empty() && !text.contains(char::is_control);
    match rest {
        Some(rest) if sound(rest) => Ok(()),
        Some(_) | None => Err(format!(
            "{text:?} is not an address: write http://HOST/… or https://HOST/…"
        )),
    }
}

/// Longest name of a variable, in bytes.
const NAME_MAX_BYTES: usize = 63;
/// Longest file name of an artifact, in bytes.
const FILE_NAME_MAX_BYTES: usize = 128;
