//! Removes objects: those of releases that are kept no longer, and those of a service that goes.

use std::path::Path;

use futures_util::{StreamExt as _, TryStreamExt as _};
use holdfast_protocol::name::ServiceName;

use crate::failure::Failure;
use crate::static_files::bucket::connect::{Place, unable};
use crate::static_files::bucket::record::{self, List, Owner};
use crate::static_files::bucket::{journal, plan};

/// Removes what no kept release has, and says so in the marker when it is done.
pub(super) async fn drop_releases(
    place: &Place,
    owner: &mut Owner,
    current: &List,
    has_pages: bool,
) -> Result<(), Failure> {
    let kept = lists(place, &owner.earlier).await?;
    let dropped = lists(place, &owner.dropping).await?;
    let mut gone = plan::gone(current, &kept, &dropped, has_pages);
    if gone.is_empty() && owner.dropping.is_empty() {
        return Ok(());
    }
    delete(place, &gone).await?;
    gone = owner
        .dropping
        .iter()
        .map(|name| record::list_key(name))
        .collect();
    delete(place, &gone).await?;
    if owner.dropping.is_empty() {
        return Ok(());
    }
    owner.dropping.clear();
    record::write_owner(place, owner, false).await
}

/// Removes all that a service put there, and the marker last. Whatever else lies there stays.
pub(super) async fn remove(
    place: &Place,
    service: &ServiceName,
    target: &str,
    journal: &Path,
) -> Result<(), Failure> {
    let owner = match record::owner(place).await {
        Ok(owner) => owner.filter(|owner| owner.service == *service && owner.target == target),
        // What cannot be read as ours is not ours to remove.
        Err(Failure::Permanent(_)) => None,
        Err(failure @ (Failure::Retryable(_) | Failure::Cancelled)) => return Err(failure),
    };
    let Some(owner) = owner else {
        return Ok(());
    };
    let names: Vec<String> = owner.all().cloned().collect();
    let mut all = lists(place, &names).await?;
    all.push(journal::read(journal));
    delete(place, &plan::gone(&List::new(), &[], &all, false)).await?;
    let lists: Vec<String> = names.iter().map(|name| record::list_key(name)).collect();
    delete(place, &lists).await?;
    delete(place, &[record::marker()]).await
}

async fn lists(place: &Place, names: &[String]) -> Result<Vec<List>, Failure> {
    let mut lists = Vec::new();
    for name in names {
        lists.extend(record::list(place, name).await?);
    }
    Ok(lists)
}

/// Removes objects; those that are not there are no error.
async fn delete(place: &Place, keys: &[String]) -> Result<(), Failure> {
    let attempt = || format!("cannot remove objects of {}", place.destination);
    let keys: Vec<_> = keys
        .iter()
        .map(|key| place.key(key))
        .collect::<Result<_, _>>()?;
    let keys = futures_util::stream::iter(keys.into_iter().map(Ok)).boxed();
    let mut deleted = place.store.delete_stream(keys);
    loop {
        match deleted.try_next().await {
            Ok(Some(_)) | Err(object_store::Error::NotFound { .. }) => {}
            Ok(None) => return Ok(()),
            Err(error) => return Err(unable(attempt())(error)),
        }
    }
}
