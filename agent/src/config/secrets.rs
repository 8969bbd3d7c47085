//! Where files of secrets lie on this target.

use std::path::PathBuf;

use super::{ConfigError, refused};

/// The directory that was named, if one was.
pub(super) fn directory(named: Option<PathBuf>) -> Result<Option<PathBuf>, ConfigError> {
    match named {
        Some(directory) if !directory.is_absolute() => {
            let problem = format!("secrets-directory: {} is not absolute", directory.display());
            Err(refused(problem, "write the whole path, from /"))
        }
        directory => Ok(directory),
    }
}
