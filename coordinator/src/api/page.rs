//! Pages of lists that are kept in memory.

use std::cmp::Ordering;

use holdfast_protocol::api::{Code, Items};

use super::problem::Failed;
use crate::event::Refused;
use crate::store::PAGE_MAX_ROWS;

/// How many rows a page has: what is asked for, within bounds.
#[must_use]
pub fn rows(limit: Option<u32>) -> u32 {
    limit.unwrap_or(PAGE_MAX_ROWS).clamp(1, PAGE_MAX_ROWS)
}

/// Where a page begins, as it was told at the end of the page before.
///
/// # Errors
/// [`Failed`] when this is none of ours.
pub fn begin<T: std::str::FromStr>(text: Option<&String>) -> Result<Option<T>, Failed> {
    let parsed = text
        .filter(|text| !text.is_empty())
        .map(|text| text.parse())
        .transpose();
    parsed.map_err(|_| {
        Failed(
            Refused::new(Code::BadRequest, "`continue` is not what a page ended with")
                .help("pass the value of `continue` from the page before, unchanged"),
        )
    })
}

/// A page that is full, and so may have a successor that begins after its last row.
pub fn full<T>(items: Vec<T>, limit: Option<u32>, key: impl Fn(&T) -> String) -> Items<T> {
    let full = items.len() == rows(limit) as usize;
    let next = items.last().filter(|_| full).map(key);
    Items { items, next }
}

/// The rows of a page, of all that there are in order: those that come after `place` tells.
pub fn rows_after<T>(
    all: impl Iterator<Item = T>,
    limit: Option<u32>,
    place: impl Fn(&T) -> Ordering,
) -> impl Iterator<Item = T> {
    all.filter(move |row| place(row) == Ordering::Greater)
        .take(rows(limit) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_a_gap_and_end() {
        let all: Vec<u32> = (1..=7).collect();
        let mut seen = Vec::new();
        let mut after: Option<u32> = None;
        loop {
            let place = |row: &u32| after.map_or(Ordering::Greater, |after| row.cmp(&after));
            let page: Vec<u32> = rows_after(all.iter().copied(), Some(3), place).collect();
            let page = full(page, Some(3), ToString::to_string);
            seen.extend(page.items);
            match begin(page.next.as_ref()).unwrap() {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, all);
        assert!(begin::<u32>(Some(&"x".to_owned())).is_err());
    }
}
