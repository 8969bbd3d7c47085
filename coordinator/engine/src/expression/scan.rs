//! What is checked before the text is parsed: its length, its words, and how deep it nests.
//!
//! The parser recurses, and a stack that overflows ends the process. So everything is counted here
//! that stands inside something else: brackets, choices, and operators one after another, of which
//! each takes what is before it as its operand. To count rightly, strings are read as CEL reads
//! them, and what CEL has no word for is refused here, with a better message.

use super::{ExpressionError, NESTING_MAX, TEXT_MAX_BYTES};

/// Refuses text that is too long, has words that CEL does not have, or nests too deep.
pub(super) fn check(text: &str) -> Result<(), ExpressionError> {
    if text.len() > TEXT_MAX_BYTES {
        return Err(ExpressionError::new(format!(
            "the expression has {} bytes, and may have {TEXT_MAX_BYTES}",
            text.len()
        ))
        .help_with("split it: every condition of its own is told apart when it does not hold"));
    }
    if text.trim().is_empty() {
        return Err(ExpressionError::new("the expression is empty"));
    }
    let mut scan = Scan {
        text,
        at: 0,
        levels: vec![Level::default()],
        closers: Vec::new(),
    };
    while scan.at < text.len() {
        scan.word()?;
    }
    match scan.closers.last() {
        Some((opened, closer)) => {
            Err(ExpressionError::new(format!("`{closer}` is missing for this")).at(*opened))
        }
        None => Ok(()),
    }
}

struct Scan<'t> {
    text: &'t str,
    /// Bytes that are read.
    at: usize,
    /// The levels of brackets that are open; the first is the text itself.
    levels: Vec<Level>,
    /// Where each bracket was opened, and what closes it.
    closers: Vec<(usize, char)>,
}

/// What stands in each other on one level of brackets.
#[derive(Default)]
struct Level {
    /// Operators since the last `&&`, `||`, `,`: each takes all before it as an operand.
    chain: usize,
    /// Choices since the last `,`: each stands in the one before it.
    choices: usize,
}

impl Scan<'_> {
    fn word(&mut self) -> Result<(), ExpressionError> {
        let rest = &self.text[self.at..];
        let Some(first) = rest.chars().next() else {
            return Ok(());
        };
        let length = match first {
            ' ' | '\t' | '\n' | '\r' => 1,
            '0'..='9' => alphanumeric(rest),
            'a'..='z' | 'A'..='Z' | '_' => return self.name(rest),
            '"' | '\'' => string(rest, false).map_err(|error| self.here(error))?,
            '(' | '[' | '{' => return self.open(first),
            ')' | ']' | '}' => return self.close(first),
            _ => return self.operator(rest, first),
        };
        self.at += length;
        Ok(())
    }

    fn name(&mut self, rest: &str) -> Result<(), ExpressionError> {
        let length = alphanumeric(rest);
        let (word, after) = rest.split_at(length);
        self.at += length;
        if word == "in" {
            return self.deepen();
        }
        let raw = match word {
            "b" | "B" => false,
            "r" | "R" | "br" | "bR" | "Br" | "BR" => true,
            _ => return Ok(()),
        };
        if after.starts_with(['"', '\'']) {
            self.at += string(after, raw).map_err(|error| self.here(error))?;
        }
        Ok(())
    }

    fn operator(&mut self, rest: &str, first: char) -> Result<(), ExpressionError> {
        if rest.starts_with("//") {
            self.at += rest.find('\n').unwrap_or(rest.len());
            return Ok(());
        }
        let Some(word) = OPERATORS.iter().find(|word| rest.starts_with(**word)) else {
            return Err(self.unknown(first));
        };
        self.at += word.len();
        let level = self.level();
        match *word {
            "&&" | "||" => level.chain = 0,
            "," => *level = Level::default(),
            "?" => {
                level.choices += 1;
                level.chain = 0;
            }
            ":" => level.chain = 0,
            _ => level.chain += 1,
        }
        self.refuse_deep()
    }

    fn open(&mut self, bracket: char) -> Result<(), ExpressionError> {
        let closer = match bracket {
            '(' => ')',
            '[' => ']',
            _ => '}',
        };
        self.closers.push((self.at, closer));
        // A call and an index take what is before them as an operand, too.
        self.level().chain += 1;
        self.levels.push(Level::default());
        self.at += 1;
        self.refuse_deep()
    }

    fn close(&mut self, bracket: char) -> Result<(), ExpressionError> {
        match self.closers.pop() {
            Some((_, closer)) if closer == bracket => {
                self.levels.pop();
                self.at += 1;
                Ok(())
            }
            Some((_, closer)) => Err(self.here(format!("`{closer}` is expected, not `{bracket}`"))),
            None => Err(self.here(format!("`{bracket}` closes nothing"))),
        }
    }

    fn deepen(&mut self) -> Result<(), ExpressionError> {
        self.level().chain += 1;
        self.refuse_deep()
    }

    fn refuse_deep(&self) -> Result<(), ExpressionError> {
        let chains: usize = self.levels.iter().map(|level| level.chain).sum();
        let choices: usize = self.levels.iter().map(|level| level.choices).sum();
        if self.closers.len() + choices <= NESTING_MAX && chains <= CHAIN_MAX {
            return Ok(());
        }
        Err(self
            .here("the expression nests too deep")
            .help_with("join simpler conditions with `&&`"))
    }

    fn level(&mut self) -> &mut Level {
        self.levels
            .last_mut()
            .expect("the text itself is never closed")
    }

    fn unknown(&self, first: char) -> ExpressionError {
        let error = self.here(format!("CEL has no `{first}`"));
        match first {
            '=' => error.help_with("write `==` to compare"),
            '&' => error.help_with("write `&&` for and"),
            '|' => error.help_with("write `||` for or"),
            _ => error,
        }
    }

    fn here(&self, problem: impl Into<String>) -> ExpressionError {
        ExpressionError::new(problem).at(self.at)
    }
}

/// Bytes of the name or number at the beginning.
fn alphanumeric(text: &str) -> usize {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    end.unwrap_or(text.len())
}

/// Bytes of the string at the beginning, with its quotes.
fn string(text: &str, raw: bool) -> Result<usize, String> {
    let quote = &text[..1];
    let triple = quote.repeat(3);
    let end = if text.starts_with(&triple) {
        triple.as_str()
    } else {
        quote
    };
    let mut at = end.len();
    while let Some(next) = text[at..].chars().next() {
        if text[at..].starts_with(end) {
            return Ok(at + end.len());
        }
        at += match next {
            '\\' if !raw => escape(&text[at..])?,
            '\n' | '\r' if end.len() == 1 => break,
            _ => next.len_utf8(),
        };
    }
    Err(format!("the string has no end: {end} is missing"))
}

/// Bytes of the escape at the beginning.
fn escape(text: &str) -> Result<usize, String> {
    let kind = text.chars().nth(1).unwrap_or(' ');
    let (digits, radix) = match kind {
        'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`' => return Ok(2),
        'x' | 'X' => (2..4, 16),
        'u' => (2..6, 16),
        'U' => (2..10, 16),
        '0'..='3' => (1..4, 8),
        _ => {
            return Err(format!(
                "`\\{kind}` is no escape; write `\\\\` for a backslash"
            ));
        }
    };
    let end = digits.end;
    let written = text.get(digits.clone()).unwrap_or_default();
    let numeric = written.len() == digits.len() && written.chars().all(|c| c.is_digit(radix));
    numeric
        .then_some(end)
        .ok_or_else(|| format!("`\\{kind}` is followed by {} digits", digits.len()))
}

/// The operators of CEL, longer ones before those that they begin with.
const OPERATORS: [&str; 19] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "?", ":", ",", ".", "+", "-", "*", "/", "%",
    "\u{c}",
];
/// Most operators, calls and indices of which one is the operand of the next, in all open brackets
/// together. Each takes some 2 KiB of the stack.
const CHAIN_MAX: usize = 96;
