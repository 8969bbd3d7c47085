//! Container images: where they are kept, and which one. Pure.

use std::fmt;

use crate::digest::Digest;

/// Where images of one kind are kept, without saying which of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    /// The registry's host, with its port if it has one: `registry.example.com:5000`.
    pub registry: String,
    /// The path within it: `team/web`.
    pub path: String,
}

/// One immutable image of one repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Where it is kept.
    pub repository: Repository,
    /// SHA-256 of its manifest.
    pub digest: Digest,
}

/// The registry of names that mention none, as every engine reads them.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// Longest path of a repository, in bytes: the limit of the distribution specification's grammar.
const PATH_MAX: usize = 255;

impl Repository {
    /// `[REGISTRY/]PATH`
    ///
    /// # Errors
    /// How to write it, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (registry, path) = split_registry(text);
        let path = match path.contains('/') {
            false if registry == DEFAULT_REGISTRY => format!("library/{path}"),
            true | false => path.to_owned(),
        };
        if is_host(registry) && is_path(&path) {
            let registry = registry.to_owned();
            return Ok(Self { registry, path });
        }
        Err(format!(
            "{text:?} is not a repository: write it in lower case and without a tag, such as \
             registry.example.com/team/web"
        ))
    }
}

impl Reference {
    /// `[REGISTRY/]PATH[:TAG]@sha256:HEX`; the tag says nothing beside a digest and is dropped.
    ///
    /// # Errors
    /// What is wrong and how to write it, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((name, digest)) = text.split_once('@') else {
            return Err(unpinned(text));
        };
        let digest = digest
            .parse::<Digest>()
            .map_err(|_| format!("{text:?} needs @sha256: and 64 lower-case hex digits"))?;
        let last = name.rfind('/').map_or(0, |slash| slash + 1);
        let tag = name.get(last..).and_then(|last| last.find(':'));
        let name = tag.map_or(name, |colon| &name[..last + colon]);
        Ok(Self {
            repository: Repository::parse(name)?,
            digest,
        })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

fn unpinned(text: &str) -> String {
    let last = text.rsplit('/').next().unwrap_or(text);
    let name = match last.split_once(':') {
        Some((_, tag)) => text.strip_suffix(&format!(":{tag}")).unwrap_or(text),
        None => text,
    };
    format!(
        "{text:?} is a tag, which may lead to another image tomorrow; pin the image as \
         {name}@sha256:DIGEST (`skopeo inspect docker://{text}` prints its Digest)"
    )
}

/// The registry is the first part where it looks like a host, as every engine reads it.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => (first, rest),
        Some(_) | None => (DEFAULT_REGISTRY, name),
    }
}

pub(crate) fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "1"));
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.bytes().all(plain) && !label.starts_with('-')
    };
    name.split('.').all(label) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_path(path: &str) -> bool {
    let part = |part: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ends = |b: Option<u8>| b.is_some_and(plain);
        part.bytes().all(|b| plain(b) || b"._-".contains(&b))
            && ends(part.bytes().next())
            && ends(part.bytes().next_back())
    };
    path.len() <= PATH_MAX && path.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "1342c597424d4ba07a33a79300fa90a77891a96fdf47b4638056411ff2530407";

    #[test]
    fn a_pinned_image_is_read_with_its_registry() {
        for (text, whole) in [
            ("127.0.0.1:5000/web", "127.0.0.1:5000/web"),
            ("registry.example.com/a/b-c", "registry.example.com/a/b-c"),
            ("web", "docker.io/library/web"),
            ("team/web:1.2", "docker.io/team/web"),
            ("localhost/web", "localhost/web"),
        ] {
            let read = Reference::parse(&format!("{text}@sha256:{HEX}")).unwrap();
            assert_eq!(read.to_string(), format!("{whole}@sha256:{HEX}"));
        }
    }

    #[test]
    fn a_tag_is_refused_with_what_to_write_instead() {
        let refused = Reference::parse("registry:5000/web:1.4").unwrap_err();
        assert!(
            refused.contains("registry:5000/web@sha256:DIGEST"),
            "{refused}"
        );
        let bare = Reference::parse("web").unwrap_err();
        assert!(bare.contains("web@sha256:DIGEST"), "{bare}");
    }

    #[test]
    fn a_repository_is_named_without_tag_or_digest() {
        let read = Repository::parse("localhost:5000/team/web").unwrap();
        assert_eq!(read.to_string(), "localhost:5000/team/web");
        assert_eq!(Repository::parse("nginx").unwrap().path, "library/nginx");
        for bad in [
            "",
            "web:1",
            "r.example/web:1",
            "a@b",
            "R/Web",
            "-x",
            "https://r.example/web",
        ] {
            assert!(Repository::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for bad in [
            format!("web@sha256:{}", &HEX[1..]),
            format!("web@sha512:{HEX}"),
            format!("web@sha256:{}", HEX.to_uppercase()),
            format!("Web@sha256:{HEX}"),
            format!("--privileged@sha256:{HEX}"),
            format!("a//b@sha256:{HEX}"),
            format!("$(id).x/web@sha256:{HEX}"),
            format!("x:99999/web@sha256:{HEX}"),
            format!("@sha256:{HEX}"),
        ] {
            assert!(Reference::parse(&bad).is_err(), "{bad}");
        }
    }
}
