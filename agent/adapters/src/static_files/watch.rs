//! Sees links be removed, replaced and made again: one thread over inotify, asleep otherwise.
//!
//! Only the directories that hold links are watched, not the trees behind them: an edit in a tree is
//! found by the driver's regular observation. Creating and removing other files beside a link wakes
//! the thread and nobody else.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use holdfast_protocol::name::ServiceName;
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::sync::mpsc;

/// Most announcements that wait to be taken; more are dropped.
const CHANGES_MAX: usize = 256;

/// The thread and what it shares.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    inotify: OwnedFd,
    /// Written once, to end the thread.
    end: OwnedFd,
    /// For each watched directory, the service of each name in it.
    watched: Mutex<BTreeMap<i32, BTreeMap<OsString, ServiceName>>>,
    changes: mpsc::Sender<ServiceName>,
}

impl Watch {
    pub(crate) fn start() -> io::Result<(Self, mpsc::Receiver<ServiceName>)> {
        let (changes, receiver) = mpsc::channel(CHANGES_MAX);
        let shared = Arc::new(Shared {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            end: rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?,
            watched: Mutex::new(BTreeMap::new()),
            changes,
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("links".to_owned())
            .spawn(move || own.run())?;
        Ok((
            Self {
                shared,
                thread: Some(thread),
            },
            receiver,
        ))
    }

    /// Announces a service when something happens to its link. Where the directory cannot be watched,
    /// regular observation is all there is.
    pub(crate) fn add(&self, service: &ServiceName, link: &Path) {
        let (Some(parent), Some(name)) = (link.parent(), link.file_name()) else {
            return;
        };
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        let mut watched = self.shared.watched();
        if let Ok(directory) = inotify::add_watch(&self.shared.inotify, parent, flags) {
            watched
                .entry(directory)
                .or_default()
                .insert(name.to_owned(), service.clone());
        }
    }

    /// Forgets a service.
    pub(crate) fn forget(&self, service: &ServiceName) {
        let mut watched = self.shared.watched();
        for names in watched.values_mut() {
            names.retain(|_, known| known != service);
        }
        for (directory, _) in watched.extract_if(.., |_, names| names.is_empty()) {
            let _ = inotify::remove_watch(&self.shared.inotify, directory);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.shared.end, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn watched(&self) -> MutexGuard<'_, BTreeMap<i32, BTreeMap<OsString, ServiceName>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let mut polled = [
                PollFd::new(&self.inotify, PollFlags::IN),
                PollFd::new(&self.end, PollFlags::IN),
            ];
            // An interrupted wait has nothing ready, and is waited again.
            let _ = rustix::event::poll(&mut polled, None);
            let [_, end] = &polled;
            if !end.revents().is_empty() {
                return;
            }
            self.announce();
        }
    }

    fn announce(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            let watched = self.watched();
            let name = event
                .file_name()
                .map(|name| OsStr::from_bytes(name.to_bytes()));
            let service = watched.get(&event.wd()).and_then(|names| names.get(name?));
            if let Some(service) = service {
                let _ = self.changes.try_send(service.clone());
            }
        }
    }
}
