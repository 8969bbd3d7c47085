//! Homes of artifacts: where a file stays that nobody uploads. Pure.
//!
//! ```text
//! oci://REGISTRY/REPOSITORY@sha256:…        a manifest of an OCI registry that holds the file as a layer
//! https://HOST/PATH                         a file of a web server
//! ```
//! A home says where to look, never what is right: that says the artifact's digest alone.

use std::fmt;
use std::str::FromStr;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use crate::digest::Digest;
use crate::image::{DEFAULT_REGISTRY, Repository};

/// Longest home, in bytes.
pub const HOME_MAX_BYTES: usize = 2_048;

/// Where the content of an artifact stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Home {
    /// A file of a web server: an `https` or `http` URL without user, password or fragment.
    Http(String),
    /// A layer of a manifest of an OCI registry. The layer is the artifact's own digest.
    Oci {
        /// The registry and the path within it.
        repository: Repository,
        /// SHA-256 of the manifest.
        manifest: Digest,
    },
}

/// A home as people name it for a release; what it leaves open is found out once, at the release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// A file of a web server.
    Http {
        /// The URL, without fragment.
        url: String,
        /// SHA-256 of the content.
        digest: Digest,
        /// Length of the content in bytes, where it was given.
        size: Option<u64>,
    },
    /// A manifest of an OCI registry.
    Oci {
        /// The registry and the path within it.
        repository: Repository,
        /// Which manifest.
        which: Which,
    },
}

/// Which manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Whichever the tag leads to at the moment of the release.
    Tag(String),
    /// This one.
    Manifest(Digest),
}

impl Home {
    /// The host, with its port where it was given: for people, and for finding credentials.
    #[must_use]
    pub fn host(&self) -> &str {
        match self {
            Self::Http(url) => authority(url).unwrap_or_default(),
            Self::Oci { repository, .. } => &repository.registry,
        }
    }

    /// Whether it is on `host`, `HOST[:PORT]`.
    #[must_use]
    pub fn is_at(&self, host: &str) -> bool {
        self.host().eq_ignore_ascii_case(host)
    }

    /// The home without what may be a signature or a key in it: for errors and logs.
    #[must_use]
    pub fn plain(&self) -> String {
        match self {
            Self::Http(url) => url.split('?').next().unwrap_or_default().to_owned(),
            Self::Oci { .. } => self.to_string(),
        }
    }
}

impl Named {
    /// The host, with its port where it was given.
    #[must_use]
    pub fn host(&self) -> &str {
        match self {
            Self::Http { url, .. } => authority(url).unwrap_or_default(),
            Self::Oci { repository, .. } => &repository.registry,
        }
    }

    /// Whether a reference is meant as a home at all, rather than as an image or a digest.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.contains("://")
    }
}

impl FromStr for Home {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > HOME_MAX_BYTES {
            return Err(format!("a home has at most {HOME_MAX_BYTES} bytes"));
        }
        match text.split_once("://") {
            Some(("oci", rest)) => {
                let (name, digest) = rest
                    .split_once('@')
                    .ok_or_else(|| format!("{text:?} needs @sha256:…"))?;
                Ok(Self::Oci {
                    repository: repository(text, name)?,
                    manifest: parsed(text, digest)?,
                })
            }
            Some(("http" | "https", _)) => Ok(Self::Http(url(text)?)),
            Some(_) | None => Err(unknown(text)),
        }
    }
}

impl FromStr for Named {
    type Err = String;

    /// # Errors
    /// What is wrong and how to write it, for people.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > HOME_MAX_BYTES {
            return Err(format!("a home has at most {HOME_MAX_BYTES} bytes"));
        }
        match text.split_once("://") {
            Some(("oci", rest)) => oci(text, rest),
            Some(("http" | "https", _)) => http(text),
            Some(_) | None => Err(unknown(text)),
        }
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => f.write_str(url),
            Self::Oci {
                repository,
                manifest,
            } => write!(f, "oci://{repository}@{manifest}"),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Manifest(digest) => digest.fmt(f),
        }
    }
}

impl Encode for Home {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.to_string().encode(encoder)
    }
}

impl<Context> Decode<Context> for Home {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        String::decode(decoder)?
            .parse()
            .map_err(DecodeError::OtherString)
    }
}

bincode::impl_borrow_decode!(Home);

fn oci(text: &str, rest: &str) -> Result<Named, String> {
    if let Some((name, digest)) = rest.split_once('@') {
        let last = name.rfind('/').map_or(0, |slash| slash + 1);
        let tag = name.get(last..).and_then(|last| last.find(':'));
        let name = tag
            .and_then(|colon| name.get(..last + colon))
            .unwrap_or(name);
        return Ok(Named::Oci {
            repository: repository(text, name)?,
            which: Which::Manifest(parsed(text, digest)?),
        });
    }
    let tagged = rest.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
    let Some((name, tag)) = tagged else {
        return Err(format!("{text:?} needs a :TAG or @sha256:… at its end"));
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if tag.is_empty() || tag.len() > TAG_MAX || !tag.bytes().all(plain) {
        return Err(format!("{tag:?} is not a tag"));
    }
    Ok(Named::Oci {
        repository: repository(text, name)?,
        which: Which::Tag(tag.to_owned()),
    })
}

fn http(text: &str) -> Result<Named, String> {
    let needed = || {
        format!(
            "{text:?} does not say what its content is: write #sha256= and its 64 hexadecimal digits \
             behind it (`sha256sum FILE` prints them)"
        )
    };
    let (address, fragment) = text.split_once('#').ok_or_else(needed)?;
    let (mut digest, mut size) = (None, None);
    for part in fragment.split('&') {
        match part.split_once('=') {
            Some(("sha256", hex)) => digest = format!("sha256:{hex}").parse().ok(),
            Some(("size", bytes)) => {
                let bytes = bytes.parse::<u64>();
                size = Some(bytes.map_err(|_| format!("{part:?} is not a length in bytes"))?);
            }
            Some(_) | None => return Err(needed()),
        }
    }
    Ok(Named::Http {
        url: url(address)?,
        digest: digest.ok_or_else(needed)?,
        size,
    })
}

/// A home names its registry; there is no usual one.
fn repository(text: &str, name: &str) -> Result<Repository, String> {
    let repository = Repository::parse(name)?;
    if repository.registry == DEFAULT_REGISTRY && !name.starts_with(DEFAULT_REGISTRY) {
        return Err(format!(
            "{text:?} names no registry: write oci://REGISTRY/REPOSITORY, the registry with a dot or \
             a port, such as oci://registry.example.com/team/web"
        ));
    }
    Ok(repository)
}

fn parsed(text: &str, digest: &str) -> Result<Digest, String> {
    digest
        .parse()
        .map_err(|_| format!("{text:?} needs @sha256: and 64 lower-case hex digits"))
}

fn url(text: &str) -> Result<String, String> {
    let host = authority(text).unwrap_or_default();
    if host.contains('@') {
        // The text is not shown: it may hold a password.
        return Err(
            "the URL holds a user or a password; put them into the file of credentials of \
                    whoever fetches it"
                .to_owned(),
        );
    }
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '#' || c == '\\';
    if host.is_empty() || host.starts_with(':') || text.contains(odd) {
        return Err(format!("{text:?} is not a URL"));
    }
    Ok(text.to_owned())
}

/// What stands between `//` and the path.
fn authority(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.split(['/', '?', '#']).next()
}

fn unknown(text: &str) -> String {
    format!(
        "{text:?} is no home: write oci://REGISTRY/REPOSITORY@sha256:… or \
         https://HOST/PATH#sha256=…"
    )
}

/// Longest tag, in bytes: the limit of the distribution specification.
const TAG_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "1342c597424d4ba07a33a79300fa90a77891a96fdf47b4638056411ff2530407";

    fn named(text: &str) -> Result<Named, String> {
        text.parse()
    }

    #[test]
    fn a_home_is_written_as_it_is_read() {
        for text in [
            format!("oci://registry.example.com/team/web@sha256:{HEX}"),
            format!("oci://127.0.0.1:5000/web@sha256:{HEX}"),
            "https://files.example/web-1.4.0.tar.gz?token=a".to_owned(),
            "http://127.0.0.1:80/".to_owned(),
        ] {
            assert_eq!(text.parse::<Home>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_tag_and_a_digest_say_which_manifest() {
        let tag = named("oci://localhost:5000/web:1.4").unwrap();
        let Named::Oci { repository, which } = tag else {
            panic!("{tag:?}");
        };
        assert_eq!(repository.registry, "localhost:5000");
        assert_eq!(which, Which::Tag("1.4".to_owned()));
        let pinned = named(&format!("oci://r.example/web:1.4@sha256:{HEX}")).unwrap();
        assert!(
            matches!(pinned, Named::Oci { which: Which::Manifest(digest), .. } if digest.hex() == HEX)
        );
    }

    #[test]
    fn a_file_of_a_web_server_says_its_digest_and_perhaps_its_length() {
        let whole = named(&format!("https://h/a.tar#sha256={HEX}&size=7")).unwrap();
        assert!(
            matches!(&whole, Named::Http { url, size: Some(7), .. } if url == "https://h/a.tar")
        );
        let refused = named("https://h/a.tar").unwrap_err();
        assert!(refused.contains("#sha256="), "{refused}");
        assert!(named("https://h/a.tar#sha256=12").is_err());
        assert!(named(&format!("https://h/a.tar#sha256={HEX}&size=x")).is_err());
    }

    #[test]
    fn what_is_no_home_is_refused_and_a_password_is_not_shown() {
        for bad in [
            format!("oci://web@sha256:{HEX}"),
            format!("oci://team/web@sha256:{HEX}"),
            "oci://r.example/web".to_owned(),
            "oci://r.example:5000/web".to_owned(),
            "oci://r.example/web:a b".to_owned(),
            format!("ftp://h/a#sha256={HEX}"),
            format!("https:///a#sha256={HEX}"),
            format!("https://h/a b#sha256={HEX}"),
            "file:///etc/passwd".to_owned(),
        ] {
            assert!(named(&bad).is_err(), "{bad}");
        }
        let secret = named(&format!("https://ada:hunter2@h/a#sha256={HEX}")).unwrap_err();
        assert!(!secret.contains("hunter2"), "{secret}");
        let signed: Home = "https://h/a?signature=hunter2".parse().unwrap();
        assert_eq!(signed.plain(), "https://h/a");
        assert_eq!(signed.host(), "h");
    }
}
