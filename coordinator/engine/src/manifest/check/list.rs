//! Lists: waves, names, uses of protections.

use std::collections::BTreeSet;

use super::{At, Check, Whole, is_map};
use crate::calendar::WINDOWS_MAX;
use crate::manifest::kinds::LABELLED;
use crate::manifest::node::{Node, NodeValue};
use crate::manifest::shape::{Grammar, Shape};

impl Check<'_> {
    pub(super) fn list(&mut self, at: &At<'_>, of: &'static Shape) {
        if !matches!(at.node.value, NodeValue::List(_)) {
            return self.wrong(at, "a list", Some("write [one, another]".to_owned()));
        }
        for (index, item) in at.node.items().iter().enumerate() {
            self.value(&at.item(index, item), of, Whole::Yes);
        }
        if matches!(of, Shape::Wave) {
            self.waves(at);
        }
        if matches!(of, Shape::Text(Grammar::Name)) {
            self.names(at);
        }
        if matches!(of, Shape::Use(_)) {
            self.uses(at);
        }
        if matches!(of, Shape::Window(_)) && at.node.items().len() > WINDOWS_MAX {
            let message = format!("`{}` holds more than {WINDOWS_MAX} windows", at.name());
            self.problem(at.place, message, None);
        }
    }

    /// A list that is not empty.
    pub(super) fn some(&mut self, at: &At<'_>, of: &'static Shape) {
        if matches!(&at.node.value, NodeValue::List(items) if items.is_empty()) {
            let message = format!("`{}` may not be empty", at.name());
            return self.problem(at.place, message, None);
        }
        self.list(at, of);
    }

    /// Each use of a protection has a name of its own.
    fn uses(&mut self, at: &At<'_>) {
        let mut seen = BTreeSet::new();
        for item in at.node.items() {
            let Some(name) = use_name(item).filter(|name| !seen.insert(name.text())) else {
                continue;
            };
            let message = format!(
                "`{}` is in `{}` twice",
                name.text().unwrap_or_default(),
                at.name()
            );
            let help = "give one of them another name: {use: …, as: …}".to_owned();
            self.problem(name.place, message, Some(help));
        }
    }

    /// A list of names holds each once.
    fn names(&mut self, at: &At<'_>) {
        let mut seen = BTreeSet::new();
        for item in at.node.items() {
            if let Some(name) = item.text().filter(|name| !seen.insert(*name)) {
                let message = format!("`{name}` is in `{}` twice", at.name());
                self.problem(item.place, message, None);
            }
        }
    }

    pub(super) fn wave(&mut self, at: &At<'_>) {
        if is_map(at.node) {
            self.object(at, &LABELLED, Whole::Yes);
        } else {
            self.extent(at, "a number of targets from 1, or a share such as 25%");
        }
    }

    /// Each wave counted from the first target has to reach further than the one before, and the last
    /// one of all everything; whom waves by labels reach is not known here.
    fn waves(&mut self, at: &At<'_>) {
        let items = at.node.items();
        let counted: Vec<_> = items.iter().filter(|item| !is_map(item)).collect();
        for pair in counted.windows(2) {
            let [before, after] = pair else { continue };
            let (Some(reach), Some(further)) = (read_extent(before), read_extent(after)) else {
                continue;
            };
            if !further.reaches_beyond(reach) {
                let message = "this wave does not reach further than the one before it".to_owned();
                let help = "counts come first, then shares, each larger than the one before";
                self.problem(after.place, message, Some(help.to_owned()));
            }
        }
        let all = items
            .iter()
            .position(|item| read_extent(item) == Some(Reach::Percent(100)));
        if let Some(after) = all
            .and_then(|at| items.get(at + 1))
            .filter(|item| is_map(item))
        {
            let message =
                "this wave reaches nobody: the one before it reaches everybody".to_owned();
            self.problem(
                after.place,
                message,
                Some("end the list with 100%".to_owned()),
            );
        }
        let takes_the_rest = |last: &Node| {
            is_map(last) || matches!(read_extent(last), None | Some(Reach::Percent(100)))
        };
        if !items.last().is_some_and(takes_the_rest) {
            let place = items.last().map_or(at.place, |item| item.place);
            let message = "the last wave has to reach every target".to_owned();
            self.problem(place, message, Some("end the list with 100%".to_owned()));
        }
    }
}

/// A number of targets or a share of them, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Count(u32),
    Percent(u8),
}

impl Reach {
    const fn reaches_beyond(self, before: Self) -> bool {
        match (before, self) {
            (Self::Count(a), Self::Count(b)) => a < b,
            (Self::Percent(a), Self::Percent(b)) => a < b,
            (Self::Count(_), Self::Percent(_)) => true,
            (Self::Percent(_), Self::Count(_)) => false,
        }
    }
}

/// The extent that a value is, if it is one.
pub(crate) fn read_extent(node: &Node) -> Option<Reach> {
    if let Some(text) = node.text() {
        let share: u8 = text.strip_suffix('%')?.parse().ok()?;
        return (1..=100).contains(&share).then_some(Reach::Percent(share));
    }
    let count = u32::try_from(node.number()?).ok()?;
    (count >= 1).then_some(Reach::Count(count))
}

/// The share that a value is, from 0 to 100, if it is one.
pub(crate) fn read_percent(node: &Node) -> Option<u8> {
    let share: u8 = node.text()?.strip_suffix('%')?.parse().ok()?;
    (share <= 100).then_some(share)
}

/// What the use of a protection is called.
pub(crate) fn use_name(item: &Node) -> Option<&Node> {
    item.at("as").or_else(|| item.at("use"))
}
