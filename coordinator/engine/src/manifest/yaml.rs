//! YAML (and so JSON) to trees with places. Reads on after an error at the next document.
//!
//! Plain scalars are YAML 1.2's core schema, so `no` and `2026-11-21` are texts. A number that would
//! not be written back as it stands (`1.10`, `0755`) is refused: its author meant text.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput};
use holdfast_protocol::workload::{PLACEHOLDER_CLOSE, PLACEHOLDER_OPEN};
use serde_json::Number;

use crate::diagnostic::{Place, Problems, SourceFile, count};
use crate::manifest::node::{Entry, Node, NodeValue};

/// Deepest nesting of a document.
pub const DEPTH_MAX: usize = 64;
/// Most values that the files of one input set may hold together, aliases counted as what they
/// stand for.
pub const NODES_MAX: usize = 500_000;
/// Most aliases in one file.
pub const ALIASES_MAX: usize = 1000;

/// The documents of `file`; empty ones are left out. `budget` is the number of values that may still
/// be read, and is used up by this.
pub(crate) fn documents(
    file: &SourceFile,
    budget: &mut usize,
    problems: &mut Problems,
) -> Vec<Node> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut reading = Reading {
        file,
        budget,
        problems,
        aliases: 0,
        open: Vec::new(),
        anchors: HashMap::new(),
        documents: Vec::new(),
    };
    let mut parser = Parser::new_from_str_with_options(file.content(), options);
    loop {
        match read_document(&mut reading, &mut parser) {
            Ok(More::Yes) => {}
            Ok(More::No) | Err(Exhausted) => return reading.documents,
        }
    }
}

type Events<'i> = Parser<'i, StrInput<'i>>;

struct Reading<'a> {
    file: &'a SourceFile,
    budget: &'a mut usize,
    problems: &'a mut Problems,
    aliases: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, Extent)>,
    documents: Vec<Node>,
}

/// A collection that is not closed yet.
struct Open {
    extent: Extent,
    place: Place,
    content: Content,
}

/// How much a value is.
#[derive(Clone, Copy)]
struct Extent {
    /// The anchor that it defines; 0 for none.
    anchor: usize,
    /// Values within, itself included.
    size: usize,
    /// Deepest nesting below it.
    height: usize,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        /// The line of each key.
        keys: HashMap<String, u32>,
        key: Option<(String, Place)>,
    },
}

enum More {
    Yes,
    No,
}

/// A bound of this file was reached; nothing more is read of it.
struct Exhausted;

/// Reads to the end of one document, or past an error to the beginning of the next.
fn read_document(reading: &mut Reading<'_>, parser: &mut Events<'_>) -> Result<More, Exhausted> {
    loop {
        match parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => return Ok(More::No),
            Some(Ok((Event::DocumentEnd, _))) => {
                reading.anchors.clear();
                return Ok(More::Yes);
            }
            Some(Ok((event, span))) => reading.take(event, span)?,
            Some(Err(error)) => {
                reading.malformed(&error);
                return match parser.proceed_next_document() {
                    Ok(true) => Ok(More::Yes),
                    Ok(false) | Err(_) => Ok(More::No),
                };
            }
        }
    }
}

impl Reading<'_> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the parser's enum may grow; what is left holds no values"
    )]
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Exhausted> {
        let place = self.place(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), place);
                self.charge(1, place)?;
                let node = self.scalar(&text, style, place);
                self.add(
                    node,
                    Extent {
                        anchor,
                        size: 1,
                        height: 0,
                    },
                )
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.is_some(), place);
                self.begin(anchor, place, Content::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.is_some(), place);
                self.begin(
                    anchor,
                    place,
                    Content::Map {
                        entries: Vec::new(),
                        keys: HashMap::new(),
                        key: None,
                    },
                )
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, place),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, anchor: usize, place: Place, content: Content) -> Result<(), Exhausted> {
        self.charge(1, place)?;
        if self.open.len() >= DEPTH_MAX {
            return self.exhausted(place, too_deep());
        }
        self.open.push(Open {
            extent: Extent {
                anchor,
                size: 1,
                height: 0,
            },
            place,
            content,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Exhausted> {
        let Some(done) = self.open.pop() else {
            return Ok(());
        };
        let value = match done.content {
            Content::List(items) => NodeValue::List(items),
            Content::Map { entries, .. } => NodeValue::Map(entries),
        };
        self.add(
            Node {
                value,
                place: done.place,
            },
            done.extent,
        )
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Exhausted> {
        self.aliases += 1;
        if self.aliases > ALIASES_MAX {
            return self.exhausted(
                place,
                format!("more than {ALIASES_MAX} aliases in one file"),
            );
        }
        let Some((_, extent)) = self.anchors.get(&anchor) else {
            self.problem(
                place,
                "an alias may not stand within what it refers to",
                None,
            );
            let node = Node {
                value: NodeValue::Null,
                place,
            };
            return self.add(
                node,
                Extent {
                    anchor: 0,
                    size: 1,
                    height: 0,
                },
            );
        };
        let extent = Extent {
            anchor: 0,
            ..*extent
        };
        self.charge(extent.size, place)?;
        if self.open.len() + extent.height > DEPTH_MAX {
            return self.exhausted(place, too_deep());
        }
        // The value stands where the alias is used, so that messages lead there.
        let value = self
            .anchors
            .get(&anchor)
            .map(|(node, _)| node.value.clone());
        self.add(
            Node {
                value: value.unwrap_or(NodeValue::Null),
                place,
            },
            extent,
        )
    }

    /// Adds a finished value to the collection that is open, or as a document.
    fn add(&mut self, node: Node, extent: Extent) -> Result<(), Exhausted> {
        if extent.anchor != 0 {
            self.charge(extent.size, node.place)?;
            self.anchors.insert(extent.anchor, (node.clone(), extent));
        }
        let Some(mut open) = self.open.pop() else {
            if node.value != NodeValue::Null {
                self.documents.push(node);
            }
            return Ok(());
        };
        open.extent.size += extent.size;
        open.extent.height = open.extent.height.max(extent.height + 1);
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, keys, key } => match key.take() {
                None => *key = Some(self.key(node)),
                Some((name, place)) => self.entry(
                    entries,
                    keys,
                    Entry {
                        key: name,
                        place,
                        node,
                    },
                ),
            },
        }
        self.open.push(open);
        Ok(())
    }

    /// A key as text: what is written for a number or a word, and nothing else.
    fn key(&mut self, node: Node) -> (String, Place) {
        let place = node.place;
        let key = match node.value {
            NodeValue::Text(text) => text,
            NodeValue::Number(number) => number.to_string(),
            NodeValue::Flag(flag) => flag.to_string(),
            NodeValue::Null | NodeValue::List(_) | NodeValue::Map(_) => {
                self.problem(place, "a key has to be text", None);
                String::new()
            }
        };
        (key, place)
    }

    fn entry(&mut self, entries: &mut Vec<Entry>, keys: &mut HashMap<String, u32>, entry: Entry) {
        if entry.key == "<<" {
            let help = "write the fields out, or let `environments` and `vars` say what differs";
            self.problem(
                entry.place,
                "merge keys are not supported",
                Some(help.to_owned()),
            );
        } else if let Some(line) = keys.get(&entry.key) {
            let help = format!("it is first given on line {line}");
            self.problem(
                entry.place,
                &format!("duplicate key `{}`", entry.key),
                Some(help),
            );
        } else {
            keys.insert(entry.key.clone(), entry.place.line);
            entries.push(entry);
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, place: Place) -> Node {
        if text.contains([PLACEHOLDER_OPEN, PLACEHOLDER_CLOSE]) {
            let message = "the characters U+E000 and U+E001 are reserved and may not be used";
            self.problem(place, message, None);
        }
        let value = if style == ScalarStyle::Plain {
            self.plain(text, place)
        } else {
            NodeValue::Text(text.to_owned())
        };
        Node { value, place }
    }

    fn plain(&mut self, text: &str, place: Place) -> NodeValue {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => NodeValue::Null,
            "true" | "True" | "TRUE" => NodeValue::Flag(true),
            "false" | "False" | "FALSE" => NodeValue::Flag(false),
            _ if !looks_numeric(text) => NodeValue::Text(text.to_owned()),
            _ => match number(text) {
                Some(number) if number.to_string() == text => NodeValue::Number(number),
                Some(number) => {
                    let message = format!("{text} would be read as the number {number}");
                    let help = format!("write \"{text}\" to keep it as text, or {number}");
                    self.problem(place, &message, Some(help));
                    NodeValue::Number(number)
                }
                None => NodeValue::Text(text.to_owned()),
            },
        }
    }

    fn refuse_tag(&mut self, tagged: bool, place: Place) {
        if tagged {
            let help = "put text in quotes; nothing else needs a tag".to_owned();
            self.problem(place, "tags are not supported", Some(help));
        }
    }

    fn charge(&mut self, nodes: usize, place: Place) -> Result<(), Exhausted> {
        match self.budget.checked_sub(nodes) {
            Some(rest) => {
                *self.budget = rest;
                Ok(())
            }
            None => self.exhausted(place, format!("more than {NODES_MAX} values in all files")),
        }
    }

    fn exhausted(&mut self, place: Place, message: String) -> Result<(), Exhausted> {
        let help = "use aliases for less, or apply several input sets".to_owned();
        self.problem(place, &message, Some(help));
        Err(Exhausted)
    }

    fn malformed(&mut self, error: &ScanError) {
        let marker = error.marker();
        let place = Place {
            line: count(marker.line()),
            column: count(marker.col() + 1),
            length: 1,
        };
        let line = self.file.line(place.line);
        let indent = line
            .split(|c: char| !c.is_whitespace())
            .next()
            .unwrap_or("");
        let help = if indent.contains('\t') {
            Some("indent with spaces, not with tabs".to_owned())
        } else {
            error
                .info()
                .contains("block mapping")
                .then(|| "the keys of one mapping begin in the same column".to_owned())
        };
        let message = if *error.kind() == ErrorKind::RecursionLimitExceeded {
            too_deep()
        } else {
            error.info()
        };
        self.problem(place, &message, help);
        self.open.clear();
        self.anchors.clear();
    }

    fn problem(&mut self, place: Place, message: &str, help: Option<String>) {
        self.problems
            .add(self.file.diagnostic(place, message.to_owned(), help));
    }

    /// The part of `span` that lies on its first line.
    fn place(&self, span: Span) -> Place {
        let length = if span.end.line() == span.start.line() {
            span.end.col().saturating_sub(span.start.col())
        } else {
            let line = self.file.line(count(span.start.line()));
            line.trim_end()
                .chars()
                .count()
                .saturating_sub(span.start.col())
        };
        Place {
            line: count(span.start.line()),
            column: count(span.start.col() + 1),
            length: count(length).max(1),
        }
    }
}

fn too_deep() -> String {
    format!("nested deeper than {DEPTH_MAX} levels")
}

/// Whether a plain scalar begins like a number.
fn looks_numeric(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = unsigned.strip_prefix('.').unwrap_or(unsigned);
    digits.starts_with(|c: char| c.is_ascii_digit())
}

/// The number that YAML 1.2 reads, if it is one.
fn number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return u64::from_str_radix(digits, radix).ok().map(Number::from);
        }
    }
    if let Ok(whole) = unsigned.parse::<i64>() {
        return Some(whole.into());
    }
    if let Ok(whole) = unsigned.parse::<u64>() {
        return Some(whole.into());
    }
    let is_decimal = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    let decimal = text
        .chars()
        .all(is_decimal)
        .then(|| unsigned.parse::<f64>().ok());
    decimal.flatten().and_then(Number::from_f64)
}
