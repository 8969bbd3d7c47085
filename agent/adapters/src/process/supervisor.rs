//! Sees processes end and logs grow: one thread, asleep while nothing happens.
//!
//! *Expected flow*: a process is watched through its pidfd from its start, or its adoption, to its
//! end; how it ended is written down, and its service is announced as changed. A log is watched for
//! one write, noted, and watched again a second later, so that a chatty program costs one wake-up a
//! second and a silent one none.
//!
//! *Guarantees*: a process that is watched is that very process, never a later one of its number.
//! Children are reaped. *Assumptions*: lost announcements are repaired by the next observation.

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use holdfast_protocol::name::ServiceName;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec};
use rustix::fs::inotify;
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions};
use tokio::sync::mpsc;

use crate::clock;
use crate::process::logs;
use crate::process::record::{Ended, Place};
use crate::process::table::{self, Identity};
use crate::run::Exit;

/// Most announcements that wait to be taken; more are dropped.
const CHANGES_MAX: usize = 256;
/// Shortest time between two looks at one log.
const LOG_PAUSE: Duration = Duration::from_secs(1);
/// The same for a log that grows fast, so that it does not outgrow its bound by much.
const FAST_LOG_PAUSE: Duration = Duration::from_millis(100);
/// Growth between two looks that is fast, in bytes.
const FAST_LOG_BYTES: u64 = 1 << 20;
const WAKE: u64 = 0;
const LOGS: u64 = 1;
const FIRST_PROCESS: u64 = 2;

/// The thread and what it shares.
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    epoll: OwnedFd,
    wake: OwnedFd,
    inotify: OwnedFd,
    state: Mutex<State>,
    changes: mpsc::Sender<ServiceName>,
    stopping: AtomicBool,
}

#[derive(Default)]
struct State {
    next: u64,
    watched: BTreeMap<u64, Watched>,
    logs: BTreeMap<i32, (ServiceName, Place)>,
}

#[derive(Clone)]
struct Watched {
    service: ServiceName,
    place: Place,
    process: Identity,
    pidfd: Arc<OwnedFd>,
}

/// Logs to be watched again, by when on the monotonic clock.
type Due = BTreeMap<(Duration, ServiceName), Place>;

impl Supervisor {
    pub(crate) fn start() -> io::Result<(Self, mpsc::Receiver<ServiceName>)> {
        let (changes, receiver) = mpsc::channel(CHANGES_MAX);
        let shared = Arc::new(Shared {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            wake: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            inotify: inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?,
            state: Mutex::new(State {
                next: FIRST_PROCESS,
                ..State::default()
            }),
            changes,
            stopping: AtomicBool::new(false),
        });
        shared.listen(shared.wake.as_fd(), WAKE)?;
        shared.listen(shared.inotify.as_fd(), LOGS)?;
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || own.run())?;
        Ok((
            Self {
                shared,
                thread: Some(thread),
            },
            receiver,
        ))
    }

    /// Watches a process until it ends, and its log. Does nothing when it is watched already.
    pub(crate) fn watch(
        &self,
        service: &ServiceName,
        place: &Place,
        process: &Identity,
    ) -> io::Result<()> {
        let mut state = self.shared.state();
        if state.watches(process) {
            return Ok(());
        }
        // The number may have been used again before it was opened: look after, not before.
        let Some(pidfd) = open(process).filter(|_| is_that(process)) else {
            drop(state);
            // Told once. Where a full disk takes no note, each look would cause the next one.
            if Shared::write_down(place, process, Exit::Unknown) {
                self.shared.announce(service);
            }
            return Ok(());
        };
        let token = state.next;
        self.shared.listen(pidfd.as_fd(), token)?;
        state.next += 1;
        let watched = Watched {
            service: service.clone(),
            place: place.clone(),
            process: process.clone(),
            pidfd: Arc::new(pidfd),
        };
        state.watched.insert(token, watched);
        drop(state);
        self.shared.watch_log(service, place);
        Ok(())
    }

    /// Whether a process is still watched: it lives, or its end is being written down.
    pub(crate) fn watches(&self, process: &Identity) -> bool {
        self.shared.state().watches(process)
    }
}

impl State {
    fn watches(&self, process: &Identity) -> bool {
        self.watched.values().any(|w| w.process == *process)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = rustix::io::write(&self.shared.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self, source: std::os::fd::BorrowedFd<'_>, token: u64) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            source,
            EventData::new_u64(token),
            EventFlags::IN,
        )?)
    }

    fn run(&self) {
        let mut due = Due::new();
        while !self.stopping.load(Ordering::SeqCst) {
            let mut events = [const { MaybeUninit::uninit() }; 32];
            let timeout = due
                .keys()
                .next()
                .map(|(at, _)| timespec(at.saturating_sub(clock::monotonic())));
            // A signal that interrupts the wait is no event; anything else cannot happen to a
            // descriptor of our own, and would be seen as silence, which observation repairs.
            let ready = epoll::wait(&self.epoll, &mut events, timeout.as_ref());
            let tokens: Vec<u64> = ready
                .map(|(some, _)| some.iter().map(|e| e.data.u64()).collect())
                .unwrap_or_default();
            for token in tokens {
                match token {
                    WAKE => {}
                    LOGS => self.logs_grew(&mut due),
                    process => self.process_ended(process),
                }
            }
            self.look_again(&mut due);
        }
    }

    fn process_ended(&self, token: u64) {
        let Some(watched) = self.state().watched.get(&token).cloned() else {
            return;
        };
        let _ = epoll::delete(&self.epoll, &watched.pidfd);
        let exit = reap(&watched.pidfd);
        logs::note(&watched.place);
        Self::write_down(&watched.place, &watched.process, exit);
        self.announce(&watched.service);
        // Only now: whoever finds it dead and no longer watched takes what is written for all there
        // is to know.
        self.state().watched.remove(&token);
    }

    /// Notes how a process ended, unless that is known; gives whether it did. Without this note the
    /// end is still seen, only not how: a full disk changes no more.
    fn write_down(place: &Place, process: &Identity, exit: Exit) -> bool {
        if place.ended(process).is_some() || !place.root.is_dir() {
            return false;
        }
        // Who stayed with a job knows better than who sees only that both are gone.
        let exit = place.kept(process).map_or(exit, |kept| kept.exit());
        let mut ended = Ended::new(process.clone(), exit, clock::now());
        ended.session_over = table::is_session_over(process);
        place.write_ended(&ended).is_ok()
    }

    fn announce(&self, service: &ServiceName) {
        let _ = self.changes.try_send(service.clone());
    }

    fn watch_log(&self, service: &ServiceName, place: &Place) {
        logs::note(place);
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::ONESHOT;
        if let Ok(wd) = inotify::add_watch(&self.inotify, logs::current(place), flags) {
            self.state()
                .logs
                .insert(wd, (service.clone(), place.clone()));
        }
    }

    fn logs_grew(&self, due: &mut Due) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            if let Some((service, place)) = self.state().logs.remove(&event.wd()) {
                let fast = logs::note(&place) >= FAST_LOG_BYTES;
                let pause = if fast { FAST_LOG_PAUSE } else { LOG_PAUSE };
                due.insert((clock::monotonic() + pause, service), place);
            }
        }
    }

    fn look_again(&self, due: &mut Due) {
        while let Some(entry) = due
            .first_entry()
            .filter(|e| e.key().0 <= clock::monotonic())
        {
            let ((_, service), place) = entry.remove_entry();
            if self.state().watched.values().any(|w| w.service == service) {
                self.watch_log(&service, &place);
            }
        }
    }
}

fn open(process: &Identity) -> Option<OwnedFd> {
    rustix::process::pidfd_open(process.pid()?, PidfdFlags::empty()).ok()
}

/// Whether the process of that number is that very one, alive or not yet reaped.
fn is_that(process: &Identity) -> bool {
    process.boot == table::boot()
        && table::stat(process.pid).is_some_and(|s| s.start == process.start)
}

/// How a process that is dead ended; unknown where it was not our child.
fn reap(pidfd: &OwnedFd) -> Exit {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        },
        Ok(None) | Err(_) => Exit::Unknown,
    }
}

fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(span.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_cannot_be_written_down_is_not_announced_at_every_look() {
        let home = tempfile::tempdir().unwrap();
        let service = ServiceName::parse("web").unwrap();
        let place = Place::new(home.path(), &service);
        // A directory in the note's place takes no note, like a full disk.
        std::fs::create_dir_all(place.root.join("ended.json")).unwrap();
        let gone = Identity {
            pid: i32::MAX,
            start: 1,
            boot: table::boot().to_owned(),
        };
        let (supervisor, mut changes) = Supervisor::start().unwrap();
        supervisor.watch(&service, &place, &gone).unwrap();
        supervisor.watch(&service, &place, &gone).unwrap();
        assert!(changes.try_recv().is_err());
        std::fs::remove_dir(place.root.join("ended.json")).unwrap();
        supervisor.watch(&service, &place, &gone).unwrap();
        supervisor.watch(&service, &place, &gone).unwrap();
        assert_eq!(changes.try_recv().ok(), Some(service));
        assert!(changes.try_recv().is_err());
        assert!(place.ended(&gone).unwrap().session_over);
    }
}
