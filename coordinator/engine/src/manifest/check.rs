//! Compares a document with the shape of its kind and says everything that is wrong with it.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast_protocol::name::{EnvironmentName, LabelKey, LabelValue, NameError};
use holdfast_protocol::time::{friendly, parse_span};

use crate::diagnostic::{Place, Problems, SourceFile, nearest, suggestion};
use crate::manifest::kinds::API_VERSION;
use crate::manifest::node::{Entry, Node, NodeValue};
use crate::manifest::shape::{Field, Grammar, Need, Object, Shape};

/// Whether an object is complete, or overrides parts of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whole {
    Yes,
    No,
}

/// Adds what is wrong with `node` as `shape` to `problems`. `path` is where it stands in its document.
pub(crate) fn check(
    file: &SourceFile,
    node: &Node,
    object: &'static Object,
    problems: &mut Problems,
) {
    let mut check = Check { file, problems };
    check.object(
        &At {
            node,
            place: node.place,
            key: node.place,
            path: String::new(),
        },
        object,
        Whole::Yes,
    );
}

struct Check<'a> {
    file: &'a SourceFile,
    problems: &'a mut Problems,
}

/// A value, its path, and the place to show where something about it is wrong.
struct At<'n> {
    node: &'n Node,
    place: Place,
    /// The place of its key, to say that something is missing in it.
    key: Place,
    path: String,
}

impl<'n> At<'n> {
    fn below(&self, entry: &'n Entry) -> Self {
        let absent = entry.node.value == NodeValue::Null;
        Self {
            node: &entry.node,
            place: if absent {
                entry.place
            } else {
                entry.node.place
            },
            key: entry.place,
            path: join(&self.path, &entry.key),
        }
    }

    fn item(&self, index: usize, node: &'n Node) -> Self {
        Self {
            node,
            place: node.place,
            key: node.place,
            path: format!("{}[{index}]", self.path),
        }
    }

    fn name(&self) -> &str {
        if self.path.is_empty() {
            "the document"
        } else {
            &self.path
        }
    }
}

impl Check<'_> {
    fn value(&mut self, at: &At<'_>, shape: &'static Shape, whole: Whole) {
        match shape {
            Shape::Object(object) => self.object(at, object, whole),
            Shape::Overrides(object) => self.object(at, object, Whole::No),
            Shape::Table { key, value } => self.table(at, *key, value),
            Shape::List(of) => self.list(at, of),
            Shape::Text(grammar) => self.text(at, *grammar),
            Shape::Word(words) => {
                let known = || words.iter().filter(|w| w.supported).map(|w| w.word);
                match at.node.text() {
                    Some(text) if known().any(|w| w == text) => {}
                    Some(text) if words.iter().any(|w| w.word == text) => {
                        let message = format!(
                            "`{}: {text}` is not supported by this version yet",
                            at.name()
                        );
                        self.problem(at.place, message, suggestion("", known()));
                    }
                    Some(text) => {
                        let message = format!("`{text}` is not a word for `{}`", at.name());
                        self.problem(at.place, message, suggestion(text, known()));
                    }
                    None => self.wrong(at, "a word", suggestion("", known())),
                }
            }
            Shape::Count { least, most } => self.count(at, *least, *most),
            Shape::Span { least_ms, most_ms } => self.span(at, *least_ms, *most_ms),
            Shape::Extent => self.extent(at, "a number from 1, or a share such as 25%"),
            Shape::Wave => self.wave(at),
            Shape::Percent => self.percent(at),
            Shape::Flag => {
                if !matches!(at.node.value, NodeValue::Flag(_)) {
                    self.wrong(at, "true or false", None);
                }
            }
            Shape::Any => {}
            Shape::AnyObject => {
                if !matches!(at.node.value, NodeValue::Map(_)) {
                    self.wrong(at, "an object", Some("write {key: value}".to_owned()));
                }
            }
            Shape::TextOr(grammar, object) => match at.node.value {
                NodeValue::Text(_) => self.text(at, *grammar),
                NodeValue::Map(_) => self.object(at, object, Whole::Yes),
                NodeValue::Null
                | NodeValue::Flag(_)
                | NodeValue::Number(_)
                | NodeValue::List(_) => {
                    self.wrong(at, "text or an object", None);
                }
            },
        }
    }

    fn object(&mut self, at: &At<'_>, object: &'static Object, whole: Whole) {
        if !matches!(at.node.value, NodeValue::Map(_)) {
            let help =
                suggestion("", object.names()).map(|known| known.replace("known are", "with"));
            return self.wrong(at, "an object", help);
        }
        for entry in at.node.entries() {
            match object.field(&entry.key) {
                Some(field) => self.field(&at.below(entry), entry, field, whole),
                None => self.unknown(at, entry, object),
            }
        }
        let required = |f: &&Field| matches!(f.need, Need::Required);
        for field in object
            .fields
            .iter()
            .filter(required)
            .filter(|_| whole == Whole::Yes)
        {
            if at.node.at(field.name).is_none() {
                let message = format!("`{}` is missing", join(&at.path, field.name));
                self.problem(at.key, message, Some(field.doc.to_owned()));
            }
        }
        self.one_of(at, object, whole);
    }

    fn field(&mut self, at: &At<'_>, entry: &Entry, field: &'static Field, whole: Whole) {
        if let Need::Refused(why) = field.need {
            let message = format!("`{}` {why}", at.path);
            return self.problem(entry.place, message, None);
        }
        if at.node.value == NodeValue::Null {
            // Null stands for "as if it were not there"; what is required was looked for above.
            return;
        }
        self.value(at, &field.shape, whole);
    }

    fn unknown(&mut self, at: &At<'_>, entry: &Entry, object: &'static Object) {
        let message = match at.path.as_str() {
            "" => format!("unknown field `{}`", entry.key),
            path => format!("unknown field `{}` in `{path}`", entry.key),
        };
        self.problem(entry.place, message, suggestion(&entry.key, object.names()));
    }

    fn one_of(&mut self, at: &At<'_>, object: &'static Object, whole: Whole) {
        let given: Vec<_> = object
            .one_of
            .iter()
            .filter_map(|name| at.node.entry(name))
            .collect();
        let words = object.one_of.join(", ");
        match given.as_slice() {
            [] if whole == Whole::Yes && !object.one_of.is_empty() => {
                // A refused alternative has said so itself.
                let refused = |e: &Entry| object.field(&e.key).is_some_and(Field::is_refused);
                if !at.node.entries().iter().any(refused) {
                    let message = format!("`{}` needs one of: {words}", at.name());
                    self.problem(at.key, message, None);
                }
            }
            [] | [_] => {}
            [_, second, ..] => {
                let message = format!("`{}` takes only one of: {words}", at.name());
                self.problem(second.place, message, None);
            }
        }
    }

    fn table(&mut self, at: &At<'_>, key: Grammar, value: &'static Shape) {
        if !matches!(at.node.value, NodeValue::Map(_)) {
            return self.wrong(at, "an object", Some("write {key: value}".to_owned()));
        }
        for entry in at.node.entries() {
            if let Err(message) = grammar(key, &entry.key) {
                self.problem(entry.place, message, None);
            }
            if entry.node.value != NodeValue::Null {
                self.value(&at.below(entry), value, Whole::Yes);
            }
        }
    }

    fn list(&mut self, at: &At<'_>, of: &'static Shape) {
        if !matches!(at.node.value, NodeValue::List(_)) {
            return self.wrong(at, "a list", Some("write [one, another]".to_owned()));
        }
        for (index, item) in at.node.items().iter().enumerate() {
            self.value(&at.item(index, item), of, Whole::Yes);
        }
        if matches!(of, Shape::Wave) {
            self.waves(at);
        }
        if matches!(of, Shape::Text(Grammar::Name)) {
            self.names(at);
        }
    }

    /// A list of names holds each once.
    fn names(&mut self, at: &At<'_>) {
        let mut seen = BTreeSet::new();
        for item in at.node.items() {
            if let Some(name) = item.text().filter(|name| !seen.insert(*name)) {
                let message = format!("`{name}` is in `{}` twice", at.name());
                self.problem(item.place, message, None);
            }
        }
    }

    fn text(&mut self, at: &At<'_>, wanted: Grammar) {
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

    fn count(&mut self, at: &At<'_>, least: u32, most: u32) {
        let bounds = u64::from(least)..=u64::from(most);
        if !at.node.number().is_some_and(|n| bounds.contains(&n)) {
            self.wrong(at, &format!("a whole number from {least} to {most}"), None);
        }
    }

    fn span(&mut self, at: &At<'_>, least_ms: u64, most_ms: u64) {
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

    fn extent(&mut self, at: &At<'_>, expected: &str) {
        if read_extent(at.node).is_none() {
            self.wrong(at, expected, None);
        }
    }

    fn percent(&mut self, at: &At<'_>) {
        let percent = |text: &str| text.strip_suffix('%').and_then(|n| n.parse::<u8>().ok());
        let share = at.node.text().and_then(percent);
        if share.is_none_or(|share| share > 100) {
            self.wrong(at, "a share from 0% to 100%", None);
        }
    }

    fn wave(&mut self, at: &At<'_>) {
        if matches!(at.node.value, NodeValue::Map(_)) {
            let message = "a wave chosen by labels is not supported by this version yet".to_owned();
            return self.problem(at.place, message, None);
        }
        self.extent(at, "a number of targets from 1, or a share such as 25%");
    }

    /// Each wave has to reach further than the one before, and the last one everything.
    fn waves(&mut self, at: &At<'_>) {
        let items = at.node.items();
        let reach: Vec<_> = items.iter().map(read_extent).collect();
        for (index, pair) in reach.windows(2).enumerate() {
            let [Some(before), Some(after)] = pair else {
                continue;
            };
            if !after.reaches_beyond(*before) {
                let place = items.get(index + 1).map_or(at.place, |item| item.place);
                let message = "this wave does not reach further than the one before it".to_owned();
                let help = "counts come first, then shares, each larger than the one before";
                self.problem(place, message, Some(help.to_owned()));
            }
        }
        let last = items.last().map_or(at.place, |item| item.place);
        if reach.iter().all(Option::is_some) && reach.last() != Some(&Some(Reach::Percent(100))) {
            let message = "the last wave has to reach every target".to_owned();
            self.problem(last, message, Some("end the list with 100%".to_owned()));
        }
    }

    fn wrong(&mut self, at: &At<'_>, expected: &str, help: Option<String>) {
        let message = match (&at.node.value, at.node.kind()) {
            (NodeValue::Number(number), _) => {
                format!("`{}` has to be {expected}, not {number}", at.name())
            }
            (NodeValue::Text(text), _) if text.len() < 40 => {
                format!("`{}` has to be {expected}, not {text:?}", at.name())
            }
            (_, kind) => format!("`{}` has to be {expected}, not {kind}", at.name()),
        };
        self.problem(at.place, message, help);
    }

    fn problem(&mut self, place: Place, message: String, help: Option<String>) {
        self.problems
            .add(self.file.diagnostic(place, message, help));
    }
}

/// A number of targets or a share of them, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Count(u32),
    Percent(u8),
}

impl Reach {
    const fn reaches_beyond(self, before: Self) -> bool {
        match (before, self) {
            (Self::Count(a), Self::Count(b)) => a < b,
            (Self::Percent(a), Self::Percent(b)) => a < b,
            (Self::Count(_), Self::Percent(_)) => true,
            (Self::Percent(_), Self::Count(_)) => false,
        }
    }
}

/// The extent that a value is, if it is one.
pub(crate) fn read_extent(node: &Node) -> Option<Reach> {
    if let Some(text) = node.text() {
        let share: u8 = text.strip_suffix('%')?.parse().ok()?;
        return (1..=100).contains(&share).then_some(Reach::Percent(share));
    }
    let count = u32::try_from(node.number()?).ok()?;
    (count >= 1).then_some(Reach::Count(count))
}

/// A path one step deeper.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn grammar(wanted: Grammar, text: &str) -> Result<(), String> {
    let refused = |e: NameError| format!("{:?} {}", e.text, e.problem);
    match wanted {
        Grammar::ApiVersion if text == API_VERSION => Ok(()),
        Grammar::ApiVersion => Err(format!("{text:?} is not an apiVersion of this program")),
        Grammar::Name => EnvironmentName::parse(text).map(drop).map_err(refused),
        Grammar::LabelKey => LabelKey::parse(text).map(drop).map_err(refused),
        Grammar::LabelValue => LabelValue::parse(text).map(drop).map_err(refused),
        Grammar::Variable => variable(text),
        Grammar::FileName => file_name(text),
        Grammar::Runtime => runtime(text),
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

/// The kind of document that `word` was probably meant to be, as help.
pub(crate) fn kind_help(word: &str, known: &[&str]) -> Option<String> {
    match nearest(word, known.iter().copied()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None => Some(format!("known are {}", known.join(", "))),
    }
}

/// Longest name of a variable, in bytes.
const NAME_MAX_BYTES: usize = 63;
/// Longest file name of an artifact, in bytes.
const FILE_NAME_MAX_BYTES: usize = 128;
