//! What is written down: in the agent's directory where each service goes, and in the place itself
//! whose it is, which release is current, and what each kept release is made of.

use std::collections::BTreeMap;
use std::io::Read as _;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::time::Timestamp;
use object_store::{ObjectStoreExt as _, PutMode, PutOptions};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::static_files::bucket::OWN;
use crate::static_files::bucket::connect::{Place, unable};
use crate::unpack::ENTRIES_MAX;

/// Where a service goes, kept in the agent's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Known {
    pub(super) destination: String,
    /// Of the current release, when it was last seen to be.
    pub(super) body: Option<Digest>,
    pub(super) since: Timestamp,
    /// A destination that it had before, until that is emptied.
    pub(super) moved_from: Option<String>,
}

/// The marker `.holdfast/owner.json`, which is the truth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Owner {
    pub(super) service: ServiceName,
    /// The environment and the name of the target that writes here.
    pub(super) target: String,
    pub(super) current: Option<Version>,
    /// The release that is being put, and may be there in part.
    pub(super) pending: Option<String>,
    /// Releases before the current one that are kept, newest first.
    pub(super) earlier: Vec<String>,
    /// Releases of which everything goes that no kept one has.
    pub(super) dropping: Vec<String>,
}

/// The current release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Version {
    /// Of its list, and of its directory where each release has one.
    pub(super) name: String,
    pub(super) body: Digest,
    pub(super) since: Timestamp,
}

/// One object of a release, by its key below the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Digest of content, type and caching: two of the same need not be put twice.
    pub(super) what: Digest,
    /// The storage's word for the content that was put; empty until it was.
    pub(super) etag: String,
    /// Whether it is a page.
    pub(super) is_page: bool,
}

/// The objects of a release, by key.
pub(super) type List = BTreeMap<String, Entry>;

/// A line of a list.
type Line = (String, Digest, String, bool);

/// Largest marker, in bytes.
const OWNER_MAX_BYTES: u64 = 1 << 20;
/// Largest list, packed, in bytes.
const LIST_MAX_BYTES: u64 = 32 << 20;
/// Largest list, unpacked, in bytes.
const LIST_TEXT_MAX_BYTES: u64 = 128 << 20;
/// How hard lists are packed: digests do not pack, names do at once.
const PACK_LEVEL: i32 = 1;

impl Owner {
    /// Makes a release the current one. What is neither it nor one of the `keep` before it is dropped.
    pub(super) fn switch(&mut self, version: Version, keep: usize) {
        let before = self.current.take().map(|before| before.name);
        let mut earlier: Vec<String> = before.into_iter().chain(self.earlier.drain(..)).collect();
        earlier.retain(|name| *name != version.name);
        let mut seen = Vec::new();
        earlier.retain(|name| {
            let new = !seen.contains(name);
            seen.push(name.clone());
            new
        });
        let dropped = earlier.split_off(keep.max(1).min(earlier.len()));
        self.dropping.extend(dropped);
        self.dropping.extend(self.pending.take());
        let kept = |name: &String| *name == version.name || earlier.contains(name);
        self.dropping.retain(|name| !kept(name));
        self.dropping.sort();
        self.dropping.dedup();
        self.earlier = earlier;
        self.current = Some(version);
    }

    /// Every release that has a list.
    pub(super) fn all(&self) -> impl Iterator<Item = &String> {
        let current = self.current.iter().map(|version| &version.name);
        let kept = current.chain(&self.earlier);
        kept.chain(&self.pending).chain(&self.dropping)
    }
}

/// The marker of a place; none where there is none.
pub(super) async fn owner(place: &Place) -> Result<Option<Owner>, Failure> {
    let Some(bytes) = read(place, &marker(), OWNER_MAX_BYTES).await? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Failure::Permanent(format!(
            "{}/{} is not as Holdfast wrote it ({error}); put it right, or remove it with all that lies there",
            place.destination,
            marker()
        ))
    })
}

/// Writes the marker; the first one only where there is none.
pub(super) async fn write_owner(place: &Place, owner: &Owner, first: bool) -> Result<(), Failure> {
    let bytes = serde_json::to_vec_pretty(owner).expect("a marker is plain data");
    let attempt = format!("cannot mark {}", place.destination);
    let mode = if first {
        PutMode::Create
    } else {
        PutMode::Overwrite
    };
    let options = PutOptions::from(mode);
    let key = place.key(&marker())?;
    match place
        .store
        .put_opts(&key, bytes.clone().into(), options)
        .await
    {
        Ok(_) => Ok(()),
        // Not every storage knows conditions; it was looked at just before.
        Err(object_store::Error::NotImplemented { .. }) => {
            let put = place.store.put(&key, bytes.into()).await;
            put.map(drop).map_err(unable(attempt))
        }
        Err(object_store::Error::AlreadyExists { .. }) => Err(Failure::Retryable(format!(
            "{attempt}: somebody else has just done so"
        ))),
        Err(error) => Err(unable(attempt)(error)),
    }
}

/// What a release is made of; nothing where there is no list.
pub(super) async fn list(place: &Place, name: &str) -> Result<Option<List>, Failure> {
    let Some(bytes) = read(place, &list_key(name), LIST_MAX_BYTES).await? else {
        return Ok(None);
    };
    let unusable = |why: String| {
        let key = list_key(name);
        Failure::Retryable(format!("{}/{key} cannot be used: {why}", place.destination))
    };
    unpack(&bytes).map(Some).map_err(unusable)
}

fn unpack(bytes: &[u8]) -> Result<List, String> {
    let reader = zstd::Decoder::new(bytes).map_err(|error| error.to_string())?;
    let lines = serde_json::Deserializer::from_reader(reader.take(LIST_TEXT_MAX_BYTES));
    let mut list = List::new();
    for line in lines.into_iter::<Line>() {
        let (key, what, etag, is_page) = line.map_err(|error| error.to_string())?;
        let entry = Entry {
            what,
            etag,
            is_page,
        };
        list.insert(key, entry);
        if list.len() > ENTRIES_MAX + 1 {
            return Err(format!("it has more than {ENTRIES_MAX} lines"));
        }
    }
    Ok(list)
}

fn pack(list: &List) -> std::io::Result<Vec<u8>> {
    let mut packed = zstd::Encoder::new(Vec::new(), PACK_LEVEL)?;
    for (key, entry) in list {
        let line: (&str, Digest, &str, bool) = (key, entry.what, &entry.etag, entry.is_page);
        serde_json::to_writer(&mut packed, &line)?;
        std::io::Write::write_all(&mut packed, b"\n")?;
    }
    packed.finish()
}

/// Writes down what a release is made of.
pub(super) async fn write_list(place: &Place, name: &str, list: &List) -> Result<(), Failure> {
    let attempt = format!("cannot note what {} is to hold", place.destination);
    let packed = pack(list).map_err(|error| Failure::Retryable(format!("{attempt}: {error}")))?;
    let put = place
        .store
        .put(&place.key(&list_key(name))?, packed.into())
        .await;
    put.map(drop).map_err(unable(attempt))
}

async fn read(place: &Place, below: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, Failure> {
    let attempt = format!("cannot read {}/{below}", place.destination);
    let found = match place.store.get(&place.key(below)?).await {
        Ok(found) => found,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(unable(attempt)(error)),
    };
    if found.meta.size > max_bytes {
        return Err(Failure::Permanent(format!(
            "{attempt}: it is larger than {max_bytes} bytes"
        )));
    }
    let bytes = found.bytes().await.map_err(unable(attempt))?;
    Ok(Some(bytes.to_vec()))
}

/// The key of the marker.
pub(super) fn marker() -> String {
    format!("{OWN}/owner.json")
}

/// The key of a release's list.
pub(super) fn list_key(name: &str) -> String {
    format!("{OWN}/{name}.list")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner {
            service: ServiceName::parse("site").unwrap(),
            target: "production/a".to_owned(),
            current: None,
            pending: None,
            earlier: Vec::new(),
            dropping: Vec::new(),
        }
    }

    fn version(name: &str) -> Version {
        Version {
            name: name.to_owned(),
            body: Digest::of(name.as_bytes()),
            since: Timestamp::default(),
        }
    }

    #[test]
    fn what_is_no_longer_kept_is_dropped_and_what_comes_back_is_not() {
        let mut owner = owner();
        for name in ["a", "b", "c"] {
            owner.switch(version(name), 1);
        }
        assert_eq!(
            (owner.earlier.clone(), owner.dropping.clone()),
            (vec!["b".to_owned()], vec!["a".to_owned()])
        );
        // Dropped, but not gone yet: it is wanted again.
        owner.pending = Some("a".to_owned());
        owner.switch(version("a"), 1);
        assert_eq!(owner.earlier, ["c"]);
        assert_eq!(owner.dropping, ["b"]);
        // A release that was begun and never became current leaves nothing either.
        owner.pending = Some("x".to_owned());
        owner.switch(version("a"), 1);
        assert_eq!(owner.dropping, ["b", "x"]);
        assert_eq!(owner.all().count(), 4);
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let entry = |n: u32| Entry {
            what: Digest::of(&n.to_be_bytes()),
            etag: format!("\"{n}\""),
            is_page: n.is_multiple_of(2),
        };
        let list: List = (0..1000).map(|n| (format!("a/\n{n}"), entry(n))).collect();
        let packed = pack(&list).unwrap();
        assert_eq!(unpack(&packed).unwrap(), list);
        assert!(unpack(&packed[..packed.len() / 2]).is_err());
        assert!(unpack(b"junk").is_err());
    }
}
