//! Where a static service goes in object storage. Pure.

use std::fmt;

/// A kind of object storage, by the scheme of its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// Amazon S3 and what speaks its protocol: `s3://BUCKET/PREFIX`.
    S3,
    /// Google Cloud Storage: `gs://BUCKET/PREFIX`.
    Gs,
    /// Azure Blob Storage: `az://CONTAINER/PREFIX`.
    Az,
    /// A directory of this target: `file:///PATH`.
    File,
}

/// A place for objects that belongs to one service as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// What kind of storage.
    pub scheme: Scheme,
    /// The bucket or container; empty for a directory.
    pub bucket: String,
    /// What all keys begin with, without a slash at either end; the directory without its first slash.
    pub prefix: String,
}

/// Longest prefix, in bytes; keys are at most 1024 bytes, and files need some of them.
pub const PREFIX_MAX_BYTES: usize = 512;

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::S3, Self::Gs, Self::Az, Self::File];

    /// As it stands before `://`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Az => "az",
            Self::File => "file",
        }
    }
}

impl Destination {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "{text:?} is not s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///PATH"
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(refused)?;
        let scheme = Scheme::ALL.into_iter().find(|s| s.as_str() == scheme);
        let scheme = scheme.ok_or_else(refused)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let bucket_fits = match scheme {
            Scheme::File => bucket.is_empty() && !prefix.is_empty(),
            Scheme::S3 | Scheme::Gs | Scheme::Az => is_bucket(bucket),
        };
        if !bucket_fits {
            return Err(refused());
        }
        if prefix.len() > PREFIX_MAX_BYTES {
            return Err(format!("{text:?} is longer than {PREFIX_MAX_BYTES} bytes"));
        }
        if !prefix.is_empty() && !prefix.split('/').all(is_segment) {
            return Err(format!(
                "{text:?} has a part that is empty, . or .., or holds ? # \\ or a control character"
            ));
        }
        Ok(Self {
            scheme,
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    /// The bucket alone: `s3://BUCKET`.
    #[must_use]
    pub fn home(&self) -> String {
        format!("{}://{}", self.scheme.as_str(), self.bucket)
    }

    /// Whether this is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let below = || {
            let rest = self.prefix.strip_prefix(&other.prefix);
            rest.is_some_and(|rest| {
                other.prefix.is_empty() || rest.is_empty() || rest.starts_with('/')
            })
        };
        self.scheme == other.scheme && self.bucket == other.bucket && below()
    }

    /// The places that it lies in, the nearest first, itself not.
    pub fn above(&self) -> impl Iterator<Item = Self> + '_ {
        let ends = self.prefix.rmatch_indices('/').map(|(i, _)| i);
        let root = (self.scheme != Scheme::File && !self.prefix.is_empty()).then_some(0);
        ends.chain(root).map(|end| Self {
            prefix: self.prefix.get(..end).unwrap_or_default().to_owned(),
            ..self.clone()
        })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, bucket) = (self.scheme.as_str(), &self.bucket);
        match self.prefix.as_str() {
            "" => write!(f, "{scheme}://{bucket}"),
            prefix => write!(f, "{scheme}://{bucket}/{prefix}"),
        }
    }
}

fn is_bucket(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (3..=222).contains(&text.len())
        && text.chars().all(fits)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_segment(text: &str) -> bool {
    let fits = |c: char| !c.is_control() && !"?#\\".contains(c);
    !text.is_empty() && text != "." && text != ".." && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written() {
        for text in [
            "s3://team-web/site",
            "gs://team.web/a/b",
            "az://www/site",
            "s3://team-web",
            "file:///srv/www/site",
        ] {
            assert_eq!(Destination::parse(text).unwrap().to_string(), text);
        }
        let slash = Destination::parse("s3://team-web/site/").unwrap();
        assert_eq!(slash.to_string(), "s3://team-web/site");
        for bad in [
            "site",
            "http://x/y",
            "s3://b/x",
            "s3:///x",
            "s3://bucket//x",
            "s3://bucket/../x",
            "s3://bucket/x?y",
            "s3://user:word@bucket/x",
            "file://host/srv",
            "file:///",
        ] {
            assert!(Destination::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_that_begins_like_another_is_not_within_it() {
        let at = |text| Destination::parse(text).unwrap();
        assert!(at("s3://bucket/a/b").is_within(&at("s3://bucket/a")));
        assert!(at("s3://bucket/a").is_within(&at("s3://bucket")));
        assert!(!at("s3://bucket/ab").is_within(&at("s3://bucket/a")));
        assert!(!at("s3://bucket2/a").is_within(&at("s3://bucket/a")));
        let deep = at("s3://bucket/a/b/c");
        let above: Vec<_> = deep.above().map(|d| d.to_string()).collect();
        assert_eq!(above, ["s3://bucket/a/b", "s3://bucket/a", "s3://bucket"]);
        assert_eq!(at("file:///srv/www").above().count(), 1);
    }
}
