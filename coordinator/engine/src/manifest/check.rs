//! Compares a document with the shape of its kind and says everything that is wrong with it.

mod list;
mod text;

pub(crate) use list::{Reach, read_extent, read_percent, use_name};
pub(crate) use text::read_window;

use crate::diagnostic::{Place, Problems, SourceFile, nearest, suggestion};
use crate::manifest::kinds::bounded;
use crate::manifest::node::{Entry, Node, NodeValue};
use crate::manifest::shape::{Field, Grammar, Need, Object, Shape, Word};
use text::grammar;

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
            Shape::Some(of) => self.some(at, of),
            Shape::Text(grammar) => self.text(at, *grammar),
            Shape::Word(words) => self.word(at, words),
            Shape::Count { least, most } => self.count(at, *least, *most),
            Shape::Span { least_ms, most_ms } => self.span(at, *least_ms, *most_ms),
            Shape::Extent => self.extent(at, "a number from 1, or a share such as 25%"),
            Shape::Wave => self.wave(at),
            Shape::Percent => self.percent(at),
            Shape::Flag => self.is(at, is_flag(at.node), "true or false"),
            Shape::Scalar => self.is(at, is_scalar(at.node), "text, a number, true or false"),
            Shape::Real => {
                let is_number = matches!(at.node.value, NodeValue::Number(_));
                self.is(at, is_number, "a number");
            }
            Shape::Expression(names) => self.expression(at, names),
            Shape::Window(object) => self.window(at, object),
            Shape::Use(object) => self.object(at, object, Whole::Yes),
            Shape::Limits => self.limits(at),
            Shape::Any => {}
            Shape::AnyObject => {
                if !is_map(at.node) {
                    self.wrong(at, "an object", Some("write {key: value}".to_owned()));
                }
            }
            Shape::TextOr(grammar, _) if at.node.text().is_some() => self.text(at, *grammar),
            Shape::WordOr(words, _) if at.node.text().is_some() => self.word(at, words),
            Shape::FlagOr(_) if is_flag(at.node) => {}
            Shape::TextOr(_, object) => self.object_or(at, object, "text"),
            Shape::WordOr(_, object) => self.object_or(at, object, "a word"),
            Shape::FlagOr(object) => self.object_or(at, object, "true, false"),
        }
    }

    fn is(&mut self, at: &At<'_>, fits: bool, expected: &str) {
        if !fits {
            self.wrong(at, expected, None);
        }
    }

    /// An object where something simpler, which it is not, might stand as well.
    fn object_or(&mut self, at: &At<'_>, object: &'static Object, other: &str) {
        if is_map(at.node) {
            self.object(at, object, Whole::Yes);
        } else {
            self.wrong(at, &format!("{other} or an object"), None);
        }
    }

    fn word(&mut self, at: &At<'_>, words: &'static [Word]) {
        let known = words.iter().map(|w| w.word);
        match at.node.text() {
            Some(text) if known.clone().any(|word| word == text) => {}
            Some(text) => {
                let message = format!("`{text}` is not a word for `{}`", at.name());
                self.problem(at.place, message, suggestion(text, known));
            }
            None => self.wrong(at, "a word", suggestion("", known)),
        }
    }

    fn object(&mut self, at: &At<'_>, object: &'static Object, whole: Whole) {
        if !is_map(at.node) {
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
            .fields()
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
        if !is_map(at.node) {
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

    fn count(&mut self, at: &At<'_>, least: u32, most: u32) {
        let bounds = u64::from(least)..=u64::from(most);
        if !at.node.number().is_some_and(|n| bounds.contains(&n)) {
            self.wrong(at, &format!("a whole number from {least} to {most}"), None);
        }
    }

    fn extent(&mut self, at: &At<'_>, expected: &str) {
        if read_extent(at.node).is_none() {
            self.wrong(at, expected, None);
        }
    }

    fn percent(&mut self, at: &At<'_>) {
        if read_percent(at.node).is_none() {
            self.wrong(at, "a share from 0% to 100%", None);
        }
    }

    /// Bounds of fields by path: each is a value that the field could have.
    fn limits(&mut self, at: &At<'_>) {
        if !is_map(at.node) {
            let help = "write {rollout.soak: {atLeast: 5m}}".to_owned();
            return self.wrong(at, "an object", Some(help));
        }
        for entry in at.node.entries() {
            match bounded().find(|(path, _)| *path == entry.key) {
                Some((_, field)) => self.bounds(&at.below(entry), field),
                None => {
                    let known: Vec<String> = bounded().map(|(path, _)| path).collect();
                    let message = format!("`{}` is nothing that can be bounded", entry.key);
                    let help = suggestion(&entry.key, known.iter().map(String::as_str));
                    self.problem(entry.place, message, help);
                }
            }
        }
    }

    fn bounds(&mut self, at: &At<'_>, field: &'static Field) {
        let help = || Some(format!("write {{{AT_LEAST}: …}}, {{{AT_MOST}: …}} or both"));
        if !is_map(at.node) {
            return self.wrong(at, "an object", help());
        }
        if at.node.entries().is_empty() {
            let message = format!("`{}` bounds nothing", at.name());
            return self.problem(at.place, message, help());
        }
        for entry in at.node.entries() {
            if [AT_LEAST, AT_MOST].contains(&entry.key.as_str()) {
                self.value(&at.below(entry), &field.shape, Whole::Yes);
            } else {
                let message = format!("unknown field `{}` in `{}`", entry.key, at.path);
                let help = suggestion(&entry.key, [AT_LEAST, AT_MOST]);
                self.problem(entry.place, message, help);
            }
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

const fn is_map(node: &Node) -> bool {
    matches!(node.value, NodeValue::Map(_))
}

const fn is_flag(node: &Node) -> bool {
    matches!(node.value, NodeValue::Flag(_))
}

const fn is_scalar(node: &Node) -> bool {
    matches!(
        node.value,
        NodeValue::Flag(_) | NodeValue::Number(_) | NodeValue::Text(_)
    )
}

/// A path one step deeper.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The kind of document that `word` was probably meant to be, as help.
pub(crate) fn kind_help(word: &str, known: &[&str]) -> Option<String> {
    match nearest(word, known.iter().copied()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None => Some(format!("known are {}", known.join(", "))),
    }
}

/// The least that a policy allows.
pub(crate) const AT_LEAST: &str = "atLeast";
/// The most that a policy allows.
pub(crate) const AT_MOST: &str = "atMost";
