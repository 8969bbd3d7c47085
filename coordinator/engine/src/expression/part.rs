//! An expression as a tree of parts: what stands in what, and the shapes that matter.

use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, IdedExpr, operators};

/// What a loop appends to its result for each entry: the entry itself for `filter`, anything for
/// `map`, nothing for those that answer.
pub(super) fn appended(of: &ComprehensionExpr) -> Option<&Expr> {
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

/// Whether lists may be joined in what a loop runs over, outside of the loops in it.
pub(super) fn joins(range: &IdedExpr) -> bool {
    let looping = matches!(range.expr, Expr::Comprehension(_));
    let adding = matches!(call(range), Some((operators::ADD, _)));
    adding || (!looping && children(range).into_iter().any(joins))
}

/// The function and the arguments of a call.
pub(super) fn call(part: &IdedExpr) -> Option<(&str, &[IdedExpr])> {
    let Expr::Call(call) = &part.expr else {
        return None;
    };
    Some((&call.func_name, &call.args))
}

/// The longest paths that a part names.
pub(super) fn paths(part: &IdedExpr) -> Vec<Vec<&str>> {
    match path(part) {
        Some(path) => vec![path],
        None => children(part).into_iter().flat_map(paths).collect(),
    }
}

/// The names of a path such as `release.commit`, from its root.
pub(super) fn path(part: &IdedExpr) -> Option<Vec<&str>> {
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

/// A part and everything in it, from the left.
pub(super) fn all(part: &IdedExpr) -> impl Iterator<Item = &IdedExpr> {
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
pub(super) fn children(part: &IdedExpr) -> Vec<&IdedExpr> {
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
