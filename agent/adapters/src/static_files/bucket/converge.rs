//! Brings one release into a place, step by step.

use std::path::Path;

use futures_util::TryStreamExt as _;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::workload::Artifact;
use object_store::ObjectStoreExt as _;
use tokio::runtime::Handle;

use crate::clock;
use crate::durable::{self, failed};
use crate::failure::Failure;
use crate::run::Wanted;
use crate::static_files::bucket::connect::{Place, unable};
use crate::static_files::bucket::journal::{self, Journal};
use crate::static_files::bucket::plan::{self, Lying};
use crate::static_files::bucket::record::{self, List, Owner, Version};
use crate::static_files::bucket::scan::{self, Object, Wave};
use crate::static_files::bucket::{Buckets, look, prune, upload};
use crate::static_files::spec::{Bucket, Layout};
use crate::unpacked;

/// One attempt.
pub(super) struct Step<'a> {
    pub(super) buckets: &'a Buckets,
    pub(super) io: &'a Handle,
    pub(super) place: &'a Place,
    pub(super) wanted: &'a Wanted,
    pub(super) bucket: &'a Bucket,
    pub(super) artifact: &'a Artifact,
    pub(super) keep: usize,
    pub(super) say: &'a dyn Fn(String),
    pub(super) cancelled: &'a dyn Fn() -> bool,
}

/// Puts between two words of progress.
const SAY_EVERY: usize = 1000;
/// The object that names the current release, where each has a directory.
const CURRENT: &str = "current.json";

impl Step<'_> {
    /// The marker of a place that is this service's, or that is nobody's yet. `ours` says that this
    /// target remembers it as its own: a marker that was removed is then made again.
    pub(super) fn claim(&self, ours: bool) -> Result<Owner, Failure> {
        let service = &self.wanted.workload.service;
        let (place, here) = (self.place, &self.place.destination);
        match self.io.block_on(record::owner(place))? {
            Some(owner) if owner.service != *service => Err(Failure::Permanent(format!(
                "{here} belongs to service {} of {}",
                owner.service, owner.target
            ))),
            Some(owner) if owner.target != self.buckets.target() => {
                Err(Failure::Permanent(format!(
                    "{here} belongs to target {}; let it leave first, or give {} a destination of its own with {{{{ target.name }}}}",
                    owner.target,
                    self.buckets.target()
                )))
            }
            Some(owner) => Ok(owner),
            None => {
                if !ours {
                    self.io.block_on(refuse_foreign(place))?;
                }
                let owner = Owner {
                    service: service.clone(),
                    target: self.buckets.target().to_owned(),
                    current: None,
                    pending: None,
                    earlier: Vec::new(),
                    dropping: Vec::new(),
                };
                self.io.block_on(record::write_owner(place, &owner, true))?;
                Ok(owner)
            }
        }
    }

    /// Makes the release the current one, and gives it.
    pub(super) fn bring(&self, mut owner: Owner) -> Result<Version, Failure> {
        let name = self.name();
        let (lying, _) = self.io.block_on(look::lying(self.place))?;
        if let Some(current) = self.already(&owner, &name, &lying)? {
            return Ok(current);
        }
        let objects = self.objects(&name)?;
        let put = self.put_before(&owner)?;
        let (there, missing) = plan::split(objects, &put, &lying);
        drop(put);
        let list = self.put(&mut owner, &name, there, &missing)?;
        let same = owner
            .current
            .as_ref()
            .filter(|current| current.name == name);
        let version = Version {
            since: same.map_or_else(clock::now, |current| current.since),
            name,
            body: self.wanted.body,
        };
        owner.switch(version.clone(), self.keep);
        self.io
            .block_on(record::write_owner(self.place, &owner, false))?;
        self.drop_releases(&mut owner, &list)?;
        let service = &self.wanted.workload.service;
        for path in [self.buckets.stage(service), self.buckets.journal(service)] {
            durable::remove_all(&path).map_err(failed("cannot clear what was unpacked"))?;
        }
        Ok(version)
    }

    /// The current release, where it is the wanted one and all of it lies there.
    fn already(
        &self,
        owner: &Owner,
        name: &str,
        lying: &Lying,
    ) -> Result<Option<Version>, Failure> {
        let current = owner.current.as_ref().filter(|current| {
            current.name == name && current.body == self.wanted.body && owner.pending.is_none()
        });
        let Some(current) = current else {
            return Ok(None);
        };
        let list = self.io.block_on(record::list(self.place, name))?;
        let Some(list) = list.filter(|list| plan::differs(list, lying).is_none()) else {
            return Ok(None);
        };
        let mut owner = owner.clone();
        self.drop_releases(&mut owner, &list)?;
        Ok(Some(current.clone()))
    }

    /// Removes what no kept release has, beside the current one of `list`.
    fn drop_releases(&self, owner: &mut Owner, list: &List) -> Result<(), Failure> {
        let dropped = prune::drop_releases(self.place, owner, list, self.has_pages());
        self.io.block_on(dropped)
    }

    /// Unpacks the archive and reads what it holds.
    fn objects(&self, name: &str) -> Result<Vec<Object>, Failure> {
        let blob = self
            .wanted
            .artifacts
            .get(&self.artifact.name)
            .ok_or_else(|| {
                Failure::Retryable(format!("artifact {} is not here yet", self.artifact.name))
            })?;
        let stage = self.buckets.stage(&self.wanted.workload.service);
        self.unpack(blob, &stage)?;
        let above = match self.bucket.layout {
            Layout::Site => String::new(),
            Layout::Releases => format!("releases/{name}/"),
        };
        let mut objects = scan::scan(&stage, &above, &self.bucket.rules, self.cancelled)?;
        if self.bucket.layout == Layout::Releases {
            objects.push(scan::made(CURRENT, self.pointer(&above)));
        }
        Ok(objects)
    }

    fn unpack(&self, blob: &Path, stage: &Path) -> Result<(), Failure> {
        unpacked::lay_aside(self.artifact, blob, stage, self.cancelled).inspect_err(|_| {
            let _ = durable::remove_all(stage);
        })
    }

    /// What `current.json` says.
    fn pointer(&self, above: &str) -> Vec<u8> {
        let said = serde_json::json!({
            "service": self.wanted.workload.service.as_str(),
            "version": self.wanted.workload.version.as_str(),
            "path": above,
        });
        let mut text = said.to_string().into_bytes();
        text.push(b'\n');
        text
    }

    /// What this service put before, the newest last: of the release before the current one, of that, and
    /// of attempts that were cut off.
    fn put_before(&self, owner: &Owner) -> Result<Vec<List>, Failure> {
        let current = owner.current.iter().map(|current| &current.name);
        let names: Vec<&String> = owner.earlier.first().into_iter().chain(current).collect();
        let mut put = Vec::new();
        for name in names {
            put.extend(self.io.block_on(record::list(self.place, name))?);
        }
        put.push(journal::read(
            &self.buckets.journal(&self.wanted.workload.service),
        ));
        Ok(put)
    }

    /// Puts what is missing, in waves. The list comes before the objects, so that whatever becomes of
    /// this attempt, all that it put is named somewhere.
    fn put(
        &self,
        owner: &mut Owner,
        name: &str,
        there: List,
        missing: &[Object],
    ) -> Result<List, Failure> {
        let mut list = there;
        list.extend(
            missing
                .iter()
                .map(|o| (o.key.clone(), plan::entry(o, String::new()))),
        );
        self.begin(owner, name, &list)?;
        let mut journal = Journal::open(&self.buckets.journal(&self.wanted.workload.service))?;
        let (all, mut done) = (missing.len(), 0);
        for wave in Wave::ALL {
            let objects: Vec<&Object> = missing.iter().filter(|o| o.wave == wave).collect();
            let noted = |object: &Object, etag: String| {
                let entry = plan::entry(object, etag);
                journal.note(&object.key, &entry)?;
                list.insert(object.key.clone(), entry);
                done += 1;
                if done % SAY_EVERY == 0 {
                    (self.say)(format!("put {done} of {all} objects"));
                }
                Ok(())
            };
            self.io
                .block_on(upload::all(self.place, &objects, noted, self.cancelled))?;
        }
        self.io
            .block_on(record::write_list(self.place, name, &list))?;
        (self.say)(format!(
            "put {all} objects to {}, {} were there",
            self.place.destination,
            list.len() - all
        ));
        Ok(list)
    }

    /// Names the release in the marker as the one that is being put.
    fn begin(&self, owner: &mut Owner, name: &str, list: &List) -> Result<(), Failure> {
        if owner.pending.as_deref() == Some(name) {
            return Ok(());
        }
        self.io
            .block_on(record::write_list(self.place, name, list))?;
        // One that was begun before, and is not wanted any more, is dropped with the switch.
        owner
            .dropping
            .extend(owner.pending.replace(name.to_owned()));
        self.io
            .block_on(record::write_owner(self.place, owner, false))
    }

    /// The name of a release in the place: what it is made of, and how it is laid out.
    fn name(&self) -> String {
        let what = format!(
            "{} {:?}",
            self.artifact.digest,
            (self.bucket.layout, &self.bucket.rules)
        );
        Digest::of(what.as_bytes()).hex().chars().take(16).collect()
    }

    /// Whether pages are found at paths that stay.
    fn has_pages(&self) -> bool {
        match self.bucket.layout {
            Layout::Site => true,
            Layout::Releases => false,
        }
    }
}

/// Refuses a place in which something lies, or which is inside another service's.
async fn refuse_foreign(place: &Place) -> Result<(), Failure> {
    let here = &place.destination;
    let attempt = || format!("cannot look at {here}");
    let root = place.root()?;
    let first = place.store.list(root.as_ref()).try_next().await;
    if let Some(first) = first.map_err(unable(attempt()))? {
        return Err(Failure::Permanent(format!(
            "{here} is not Holdfast's and not empty ({} is there); empty it, or choose another prefix",
            first.location
        )));
    }
    if !place.has_headers() {
        return Ok(());
    }
    for above in here.above() {
        let marker = match above.prefix.as_str() {
            "" => record::marker(),
            prefix => format!("{prefix}/{}", record::marker()),
        };
        match place
            .store
            .head(&object_store::path::Path::from(marker))
            .await
        {
            Ok(_) => {
                return Err(Failure::Permanent(format!(
                    "{here} is inside {above}, which is another service's"
                )));
            }
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(unable(attempt())(error)),
        }
    }
    Ok(())
}
