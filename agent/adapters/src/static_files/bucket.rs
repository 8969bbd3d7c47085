//! Static services in object storage.
//!
//! *Expected flow*: mark the place as this service's (`.holdfast/owner.json`), unpack the archive aside,
//! write down what the release is made of (`.holdfast/NAME.list`), put what is not there yet, files
//! before pages, then name the release as the current one, and last remove what no kept release has.
//!
//! *Guarantees*: each object is switched whole. A page is never put before what its release brings
//! besides pages, and nothing that an earlier kept release has is removed before. With the layout of
//! releases, whoever follows `current.json` finds one whole release. Nothing is removed that no list
//! of this service names. Whatever is cut off is taken up where it was.
//!
//! *Assumptions*: nobody else writes below the prefix what is this service's; who does is found by the
//! next look and put right.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::workload::Artifact;
use tokio::runtime::Handle;

use crate::clock;
use crate::durable::{self, failed};
use crate::failure::Failure;
use crate::run::{Live, Observed, Wanted};
use crate::static_files::bucket::converge::Step;
use crate::static_files::bucket::look::{Fold, Seen};
use crate::static_files::bucket::record::Known;
use crate::static_files::destination::Destination;
use crate::static_files::{Settings, spec};

#[cfg(feature = "object-store")]
mod cloud;
#[cfg(not(feature = "object-store"))]
#[path = "bucket/no_cloud.rs"]
mod cloud;
pub(super) mod connect;
mod converge;
#[cfg(feature = "object-store")]
mod http;
mod journal;
mod look;
mod plan;
mod prune;
mod record;
mod scan;
mod upload;

/// Longest time that one look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(12);
/// Most places that are looked at at a time.
const LOOKS_MAX: usize = 4;

/// All static services of this target that are in object storage.
pub(super) struct Buckets {
    /// What is remembered, and where archives are unpacked meanwhile.
    root: PathBuf,
    settings: Settings,
    seen: Mutex<BTreeMap<ServiceName, Remembered>>,
}

/// The last look at one service.
struct Remembered {
    /// When, by the clock that nobody can set.
    at: Duration,
    /// Of a listing in which all was right.
    fold: Option<Fold>,
    live: Live,
}

impl Buckets {
    pub(super) fn open(root: PathBuf, settings: Settings) -> io::Result<Self> {
        durable::make_directory(&root, 0o700)?;
        Ok(Self {
            root,
            settings,
            seen: Mutex::new(BTreeMap::new()),
        })
    }

    /// Every service that is remembered.
    pub(super) fn services(&self) -> io::Result<Vec<ServiceName>> {
        let names = durable::names(&self.root)?;
        let parse = |name: &String| ServiceName::parse(name.strip_suffix(".json")?).ok();
        Ok(names.iter().filter_map(parse).collect())
    }

    /// Makes a release the current one. On a thread that may wait.
    pub(super) fn converge(
        &self,
        io: &Handle,
        (wanted, bucket, keep): (&Wanted, &spec::Bucket, usize),
        artifact: &Artifact,
        say: &dyn Fn(String),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), Failure> {
        let service = &wanted.workload.service;
        connect::allowed(&self.settings, &bucket.destination)?;
        let place = connect::connect(&self.settings, &bucket.destination)?;
        let before = self.known(service);
        let ours = before
            .as_ref()
            .is_some_and(|k| k.destination == place.destination.to_string());
        let step = Step {
            buckets: self,
            io,
            place: &place,
            wanted,
            bucket,
            artifact,
            keep,
            say,
            cancelled,
        };
        let owner = step.claim(ours)?;
        self.forget_look(service);
        self.remember(service, &place.destination)?;
        let current = step.bring(owner)?;
        self.forget_look(service);
        self.note(service, |known| {
            known.body = Some(current.body);
            known.since = current.since;
        })?;
        self.leave_earlier(io, service)
    }

    /// Removes all of a service. On a thread that may wait.
    pub(super) fn remove(&self, io: &Handle, service: &ServiceName) -> Result<(), Failure> {
        let Some(known) = self.known(service) else {
            return self.forget(service);
        };
        for text in known.moved_from.iter().chain([&known.destination]) {
            self.remove_place(io, service, text)?;
        }
        self.forget(service)
    }

    /// What is seen of every service, each by itself: storage that is away hides nobody else's.
    pub(super) async fn observe(&self) -> Result<Vec<Observed>, Failure> {
        let services = self
            .services()
            .map_err(failed("cannot list the destinations"))?;
        let looks = services
            .into_iter()
            .map(|service| self.observe_one(service));
        let looks = futures_util::stream::iter(looks).buffered(LOOKS_MAX);
        let seen: Vec<Option<Observed>> = looks.collect().await;
        Ok(seen.into_iter().flatten().collect())
    }

    async fn observe_one(&self, service: ServiceName) -> Option<Observed> {
        let known = self.known(&service)?;
        let fresh =
            |seen: &Remembered| clock::monotonic().saturating_sub(seen.at) < self.settings.look;
        if let Some(seen) = self.seen().get(&service).filter(|seen| fresh(seen)) {
            let (body, live) = (known.body, seen.live.clone());
            return Some(Observed {
                service,
                body,
                live,
            });
        }
        let fold = self.seen().get(&service).and_then(|seen| seen.fold);
        let looked = tokio::time::timeout(LOOK_LIMIT, self.look(&service, &known, fold)).await;
        let late = |_| Failure::Retryable(format!("{} does not answer", known.destination));
        let (body, live) = match looked.map_err(late).and_then(|looked| looked) {
            Ok(seen) => self.took(&service, &known, seen),
            Err(failure) => (known.body, unknown(&known, &failure)),
        };
        Some(Observed {
            service,
            body,
            live,
        })
    }

    async fn look(
        &self,
        service: &ServiceName,
        known: &Known,
        fold: Option<Fold>,
    ) -> Result<Seen, Failure> {
        let destination = Destination::parse(&known.destination).map_err(Failure::Permanent)?;
        let place = connect::connect(&self.settings, &destination)?;
        look::look(&place, service, &self.settings.target, known.body, fold).await
    }

    /// Keeps what was seen, so that the next look need not be soon.
    fn took(
        &self,
        service: &ServiceName,
        known: &Known,
        seen: Seen,
    ) -> (Option<holdfast_protocol::digest::Digest>, Live) {
        let live = match seen.differs {
            None if known.moved_from.is_some() => Live::Altered {
                what: "its earlier destination is still there".to_owned(),
            },
            None => Live::Running {
                since: known.since,
                pid: None,
            },
            Some(what) => Live::Altered { what },
        };
        let remembered = Remembered {
            at: clock::monotonic(),
            fold: seen.fold,
            live: live.clone(),
        };
        self.seen().insert(service.clone(), remembered);
        (seen.body, live)
    }

    /// Once the new destination has everything, the one before it goes.
    fn leave_earlier(&self, io: &Handle, service: &ServiceName) -> Result<(), Failure> {
        let moved_from = self.known(service).and_then(|known| known.moved_from);
        let Some(text) = moved_from else {
            return Ok(());
        };
        self.remove_place(io, service, &text)?;
        self.note(service, |known| known.moved_from = None)
    }

    fn remove_place(&self, io: &Handle, service: &ServiceName, text: &str) -> Result<(), Failure> {
        let destination = Destination::parse(text).map_err(Failure::Permanent)?;
        let place = connect::connect(&self.settings, &destination)?;
        let journal = self.journal(service);
        io.block_on(prune::remove(
            &place,
            service,
            &self.settings.target,
            &journal,
        ))?;
        place.leave();
        Ok(())
    }

    /// Writes down where a service goes, before anything is put there.
    fn remember(&self, service: &ServiceName, destination: &Destination) -> Result<(), Failure> {
        let text = destination.to_string();
        let fresh = Known {
            destination: text.clone(),
            body: None,
            since: clock::now(),
            moved_from: None,
        };
        let known = match self.known(service) {
            None => fresh,
            Some(known) if known.destination == text => return Ok(()),
            Some(known) => {
                let before = known.moved_from.unwrap_or(known.destination);
                Known {
                    moved_from: Some(before).filter(|before| *before != text),
                    ..fresh
                }
            }
        };
        durable::replace_json(&self.record(service), &known)
            .map_err(failed("cannot note the destination"))
    }

    fn note(&self, service: &ServiceName, change: impl FnOnce(&mut Known)) -> Result<(), Failure> {
        let Some(mut known) = self.known(service) else {
            return Ok(());
        };
        let before = known.clone();
        change(&mut known);
        if known == before {
            return Ok(());
        }
        durable::replace_json(&self.record(service), &known)
            .map_err(failed("cannot note the destination"))
    }

    fn forget(&self, service: &ServiceName) -> Result<(), Failure> {
        self.forget_look(service);
        for path in [
            self.stage(service),
            self.journal(service),
            self.record(service),
        ] {
            durable::remove_all(&path).map_err(failed("cannot forget the destination"))?;
        }
        Ok(())
    }

    fn forget_look(&self, service: &ServiceName) {
        self.seen().remove(service);
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Remembered>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, service: &ServiceName) -> Option<Known> {
        durable::read_json(&self.record(service))
    }

    fn record(&self, service: &ServiceName) -> PathBuf {
        self.root.join(format!("{service}.json"))
    }

    /// Where a service's archive is unpacked for as long as it is being put.
    fn stage(&self, service: &ServiceName) -> PathBuf {
        self.root.join(format!("{service}.stage"))
    }

    /// What was put of a release that is not the current one yet.
    fn journal(&self, service: &ServiceName) -> PathBuf {
        self.root.join(format!("{service}.put"))
    }

    fn target(&self) -> &str {
        &self.settings.target
    }
}

fn unknown(known: &Known, failure: &Failure) -> Live {
    Live::Unready {
        since: known.since,
        pid: None,
        why: format!("it is not known how it is: {failure}"),
        failing: false,
    }
}

/// The objects of the place, and of nobody else below it, as `.holdfast/…`.
const OWN: &str = ".holdfast";
