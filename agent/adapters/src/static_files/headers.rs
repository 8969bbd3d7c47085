//! What web clients are told of each file in object storage: its type, and how long to keep it. Pure.

/// A pattern of paths, and what the files that it fits are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `*` and `?` stay within one part of a path, `**` does not. Without a slash it is about the name
    /// alone, wherever the file lies.
    pub pattern: String,
    /// The header's value.
    pub value: String,
}

/// The rules of one template.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// `Cache-Control`.
    pub cache: Vec<Rule>,
    /// `Content-Type`, before what is known of the ending.
    pub types: Vec<Rule>,
}

/// Most rules of one kind.
pub const RULES_MAX: usize = 100;
/// Longest pattern and longest value, in bytes.
pub const RULE_MAX_BYTES: usize = 256;

/// What is said of a file whose ending is not known.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// Endings and types, as browsers expect them; text is taken to be UTF-8.
const TYPES: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("webmanifest", "application/manifest+json"),
    ("xml", "application/xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("ico", "image/x-icon"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("ttf", "font/ttf"),
    ("otf", "font/otf"),
    ("wasm", "application/wasm"),
    ("pdf", "application/pdf"),
    ("zip", "application/zip"),
    ("gz", "application/gzip"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("mp3", "audio/mpeg"),
    ("ogg", "audio/ogg"),
];

impl Rules {
    /// The type of a file.
    #[must_use]
    pub fn content_type(&self, path: &str) -> String {
        let known = || {
            let ending = path.rsplit_once('.').map(|(_, ending)| ending);
            let ending = ending.unwrap_or_default().to_ascii_lowercase();
            TYPES.iter().find(|(known, _)| *known == ending)
        };
        match strongest(&self.types, path) {
            Some(value) => value.to_owned(),
            None => known().map_or(UNKNOWN_TYPE, |(_, value)| value).to_owned(),
        }
    }

    /// How long clients may keep a file, if any rule says so.
    #[must_use]
    pub fn cache_control(&self, path: &str) -> Option<&str> {
        strongest(&self.cache, path)
    }
}

/// Whether a file is a page, which leads to other files and so comes after them.
#[must_use]
pub fn is_document(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    matches!(kind, "text/html" | "application/xhtml+xml")
}

/// Where several patterns fit, the longest counts.
fn strongest<'a>(rules: &'a [Rule], path: &str) -> Option<&'a str> {
    let fitting = rules.iter().filter(|rule| fits(&rule.pattern, path));
    let strongest = fitting.max_by_key(|rule| rule.pattern.len());
    strongest.map(|rule| rule.value.as_str())
}

/// Whether a pattern fits a path.
#[must_use]
pub fn fits(pattern: &str, path: &str) -> bool {
    if pattern.contains('/') {
        let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
        return parts_fit(pattern, path);
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    pattern == "**" || part_fits(pattern.as_bytes(), name.as_bytes())
}

/// `**` stands for any number of parts. Two pointers: the last `**` is stretched part by part.
fn parts_fit(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    let one = |p: &&str, part: &&str| part_fits(p.as_bytes(), part.as_bytes());
    stretched(&pattern, &path, |p| *p == "**", one)
}

fn part_fits(pattern: &[u8], part: &[u8]) -> bool {
    stretched(
        pattern,
        part,
        |p| *p == b'*',
        |p, byte| *p == b'?' || p == byte,
    )
}

/// Whether `text` fits `pattern`, of which some items stand for any number of items. Linear in their
/// product: only the last such item has to be stretched again.
fn stretched<P, T>(
    pattern: &[P],
    text: &[T],
    any: impl Fn(&P) -> bool,
    one: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    while let Some(item) = text.get(t) {
        match pattern.get(p) {
            Some(star) if any(star) => {
                again = Some((p + 1, t));
                p += 1;
            }
            Some(wanted) if one(wanted, item) => {
                p += 1;
                t += 1;
            }
            Some(_) | None => {
                let Some((after, from)) = again else {
                    return false;
                };
                again = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_people_expect() {
        for (pattern, path, expected) in [
            ("*.html", "index.html", true),
            ("*.html", "docs/a/index.html", true),
            ("*.html", "index.htm", false),
            ("assets/**", "assets/a/b.js", true),
            ("assets/**", "other/assets/a.js", false),
            ("/assets/*.js", "assets/a.js", true),
            ("assets/*.js", "assets/a/b.js", false),
            ("**/index.html", "index.html", true),
            ("**/index.html", "a/b/index.html", true),
            ("a/**/z/*.js", "a/b/c/z/q.js", true),
            ("a/**/z/*.js", "a/b/c/y/q.js", false),
            ("**", "a/b", true),
            ("?.js", "a.js", true),
            ("?.js", "ab.js", false),
            ("*a*b*c", "xxaxxbxxbxxc", true),
            ("*a*b*c", "xxaxxbxxbxx", false),
        ] {
            assert_eq!(fits(pattern, path), expected, "{pattern} {path}");
        }
        // What would take ages if each star were stretched anew.
        assert!(!fits(&"*a".repeat(100), &"a".repeat(99)));
    }

    #[test]
    fn the_longest_pattern_counts_and_endings_have_types() {
        let rule = |pattern: &str, value: &str| Rule {
            pattern: pattern.to_owned(),
            value: value.to_owned(),
        };
        let rules = Rules {
            cache: vec![rule("**", "no-cache"), rule("assets/**", "immutable")],
            types: vec![rule("*.data", "application/x-own")],
        };
        assert_eq!(rules.cache_control("assets/a.js"), Some("immutable"));
        assert_eq!(rules.cache_control("index.html"), Some("no-cache"));
        assert_eq!(rules.content_type("a/B.CSS"), "text/css; charset=utf-8");
        assert_eq!(rules.content_type("a.data"), "application/x-own");
        assert_eq!(rules.content_type("LICENSE"), UNKNOWN_TYPE);
        assert!(is_document(&rules.content_type("a/index.html")));
        assert!(!is_document(&rules.content_type("a.js")));
    }
}
