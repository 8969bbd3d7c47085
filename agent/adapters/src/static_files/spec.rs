//! The template of runtime `static`, parsed once. Pure.

use std::path::PathBuf;

use holdfast_protocol::name::ArtifactName;
use serde_json::Value;

use crate::fields::{self, Fields, Reading};
use crate::static_files::destination::{Destination, Scheme};
use crate::static_files::headers::{RULE_MAX_BYTES, RULES_MAX, Rule, Rules};
use crate::{Context, Problem};

/// An archive, unpacked to where people or web servers find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Which artifact.
    pub artifact: ArtifactName,
    /// Where to.
    pub place: Place,
    /// How many earlier releases are kept beside the current one; the one before it always is.
    pub keep: usize,
}

/// Where a static service goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Behind a symbolic link: absolute, without `.` or `..`.
    Link(PathBuf),
    /// Into object storage.
    Bucket(Bucket),
}

/// What object storage is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// The bucket and the beginning of all keys.
    pub destination: Destination,
    /// How releases lie there.
    pub layout: Layout,
    /// What clients are told of each file.
    pub rules: Rules,
}

/// How releases lie in object storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// Each file at its own path, for web hosting from a bucket: what pages lead to comes first, pages
    /// last, the root's `index.html` the very last.
    #[default]
    Site,
    /// Each release below `releases/NAME/`, and one `current.json` that names the current one.
    Releases,
}

/// Most earlier releases that can be kept.
pub const KEEP_MAX: usize = 50;
const KEEP_DEFAULT: usize = 3;

/// Everything wrong with a template.
#[must_use]
pub fn validate(template: &Value, context: &Context<'_>) -> Vec<Problem> {
    fields::problems(template, context, read)
}

/// A rendered template.
///
/// # Errors
/// Everything wrong with it.
pub fn parse(template: &Value, context: &Context<'_>) -> Result<Template, Vec<Problem>> {
    fields::parsed(template, context, read)
}

fn read(reading: &Reading<'_>, template: &Value) -> Option<Template> {
    let known = [
        "artifact",
        "path",
        "destination",
        "keep",
        "layout",
        "cache",
        "types",
    ];
    let fields = reading.object(template, "", &known)?;
    let place = read_place(reading, &fields);
    let keep = fields.parsed("keep", parse_keep).unwrap_or(KEEP_DEFAULT);
    let artifact = read_artifact(reading, &fields);
    Some(Template {
        artifact: artifact?,
        place: place?,
        keep,
    })
}

fn read_place(reading: &Reading<'_>, fields: &Fields<'_>) -> Option<Place> {
    let bucket = read_bucket(reading, fields);
    match (fields.value("path"), fields.value("destination")) {
        (Some(_), Some(_)) => {
            let message = "stands beside path: name one of them";
            reading.problem("destination", message);
            None
        }
        (None, Some(_)) => bucket.map(Place::Bucket),
        (Some(_), None) => {
            for key in ["layout", "cache", "types"] {
                if fields.value(key).is_some() {
                    let message = "is for a destination; behind a link the web server says it";
                    reading.problem(key, message);
                }
            }
            fields.parsed("path", parse_path).map(Place::Link)
        }
        (None, None) => {
            let needed = "the absolute path of a symbolic link, or destination, object storage";
            fields.required("path", needed);
            None
        }
    }
}

fn read_bucket(reading: &Reading<'_>, fields: &Fields<'_>) -> Option<Bucket> {
    let destination = fields.parsed("destination", Destination::parse);
    let layout = fields.parsed("layout", parse_layout).unwrap_or_default();
    let rules = Rules {
        cache: read_rules(reading, fields, "cache"),
        types: read_rules(reading, fields, "types"),
    };
    let destination = destination?;
    if destination.scheme == Scheme::File {
        for key in ["cache", "types"] {
            if fields.value(key).is_some() {
                let message = "is not kept by a directory: the web server over it says it";
                reading.problem(key, message);
            }
        }
    }
    Some(Bucket {
        destination,
        layout,
        rules,
    })
}

fn read_rules(reading: &Reading<'_>, fields: &Fields<'_>, key: &str) -> Vec<Rule> {
    let fits = |text: &str| {
        let printable = text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
        printable && !text.is_empty() && text.len() <= RULE_MAX_BYTES
    };
    let check = |pattern: &str, value: &Value| match value {
        Value::String(text) if !fits(text) && !text.contains("{{") => Err(format!(
            "a header has 1 to {RULE_MAX_BYTES} printable characters"
        )),
        _ if pattern.is_empty() || pattern.len() > RULE_MAX_BYTES => {
            Err(format!("a pattern has 1 to {RULE_MAX_BYTES} bytes"))
        }
        _ => Ok(()),
    };
    let rules = fields.table(key, check);
    if rules.len() > RULES_MAX {
        reading.problem(key, format!("has more than {RULES_MAX} patterns"));
    }
    let rule = |(pattern, value)| Rule { pattern, value };
    rules.into_iter().map(rule).collect()
}

fn parse_layout(text: &str) -> Result<Layout, String> {
    match text {
        "site" => Ok(Layout::Site),
        "releases" => Ok(Layout::Releases),
        _ => Err(format!("{text:?} is not site or releases")),
    }
}

fn read_artifact(reading: &Reading<'_>, fields: &Fields<'_>) -> Option<ArtifactName> {
    let known = reading.context().artifacts;
    if fields.value("artifact").is_none() {
        return match known {
            [only] => archive(reading, only),
            [] => refused(reading, "this service has no artifact to unpack"),
            [_, _, ..] => refused(
                reading,
                "is needed, since this service has several artifacts",
            ),
        };
    }
    let wanted = fields.parsed("artifact", |text| Ok(text.to_owned()))?;
    match known.iter().find(|(name, _)| name.as_str() == wanted) {
        Some(found) => archive(reading, found),
        None => refused(reading, &format!("this service has no artifact {wanted:?}")),
    }
}

fn archive(reading: &Reading<'_>, found: &(ArtifactName, bool)) -> Option<ArtifactName> {
    if found.1 {
        return Some(found.0.clone());
    }
    let message = format!(
        "{} is one file: expected .tar, .tar.gz, .tar.zst or .zip",
        found.0
    );
    refused(reading, &message)
}

fn refused(reading: &Reading<'_>, message: &str) -> Option<ArtifactName> {
    reading.problem("artifact", message);
    None
}

fn parse_keep(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(keep) if (1..=KEEP_MAX).contains(&keep) => Ok(keep),
        Ok(_) | Err(_) => Err(format!("{text:?} is not a number from 1 to {KEEP_MAX}")),
    }
}

fn parse_path(text: &str) -> Result<PathBuf, String> {
    let refused = || format!("{text:?} is not an absolute path without . and ..");
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() <= 200;
    let below = text.strip_prefix('/').ok_or_else(refused)?;
    if text.contains('\0') || text.len() > 1024 || !below.split('/').all(plain) {
        return Err(refused());
    }
    Ok(PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(template: &Value, artifacts: &[(&str, bool)]) -> Vec<String> {
        let artifacts: Vec<_> = artifacts
            .iter()
            .map(|(n, u)| (ArtifactName::parse(n).unwrap(), *u))
            .collect();
        validate(
            template,
            &Context {
                artifacts: &artifacts,
            },
        )
        .into_iter()
        .map(|p| format!("{}: {}", p.path, p.message))
        .collect()
    }

    #[test]
    fn the_only_artifact_need_not_be_named() {
        let template = json!({"path": "/srv/www/site"});
        assert_eq!(problems(&template, &[("site", true)]), Vec::<String>::new());
        assert!(problems(&template, &[])[0].starts_with("artifact: this service has no"));
        assert!(problems(&template, &[("a", true), ("b", true)])[0].contains("several"));
        assert!(problems(&template, &[("site", false)])[0].contains("is one file"));
        let named = json!({"path": "/srv/{{ vars.name }}", "artifact": "a", "keep": 5});
        assert_eq!(
            problems(&named, &[("a", true), ("b", false)]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_destination_takes_what_clients_are_told() {
        let template = json!({"destination": "s3://team-web/{{ env.name }}", "layout": "site",
            "cache": {"assets/**": "public, max-age=31536000, immutable", "*.html": "no-cache"},
            "types": {"*.data": "application/x-own"}});
        assert_eq!(problems(&template, &[("site", true)]), Vec::<String>::new());
        let template =
            json!({"destination": "s3://x", "layout": "heap", "cache": {"a": "b\r\nc: d"}});
        let found = problems(&template, &[("site", true)]);
        assert_eq!(found.len(), 3, "{found:?}");
        let both = json!({"destination": "s3://team-web/x", "path": "/srv/x"});
        assert!(problems(&both, &[("a", true)])[0].contains("one of them"));
        let link = json!({"path": "/srv/x", "cache": {"*": "no-cache"}});
        assert!(problems(&link, &[("a", true)])[0].contains("web server"));
        let folder = json!({"destination": "file:///srv/x", "cache": {"*": "no-cache"}});
        assert!(problems(&folder, &[("a", true)])[0].contains("web server"));
        assert!(problems(&json!({}), &[("a", true)])[0].contains("destination"));
    }

    #[test]
    fn every_problem_is_named_with_its_place() {
        let template = json!({"path": "srv/../x", "keep": 0, "artefact": "x"});
        let found = problems(&template, &[("a", true)]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("did you mean \"artifact\"?"), "{found:?}");
        for bad in ["/", "/a/", "/a/./b", "/a/../b", "relative", ""] {
            assert_eq!(
                problems(&json!({"path": bad}), &[("a", true)]).len(),
                1,
                "{bad}"
            );
        }
    }
}
