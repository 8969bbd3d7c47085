//! The engine's events: which services to look at again, who ended what, and what was seen and has
//! not changed since.
//!
//! *Guarantees*: what was seen of a container is kept only while events flow, and is dropped with the
//! first event about it. When the engine goes away and when it comes back, every service is to be
//! looked at. *Assumptions*: an event that is lost is made up for by the next look, which does not
//! trust anything older than [`TRUST_MAX`].

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt as _;
use holdfast_protocol::name::ServiceName;
use tokio::sync::{mpsc, watch};

use super::body::{AGENT_LABEL, SERVICE_LABEL};
use super::engine::Engine;
use super::sight::Seen;
use crate::clock;

/// Changes that may wait to be looked at; more come with the next look.
pub(super) const CHANGES_MAX: usize = 256;
/// How long something seen is believed without looking again.
pub(super) const TRUST_MAX: Duration = Duration::from_secs(5 * 60);
/// The first pause before the engine is tried again; each is twice the one before.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// What is known from events.
pub(super) struct Watch {
    known: Mutex<Known>,
    changes: mpsc::Sender<ServiceName>,
    /// Grows with every change, for readers of output that wait for the next container.
    stirred: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    /// Whether events flow.
    flowing: bool,
    /// Grows with every event: what was seen meanwhile may be older.
    epoch: u64,
    seen: HashMap<String, (Seen, Duration)>,
    /// How containers were ended, by those who are not this agent.
    ended_by: BTreeMap<String, String>,
}

impl Watch {
    pub(super) fn new() -> (Self, mpsc::Receiver<ServiceName>) {
        let (changes, receiver) = mpsc::channel(CHANGES_MAX);
        let watch = Self {
            known: Mutex::new(Known::default()),
            changes,
            stirred: watch::Sender::new(0),
        };
        (watch, receiver)
    }

    pub(super) fn stirred(&self) -> watch::Receiver<u64> {
        self.stirred.subscribe()
    }

    /// Something was done here: readers of output look again.
    pub(super) fn stir(&self) {
        self.stirred.send_modify(|count| *count += 1);
    }

    /// What is known of a container without asking, if that may be believed.
    pub(super) fn recall(&self, id: &str) -> Option<Seen> {
        let known = self.lock();
        let (seen, at) = known.seen.get(id).filter(|_| known.flowing)?;
        (clock::monotonic().saturating_sub(*at) < TRUST_MAX).then(|| seen.clone())
    }

    /// When something is about to be looked at; for [`Watch::remember`].
    pub(super) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// Keeps what was seen, unless something happened since `epoch`.
    pub(super) fn remember(&self, seen: &Seen, epoch: u64) {
        let mut known = self.lock();
        if known.flowing && known.epoch == epoch {
            let at = clock::monotonic();
            known.seen.insert(seen.id.clone(), (seen.clone(), at));
        }
    }

    /// Who ended a container, if that was somebody else.
    pub(super) fn ended_by(&self, id: &str) -> Option<String> {
        self.lock().ended_by.get(id).cloned()
    }

    /// This agent starts a container: what ended it before is over.
    pub(super) fn begins(&self, id: &str) {
        let mut known = self.lock();
        known.epoch += 1;
        known.ended_by.remove(id);
        known.seen.remove(id);
    }

    /// Follows the events of one agent's containers for as long as the engine gives them.
    /// `everything` names the services to look at once they flow.
    pub(super) async fn follow(&self, engine: &Engine, agent: &str, everything: &[ServiceName]) {
        // From now on by the clock, so that nothing is missed until the engine has heard of it.
        let now = clock::now().as_millis() / 1000;
        let mut events = engine.api.events(Some(options(agent, now)));
        self.flow(true);
        self.announce(everything);
        while let Some(Ok(event)) = events.next().await {
            self.take(&event);
        }
        self.flow(false);
    }

    /// Names services that are to be looked at.
    pub(super) fn announce(&self, services: &[ServiceName]) {
        for service in services {
            // Where the queue is full a look is due anyway.
            let _ = self.changes.try_send(service.clone());
        }
        self.stir();
    }

    fn flow(&self, flowing: bool) {
        let mut known = self.lock();
        known.flowing = flowing;
        known.epoch += 1;
        known.seen.clear();
    }

    fn take(&self, event: &EventMessage) {
        let Some(actor) = &event.actor else { return };
        let attribute = |name: &str| actor.attributes.as_ref()?.get(name).cloned();
        let id = actor.id.clone().unwrap_or_default();
        let action = event.action.clone().unwrap_or_default();
        {
            let mut known = self.lock();
            known.epoch += 1;
            known.seen.remove(&id);
            match action.as_str() {
                "kill" => {
                    let signal = attribute("signal").unwrap_or_default();
                    known.ended_by.insert(id, format!("sent signal {signal}"));
                }
                "stop" => {
                    known.ended_by.insert(id, "stopped".to_owned());
                }
                "start" | "destroy" | "remove" => {
                    known.ended_by.remove(&id);
                }
                _ => {}
            }
        }
        let service = attribute(SERVICE_LABEL).and_then(|name| ServiceName::parse(&name).ok());
        self.announce(service.as_slice());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pause before the engine is tried again, after `failures` in a row.
pub(super) fn pause(failures: u32) -> Duration {
    PAUSE_FIRST
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(PAUSE_MAX)
}

/// What is asked for: what happens to this agent's containers, but for what happens inside them.
fn options(agent: &str, since_secs: u64) -> bollard::query_parameters::EventsOptions {
    let actions = [
        "create",
        "start",
        "die",
        "stop",
        "kill",
        "oom",
        "pause",
        "unpause",
        "update",
        "rename",
        "destroy",
        "remove",
        "health_status",
    ];
    let filters = HashMap::from([
        ("type", vec!["container".to_owned()]),
        ("label", vec![format!("{AGENT_LABEL}={agent}")]),
        ("event", actions.map(str::to_owned).to_vec()),
    ]);
    EventsOptionsBuilder::default()
        .since(&since_secs.to_string())
        .filters(&filters)
        .build()
}
