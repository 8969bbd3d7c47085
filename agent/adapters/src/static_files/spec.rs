//! The template of runtime `static`, parsed once. Pure.

use std::path::PathBuf;

use holdfast_protocol::name::ArtifactName;
use serde_json::Value;

use crate::fields::{self, Fields, Reading};
use crate::{Context, Problem};

/// An archive unpacked and switched to by one symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Which artifact.
    pub artifact: ArtifactName,
    /// The symbolic link: absolute, without `.` or `..`.
    pub path: PathBuf,
    /// How many earlier releases stay unpacked beside the current one; the one before it always
    /// does.
    pub keep: usize,
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
    let fields = reading.object(template, "", &["artifact", "path", "keep"])?;
    fields.required("path", "the absolute path of a symbolic link");
    let path = fields.parsed("path", parse_path);
    let keep = fields.parsed("keep", parse_keep).unwrap_or(KEEP_DEFAULT);
    let artifact = read_artifact(reading, &fields);
    Some(Template {
        artifact: artifact?,
        path: path?,
        keep,
    })
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
