//! What a name leads to, found out once, when a release is made: the file's digest, its length, and a
//! home that can never lead to anything else.

use holdfast_protocol::digest::Digest;
use holdfast_protocol::home::{Home, Named, Which};
use holdfast_protocol::image::Repository;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE};
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use crate::credentials::Credentials;
use crate::registry::{AskError, Question};
use crate::way::Way;

/// Largest manifest that is read, in bytes: the limit of the distribution specification.
const MANIFEST_MAX_BYTES: usize = 4 << 20;
/// What is understood.
const KINDS: &str = "application/vnd.oci.image.manifest.v1+json, \
                     application/vnd.docker.distribution.manifest.v2+json, \
                     application/vnd.oci.image.index.v1+json, \
                     application/vnd.docker.distribution.manifest.list.v2+json";
/// The annotation that names a layer's file.
const TITLE: &str = "org.opencontainers.image.title";

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where the content stays.
    pub home: Home,
    /// SHA-256 of the content.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Why a name leads to nothing that can be deployed.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The home gives nothing.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The manifest does not hash to its name.
    #[error("{0} gave another manifest than the one that was asked for")]
    Manifest(String),
    /// The manifest is none.
    #[error("the manifest cannot be read: {0}")]
    Unreadable(String),
    /// It holds no single file.
    #[error("{0}")]
    Layers(String),
    /// The home does not say how long the file is.
    #[error("{0} does not say how long the file is; add &size=BYTES behind its digest")]
    Length(String),
}

/// An OCI manifest, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
    #[serde(default)]
    manifests: Vec<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Layer {
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// Finds out what `named` leads to; `file` is the name that the service gives the artifact's file, and
/// `login` what the home is told in place of what the machine's own file of credentials has for it.
///
/// # Errors
/// [`ResolveError`].
pub async fn resolve(
    way: &Way,
    (named, file): (&Named, &str),
    login: Option<&Credentials>,
) -> Result<Found, ResolveError> {
    match named {
        Named::Http { url, digest, size } => {
            let home = Home::Http(url.clone());
            let size = match size {
                Some(size) => *size,
                None => length(way, url, home.host(), login).await?,
            };
            let digest = *digest;
            Ok(Found { home, digest, size })
        }
        Named::Oci { repository, which } => manifest(way, (repository, which), file, login).await,
    }
}

async fn manifest(
    way: &Way,
    (repository, which): (&Repository, &Which),
    file: &str,
    login: Option<&Credentials>,
) -> Result<Found, ResolveError> {
    let question =
        Question::of_registry(way, repository, &format!("manifests/{which}"))?.with(login);
    let response = way.ask(&question.accepting(KINDS)).await?;
    let host = &repository.registry;
    let bytes = way.read(response, host, MANIFEST_MAX_BYTES).await?;
    let manifest = Digest::of(&bytes);
    if matches!(which, Which::Manifest(wanted) if *wanted != manifest) {
        return Err(ResolveError::Manifest(host.clone()));
    }
    let (digest, size) = layer(&bytes, file)?;
    let repository = repository.clone();
    Ok(Found {
        home: Home::Oci {
            repository,
            manifest,
        },
        digest,
        size,
    })
}

/// The layer that holds the file: the only one, or the one that bears its name.
fn layer(manifest: &[u8], file: &str) -> Result<(Digest, u64), ResolveError> {
    let unreadable = |why: String| ResolveError::Unreadable(why);
    let read: Manifest = serde_json::from_slice(manifest).map_err(|e| unreadable(e.to_string()))?;
    if !read.manifests.is_empty() {
        return Err(ResolveError::Layers(
            "it is an index of images for several platforms; name the manifest of one of them by \
             its digest"
                .to_owned(),
        ));
    }
    let titled = |layer: &&Layer| {
        layer
            .annotations
            .get(TITLE)
            .is_some_and(|title| title == file)
    };
    let layer = match read.layers.as_slice() {
        [only] => only,
        [] => return Err(ResolveError::Layers("it holds no file".to_owned())),
        several => several.iter().find(titled).ok_or_else(|| {
            let count = several.len();
            ResolveError::Layers(format!(
                "it holds {count} files and none is titled {file:?}, as the service calls it; push \
                 one file alone, or give it that name"
            ))
        })?,
    };
    let digest = layer.digest.parse::<Digest>();
    let digest = digest.map_err(|_| unreadable(format!("{:?} is no SHA-256", layer.digest)))?;
    Ok((digest, layer.size))
}

async fn length(
    way: &Way,
    url: &str,
    host: &str,
    login: Option<&Credentials>,
) -> Result<u64, ResolveError> {
    let question = Question::first_byte(url, host)?.with(login);
    let response = way.ask(&question).await?;
    total(&response).ok_or_else(|| ResolveError::Length(host.to_owned()))
}

fn total(response: &Response) -> Option<u64> {
    let header = |name| response.headers().get(name)?.to_str().ok();
    match response.status() {
        StatusCode::PARTIAL_CONTENT => header(CONTENT_RANGE)?.rsplit_once('/')?.1.parse().ok(),
        StatusCode::OK => header(CONTENT_LENGTH)?.parse().ok(),
        // Not a byte of an empty file can be given.
        StatusCode::RANGE_NOT_SATISFIABLE => header(CONTENT_RANGE)?
            .strip_prefix("bytes */")?
            .parse()
            .ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "1342c597424d4ba07a33a79300fa90a77891a96fdf47b4638056411ff2530407";

    fn layered(titles: &[&str]) -> Result<(Digest, u64), ResolveError> {
        let layers: Vec<_> = titles
            .iter()
            .enumerate()
            .map(|(size, title)| {
                serde_json::json!({"digest": format!("sha256:{HEX}"), "size": size,
                    "annotations": {TITLE: title}})
            })
            .collect();
        let text = serde_json::json!({"schemaVersion": 2, "layers": layers}).to_string();
        layer(text.as_bytes(), "web.tar.gz")
    }

    #[test]
    fn the_only_layer_is_the_file_and_else_the_one_with_its_name() {
        assert_eq!(layered(&["whatever"]).unwrap().1, 0);
        assert_eq!(layered(&["notes", "web.tar.gz"]).unwrap().1, 1);
        let refused = layered(&["a", "b"]).unwrap_err().to_string();
        assert!(refused.contains("web.tar.gz"), "{refused}");
        assert!(layered(&[]).is_err());
    }

    #[test]
    fn an_index_and_what_is_no_manifest_are_refused() {
        let index = br#"{"manifests": [{"digest": "sha256:0"}]}"#;
        let refused = layer(index, "a").unwrap_err().to_string();
        assert!(refused.contains("platforms"), "{refused}");
        assert!(layer(b"<html>", "a").is_err());
        let other = br#"{"layers": [{"digest": "sha512:0", "size": 1}]}"#;
        assert!(layer(other, "a").is_err());
    }
}
