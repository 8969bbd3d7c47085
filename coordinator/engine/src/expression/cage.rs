//! What an expression may do: its names, its functions, its loops, and the work it can cause.

use std::collections::BTreeSet;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators,
};
use cel::{Context, Value};
use serde_json::Value as Json;

use super::part::{all, appended, call, children, joins, path, paths};
use super::value::{self, Size};
use super::{ENVIRONMENT, ExpressionError};
use crate::diagnostic::suggestion;

/// What an expression that was let in names, and what it can cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cage {
    /// The names of values that it uses.
    pub(super) names: BTreeSet<String>,
    /// How often it may look at all values.
    looks: u64,
    /// What it may look at far more often.
    stares: Vec<Stare>,
}

/// One value that is looked at again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stare {
    /// The names of its path, from its root.
    path: Vec<String>,
    /// How often, each time.
    looks: u64,
    /// Whether for each entry of a list.
    each: bool,
}

impl Cage {
    /// Lets an expression in over these names, or says why not.
    pub(super) fn around(
        expression: &IdedExpr,
        names: &[&str],
        source: &SourceInfo,
    ) -> Result<Self, ExpressionError> {
        let mut walk = Walk {
            names,
            source,
            each: None,
            patterns: 0,
            cage: Self::default(),
        };
        walk.visit(expression, Use::Value)?;
        walk.answers(expression)?;
        Ok(walk.cage)
    }

    /// Bytes that an answer over these values has to look at, in the worst case.
    pub(super) fn work(&self, values: &Json, size: &Size) -> u64 {
        let stares = self.stares.iter().map(|stare| {
            let bytes = value::bytes_at(values, &stare.path);
            let times = if stare.each { size.entries } else { 1 };
            bytes
                .saturating_mul(stare.looks)
                .saturating_mul(times as u64)
        });
        let once = self.looks.saturating_mul(size.bytes as u64);
        stares.fold(once, u64::saturating_add)
    }

    /// What the loops of an expression run over.
    #[expect(
        clippy::unused_self,
        reason = "only an expression that was let in has flat loops"
    )]
    pub(super) fn ranges<'e>(
        &self,
        expression: &'e IdedExpr,
    ) -> impl Iterator<Item = &'e IdedExpr> {
        all(expression).filter_map(|part| {
            let Expr::Comprehension(of) = &part.expr else {
                return None;
            };
            Some(&of.iter_range)
        })
    }
}

/// The first path from one of these names that leads nowhere in these values.
pub(super) fn missing(
    expression: &IdedExpr,
    names: &BTreeSet<String>,
    values: &Json,
) -> Option<String> {
    let paths = all(expression).filter_map(path);
    let mut paths: Vec<_> = paths.filter(|path| names.contains(path[0])).collect();
    paths.sort_by_key(Vec::len);
    paths.iter().find_map(|path| {
        let mut value = values;
        for (depth, field) in path.iter().enumerate() {
            match value.as_object()?.get(*field) {
                Some(next) => value = next,
                None => return Some(path[..=depth].join(".")),
            }
        }
        None
    })
}

struct Walk<'a> {
    names: &'a [&'a str],
    source: &'a SourceInfo,
    /// The loop that is walked.
    each: Option<Each<'a>>,
    /// Patterns so far.
    patterns: usize,
    cage: Cage,
}

#[derive(Clone, Copy)]
struct Each<'a> {
    variable: &'a str,
    /// Parts of the expression for the list, and so how many times all values it may have.
    lists: u64,
}

/// What a part is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Anything.
    Value,
    /// Only its entries count, in any order.
    Entries,
}

/// Whether a part speaks of values from outside of the loop that it stands in.
type Outer = bool;

impl<'a> Walk<'a> {
    fn visit(&mut self, part: &'a IdedExpr, used: Use) -> Result<Outer, ExpressionError> {
        match &part.expr {
            Expr::Literal(_) => Ok(false),
            Expr::Ident(name) => self.name(part, name),
            Expr::Select(select) => self.visit(&select.operand, Use::Value),
            Expr::Call(call) => self.call(part, call),
            Expr::Comprehension(comprehension) => self.each(part, comprehension, used),
            Expr::List(_) | Expr::Map(_) => {
                let mut outer = false;
                for child in children(part) {
                    outer |= self.visit(child, Use::Value)?;
                }
                self.look(part, 1, outer);
                Ok(outer)
            }
            Expr::Struct(_) | Expr::Unspecified => {
                Err(self.refuse(part, "there are no messages of this kind here"))
            }
        }
    }

    fn name(&mut self, part: &IdedExpr, name: &'a str) -> Result<Outer, ExpressionError> {
        if name.starts_with('@') || self.each.is_some_and(|each| each.variable == name) {
            return Ok(false);
        }
        if self.names.contains(&name) {
            self.cage.names.insert(name.to_owned());
            return Ok(true);
        }
        let error = self.refuse(part, format!("there is no `{name}` here"));
        Err(match suggestion(name, self.names.iter().copied()) {
            Some(help) => error.help_with(help),
            None => error,
        })
    }

    fn call(&mut self, part: &'a IdedExpr, call: &'a CallExpr) -> Result<Outer, ExpressionError> {
        let name = call.func_name.as_str();
        let Some(looks) = Looks::of(name) else {
            let error = self.refuse(part, format!("there is no function `{name}` here"));
            return Err(match name {
                "map" => error.help_with("ask with all(), exists(), exists_one() or filter()"),
                _ => error.help_with(suggestion(name, FUNCTIONS).unwrap_or_default()),
            });
        };
        if name == "matches" {
            self.pattern(part, call)?;
        }
        let used = if name == "size" {
            Use::Entries
        } else {
            Use::Value
        };
        let (mut any, mut every) = (false, true);
        for operand in call.target.as_deref().into_iter().chain(&call.args) {
            let outer = self.visit(operand, used)?;
            any |= outer;
            every &= outer;
        }
        let looks = match looks {
            // A sum copies all that it is made of, and so does the sum that this is a part of.
            Looks::All if name == operators::ADD => all(part).count() as u64,
            Looks::Little | Looks::Least | Looks::All => 1,
        };
        let stares = match Looks::of(name) {
            Some(Looks::All) => any,
            Some(Looks::Least) => every,
            Some(Looks::Little) | None => false,
        };
        self.look(part, looks, stares);
        Ok(any)
    }

    fn each(
        &mut self,
        part: &'a IdedExpr,
        of: &'a ComprehensionExpr,
        used: Use,
    ) -> Result<Outer, ExpressionError> {
        if self.each.is_some() {
            return Err(self
                .refuse(part, "a loop stands in another one: it could take too long")
                .help_with("ask for one list only, or let a protection with a program ask"));
        }
        self.refuse_result(part, of, used)?;
        let outer = self.visit(&of.iter_range, Use::Entries)?;
        if joins(&of.iter_range) {
            return Err(self
                .refuse(part, "a loop runs over lists that are joined with `+`")
                .help_with("ask each list, and join the answers with `&&` or `||`"));
        }
        self.each = Some(Each {
            variable: &of.iter_var,
            lists: all(&of.iter_range).count() as u64,
        });
        let mut inner = outer;
        for part in [&of.accu_init, &of.loop_cond, &of.loop_step, &of.result] {
            inner |= self.visit(part, Use::Value)?;
        }
        self.each = None;
        Ok(inner)
    }

    /// Refuses a loop whose result has another size or another order each time.
    fn refuse_result(
        &self,
        part: &IdedExpr,
        of: &ComprehensionExpr,
        used: Use,
    ) -> Result<(), ExpressionError> {
        let Some(appended) = appended(of) else {
            return Ok(());
        };
        let filters = matches!(appended, Expr::Ident(name) if *name == of.iter_var);
        if !filters {
            return Err(self
                .refuse(
                    part,
                    "there is no map() here: its result could be too large",
                )
                .help_with("ask with all(), exists(), exists_one() or filter()"));
        }
        match used {
            Use::Entries => Ok(()),
            Use::Value => Err(self
                .refuse(part, "what filter() finds has no order")
                .help_with("ask for its size(), or with exists() or all()")),
        }
    }

    /// Counts what a part looks at: one entry after the other in a loop, or all that it names from
    /// outside of the loop for each entry.
    fn look(&mut self, part: &IdedExpr, looks: u64, outer: Outer) {
        let Some(each) = self.each else {
            self.cage.looks += looks;
            return;
        };
        self.cage.looks += looks * each.lists;
        if outer {
            self.stare(part, 1, true);
        }
    }

    /// Counts that all that a part names is looked at so many times.
    fn stare(&mut self, part: &IdedExpr, looks: u64, each: bool) {
        let own = |path: &Vec<&str>| {
            self.names.contains(&path[0]) && self.each.is_none_or(|each| each.variable != path[0])
        };
        let stares = paths(part).into_iter().filter(own).map(|path| Stare {
            path: path.into_iter().map(str::to_owned).collect(),
            looks,
            each,
        });
        let stares: Vec<_> = stares.collect();
        self.cage.stares.extend(stares);
    }

    /// A pattern is compiled whenever it is used, so it is small, known, and not in a loop.
    fn pattern(&mut self, part: &IdedExpr, call: &CallExpr) -> Result<(), ExpressionError> {
        let Some(Expr::Literal(LiteralValue::String(pattern))) =
            call.args.last().map(|pattern| &pattern.expr)
        else {
            return Err(self.refuse(part, "the pattern of matches() is a string in quotes"));
        };
        if self.each.is_some() {
            return Err(self
                .refuse(
                    part,
                    "matches() does not stand in a loop: it could take too long",
                )
                .help_with("use startsWith(), endsWith() or contains()"));
        }
        self.patterns += 1;
        let states = (pattern.inner().len() as u64).saturating_mul(repetitions(pattern.inner()));
        self.stare(part, states.saturating_mul(STATE_LOOKS), false);
        if self.patterns > PATTERNS_MAX {
            return Err(self.refuse(part, format!("more than {PATTERNS_MAX} times matches()")));
        }
        if pattern.inner().len() > PATTERN_MAX_BYTES
            || repetitions(pattern.inner()) > REPETITIONS_MAX
        {
            return Err(self
                .refuse(part, "the pattern is too large")
                .help_with(format!(
                    "it may have {PATTERN_MAX_BYTES} bytes, and its repetitions {{n}} may multiply \
                     to {REPETITIONS_MAX}"
                )));
        }
        let tried = CallExpr {
            func_name: "matches".to_owned(),
            target: None,
            args: vec![literal(""), literal(pattern.inner())],
        };
        let tried = IdedExpr {
            id: 0,
            expr: Expr::Call(tried),
        };
        match Value::resolve(&tried, &Context::with_env(ENVIRONMENT.clone())) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.refuse(part, "the pattern is no regular expression")),
        }
    }

    /// Refuses what is certainly neither true nor false.
    fn answers(&self, part: &IdedExpr) -> Result<(), ExpressionError> {
        let is = match &part.expr {
            Expr::Literal(LiteralValue::Boolean(_)) | Expr::Ident(_) | Expr::Select(_) => {
                return Ok(());
            }
            Expr::Literal(LiteralValue::String(_)) => "a string",
            Expr::Literal(LiteralValue::Null) => "null",
            Expr::Literal(LiteralValue::Bytes(_)) => "bytes",
            Expr::Literal(_) => "a number",
            Expr::List(_) => "a list",
            Expr::Map(_) => "a map",
            Expr::Comprehension(of) if appended(of).is_some() => "a list",
            Expr::Comprehension(_) | Expr::Struct(_) | Expr::Unspecified => return Ok(()),
            Expr::Call(call) => match call.func_name.as_str() {
                operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT => {
                    return call.args.iter().try_for_each(|arg| self.answers(arg));
                }
                operators::CONDITIONAL => {
                    return call.args.iter().try_for_each(|arg| self.answers(arg));
                }
                "size" | "int" | "uint" | "double" => "a number",
                operators::SUBSTRACT
                | operators::MULTIPLY
                | operators::DIVIDE
                | operators::MODULO
                | operators::NEGATE => "a number",
                operators::ADD => "a sum",
                "string" => "a string",
                _ => return Ok(()),
            },
        };
        Err(self
            .refuse(part, format!("this is {is}, neither true nor false"))
            .help_with("compare it to something, as in `size(x) > 0`"))
    }

    fn refuse(&self, part: &IdedExpr, problem: impl Into<String>) -> ExpressionError {
        let error = ExpressionError::new(problem);
        match self.offset(part) {
            Some(offset) => error.at(offset),
            None => error,
        }
    }

    /// Where a part begins, in bytes; the parser places a call at its bracket.
    fn offset(&self, part: &IdedExpr) -> Option<usize> {
        let text = self.source.source.as_str();
        let (offset, _) = self.source.offset_for(part.id)?;
        let before = text.get(..usize::try_from(offset).ok()?)?;
        let called = call(part).and_then(|(name, _)| before.trim_end().strip_suffix(name));
        Some(called.unwrap_or(before).len())
    }
}

/// How much of its operands a function looks at.
#[derive(Clone, Copy)]
enum Looks {
    /// At what they are, not at what they hold.
    Little,
    /// At as much as the smallest of them holds.
    Least,
    /// At everything.
    All,
}

impl Looks {
    /// Nothing for a function that is not let in.
    fn of(function: &str) -> Option<Self> {
        match function {
            operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::LOGICAL_NOT
            | operators::CONDITIONAL
            | operators::INDEX
            | operators::NOT_STRICTLY_FALSE => Some(Self::Little),
            "startsWith" | "endsWith" => Some(Self::Least),
            operators::EQUALS
            | operators::NOT_EQUALS
            | operators::ADD
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::NEGATE
            | operators::GREATER
            | operators::GREATER_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS
            | operators::IN => Some(Self::All),
            known if FUNCTIONS.contains(&known) => Some(Self::All),
            _ => None,
        }
    }
}

/// The largest product of the counted repetitions of a pattern, as if each stood in the other.
fn repetitions(pattern: &str) -> u64 {
    let counts = pattern.split('{').skip(1).filter_map(|rest| {
        let inside = rest.split('}').next()?;
        let numbers = inside
            .split(',')
            .filter_map(|n| n.trim().parse::<u64>().ok());
        numbers.max()
    });
    counts.fold(1, |all, count| all.saturating_mul(count.max(1)))
}

fn literal(text: &str) -> IdedExpr {
    IdedExpr {
        id: 0,
        expr: Expr::Literal(LiteralValue::String(text.to_owned().into())),
    }
}

/// Functions that are let in. All of them give the same for the same.
const FUNCTIONS: [&str; 10] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
];
/// Most calls of `matches` in one expression.
const PATTERNS_MAX: usize = 4;
/// Longest pattern, in bytes.
const PATTERN_MAX_BYTES: usize = 128;
/// Most that the counted repetitions of a pattern multiply to.
const REPETITIONS_MAX: u64 = 128;
/// How often each byte of a pattern makes it look at each byte of a text: a class such as `\w` has
/// many states.
const STATE_LOOKS: u64 = 8;
