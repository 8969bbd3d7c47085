//! Expressions in CEL, the Common Expression Language, in a cage: yes-or-no questions that people
//! write into protections and policies, over values that the engine shows them.
//!
//! CEL has no loops without end, but it has no budget either. So the work that an expression can
//! cause is bounded before anything is asked:
//!
//! - the text is at most [`TEXT_MAX_BYTES`] long and at most [`NESTING_MAX`] deep, which is counted
//!   before it is parsed, because the parser and the interpreter recurse;
//! - names and functions that are not known are refused, with the nearest one that is;
//! - `all`, `exists`, `exists_one` and `filter` do not nest, and there is no `map`;
//! - the pattern of `matches` is a literal, and small;
//! - the values are bounded by [`VALUES_MAX_BYTES`] and [`ENTRIES_MAX`], and what the expression
//!   could do with all of them by [`WORK_MAX_BYTES`], however cheap it would turn out to be.
//!
//! Whatever goes wrong, the answer is an error with a reason, never a yes: who asks fails closed.
//! There are no times, no random numbers and no order of entries in it: the same question over the
//! same values has the same answer.

mod cage;
mod part;
mod scan;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::IdedExpr;
use cel::parser::Parser;
use cel::{Context, Env, ExecutionError, ParseErrors, Value};

use cage::Cage;

/// A yes-or-no question over named values. Equal if it was written equally. Cheap to clone.
#[derive(Clone)]
pub struct Expression(Arc<Parts>);

struct Parts {
    text: String,
    parsed: IdedExpr,
    /// The values that it names, and what it costs to ask.
    cage: Cage,
}

/// Why an expression is refused. Display says what is wrong, and at which place of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionError {
    problem: String,
    /// Bytes from the beginning of the text.
    offset: Option<usize>,
    place: Option<(u32, u32)>,
    help: Option<String>,
}

impl Expression {
    /// The question that `text` asks over the values of these names.
    ///
    /// # Errors
    /// It is no CEL, asks nothing that is true or false, uses a name or a function that is not
    /// known, or could take too long.
    pub fn parse(text: &str, names: &[&str]) -> Result<Self, ExpressionError> {
        let parse = || Self::read(text, names);
        // A parser of another's language, on text of anybody: what it cannot do is no question.
        catch_unwind(AssertUnwindSafe(parse))
            .unwrap_or_else(|_| Err(ExpressionError::new("the expression cannot be read")))
            .map_err(|error| error.placed(text))
    }

    /// Whether it holds for these values, an object with the value of each name.
    ///
    /// # Errors
    /// A sentence that says why there is no answer: something that it asks for is not there, is of
    /// another kind, is too much, or the answer is neither true nor false.
    pub fn holds(&self, values: &serde_json::Value) -> Result<bool, String> {
        catch_unwind(AssertUnwindSafe(|| self.evaluate(values)))
            .unwrap_or_else(|_| Err("it cannot be evaluated".to_owned()))
    }

    /// The expression as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    fn read(text: &str, names: &[&str]) -> Result<Self, ExpressionError> {
        scan::check(text)?;
        let parsed = Parser::new().parse_with_source_info(text);
        let (parsed, source) = parsed.map_err(|errors| unreadable(text, &errors))?;
        let cage = Cage::around(&parsed, names, &source)?;
        Ok(Self(Arc::new(Parts {
            text: text.to_owned(),
            parsed,
            cage,
        })))
    }

    fn evaluate(&self, values: &serde_json::Value) -> Result<bool, String> {
        let Parts { parsed, cage, .. } = &*self.0;
        let (variables, size) = value::variables(values, &cage.names)?;
        let work = cage.work(values, &size);
        if work > WORK_MAX_BYTES {
            return Err(format!(
                "it could take too long over {} entries and {} bytes; ask fewer things of each \
                 entry, or of a smaller part",
                size.entries, size.bytes
            ));
        }
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        for (name, variable) in variables {
            context.add_variable_from_value(name, variable);
        }
        match Value::resolve(parsed, &context) {
            Ok(Value::Bool(answer)) => Ok(answer),
            Ok(other) => Err(format!(
                "it must be true or false, and is {}",
                value::kind(&other)
            )),
            Err(error) => Err(self.unanswered(&error, values, &context)),
        }
    }

    /// Why there is no answer, in the words of who wrote the expression.
    fn unanswered(
        &self,
        error: &ExecutionError,
        values: &serde_json::Value,
        context: &Context<'_, '_>,
    ) -> String {
        let Parts { parsed, cage, .. } = &*self.0;
        let missing = matches!(
            error,
            ExecutionError::NoSuchKey(_) | ExecutionError::UndeclaredReference(_)
        );
        if missing && let Some(path) = cage::missing(parsed, &cage.names, values) {
            return format!("`{path}` is not there");
        }
        // The entries of a map come in no order, so which of them fails first is chance.
        if cage.ranges(parsed).any(|range| is_map(range, context)) {
            return "it has no answer for an entry of a map".to_owned();
        }
        value::reason(error)
    }
}

impl ExpressionError {
    fn new(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            offset: None,
            place: None,
            help: None,
        }
    }

    fn at(mut self, offset: usize) -> Self {
        self.offset = Some(offset);
        self
    }

    fn help_with(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn placed(mut self, text: &str) -> Self {
        let before = self.offset.and_then(|offset| text.get(..offset));
        self.place = before.map(|before| {
            let line = before.rsplit('\n').next().unwrap_or(before);
            let lines = before.matches('\n').count();
            (ordinal(lines), ordinal(line.chars().count()))
        });
        self
    }

    /// Line and column in the text, in characters, both from 1, where it is known.
    #[must_use]
    pub const fn place(&self) -> Option<(u32, u32)> {
        self.place
    }

    /// What to write instead, where that is known.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// What is wrong, without the place.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl std::error::Error for ExpressionError {}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        match self.place {
            Some((1, column)) => write!(f, " (column {column})"),
            Some((line, column)) => write!(f, " (line {line}, column {column})"),
            None => Ok(()),
        }
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Expression {}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({:?})", self.0.text)
    }
}

/// The first thing that the parser did not understand, without what it would have understood.
fn unreadable(text: &str, errors: &ParseErrors) -> ExpressionError {
    let Some(first) = errors.errors.first() else {
        return ExpressionError::new("the expression is no CEL");
    };
    let said = first.msg.split(" expecting").next().unwrap_or_default();
    let said = said.trim_start_matches("Syntax error: ").trim();
    let said = if said.contains("<EOF>") {
        "it ends too early"
    } else {
        said
    };
    let said: String = said.chars().take(SAID_MAX_CHARS).collect();
    let error = ExpressionError::new(format!("the expression is no CEL: {said}"));
    let (Ok(line), Ok(column)) = (usize::try_from(first.pos.0), usize::try_from(first.pos.1))
    else {
        return error;
    };
    let begun = text.split_inclusive('\n').take(line.saturating_sub(1));
    let begun: usize = begun.map(str::len).sum();
    let rest = text.get(begun..).unwrap_or_default();
    let within = rest.char_indices().nth(column.saturating_sub(1));
    error.at(begun + within.map_or(rest.len(), |(at, _)| at))
}

fn is_map(range: &IdedExpr, context: &Context<'_, '_>) -> bool {
    matches!(Value::resolve(range, context), Ok(Value::Map(_)))
}

fn ordinal(index: usize) -> u32 {
    crate::diagnostic::count(index.saturating_add(1))
}

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Longest expression, in bytes.
pub const TEXT_MAX_BYTES: usize = 1024;
/// Most brackets, choices and operators that stand in each other. The parser takes some 10 KiB of
/// the stack for each in a release build, and threads have 2 MiB.
pub const NESTING_MAX: usize = 24;
/// Most bytes of all values that one expression names, counted as in JSON, and more for each entry.
pub const VALUES_MAX_BYTES: usize = 256 * 1024;
/// Most entries of one list or map among them.
pub const ENTRIES_MAX: usize = 10_000;
/// Most bytes that one answer may have to look at, in the worst case, every look counted.
pub const WORK_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Most characters of the parser's own words that a message repeats.
const SAID_MAX_CHARS: usize = 120;
