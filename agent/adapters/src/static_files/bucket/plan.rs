//! Which objects have to be put. Pure.

use std::collections::BTreeMap;

use crate::static_files::bucket::record::{Entry, List};
use crate::static_files::bucket::scan::{Object, Wave};

/// What lies in a place: the storage's word for the content of each key.
pub(super) type Lying = BTreeMap<String, String>;

/// Splits a release: what lies there already, as this agent put it and nobody changed it since, and what
/// has to be put. `put` is what this agent put, lists and journal, the newest last.
pub(super) fn split(objects: Vec<Object>, put: &[List], lying: &Lying) -> (List, Vec<Object>) {
    let mut there = List::new();
    let mut missing = Vec::new();
    for object in objects {
        let etag = lying.get(&object.key);
        let same = |entry: &&Entry| {
            entry.what == object.what && etag.is_some_and(|etag| *etag == entry.etag)
        };
        let known = put.iter().filter_map(|list| list.get(&object.key));
        match known.rev().find(same) {
            Some(known) => {
                there.insert(object.key, known.clone());
            }
            None => missing.push(object),
        }
    }
    (there, missing)
}

/// How an object stands in a list.
pub(super) fn entry(object: &Object, etag: String) -> Entry {
    Entry {
        what: object.what,
        etag,
        is_page: object.wave != Wave::Asset,
    }
}

/// What goes: of the dropped releases all that no kept one has, and of kept ones the pages that the
/// current one has no more. Pages are what people find; an old one must not stay for weeks.
pub(super) fn gone(
    current: &List,
    kept: &[List],
    dropped: &[List],
    has_pages: bool,
) -> Vec<String> {
    let needed = |key: &String| {
        let by = |list: &List| list.get(key).is_some_and(|e| !(has_pages && e.is_page));
        current.contains_key(key) || kept.iter().any(by)
    };
    let all = kept.iter().filter(|_| has_pages).chain(dropped);
    let mut keys: Vec<String> = all
        .flat_map(BTreeMap::keys)
        .filter(|key| !needed(key))
        .cloned()
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

/// What differs from what was put, if anything, for people.
pub(super) fn differs(list: &List, lying: &Lying) -> Option<String> {
    let mut changed = Vec::new();
    let mut removed = Vec::new();
    for (key, entry) in list {
        match lying.get(key) {
            None => removed.push(key.as_str()),
            Some(etag) if *etag != entry.etag => changed.push(key.as_str()),
            Some(_) => {}
        }
    }
    let say = |keys: &[&str], done: &str| match keys {
        [] => None,
        [only] => Some(format!("{only} was {done}")),
        [first, ..] => Some(format!(
            "{} objects were {done}, {first} among them",
            keys.len()
        )),
    };
    let said = [say(&removed, "removed"), say(&changed, "changed")];
    let said: Vec<_> = said.into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::static_files::bucket::scan::Content;
    use holdfast_protocol::digest::Digest;

    fn object(key: &str, content: &str) -> Object {
        Object {
            key: key.to_owned(),
            content: Content::Bytes(Vec::new()),
            size: 0,
            what: Digest::of(content.as_bytes()),
            content_type: String::new(),
            cache_control: None,
            wave: if key.contains("html") {
                Wave::Page
            } else {
                Wave::Asset
            },
        }
    }

    fn list(entries: &[(&str, &str, &str)]) -> List {
        let entry = |(key, content, etag): &(&str, &str, &str)| {
            let entry = entry(&object(key, content), (*etag).to_owned());
            ((*key).to_owned(), entry)
        };
        entries.iter().map(entry).collect()
    }

    fn lying(entries: &[(&str, &str)]) -> Lying {
        let owned = |(key, etag): &(&str, &str)| ((*key).to_owned(), (*etag).to_owned());
        entries.iter().map(owned).collect()
    }

    #[test]
    fn only_what_is_not_there_as_it_was_put_is_put() {
        let objects =
            ["same", "new", "edited", "removed", "resumed", "older"].map(|key| object(key, key));
        let earlier = list(&[("older", "older", "0")]);
        let current = list(&[
            ("same", "same", "1"),
            ("edited", "edited", "2"),
            ("removed", "removed", "3"),
            ("resumed", "before", "4"),
            ("older", "newer", "6"),
        ]);
        let journal = list(&[("resumed", "resumed", "5")]);
        let there = lying(&[
            ("same", "1"),
            ("edited", "x"),
            ("resumed", "5"),
            ("older", "0"),
            ("foreign", "9"),
        ]);
        let (kept, missing) = split(objects.to_vec(), &[earlier, current, journal], &there);
        assert_eq!(
            kept.keys().collect::<Vec<_>>(),
            ["older", "resumed", "same"]
        );
        assert_eq!(kept["resumed"].etag, "5");
        let missing: Vec<_> = missing.iter().map(|object| object.key.as_str()).collect();
        assert_eq!(missing, ["new", "edited", "removed"]);
    }

    #[test]
    fn files_of_kept_releases_stay_and_their_pages_go() {
        let current = list(&[("index.html", "3", ""), ("c.js", "c", "")]);
        let kept = [list(&[
            ("index.html", "2", ""),
            ("b.js", "b", ""),
            ("old.html", "2", ""),
        ])];
        let dropped = [list(&[
            ("index.html", "1", ""),
            ("a.js", "a", ""),
            ("b.js", "b", ""),
        ])];
        assert_eq!(gone(&current, &kept, &dropped, true), ["a.js", "old.html"]);
        assert_eq!(gone(&current, &kept, &dropped, false), ["a.js"]);
        assert!(gone(&current, &[], &[], true).is_empty());
    }

    #[test]
    fn what_differs_is_named_and_what_is_foreign_is_not() {
        let list = list(&[("a", "a", "1"), ("b", "b", "2"), ("c", "c", "3")]);
        let good = [("a", "1"), ("b", "2"), ("c", "3"), ("foreign", "4")];
        assert_eq!(differs(&list, &lying(&good)), None);
        let said = differs(&list, &lying(&[("a", "1"), ("b", "x")])).unwrap();
        assert_eq!(said, "c was removed; b was changed");
        let said = differs(&list, &lying(&[])).unwrap();
        assert_eq!(said, "3 objects were removed, a among them");
    }
}
