//! What is wrong with manifests: where it stands, and how it is shown to people.

use std::collections::BTreeSet;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use holdfast_protocol::api::Diagnostic;

/// Most diagnostics of one run; the rest is counted, not listed.
pub const DIAGNOSTICS_MAX: usize = 200;
/// Longest source line that a diagnostic carries, in characters.
pub const SOURCE_LINE_MAX_CHARS: usize = 400;

/// A place in a file. It lies on one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Length in characters, at least 1.
    pub length: u32,
}

/// A manifest file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    path: String,
    content: Arc<str>,
    /// Byte offset at which each line begins.
    line_starts: Vec<usize>,
}

/// Diagnostics as they are found: each once, no more than [`DIAGNOSTICS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Problems {
    seen: BTreeSet<(String, Place, String)>,
    found: Vec<Diagnostic>,
    left_out: usize,
}

impl SourceFile {
    /// A file to be named `path` in messages.
    #[must_use]
    pub fn new(path: &str, content: &str) -> Self {
        let content: Arc<str> = content
            .strip_prefix(BYTE_ORDER_MARK)
            .unwrap_or(content)
            .into();
        let mut line_starts = vec![0];
        let bytes = content.as_bytes();
        for (at, byte) in bytes.iter().enumerate() {
            let ends_line = *byte == b'\n' || *byte == b'\r' && bytes.get(at + 1) != Some(&b'\n');
            if ends_line {
                line_starts.push(at + 1);
            }
        }
        Self {
            path: path.to_owned(),
            content,
            line_starts,
        }
    }

    /// How to name it.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What it holds, without a byte order mark.
    #[must_use]
    pub fn content(&self) -> &str {
        &self.content
    }

    /// Line `number`, from 1, without its end; empty where there is none.
    #[must_use]
    pub fn line(&self, number: u32) -> &str {
        let index = (number as usize).saturating_sub(1);
        let Some(start) = self.line_starts.get(index) else {
            return "";
        };
        let end = self
            .line_starts
            .get(index + 1)
            .copied()
            .unwrap_or(self.content.len());
        self.content[*start..end].trim_end_matches(['\n', '\r'])
    }

    /// Where `text` stands on the line of `place`, at or after it, or on the lines of a block of text
    /// that begins there; `place` itself where it does not.
    #[must_use]
    pub fn narrowed(&self, place: Place, text: &str) -> Place {
        let indent = (place.column as usize).saturating_sub(1);
        let belongs = |line: &str| {
            line.trim().is_empty() || line.chars().take_while(|c| *c == ' ').count() >= indent
        };
        let mut below = (place.line + 1..=place.line.saturating_add(BLOCK_LINES_MAX))
            .take_while(|line| *line as usize <= self.line_starts.len())
            .take_while(|line| belongs(self.line(*line)));
        self.found(place.line, indent, text)
            .or_else(|| below.find_map(|line| self.found(line, 0, text)))
            .unwrap_or(place)
    }

    /// Where `text` stands on line `line`, after `skipped` characters.
    fn found(&self, line: u32, skipped: usize, text: &str) -> Option<Place> {
        let content = self.line(line);
        let (from, _) = content.char_indices().nth(skipped)?;
        let at = content[from..].find(text)?;
        Some(Place {
            line,
            column: count(content[..from + at].chars().count() + 1),
            length: count(text.chars().count()).max(1),
        })
    }

    /// What is wrong at `place`.
    #[must_use]
    pub fn diagnostic(&self, place: Place, message: String, help: Option<String>) -> Diagnostic {
        Diagnostic {
            file: self.path.clone(),
            line: place.line.max(1),
            column: place.column.max(1),
            length: place.length.max(1),
            message,
            help,
            source: self.excerpt(place),
        }
    }

    /// The line of `place`, cut where it is very long, and nothing where the place lies beyond that.
    fn excerpt(&self, place: Place) -> String {
        let line = self.line(place.line);
        let end = (place.column + place.length) as usize;
        match line.char_indices().nth(SOURCE_LINE_MAX_CHARS) {
            None => line.to_owned(),
            Some((cut, _)) if end <= SOURCE_LINE_MAX_CHARS => line[..cut].to_owned(),
            Some(_) => String::new(),
        }
    }
}

impl Problems {
    pub(crate) fn add(&mut self, diagnostic: Diagnostic) {
        let place = Place {
            line: diagnostic.line,
            column: diagnostic.column,
            length: diagnostic.length,
        };
        if self.is_full() {
            self.left_out += 1;
        } else if self
            .seen
            .insert((diagnostic.file.clone(), place, diagnostic.message.clone()))
        {
            self.found.push(diagnostic);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.found.len() + self.left_out
    }

    /// Whether another problem would only be counted.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= DIAGNOSTICS_MAX
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All of them by file, line and column.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by(|a, b| {
            (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message))
        });
        if let Some(last) = self.found.last_mut().filter(|_| self.left_out > 0) {
            let note = format!("{} more problems are not shown", self.left_out);
            last.help = Some(match last.help.take() {
                Some(help) => format!("{help}; {note}"),
                None => note,
            });
        }
        self.found
    }
}

/// All of `diagnostics` as text for people: message, place, the source line with the place
/// underlined, help. Coloured by ANSI sequences where `color` is set. Control characters of manifests
/// are made visible, so that they cannot steer a terminal.
#[must_use]
pub fn render(diagnostics: &[Diagnostic], color: bool) -> String {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&renderer.render(&[report(diagnostic)]));
        text.push_str("\n\n");
    }
    text.truncate(text.trim_end().len());
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn report(diagnostic: &Diagnostic) -> Group<'_> {
    let title = Level::ERROR.primary_title(visible(&diagnostic.message));
    let mut group = Group::with_title(title);
    let source = &diagnostic.source;
    if !source.is_empty() {
        group = group.element(
            Snippet::source(source.as_str())
                .line_start(diagnostic.line as usize)
                .path(diagnostic.file.as_str())
                .annotation(AnnotationKind::Primary.span(bytes_of(diagnostic))),
        );
    } else if !diagnostic.file.is_empty() {
        group = group.element(
            Origin::path(diagnostic.file.as_str())
                .line(diagnostic.line as usize)
                .char_column(diagnostic.column as usize),
        );
    }
    match &diagnostic.help {
        Some(help) => group.element(Level::HELP.message(visible(help))),
        None => group,
    }
}

/// The bytes of the source line that a diagnostic means.
fn bytes_of(diagnostic: &Diagnostic) -> std::ops::Range<usize> {
    let source = &diagnostic.source;
    let offset = |chars: usize| {
        source
            .char_indices()
            .nth(chars)
            .map_or(source.len(), |(at, _)| at)
    };
    let from = (diagnostic.column as usize).saturating_sub(1);
    offset(from)..offset(from + diagnostic.length as usize)
}

fn visible(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A count that fits the places of a diagnostic; files are far smaller than its limit.
pub(crate) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The word of `known` that `word` was probably meant to be.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let near = known
        .into_iter()
        .take(COMPARED_MAX)
        .map(|k| (distance(&word.to_lowercase(), &k.to_lowercase()), k))
        .min();
    near.filter(|(steps, k)| *steps <= 1 + k.len() / 4)
        .map(|(_, k)| k)
}

/// What to say to somebody who wrote `word` where one of `known` is expected.
pub(crate) fn suggestion<'k>(
    word: &str,
    known: impl IntoIterator<Item = &'k str> + Clone,
) -> Option<String> {
    if let Some(near) = nearest(word, known.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let mut all: Vec<&str> = known.into_iter().take(SUGGESTIONS_MAX + 1).collect();
    if all.is_empty() {
        return None;
    }
    if all.len() > SUGGESTIONS_MAX {
        all[SUGGESTIONS_MAX] = "…";
    }
    Some(format!("known are {}", all.join(", ")))
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(WORD_MAX_CHARS).enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(x != *y))
                .min(above + 1)
                .min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

const BYTE_ORDER_MARK: char = '\u{feff}';
/// Most lines of a block of text that are searched for the place of a problem.
const BLOCK_LINES_MAX: u32 = 2000;
/// Most known words that a message lists.
const SUGGESTIONS_MAX: usize = 20;
/// Most known words that a misspelt one is compared with.
const COMPARED_MAX: usize = 1000;
/// Longest misspelt word that is compared, in characters.
const WORD_MAX_CHARS: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_is_answered_with_the_nearest_one() {
        assert_eq!(
            nearest("tempalte", ["template", "targets"]),
            Some("template")
        );
        assert_eq!(nearest("xyz", ["template", "targets"]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(
            suggestion("xyz", ["a-word"]),
            Some("known are a-word".to_owned())
        );
        assert_eq!(suggestion("xyz", []), None);
    }

    #[test]
    fn lines_end_with_any_of_the_three_line_ends() {
        let file = SourceFile::new("f", "\u{feff}a\r\nb\rc\nd");
        let lines: Vec<_> = (0..6).map(|n| file.line(n)).collect();
        assert_eq!(lines, ["a", "a", "b", "c", "d", ""]);
    }
}
