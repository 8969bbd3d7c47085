//! What an expression may do: its names, its functions, its loops, and the work it can cause.

use std::collections::BTreeSet;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators,
};
use cel::{Context, Value};
use serde_json::Value as Json;

use super::value::Size;
use super::{ENVIRONMENT, ExpressionError};
use crate::diagnostic::suggestion;

/// What an expression that was let in names, and what it can cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cage {
    /// The names of values that it uses.
    pub(super) names: BTreeSet<String>,
    /// How often it may look at all values.
    looks: u64,
    /// How often it may look at all values for each entry of a list.
    looks_for_each: u64,
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

    /// Bytes that an answer over values of this size has to look at, in the worst case.
    pub(super) fn work(&self, size: &Size) -> u64 {
        let bytes = size.bytes as u64;
        let looks = self
            .looks_for_each
            .saturating_mul(size.entries as u64)
            .saturating_add(self.looks);
        looks.saturating_mul(bytes)
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

/// The first path from a name that leads nowhere in these values.
pub(super) fn missing(expression: &IdedExpr, values: &Json) -> Option<String> {
    let mut paths: Vec<_> = all(expression).filter_map(path).collect();
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
                    self.count(outer);
                }
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
        match looks {
            Looks::Little => self.count(false),
            Looks::Least => self.count(every),
            Looks::All => self.count(any),
        }
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
        if all(&of.iter_range).any(|part| matches!(call(part), Some((operators::ADD, _)))) {
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

    /// Counts one look: at one entry after the other, or at everything for each entry.
    fn count(&mut self, outer: Outer) {
        let lists = self.each.map_or(1, |each| each.lists);
        self.cage.looks += lists;
        if outer && self.each.is_some() {
            self.cage.looks_for_each += 1;
        }
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
        self.cage.looks += PATTERN_LOOKS;
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
        let place = self.source.offset_for(part.id);
        match place.and_then(|(start, _)| usize::try_from(start).ok()) {
            Some(characters) => {
                let text = &self.source.source;
                let offset = text.char_indices().nth(characters);
                error.at(offset.map_or(text.len(), |(at, _)| at))
            }
            None => error,
        }
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
            operators::EQUALS | operators::NOT_EQUALS | "startsWith" | "endsWith" => {
                Some(Self::Least)
            }
            operators::ADD
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

/// What a loop appends to its result for each entry: the entry itself for `filter`, anything for
/// `map`, nothing for those that answer.
fn appended(of: &ComprehensionExpr) -> Option<&Expr> {
    let step = match call(&of.loop_step) {
        Some((operators::CONDITIONAL, [_, step, _])) => step,
        Some(_) | None => &of.loop_step,
    };
    let Some((operators::ADD, [_, list])) = call(step) else {
        return None;
    };
    let Expr::List(list) = &list.expr else {
        return None;
    };
    list.elements.first().map(|element| &element.expr)
}

/// The function and the arguments of a call.
fn call(part: &IdedExpr) -> Option<(&str, &[IdedExpr])> {
    let Expr::Call(call) = &part.expr else {
        return None;
    };
    Some((&call.func_name, &call.args))
}

/// The names of a path such as `release.commit`, from its root.
fn path(part: &IdedExpr) -> Option<Vec<&str>> {
    if let Expr::Ident(name) = &part.expr {
        return Some(vec![name]);
    }
    let Expr::Select(select) = &part.expr else {
        return None;
    };
    let mut names = path(&select.operand)?;
    if !select.test {
        names.push(&select.field);
    }
    Some(names)
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

/// A part and everything in it, from the left.
fn all(part: &IdedExpr) -> impl Iterator<Item = &IdedExpr> {
    let mut left = vec![part];
    std::iter::from_fn(move || {
        let next = left.pop()?;
        let mut within = children(next);
        within.reverse();
        left.extend(within);
        Some(next)
    })
}

/// The parts that stand directly in a part.
fn children(part: &IdedExpr) -> Vec<&IdedExpr> {
    match &part.expr {
        Expr::Literal(_) | Expr::Ident(_) | Expr::Unspecified => Vec::new(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Call(call) => call
            .target
            .as_deref()
            .into_iter()
            .chain(&call.args)
            .collect(),
        Expr::Comprehension(of) => {
            let ComprehensionExpr {
                iter_range,
                accu_init,
                loop_cond,
                loop_step,
                result,
                ..
            } = &**of;
            vec![iter_range, accu_init, loop_cond, loop_step, result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map
            .entries
            .iter()
            .flat_map(|entry| entry_parts(&entry.expr))
            .collect(),
        Expr::Struct(fields) => {
            let entries = fields.entries.iter();
            entries.flat_map(|entry| entry_parts(&entry.expr)).collect()
        }
    }
}

fn entry_parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
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
/// A pattern looks at every byte with all its states.
const PATTERN_LOOKS: u64 = 16;
