//! Which names an archive's entries may have. Pure.

use super::{UnpackError, entry};

/// Longest path, in bytes.
const PATH_MAX_BYTES: usize = 4096;
/// Longest part of a path, in bytes.
const PART_MAX_BYTES: usize = 255;
/// Most parts of a path.
const DEPTH_MAX: usize = 64;
/// Names that are devices on some systems, with any ending.
const DEVICES: &[&str] = &[
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8",
    "com9", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// The path that an entry's name stands for, without `./` before and `/` after it; empty for the
/// root itself.
pub(super) fn checked(name: &[u8]) -> Result<String, UnpackError> {
    let shown = String::from_utf8_lossy(name.get(..80.min(name.len())).unwrap_or_default());
    let refused = |problem: &str| Err(entry(&shown, problem));
    if name.len() > PATH_MAX_BYTES {
        return refused("has a path longer than 4096 bytes");
    }
    let Ok(text) = std::str::from_utf8(name) else {
        return refused("has a name that is not UTF-8");
    };
    if text.contains(|c: char| c.is_control() || c == '\\') {
        return refused("has a control character or a backslash in its name");
    }
    if text.starts_with('/') {
        return refused("is absolute");
    }
    if text.is_empty() {
        return refused("has no name");
    }
    let mut path = text;
    while let Some(below) = path.strip_prefix("./") {
        path = below;
    }
    path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() || path == "." {
        return Ok(String::new());
    }
    if path.split('/').count() > DEPTH_MAX {
        return refused("lies more than 64 directories deep");
    }
    match path.split('/').find_map(part_problem) {
        Some(problem) => refused(problem),
        None => Ok(path.to_owned()),
    }
}

/// The target of a link at `path`, if it is relative and its text alone does not lead out.
pub(super) fn checked_target(path: &str, target: &[u8]) -> Result<String, UnpackError> {
    let Ok(text) = std::str::from_utf8(target) else {
        return Err(entry(path, "links to a name that is not UTF-8"));
    };
    if text.is_empty() || text.len() > PATH_MAX_BYTES || text.contains(char::is_control) {
        return Err(entry(
            path,
            "links to a name that is empty, too long or not printable",
        ));
    }
    if text.starts_with('/') {
        return Err(entry(path, format!("links to the absolute path {text:?}")));
    }
    let mut depth = path.matches('/').count();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => {
                return Err(entry(
                    path,
                    format!("links to {text:?}, which leaves the archive"),
                ));
            }
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    Ok(text.to_owned())
}

fn part_problem(part: &str) -> Option<&'static str> {
    let stem = part.split('.').next().unwrap_or_default();
    match part {
        "" => Some("has an empty part in its path"),
        "." => Some("has the part . in its path"),
        ".." => Some("has the part .. in its path"),
        _ if part.len() > PART_MAX_BYTES => Some("has a name longer than 255 bytes"),
        _ if DEVICES.contains(&stem.to_ascii_lowercase().as_str()) => {
            Some("has the name of a device")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_freed_of_what_means_nothing() {
        for (name, path) in [
            ("a", "a"),
            ("./a/b", "a/b"),
            ("a/", "a"),
            ("./", ""),
            (".", ""),
        ] {
            assert_eq!(checked(name.as_bytes()).unwrap(), path, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_accepted_name_leads_anywhere_else(name in "[a./\\\\]{0,12}|.{0,20}") {
            if let Ok(path) = checked(name.as_bytes()) {
                prop_assert!(!path.starts_with('/'));
                let plain = |part: &str| !part.is_empty() && part != ".." && part != ".";
                prop_assert!(path.is_empty() || path.split('/').all(plain), "{path:?}");
            }
        }

        #[test]
        fn no_accepted_target_leaves_by_its_text_alone(depth in 0usize..4, target in "[a./]{1,16}") {
            let path = "d/".repeat(depth) + "link";
            if let Ok(target) = checked_target(&path, target.as_bytes()) {
                let mut at = depth as i64;
                for part in target.split('/') {
                    at += match part { "" | "." => 0, ".." => -1, _ => 1 };
                    prop_assert!(at >= 0, "{target}");
                }
            }
        }
    }
}
