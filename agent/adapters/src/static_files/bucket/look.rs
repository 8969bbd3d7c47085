//! A look at what lies in a place: one listing, and more only where something changed since the last.

use futures_util::TryStreamExt as _;
use holdfast_protocol::digest::{Digest, Hasher};
use holdfast_protocol::name::ServiceName;
use object_store::ObjectMeta;

use crate::failure::Failure;
use crate::static_files::bucket::connect::{Place, unable};
use crate::static_files::bucket::plan::{self, Lying};
use crate::static_files::bucket::record;

/// All objects of a listing in one number, in whatever order they come: two listings of the same number
/// hold the same. Nothing of the listing is kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fold([u64; 4]);

/// What was seen.
pub(super) struct Seen {
    /// Of the current release, by the marker.
    pub(super) body: Option<Digest>,
    /// What differs, for people.
    pub(super) differs: Option<String>,
    /// Of the listing, where all was right.
    pub(super) fold: Option<Fold>,
}

/// Looks. `body` and `fold` are of the last time when all was right.
pub(super) async fn look(
    place: &Place,
    service: &ServiceName,
    target: &str,
    body: Option<Digest>,
    fold: Option<Fold>,
) -> Result<Seen, Failure> {
    if fold.is_some() && fold == Some(folded(place).await?) {
        return Ok(Seen {
            body,
            differs: None,
            fold,
        });
    }
    let altered = |body, what: &str| {
        Ok(Seen {
            body,
            differs: Some(what.to_owned()),
            fold: None,
        })
    };
    let owner = match record::owner(place).await {
        Ok(owner) => owner.filter(|owner| owner.service == *service && owner.target == target),
        Err(Failure::Permanent(what)) => return altered(body, &what),
        Err(failure @ (Failure::Retryable(_) | Failure::Cancelled)) => return Err(failure),
    };
    let Some(owner) = owner else {
        return altered(None, "its marker was removed or is somebody else's");
    };
    let body = owner.current.as_ref().map(|current| current.body);
    let Some(current) = owner.current.filter(|_| owner.pending.is_none()) else {
        return altered(body, "a release was put there in part");
    };
    let Some(list) = record::list(place, &current.name).await? else {
        return altered(body, "the list of its objects was removed");
    };
    let (lying, fold) = lying(place).await?;
    let differs = plan::differs(&list, &lying);
    let fold = differs.is_none().then_some(fold);
    Ok(Seen {
        body,
        differs,
        fold,
    })
}

/// Everything that lies below the prefix.
pub(super) async fn lying(place: &Place) -> Result<(Lying, Fold), Failure> {
    let mut lying = Lying::new();
    let mut fold = Fold::default();
    each(place, |below, object| {
        fold.add(below, object);
        lying.insert(below.to_owned(), etag(object));
    })
    .await?;
    Ok((lying, fold))
}

async fn folded(place: &Place) -> Result<Fold, Failure> {
    let mut fold = Fold::default();
    each(place, |below, object| fold.add(below, object)).await?;
    Ok(fold)
}

async fn each(place: &Place, mut take: impl FnMut(&str, &ObjectMeta)) -> Result<(), Failure> {
    let attempt = || format!("cannot list {}", place.destination);
    let root = place.root()?;
    let mut objects = place.store.list(root.as_ref());
    while let Some(object) = objects.try_next().await.map_err(unable(attempt()))? {
        if let Some(below) = place.below(&object.location) {
            take(below, &object);
        }
    }
    Ok(())
}

/// The storage's word for a content, without what only some answers have around it.
pub(super) fn etag(object: &ObjectMeta) -> String {
    plain(object.e_tag.as_deref().unwrap_or_default())
}

/// The same of an answer.
pub(super) fn plain(etag: &str) -> String {
    etag.trim_start_matches("W/").trim_matches('"').to_owned()
}

impl Fold {
    fn add(&mut self, below: &str, object: &ObjectMeta) {
        let mut hasher = Hasher::default();
        hasher.update(below.as_bytes());
        hasher.update(b"\0");
        hasher.update(etag(object).as_bytes());
        hasher.update(&object.size.to_be_bytes());
        let hex = hasher.finish().hex();
        for (sum, part) in self.0.iter_mut().zip(hex.as_bytes().chunks(16)) {
            let part = std::str::from_utf8(part).ok();
            let part = part.and_then(|part| u64::from_str_radix(part, 16).ok());
            *sum = sum.wrapping_add(part.unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fold_is_the_same_in_any_order_and_another_after_any_change() {
        let object = |key: &str, etag: &str| ObjectMeta {
            location: key.into(),
            last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
            size: 1,
            e_tag: Some(etag.to_owned()),
            version: None,
        };
        let fold = |objects: &[(&str, &str)]| {
            let mut fold = Fold::default();
            for (key, etag) in objects {
                fold.add(key, &object(key, etag));
            }
            fold
        };
        let first = fold(&[("a", "1"), ("b", "2")]);
        assert_eq!(first, fold(&[("b", "\"2\""), ("a", "1")]));
        assert_ne!(first, fold(&[("a", "2"), ("b", "1")]));
        assert_ne!(first, fold(&[("a", "1")]));
        assert_ne!(first, fold(&[("a", "1"), ("b", "2"), ("c", "3")]));
    }
}
