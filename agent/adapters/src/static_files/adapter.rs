//! The adapter of runtime `static`: versions beside a link, and one rename to switch. What goes to object
//! storage instead is handed on to `bucket`.
//!
//! *Guarantees*: whoever follows the link finds one whole version at any moment, also while it is
//! switched and after a power cut. What is not marked as this agent's is never replaced or removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::stream::LogLine;
use holdfast_protocol::workload::{Artifact, Placeholder, Workload};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::changes::Changes;
use crate::clock;
use crate::durable::{self, failed};
use crate::failure::Failure;
use crate::fields;
use crate::run::{Adapter, Live, LogRequest, Observed, Wanted};
use crate::static_files::bucket::Buckets;
use crate::static_files::owner::{Known, Owner, Site, Version};
use crate::static_files::spec::{self, Place, Template};
use crate::static_files::switch::{
    exchange, make_versions, refuse_foreign, refuse_foreign_versions, sweep, switch,
};
use crate::static_files::watch::Watch;
use crate::static_files::{Settings, tree};
use crate::turns::{Say, Turns};
use crate::unpacked;

/// Archives behind links, and in object storage.
pub(crate) struct StaticFiles {
    inner: Arc<Inner>,
    buckets: Arc<Buckets>,
    turns: Turns,
    changes: Changes,
}

struct Inner {
    /// Where it is remembered which links there are.
    root: PathBuf,
    /// Directory of the agent.
    home: PathBuf,
    watch: Watch,
}

impl StaticFiles {
    pub(crate) fn open(root: &Path, home: &Path, settings: Settings) -> io::Result<Self> {
        durable::make_directory(root, 0o700)?;
        let buckets = Buckets::open(root.join("buckets"), settings)?;
        let (watch, changes) = Watch::start()?;
        let home = fs::canonicalize(home)?;
        let inner = Inner {
            root: root.to_owned(),
            home,
            watch,
        };
        for service in inner.services()? {
            if let Some(known) = inner.known(&service) {
                inner.watch.add(&service, &known.link);
            }
        }
        Ok(Self {
            inner: Arc::new(inner),
            buckets: Arc::new(buckets),
            turns: Turns::open(root.join("turns"))?,
            changes: Changes::new(changes),
        })
    }
}

impl Adapter for StaticFiles {
    fn runtime(&self) -> &'static str {
        "static"
    }

    fn observe(&self) -> BoxFuture<'_, Result<Vec<Observed>, Failure>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let links = self.turns.look(move || inner.observe()).await?;
            Ok(united(links, self.buckets.observe().await?))
        })
    }

    fn converge<'a>(
        &'a self,
        wanted: &'a Wanted,
        progress: &'a mpsc::Sender<String>,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        let (inner, buckets) = (Arc::clone(&self.inner), Arc::clone(&self.buckets));
        Box::pin(async move {
            let io = Handle::current();
            let operation = move |wanted: &Wanted, say: &Say<'_>, token: &CancellationToken| {
                let cancelled = || token.is_cancelled();
                let (template, artifact) = template(&wanted.workload)?;
                let service = &wanted.workload.service;
                match &template.place {
                    Place::Link(link) => {
                        let link = (link.as_path(), template.keep);
                        inner.converge(wanted, link, artifact, say, &cancelled)?;
                        buckets.remove(&io, service)
                    }
                    Place::Bucket(bucket) => {
                        let bucket = (wanted, bucket, template.keep);
                        buckets.converge(&io, bucket, artifact, say, &cancelled)?;
                        inner.remove(service)
                    }
                }
            };
            self.turns
                .converge(wanted, progress, cancel, operation)
                .await
        })
    }

    fn remove<'a>(&'a self, service: &'a ServiceName) -> BoxFuture<'a, Result<(), Failure>> {
        let (inner, buckets) = (Arc::clone(&self.inner), Arc::clone(&self.buckets));
        Box::pin(async move {
            let io = Handle::current();
            let operation = move |service: &ServiceName, _: &CancellationToken| {
                inner.remove(service)?;
                buckets.remove(&io, service)
            };
            self.turns.remove(service, operation).await
        })
    }

    fn changes(&self) -> mpsc::Receiver<ServiceName> {
        self.changes.take()
    }

    /// An artifact's path is the link that leads to it.
    fn fill(&self, workload: &Workload, text: &str) -> Result<String, String> {
        let link = template(workload)
            .ok()
            .and_then(|(template, artifact)| match template.place {
                Place::Link(path) => Some((path, artifact)),
                Place::Bucket(_) => None,
            });
        Placeholder::fill(text, &|placeholder| match (placeholder, &link) {
            (Placeholder::ArtifactPath(name), Some((path, artifact))) if artifact.name == *name => {
                path.to_str().map(str::to_owned)
            }
            (Placeholder::ArtifactPath(_) | Placeholder::WorkloadDir, _) => None,
        })
    }

    fn logs<'a>(
        &'a self,
        service: &'a ServiceName,
        _request: LogRequest,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<LogLine>, Failure>> {
        let why = format!("{service} is files, which have no output");
        Box::pin(async move { Err(Failure::Permanent(why)) })
    }
}

impl Inner {
    fn converge(
        &self,
        wanted: &Wanted,
        (link, keep): (&Path, usize),
        artifact: &Artifact,
        say: &dyn Fn(String),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), Failure> {
        let service = &wanted.workload.service;
        let site = Site::new(link);
        let mut owner = self.own(service, &site)?;
        let name = version_name(artifact);
        if self.look(&site, &owner).is_ok()
            && owner
                .current
                .as_ref()
                .is_some_and(|c| c.body == wanted.body && c.name == name)
        {
            sweep(&site, &owner);
            return self.forget_earlier_link(service, &site);
        }
        self.remember(service, &site)?;
        make_versions(&site)?;
        // Only now is there a directory to watch, where this is the first release.
        self.watch.forget(service);
        self.watch.add(service, &site.link);
        // The marker comes first: what lies there without one is nobody's.
        site.write_owner(&owner)
            .map_err(failed("cannot mark what is to be made"))?;
        let digest = lay(&site, &owner, artifact, wanted, say, cancelled)?;
        if cancelled() {
            return Err(Failure::Cancelled);
        }
        let moved = switch(&site, &name)?;
        if moved {
            say(format!(
                "switched {} to version {}",
                site.link.display(),
                wanted.workload.version
            ));
        }
        let same = owner
            .current
            .as_ref()
            .filter(|current| current.name == name && !moved);
        let since = same.map_or_else(clock::now, |current| current.since);
        let version = Version {
            name,
            body: wanted.body,
            tree: digest,
            since,
        };
        owner.switch(version, keep);
        site.write_owner(&owner)
            .map_err(failed("cannot mark what was made"))?;
        sweep(&site, &owner);
        self.forget_earlier_link(service, &site)
    }

    /// The marker of a place that is this service's, or that is nobody's yet.
    fn own(&self, service: &ServiceName, site: &Site) -> Result<Owner, Failure> {
        let link = site.link.display();
        let fresh = Owner {
            service: service.clone(),
            home: self.home.clone(),
            current: None,
            earlier: Vec::new(),
        };
        match site.owner() {
            Some(owner) if owner.service != *service => Err(Failure::Permanent(format!(
                "{link} belongs to service {}",
                owner.service
            ))),
            Some(owner) if owner.home != self.home && owner.home.is_dir() => {
                Err(Failure::Permanent(format!(
                    "{link} belongs to the agent in {}",
                    owner.home.display()
                )))
            }
            Some(owner) => {
                refuse_foreign_versions(site, true)?;
                refuse_foreign(site, true)?;
                Ok(Owner {
                    home: self.home.clone(),
                    ..owner
                })
            }
            None => {
                let ours = self
                    .known(service)
                    .is_some_and(|known| known.link == site.link);
                refuse_foreign_versions(site, ours)?;
                refuse_foreign(site, ours)?;
                Ok(fresh)
            }
        }
    }

    /// Whether all is as `converge` left it, or what differs.
    fn look(&self, site: &Site, owner: &Owner) -> Result<(), String> {
        let Some(current) = &owner.current else {
            return Err("it was not switched to yet".to_owned());
        };
        match fs::read_link(&site.link) {
            Ok(target) if target == site.target(&current.name) => {}
            Ok(target) => {
                return Err(format!("the link leads to {} instead", target.display()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err("the link was removed".to_owned());
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return Err(format!("{} is no longer a link", site.link.display()));
            }
            Err(error) => return Err(format!("the link cannot be read: {error}")),
        }
        match tree::digest(&site.versions.join(&current.name)) {
            Ok(found) if found == current.tree => Ok(()),
            Ok(_) => Err("files were changed".to_owned()),
            Err(error) => Err(format!("files cannot be read: {error}")),
        }
    }

    fn remove(&self, service: &ServiceName) -> Result<(), Failure> {
        let Some(known) = self.known(service) else {
            return Ok(());
        };
        for link in known.moved_from.iter().chain([&known.link]) {
            self.remove_site(service, &Site::new(link))
                .map_err(failed(format!("cannot remove {}", link.display())))?;
        }
        self.watch.forget(service);
        durable::remove_all(&self.path(service)).map_err(failed("cannot forget the link"))
    }

    /// Removes a link and its versions, where they are this service's.
    fn remove_site(&self, service: &ServiceName, site: &Site) -> io::Result<()> {
        let ours = |owner: &Owner| owner.service == *service && owner.home == self.home;
        if !site.owner().as_ref().is_some_and(ours) {
            return Ok(());
        }
        let below = site.target("");
        if fs::read_link(&site.link).is_ok_and(|target| target.starts_with(&below)) {
            fs::remove_file(&site.link)?;
        }
        durable::remove_all(&site.versions)?;
        durable::sync_directory(site.parent())
    }

    /// Writes down where the link will be, before anything is made there.
    fn remember(&self, service: &ServiceName, site: &Site) -> Result<(), Failure> {
        let before = self.known(service);
        let moved_from = before.and_then(|known| {
            if known.link == site.link {
                known.moved_from
            } else {
                Some(known.link)
            }
        });
        let moved_from = moved_from.filter(|link| *link != site.link);
        let known = Known {
            service: service.clone(),
            link: site.link.clone(),
            moved_from,
        };
        durable::replace_json(&self.path(service), &known)
            .map_err(failed("cannot note where the link is"))
    }

    /// Once a service's new link leads somewhere, the one before it goes.
    fn forget_earlier_link(&self, service: &ServiceName, site: &Site) -> Result<(), Failure> {
        let Some(known) = self.known(service) else {
            return self.remember(service, site);
        };
        let Some(link) = known.moved_from else {
            return Ok(());
        };
        self.remove_site(service, &Site::new(&link))
            .map_err(failed(format!("cannot remove {}", link.display())))?;
        let known = Known {
            moved_from: None,
            ..known
        };
        durable::replace_json(&self.path(service), &known)
            .map_err(failed("cannot note where the link is"))
    }

    fn observe(&self) -> Result<Vec<Observed>, Failure> {
        let services = self.services().map_err(failed("cannot list the links"))?;
        Ok(services
            .into_iter()
            .filter_map(|service| self.observe_one(service))
            .collect())
    }

    /// Every service that is remembered.
    fn services(&self) -> io::Result<Vec<ServiceName>> {
        let names = durable::names(&self.root)?;
        let parse = |name: &String| ServiceName::parse(name.strip_suffix(".json")?).ok();
        Ok(names.iter().filter_map(parse).collect())
    }

    fn observe_one(&self, service: ServiceName) -> Option<Observed> {
        let known = self.known(&service)?;
        let site = Site::new(&known.link);
        let owner = site.owner().filter(|owner| owner.service == service);
        let Some(owner) = owner else {
            let what = format!("{} was removed", site.versions.display());
            return Some(Observed {
                service,
                body: None,
                live: Live::Altered { what },
            });
        };
        let looked = self.look(&site, &owner);
        let body = owner.current.as_ref().map(|current| current.body);
        let since = owner
            .current
            .map(|current| current.since)
            .unwrap_or_default();
        let live = match looked {
            Ok(()) if known.moved_from.is_some() => Live::Altered {
                what: "its earlier link is still there".to_owned(),
            },
            Ok(()) => Live::Running { since, pid: None },
            Err(what) => Live::Altered { what },
        };
        Some(Observed {
            service,
            body,
            live,
        })
    }

    fn known(&self, service: &ServiceName) -> Option<Known> {
        durable::read_json(&self.path(service))
    }

    fn path(&self, service: &ServiceName) -> PathBuf {
        self.root.join(format!("{service}.json"))
    }
}

/// What is seen behind links and in object storage. A service that is in both is on its way from one to
/// the other.
fn united(links: Vec<Observed>, buckets: Vec<Observed>) -> Vec<Observed> {
    let mut all = links;
    for bucket in buckets {
        match all.iter_mut().find(|link| link.service == bucket.service) {
            Some(link) => {
                link.body = bucket.body.or(link.body);
                link.live = Live::Altered {
                    what: "it is behind a link and in object storage".to_owned(),
                };
            }
            None => all.push(bucket),
        }
    }
    all
}

/// Unpacks a version, unless it lies there unchanged. Gives the digest of its tree.
fn lay(
    site: &Site,
    owner: &Owner,
    artifact: &Artifact,
    wanted: &Wanted,
    say: &dyn Fn(String),
    cancelled: &dyn Fn() -> bool,
) -> Result<Digest, Failure> {
    let name = version_name(artifact);
    let place = site.versions.join(&name);
    let known = owner
        .current
        .iter()
        .chain(&owner.earlier)
        .find(|v| v.name == name);
    if let Some(known) = known
        && tree::digest(&place).is_ok_and(|found| found == known.tree)
    {
        return Ok(known.tree);
    }
    let blob = wanted
        .artifacts
        .get(&artifact.name)
        .ok_or_else(|| Failure::Retryable(format!("artifact {} is not here yet", artifact.name)))?;
    let fresh = site.versions.join(format!(".{name}"));
    unpacked::lay_fresh(artifact, blob, &fresh, cancelled).inspect_err(|_| {
        let _ = durable::remove_all(&fresh);
    })?;
    let digest = tree::digest(&fresh).map_err(failed("cannot read what was unpacked"))?;
    exchange(&fresh, &place)
        .and_then(|()| durable::sync_directory(&site.versions))
        .map_err(failed(format!("cannot lay down {}", place.display())))?;
    say(format!(
        "unpacked artifact {} ({})",
        artifact.name, artifact.file
    ));
    Ok(digest)
}

/// The directory of an artifact's version: enough of its digest to tell it from all others.
fn version_name(artifact: &Artifact) -> String {
    artifact.digest.hex().chars().take(16).collect()
}

fn template(workload: &Workload) -> Result<(Template, &Artifact), Failure> {
    let refused = |why: &str| Failure::Permanent(format!("the template is refused: {why}"));
    let template = fields::arrived(workload, spec::parse)?;
    let named = workload
        .artifacts
        .iter()
        .find(|a| a.name == template.artifact);
    let artifact = named.ok_or_else(|| refused("its artifact is not in the workload"))?;
    Ok((template, artifact))
}
