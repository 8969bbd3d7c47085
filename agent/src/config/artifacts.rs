//! The table `[artifacts]` of `agent.toml`: where this target fetches from. No manifest can say so.

use std::path::{Path, PathBuf};

use holdfast_homes::reach::Allowed;
use holdfast_homes::way::{PATIENCE, Rules};
use serde::Deserialize;

use super::{ConfigError, refused};
use crate::plan::FETCHES_MAX;

/// Most fetches at once that a file may ask for.
const PARALLEL_MAX: usize = 32;

/// The table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct ArtifactsFile {
    direct: Option<bool>,
    parallel: Option<usize>,
    credentials: Option<PathBuf>,
    certificates: Option<PathBuf>,
    insecure: Vec<String>,
    allow: Vec<Allowed>,
}

/// Where artifacts come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifacts {
    /// Where this target may fetch from; none where all goes through the coordinator.
    pub rules: Option<Rules>,
    /// Most fetches at once.
    pub parallel: usize,
}

/// What the table says; credentials are those of the container engine unless it names others.
pub(super) fn artifacts(
    file: ArtifactsFile,
    of_containers: Option<&Path>,
) -> Result<Artifacts, ConfigError> {
    let credentials = file.credentials.or(of_containers.map(Path::to_owned));
    let mut paths = credentials.iter().chain(&file.certificates);
    if let Some(path) = paths.find(|path| !path.is_absolute()) {
        let problem = format!("[artifacts]: {} is not an absolute path", path.display());
        return Err(refused(problem, "write the whole path, from /"));
    }
    let parallel = file.parallel.unwrap_or(FETCHES_MAX);
    if !(1..=PARALLEL_MAX).contains(&parallel) {
        let problem = format!("[artifacts]: parallel = {parallel} is not from 1 to {PARALLEL_MAX}");
        return Err(refused(problem, "leave it out for the usual number"));
    }
    let rules = Rules {
        insecure: file.insecure,
        allow: file.allow,
        credentials,
        certificates: file.certificates,
        file: "agent.toml",
        patience: PATIENCE,
    };
    Ok(Artifacts {
        rules: file.direct.unwrap_or(true).then_some(rules),
        parallel,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Result<Artifacts, String> {
        let file = toml::from_str(text).map_err(|e| e.to_string())?;
        artifacts(file, Some(Path::new("/etc/c.json"))).map_err(|e| e.problem)
    }

    #[test]
    fn homes_are_asked_directly_unless_the_file_says_otherwise() {
        let usual = made("").unwrap();
        assert_eq!(usual.parallel, FETCHES_MAX);
        let rules = usual.rules.unwrap();
        assert_eq!(rules.credentials, Some("/etc/c.json".into()));
        assert_eq!(made("direct = false").unwrap().rules, None);
        let own =
            made("credentials = '/etc/a.json'\ninsecure = ['r:5000']\nallow = ['10.0.0.0/8']");
        assert_eq!(own.unwrap().rules.unwrap().insecure, ["r:5000"]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (bad, part) in [
            ("parallel = 0", "parallel = 0"),
            ("certificates = 'ca.pem'", "ca.pem is not an absolute path"),
            ("allow = ['10.0.0.0/99']", "10.0.0.0/99"),
            ("relay = true", "relay"),
        ] {
            let refused = made(bad).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
    }
}
