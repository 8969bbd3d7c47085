//! What a program, or anybody else outside, said: a bounded part of it, as text that is safe to store
//! and to show.

/// Most bytes of output that are kept: half from its beginning, half from its end.
pub const OUTPUT_MAX_BYTES: usize = 3_900;

/// The beginning and the end of what was said, and how much there was.
#[derive(Debug)]
pub struct Kept {
    head: Vec<u8>,
    tail: Vec<u8>,
    omitted: u64,
    /// Most bytes of either half.
    half: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self::most(OUTPUT_MAX_BYTES)
    }
}

impl Kept {
    /// Keeps at most so many bytes.
    #[must_use]
    pub const fn most(bytes: usize) -> Self {
        Self {
            head: Vec::new(),
            tail: Vec::new(),
            omitted: 0,
            half: bytes / 2,
        }
    }

    /// Takes more of it.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = self.half.saturating_sub(self.head.len());
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        self.tail.extend_from_slice(rest);
        let surplus = self.tail.len().saturating_sub(self.half);
        self.tail.drain(..surplus);
        self.omitted += surplus as u64;
    }

    /// The text, with a line that says how much is missing.
    #[must_use]
    pub fn text(&self) -> String {
        if self.omitted == 0 {
            return plain(&[self.head.as_slice(), &self.tail].concat());
        }
        let (head, tail) = (plain(&self.head), plain(&self.tail));
        format!("{head}\n[{} bytes left out]\n{tail}", self.omitted)
    }
}

/// The text in `bytes` without what could act on a terminal or hide something from a reader: escape
/// sequences, control characters other than line feed and tab, and marks that turn the direction
/// of writing. Space at both ends goes, too.
#[must_use]
pub fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' && rest.next_if_eq(&'[').is_some() {
            while rest.next_if(|c| matches!(c, ' '..='?')).is_some() {}
            rest.next_if(|c| matches!(c, '@'..='~'));
        } else if !is_hidden(c) {
            plain.push(c);
        }
    }
    plain.trim().to_owned()
}

/// Cuts a text to at most `most` bytes, at the end of a character.
#[must_use]
pub fn cut(mut text: String, most: usize) -> String {
    let end = text.floor_char_boundary(most);
    text.truncate(end);
    text
}

fn is_hidden(c: char) -> bool {
    let control = c.is_control() && c != '\n' && c != '\t';
    control
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_on_a_terminal_is_left() {
        let said =
            b"\x1b[31;1mred\x1b[0m \x07bell\r\nnext\ttab \x1b]0;title\x07 \xff\xe2\x80\xaeevil";
        assert_eq!(plain(said), "red bell\nnext\ttab ]0;title \u{fffd}evil");
        assert_eq!(plain(b"\x00\x1b[\n  "), "");
    }

    #[test]
    fn beginning_and_end_are_kept_and_the_rest_is_counted() {
        let mut kept = Kept::default();
        kept.push(b"first\n");
        for _ in 0..10_000 {
            kept.push(&[b'x'; 1_000]);
        }
        kept.push(b"\nlast");
        let text = kept.text();
        assert!(text.starts_with("first\nxxx"), "{text}");
        assert!(text.ends_with("xxx\nlast"), "{text}");
        let omitted = 10_000_011 - OUTPUT_MAX_BYTES;
        assert!(
            text.contains(&format!("\n[{omitted} bytes left out]\n")),
            "{text}"
        );
        assert!(text.len() < OUTPUT_MAX_BYTES + 64);
    }

    #[test]
    fn a_short_output_is_whole() {
        let mut kept = Kept::default();
        kept.push("grün".repeat(500).as_bytes());
        assert_eq!(kept.text(), "grün".repeat(500));
        assert_eq!(cut("grün".to_owned(), 3), "gr");
    }
}
