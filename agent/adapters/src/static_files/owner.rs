//! What is kept of a static service: where its link is, in the agent's directory, and what lies
//! beside the link, in a marker there, which is the truth.

use std::io;
use std::path::{Path, PathBuf};

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable;

/// The link of one service and the directory of its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    /// The symbolic link.
    pub(crate) link: PathBuf,
    /// `.NAME.holdfast` beside it.
    pub(crate) versions: PathBuf,
}

/// The marker in the directory of versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Owner {
    pub(crate) service: ServiceName,
    /// Directory of the agent that made it.
    pub(crate) home: PathBuf,
    /// The version that the link leads to, once it was switched.
    pub(crate) current: Option<Version>,
    /// Unpacked versions before it, newest first.
    pub(crate) earlier: Vec<Version>,
}

/// One unpacked version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Version {
    /// Its directory.
    pub(crate) name: String,
    pub(crate) body: Digest,
    /// Digest of what lies there: names, kinds, sizes, modes, times of change.
    pub(crate) tree: Digest,
    /// When the link was switched to it.
    pub(crate) since: Timestamp,
}

/// Where a service's link is, kept in the agent's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) service: ServiceName,
    pub(crate) link: PathBuf,
    /// A link that it had before, until that is removed.
    pub(crate) moved_from: Option<PathBuf>,
}

impl Site {
    pub(crate) fn new(link: &Path) -> Self {
        let parent = link.parent().unwrap_or_else(|| Path::new("/"));
        let name = link.file_name().unwrap_or_default().to_string_lossy();
        Self {
            link: link.to_owned(),
            versions: parent.join(format!(".{name}.holdfast")),
        }
    }

    pub(crate) fn parent(&self) -> &Path {
        self.link.parent().unwrap_or_else(|| Path::new("/"))
    }

    pub(crate) fn owner(&self) -> Option<Owner> {
        durable::read_json(&self.marker())
    }

    pub(crate) fn write_owner(&self, owner: &Owner) -> io::Result<()> {
        durable::replace_json(&self.marker(), owner)
    }

    /// What the link says when it leads to a version; relative, so that the tree may be moved.
    pub(crate) fn target(&self, version: &str) -> PathBuf {
        Path::new(self.versions.file_name().unwrap_or_default()).join(version)
    }

    fn marker(&self) -> PathBuf {
        self.versions.join("owner.json")
    }
}

impl Owner {
    /// Makes a version the current one; the one before it becomes the newest of the earlier ones,
    /// of which `keep` stay, and that one always.
    pub(crate) fn switch(&mut self, version: Version, keep: usize) {
        if let Some(before) = self
            .current
            .take()
            .filter(|before| before.name != version.name)
        {
            self.earlier.insert(0, before);
        }
        self.earlier.retain(|earlier| earlier.name != version.name);
        self.earlier.truncate(keep.max(1));
        self.current = Some(version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(name: &str) -> Version {
        let digest = Digest::of(name.as_bytes());
        let since = Timestamp::default();
        Version {
            name: name.to_owned(),
            body: digest,
            tree: digest,
            since,
        }
    }

    #[test]
    fn the_version_before_the_current_one_is_never_dropped() {
        let service = ServiceName::parse("site").unwrap();
        let home = PathBuf::new();
        let mut owner = Owner {
            service,
            home,
            current: None,
            earlier: Vec::new(),
        };
        owner.switch(version("a"), 1);
        owner.switch(version("b"), 1);
        assert_eq!(owner.earlier, [version("a")]);
        owner.switch(version("c"), 1);
        assert_eq!(owner.earlier, [version("b")]);
        // Back to b: c is now the one before it.
        owner.switch(version("b"), 1);
        assert_eq!(owner.earlier, [version("c")]);
        // The same again changes nothing, and keeping none keeps that one.
        owner.switch(version("b"), 0);
        assert_eq!(owner.earlier, [version("c")]);
    }
}
