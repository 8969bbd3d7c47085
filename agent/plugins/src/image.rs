//! References of images. Pure.

use holdfast_protocol::digest::Digest;

/// The digest of `REPOSITORY@sha256:…`.
///
/// # Errors
/// What it should look like.
pub fn digest(image: &str) -> Result<Digest, String> {
    let expected = || {
        format!(
            "{image:?}: expected REPOSITORY@sha256:…, such as \"{{{{ artifacts.app.image }}}}\"; \
             a tag may lead to another image tomorrow"
        )
    };
    let (repository, digest) = image.split_once('@').ok_or_else(expected)?;
    if repository.is_empty() || repository.contains(char::is_whitespace) {
        return Err(expected());
    }
    digest.parse().map_err(|_| expected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_digest_names_an_image() {
        let good = format!("registry.example.com/web@{}", Digest::of(b"x"));
        assert_eq!(digest(&good), Ok(Digest::of(b"x")));
        for bad in ["web", "web:latest", "@sha256:00", "web@sha256:00"] {
            assert!(
                digest(bad).unwrap_err().contains("expected REPOSITORY@"),
                "{bad}"
            );
        }
    }
}
