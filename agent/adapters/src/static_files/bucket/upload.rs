//! Puts objects, several at a time, within a bound of bytes in memory.

use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use futures_util::StreamExt as _;
use object_store::{
    Attribute, Attributes, MultipartUpload, ObjectStoreExt as _, PutMultipartOptions, PutOptions,
};

use crate::durable::failed;
use crate::failure::Failure;
use crate::static_files::bucket::connect::{Place, UNIT_BYTES, unable};
use crate::static_files::bucket::look;
use crate::static_files::bucket::scan::{Content, Object};

/// Most objects that are put at a time.
const UPLOADS_MAX: usize = 16;
/// Largest object that is put by one request, and size of the parts of larger ones, in bytes.
const PART_BYTES: usize = 8 << 20;
/// How soon it is seen that nobody wants it any more.
const CANCELLED_SEEN: Duration = Duration::from_millis(50);

/// Puts all `objects`; tells of each one that is there, with the storage's word for it.
pub(super) async fn all(
    place: &Place,
    objects: &[&Object],
    mut done: impl FnMut(&Object, String) -> Result<(), Failure>,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let one = |object| async move { (object, one(place, object).await) };
    let mut puts = futures_util::stream::iter(objects.iter().copied())
        .map(one)
        .buffer_unordered(UPLOADS_MAX);
    while !cancelled() {
        let next = tokio::select! {
            next = puts.next() => next,
            () = tokio::time::sleep(CANCELLED_SEEN) => continue,
        };
        match next {
            Some((object, etag)) => done(object, etag?)?,
            None => return Ok(()),
        }
    }
    Err(Failure::Cancelled)
}

async fn one(place: &Place, object: &Object) -> Result<String, Failure> {
    let attempt = || format!("cannot put {}/{}", place.destination, object.key);
    let size = usize::try_from(object.size).unwrap_or(usize::MAX);
    let units = u32::try_from(size.min(PART_BYTES).div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
    let _room = place.in_flight.acquire_many(units).await;
    let key = place.key(&object.key)?;
    let put = if size > PART_BYTES {
        in_parts(place, object).await?
    } else {
        let bytes = match &object.content {
            Content::Bytes(bytes) => bytes.clone(),
            Content::File(path) => std::fs::read(path).map_err(failed(attempt()))?,
        };
        let options = PutOptions::from(attributes(place, object));
        let put = place.store.put_opts(&key, bytes.into(), options).await;
        put.map_err(unable(attempt()))?
    };
    match put.e_tag {
        Some(etag) => Ok(look::plain(&etag)),
        None => {
            let found = place.store.head(&key).await;
            found
                .map(|found| look::etag(&found))
                .map_err(unable(attempt()))
        }
    }
}

async fn in_parts(place: &Place, object: &Object) -> Result<object_store::PutResult, Failure> {
    let attempt = || format!("cannot put {}/{}", place.destination, object.key);
    let options = PutMultipartOptions::from(attributes(place, object));
    let key = place.key(&object.key)?;
    let upload = place.store.put_multipart_opts(&key, options).await;
    let mut upload = upload.map_err(unable(attempt()))?;
    let put = parts(&mut upload, object, &attempt()).await;
    if put.is_err() {
        // What stays of it costs money, and storage removes it by its own rules at the latest.
        let _ = upload.abort().await;
    }
    put
}

async fn parts(
    upload: &mut Box<dyn MultipartUpload>,
    object: &Object,
    attempt: &str,
) -> Result<object_store::PutResult, Failure> {
    let Content::File(path) = &object.content else {
        return Err(Failure::Permanent(format!("{attempt}: it is too large")));
    };
    let mut file = File::open(path).map_err(failed(attempt))?;
    loop {
        let mut part = Vec::with_capacity(PART_BYTES);
        let read = file.by_ref().take(PART_BYTES as u64).read_to_end(&mut part);
        if read.map_err(failed(attempt))? == 0 {
            break;
        }
        upload
            .put_part(part.into())
            .await
            .map_err(unable(attempt))?;
    }
    upload.complete().await.map_err(unable(attempt))
}

/// What clients are told.
fn attributes(place: &Place, object: &Object) -> Attributes {
    let mut attributes = Attributes::new();
    if place.has_headers() {
        attributes.insert(Attribute::ContentType, object.content_type.clone().into());
        if let Some(cache) = &object.cache_control {
            attributes.insert(Attribute::CacheControl, cache.clone().into());
        }
    }
    attributes
}
