//! Texts with `{{ }}`: read once, checked without values, rendered with them.
//!
//! Between the braces stands one expression: a reference (`vars.port`,
//! `target.labels["example.com/rack"]`), operators, `a if b else c`, and the filters of [`FILTERS`].
//! There are no statements, functions, methods, loops, files or includes. A text is rendered in one
//! pass: what a value holds is never read as a template again. `{{ "{{" }}` writes two braces.

use std::fmt;
use std::sync::LazyLock;

use minijinja::value::ValueKind;
use minijinja::{Environment, ErrorKind, Expression, UndefinedBehavior, Value, filters, tests};

/// A text, read.
#[derive(Debug)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Expression(Written),
}

/// An expression as it was written, and compiled.
pub(crate) struct Written {
    /// The text between the braces.
    pub(crate) text: String,
    /// What it refers to.
    pub(crate) references: Vec<Reference>,
    /// Whether it says what holds where a reference leads nowhere.
    pub(crate) has_default: bool,
    compiled: Expression<'static, 'static>,
}

/// A name that an expression uses: `target`, `labels`, `role`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Its parts.
    pub(crate) path: Vec<String>,
    /// As it is written.
    pub(crate) text: String,
}

/// Why a text is not a template, and the part of it that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) text: String,
    pub(crate) message: String,
}

/// Why a template could not be rendered.
#[derive(Debug)]
pub(crate) enum Unrendered<'t> {
    /// A reference leads nowhere.
    Undefined(&'t Reference),
    /// Anything else, in words.
    Other(String),
}

/// The filters that expressions may use.
pub(crate) const FILTERS: &[&str] = &[
    "default", "first", "int", "join", "last", "length", "lower", "replace", "trim", "upper",
];
const TESTS: &[&str] = &["defined", "undefined"];
/// Longest expression, in bytes.
pub(crate) const EXPRESSION_MAX_BYTES: usize = 1024;
/// Most instructions that one expression may run.
const FUEL_MAX: u64 = 10_000;
/// Deepest nesting of what an expression runs.
const RECURSION_MAX: usize = 50;
const WORDS: &[&str] = &[
    "and", "or", "not", "in", "if", "else", "true", "false", "none", "True", "False", "None",
];

/// Holds no values and no templates: only what expressions may do.
static LANGUAGE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut language = Environment::empty();
    language.set_undefined_behavior(UndefinedBehavior::Strict);
    language.set_fuel(Some(FUEL_MAX));
    language.set_recursion_limit(RECURSION_MAX);
    language.add_filter("default", filters::default);
    language.add_filter("first", filters::first);
    language.add_filter("int", filters::int);
    language.add_filter("join", filters::join);
    language.add_filter("last", filters::last);
    language.add_filter("length", filters::length);
    language.add_filter("lower", filters::lower);
    language.add_filter("replace", filters::replace);
    language.add_filter("trim", filters::trim);
    language.add_filter("upper", filters::upper);
    language.add_test("defined", tests::is_defined);
    language.add_test("undefined", tests::is_undefined);
    language
});

impl Template {
    /// Reads `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, Malformed> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(OPEN) {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let Some(end) = closing(after) else {
                let message = "this `{{` is not closed".to_owned();
                return Err(Malformed {
                    text: OPEN.to_owned(),
                    message,
                });
            };
            parts.push(Part::Expression(Written::parse(after[..end].trim())?));
            rest = &after[end + CLOSE.len()..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// Whether `text` has to be rendered at all.
    pub(crate) fn is_one(text: &str) -> bool {
        text.contains(OPEN)
    }

    /// The expressions in it.
    pub(crate) fn expressions(&self) -> impl Iterator<Item = &Written> {
        self.parts.iter().filter_map(|part| match part {
            Part::Expression(written) => Some(written),
            Part::Text(_) => None,
        })
    }

    /// The text with every expression replaced by its value. `room` is the number of bytes that may
    /// still be written, and is used up by this.
    pub(crate) fn render(&self, scope: &Value, room: &mut usize) -> Result<String, Unrendered<'_>> {
        let mut text = String::new();
        for part in &self.parts {
            let value = match part {
                Part::Text(fixed) => fixed.clone(),
                Part::Expression(written) => written.render(scope)?,
            };
            *room = room.checked_sub(value.len()).ok_or_else(too_large)?;
            text.push_str(&value);
        }
        Ok(text)
    }
}

impl Written {
    fn parse(text: &str) -> Result<Self, Malformed> {
        let refuse = |message: String| Malformed {
            text: text.to_owned(),
            message,
        };
        if text.is_empty() {
            return Err(Malformed {
                text: OPEN.to_owned(),
                message: "there is nothing between the braces".to_owned(),
            });
        }
        if text.len() > EXPRESSION_MAX_BYTES {
            let message = format!("the expression is longer than {EXPRESSION_MAX_BYTES} bytes");
            return Err(Malformed {
                text: OPEN.to_owned(),
                message,
            });
        }
        let compiled = LANGUAGE
            .compile_expression_owned(text.to_owned())
            .map_err(|error| {
                let detail = error.detail().unwrap_or("it cannot be read").to_owned();
                refuse(format!("`{text}` is not an expression: {detail}"))
            })?;
        // Any other escape could spell the characters that mark placeholders.
        let mut escapes = text.split('\\').skip(1);
        if !escapes.all(|after| after.starts_with(['n', 't', '"', '\''])) {
            let message = "a backslash may only stand before n, t and quotes".to_owned();
            return Err(refuse(message));
        }
        let found = Scan::new(text).run().map_err(refuse)?;
        Ok(Self {
            text: text.to_owned(),
            references: found.references,
            has_default: found.has_default,
            compiled,
        })
    }

    fn render(&self, scope: &Value) -> Result<String, Unrendered<'_>> {
        let value = match self.compiled.eval(scope.clone()) {
            Ok(value) if !value.is_undefined() => value,
            Ok(_) => return Err(self.undefined(scope)),
            Err(error) if error.kind() == ErrorKind::UndefinedError => {
                return Err(self.undefined(scope));
            }
            Err(error) => {
                let why = error.detail().unwrap_or("it fails").to_owned();
                return Err(Unrendered::Other(format!("`{}`: {why}", self.text)));
            }
        };
        let kind = value.kind();
        if matches!(kind, ValueKind::String | ValueKind::Number) {
            return Ok(value.to_string());
        }
        if kind == ValueKind::Bool {
            return Ok(value.is_true().to_string());
        }
        let message = format!("`{}` is {kind}, which cannot stand in a text", self.text);
        Err(Unrendered::Other(message))
    }

    fn undefined(&self, scope: &Value) -> Unrendered<'_> {
        match self.references.iter().find(|r| r.is_undefined(scope)) {
            Some(reference) => Unrendered::Undefined(reference),
            None => Unrendered::Other(format!("`{}` is undefined", self.text)),
        }
    }
}

impl Reference {
    /// Its parts as texts.
    pub(crate) fn parts(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    fn is_undefined(&self, scope: &Value) -> bool {
        let mut value = scope.clone();
        for part in &self.path {
            match value.get_attr(part) {
                Ok(next) => value = next,
                Err(_) => return true,
            }
        }
        value.is_undefined()
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Written").field(&self.text).finish()
    }
}

fn too_large<'t>() -> Unrendered<'t> {
    Unrendered::Other("the rendered workload is too large".to_owned())
}

/// Where the expression that begins `text` ends: at the first `}}` outside of quotes.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if text[at..].starts_with(CLOSE) => return Some(at),
            None => {}
        }
    }
    None
}

/// Finds what an expression refers to, and refuses calls.
struct Scan<'t> {
    rest: &'t str,
    last: Last,
    found: Found,
}

#[derive(Default)]
struct Found {
    references: Vec<Reference>,
    has_default: bool,
}

/// What stands before a word.
#[derive(PartialEq, Eq)]
enum Last {
    Pipe,
    Is,
    Dot,
    Other,
}

impl<'t> Scan<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            rest: text,
            last: Last::Other,
            found: Found::default(),
        }
    }

    fn run(mut self) -> Result<Found, String> {
        while let Some(c) = self.rest.chars().next() {
            if c == '"' || c == '\'' {
                self.quoted();
                self.last = Last::Other;
            } else if c.is_ascii_digit() {
                self.take(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
                self.last = Last::Other;
            } else if is_word(c) {
                self.word()?;
            } else {
                self.rest = &self.rest[c.len_utf8()..];
                match c {
                    '|' => self.last = Last::Pipe,
                    '.' => self.last = Last::Dot,
                    _ if c.is_whitespace() => {}
                    _ => self.last = Last::Other,
                }
            }
        }
        Ok(self.found)
    }

    fn word(&mut self) -> Result<(), String> {
        let before = self.rest;
        let word = self.take(|c| is_word(c) || c.is_ascii_digit());
        match std::mem::replace(&mut self.last, Last::Other) {
            Last::Pipe if FILTERS.contains(&word) => {
                self.found.has_default |= word == "default";
                Ok(())
            }
            Last::Pipe => Err(format!(
                "unknown filter `{word}`; known are {}",
                FILTERS.join(", ")
            )),
            Last::Is if word == "not" => {
                self.last = Last::Is;
                Ok(())
            }
            Last::Is if TESTS.contains(&word) => {
                self.found.has_default = true;
                Ok(())
            }
            Last::Is => Err(format!(
                "unknown test `{word}`; known are {}",
                TESTS.join(", ")
            )),
            Last::Dot => self.refuse_call(word),
            Last::Other if word == "is" => {
                self.last = Last::Is;
                Ok(())
            }
            Last::Other if WORDS.contains(&word) || self.names_an_argument() => Ok(()),
            Last::Other => self.reference(word, before),
        }
    }

    fn reference(&mut self, root: &str, before: &str) -> Result<(), String> {
        let mut path = vec![root.to_owned()];
        while let Some(part) = self.attribute().or_else(|| self.index()) {
            path.push(part);
        }
        let text = &before[..before.len() - self.rest.len()];
        self.refuse_call(text)?;
        self.found.references.push(Reference {
            path,
            text: text.to_owned(),
        });
        Ok(())
    }

    /// `.word`
    fn attribute(&mut self) -> Option<String> {
        let after = self
            .rest
            .strip_prefix('.')
            .filter(|r| r.starts_with(is_word))?;
        self.rest = after;
        Some(self.take(|c| is_word(c) || c.is_ascii_digit()).to_owned())
    }

    /// `["text"]`
    fn index(&mut self) -> Option<String> {
        let after = self.rest.strip_prefix('[')?.trim_start();
        let quote = after.chars().next().filter(|c| *c == '"' || *c == '\'')?;
        let (text, after) = after[1..].split_once(quote)?;
        self.rest = after
            .trim_start()
            .strip_prefix(']')
            .filter(|_| !text.contains('\\'))?;
        Some(text.to_owned())
    }

    fn refuse_call(&self, name: &str) -> Result<(), String> {
        if self.rest.trim_start().starts_with('(') {
            return Err(format!(
                "`{name}(` calls something; expressions may only use filters"
            ));
        }
        Ok(())
    }

    /// Whether the word just read is the name of a filter's argument, as in `default(value=1)`.
    fn names_an_argument(&self) -> bool {
        let rest = self.rest.trim_start();
        rest.starts_with('=') && !rest.starts_with("==")
    }

    fn quoted(&mut self) {
        let Some(quote) = self.rest.chars().next() else {
            return;
        };
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find(|(_, c)| {
            let ends = *c == quote && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        self.rest = end.map_or("", |(at, _)| &self.rest[at + 1..]);
    }

    fn take(&mut self, belongs: impl Fn(char) -> bool) -> &'t str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }
}

fn is_word(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

const OPEN: &str = "{{";
const CLOSE: &str = "}}";

#[cfg(test)]
mod unit {
    use super::*;

    fn references(text: &str) -> Vec<String> {
        let template = Template::parse(text).unwrap();
        let written: Vec<_> = template.expressions().collect();
        written
            .iter()
            .flat_map(|w| &w.references)
            .map(|r| r.path.join("/"))
            .collect()
    }

    #[test]
    fn references_are_found_and_words_of_the_language_are_not() {
        assert_eq!(references("{{ vars.port }}"), ["vars/port"]);
        assert_eq!(
            references(
                r#"a {{ target.labels["example.com/rack"] | default(vars.x) }} b {{env.name}}"#
            ),
            ["target/labels/example.com/rack", "vars/x", "env/name"]
        );
        assert_eq!(
            references(r#"{{ "vars.no" if not vars.a == 1 else vars.b is defined }}"#),
            ["vars/a", "vars/b"]
        );
    }

    #[test]
    fn calls_and_unknown_filters_are_refused() {
        for bad in [
            "{{ range(10) }}",
            "{{ vars.x.upper() }}",
            "{{ vars.x | tojson }}",
            "{{ vars.x is even }}",
            "{{ (vars.x).y() }}",
            "{{ vars.x",
            "{{ }}",
            "{{ vars. }}",
            "{{ a b }}",
            r"{{ '\ue000' }}",
            r"{{ '\\ue000' }}",
        ] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_braces_are_written_by_quoting_them() {
        let template = Template::parse(r#"{{ "{{" }} .Name }}"#).unwrap();
        assert_eq!(
            template.render(&Value::UNDEFINED, &mut 100).unwrap(),
            "{{ .Name }}"
        );
    }
}
