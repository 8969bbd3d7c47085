//! Bearer tokens: how they are made, and the first one's file.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use holdfast_protocol::digest::Digest;

/// Begins every API token, so that a leaked one is found by searching for it.
const PREFIX: &str = "hf_";
/// Random bytes of a token.
const SECRET_BYTES: usize = 32;
/// Longest token that is looked at.
pub const TOKEN_MAX_BYTES: usize = 256;

/// A new token: 256 random bits.
#[must_use]
pub fn make() -> String {
    let secret: [u8; SECRET_BYTES] = rand::random();
    format!("{PREFIX}{}", Digest::from_bytes(secret).hex())
}

/// The token in a file, if there is such a file.
///
/// # Errors
/// When the file cannot be read, can be read by others, or does not hold a token.
pub fn read_token(path: &Path) -> anyhow::Result<Option<String>> {
    let read = File::open(path).and_then(|mut file| {
        let mode = file.metadata()?.permissions().mode() & 0o777;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok((mode, text))
    });
    let (mode, text) = match read {
        Ok(read) => read,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    if mode & 0o077 != 0 {
        bail!(
            "the token in {} can be read by others (mode {mode:04o}): run `chmod 600`, or remove the \
             file to have a new token made, which makes the old one void",
            path.display()
        );
    }
    let token = text.trim();
    if !token.starts_with(PREFIX) || token.len() > TOKEN_MAX_BYTES {
        bail!(
            "{} does not hold an API token: remove it to have a new one made",
            path.display()
        );
    }
    Ok(Some(token.to_owned()))
}

/// Makes a token and writes it to a file that only its owner can read.
///
/// # Errors
/// When the file cannot be written.
pub fn create_token(path: &Path) -> anyhow::Result<String> {
    let token = make();
    let fresh = path.with_extension("new");
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut file| {
            writeln!(file, "{token}")?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&fresh, path))
        .and_then(|()| File::open(path.parent().unwrap_or(path))?.sync_all());
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tokens_are_the_same() {
        let token = make();
        assert_eq!(token.len(), PREFIX.len() + 2 * SECRET_BYTES);
        assert_ne!(token, make());
    }

    #[test]
    fn a_token_is_written_for_its_owner_alone_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.token");
        assert_eq!(read_token(&path).unwrap(), None);
        let token = create_token(&path).unwrap();
        assert_eq!(read_token(&path).unwrap(), Some(token));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_with_something_else_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.token");
        std::fs::write(&path, "password").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(
            read_token(&path)
                .unwrap_err()
                .to_string()
                .contains("does not hold an API token")
        );
    }
}
