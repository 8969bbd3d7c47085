//! One call of a plugin: who it is, as whom it runs, what it is asked and what it answers.
//!
//! *Guarantees*: a call ends within its deadline, and every process that it started ends with it.
//! What a plugin says of another workload than the one it was asked about is not believed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_confine::{Conversation, Ended, Limits, Program, User, user};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::judge::{Answer, Splitter, judge};
use super::message::{
    Description, INTERVAL_MAX_SECONDS, INTERVAL_MIN_SECONDS, INTERVAL_SECONDS, Operation, Request,
    Said, VERSION, Workload,
};
use super::place::{self, Plugin, Stamp};
use super::schema::Schema;
use super::{Own, Settings, leftover};
use crate::failure::Failure;

/// Most of standard error that is kept, in bytes.
const LOG_MAX_BYTES: usize = 64 << 10;
/// What a plugin may use.
const LIMITS: Limits = Limits {
    memory_bytes: 4 << 30,
    file_bytes: 4 << 30,
};

/// Calls of this process so far; each has a number of its own.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// How long an operation may take.
pub(super) const fn deadline(operation: Operation) -> Duration {
    // Each a little shorter than what the agent's driver allows.
    Duration::from_secs(match operation {
        Operation::Describe => 10,
        Operation::Validate => 30,
        Operation::Observe => 12,
        Operation::Converge => 9 * 60,
        Operation::Remove => 4 * 60,
        Operation::Logs => 24 * 60 * 60,
    })
}

/// Speaks to plugins.
pub(super) struct Caller {
    pub(super) settings: Settings,
    /// Which agent this is.
    agent: String,
    described: Mutex<BTreeMap<(String, Stamp), Arc<Known>>>,
}

/// A plugin that has described itself.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) plugin: Plugin,
    pub(super) description: Description,
    pub(super) schema: Schema,
}

/// What a call gives besides its result.
pub(super) struct Told {
    pub(super) result: Result<Value, Failure>,
    pub(super) log: String,
}

impl Caller {
    pub(super) const fn new(settings: Settings, agent: String) -> Self {
        Self {
            settings,
            agent,
            described: Mutex::new(BTreeMap::new()),
        }
    }

    /// A plugin and what it says of itself, asked once for each executable.
    pub(super) async fn known(&self, name: &str) -> Result<Arc<Known>, Failure> {
        let unusable = |why| Failure::Retryable(format!("plugin {name} is not used: {why}"));
        let plugin = place::find(&self.settings, name).map_err(unusable)?;
        let key = (name.to_owned(), plugin.stamp.clone());
        let lock = || {
            self.described
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(known) = lock().get(&key) {
            return Ok(Arc::clone(known));
        }
        place::digest(&self.settings, &plugin).map_err(unusable)?;
        let request = request(Operation::Describe, None);
        let said: Description = self.ask(&plugin, &request, &mut |_| {}).await?;
        let schema = described(&said).map_err(unusable)?;
        let known = Arc::new(Known {
            plugin,
            description: said,
            schema,
        });
        let mut described = lock();
        described.retain(|(of, _), _| of != name);
        described.insert(key, Arc::clone(&known));
        Ok(known)
    }

    /// Whom a plugin runs as.
    pub(super) fn user(&self, name: &str) -> Result<Option<User>, Failure> {
        let wanted = self.own(name).and_then(|own| own.user.as_deref());
        user::administered(wanted, &format!("plugins.{name}.user")).map_err(Failure::Retryable)
    }

    fn own(&self, name: &str) -> Option<&Own> {
        self.settings.own.get(name)
    }

    /// Asks, and reads the result as `T`.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        plugin: &Plugin,
        request: &Request,
        say: &mut (dyn FnMut(Said) + Send),
    ) -> Result<T, Failure> {
        let told = self.call(plugin, request, say).await;
        understood(&plugin.name, told.result?)
    }

    /// Asks, with what was written to the log.
    pub(super) async fn call(
        &self,
        plugin: &Plugin,
        request: &Request,
        say: &mut (dyn FnMut(Said) + Send),
    ) -> Told {
        let mark = self.mark(request);
        let begun = self.begin(plugin, request, &mark).await;
        let _leftovers = Leftovers(mark);
        let mut conversation = match begun {
            Ok(conversation) => conversation,
            Err(failure) => {
                return Told {
                    result: Err(failure),
                    log: String::new(),
                };
            }
        };
        let limit = Duration::from_secs(request.deadline_seconds);
        let mut answer = Answer::default();
        let heard = listen(&mut conversation, &mut answer, say);
        let in_time = tokio::time::timeout(limit, heard).await.is_ok();
        let (ended, log) = conversation.end().await;
        let ended = if in_time { ended } else { Ended::TimedOut };
        let log = request.masked(log);
        let result = judge(&plugin.name, hidden(answer, request), &ended, &log);
        Told { result, log }
    }

    /// Starts one call.
    pub(super) async fn begin(
        &self,
        plugin: &Plugin,
        request: &Request,
        mark: &str,
    ) -> Result<Conversation, Failure> {
        let name = &plugin.name;
        let mut environment = self
            .own(name)
            .map(|own| own.environment.clone())
            .unwrap_or_default();
        let protocol = ("HOLDFAST_PLUGIN_PROTOCOL".to_owned(), VERSION.to_string());
        environment.extend([protocol, (leftover::MARK.to_owned(), mark.to_owned())]);
        let program = Program {
            command: vec![plugin.path.to_string_lossy().into_owned()],
            environment,
            directory: None,
            user: self.user(name)?,
            timeout: Duration::from_secs(request.deadline_seconds),
        };
        let unwritable =
            |error| Failure::Permanent(format!("the request cannot be written: {error}"));
        let mut input = serde_json::to_string(request).map_err(unwritable)?;
        input.push('\n');
        Conversation::begin(
            &self.settings.launcher,
            program,
            input,
            (LIMITS, LOG_MAX_BYTES),
        )
        .await
        .map_err(|why| Failure::Retryable(format!("plugin {name} was not started: {why}")))
    }

    /// What tells the processes of one call from all others.
    pub(super) fn mark(&self, request: &Request) -> String {
        let number = CALLS.fetch_add(1, Ordering::Relaxed);
        let of = request
            .workload
            .as_ref()
            .map_or("", |workload| workload.service.as_str());
        let kind = if changes(request.operation) {
            "changes"
        } else {
            "asks"
        };
        format!(
            "{}/{of}/{kind}/{}-{number}/",
            self.agent,
            std::process::id()
        )
    }

    /// Ends what an agent that was killed left of its changes to a service.
    pub(super) fn end_leftovers(&self, service: &str) {
        leftover::end(&format!("{}/{service}/changes/", self.agent));
    }
}

/// Ends what a call left, also where its future was dropped.
pub(super) struct Leftovers(pub(super) String);

impl Drop for Leftovers {
    fn drop(&mut self) {
        leftover::end(&self.0);
    }
}

/// What came of a call, in words that hold no value that it was given. What is no line of the protocol was
/// cut before anybody could look for values in it.
fn hidden(answer: Answer, request: &Request) -> Answer {
    let given = !request.secrets.is_empty();
    let unread = |why: String| match given {
        true => "it wrote what is no line of the protocol, or too much".to_owned(),
        false => why,
    };
    Answer {
        error: answer.error.map(|error| request.masked(error)),
        broken: answer.broken.map(unread),
        ..answer
    }
}

const fn changes(operation: Operation) -> bool {
    match operation {
        Operation::Converge | Operation::Remove => true,
        Operation::Describe | Operation::Validate | Operation::Observe | Operation::Logs => false,
    }
}

/// A request that has no more to say than what it is about.
pub(super) fn request(operation: Operation, workload: Option<Workload>) -> Request {
    Request {
        protocol: VERSION,
        operation,
        deadline_seconds: deadline(operation).as_secs(),
        workload,
        state_directory: None,
        logs: None,
        secrets: BTreeMap::new(),
    }
}

async fn listen(
    conversation: &mut Conversation,
    answer: &mut Answer,
    say: &mut (dyn FnMut(Said) + Send),
) {
    let mut splitter = Splitter::default();
    while let Some(bytes) = conversation.read().await {
        match splitter.take(&bytes) {
            Ok(all) => all
                .into_iter()
                .filter_map(|said| answer.note(said))
                .for_each(&mut *say),
            Err(why) => {
                answer.broken = Some(why);
                return;
            }
        }
    }
    match splitter.finish() {
        Ok(last) => last
            .and_then(|said| answer.note(said))
            .into_iter()
            .for_each(say),
        Err(why) => answer.broken = Some(why),
    }
}

/// Reads a result.
pub(super) fn understood<T: DeserializeOwned>(name: &str, result: Value) -> Result<T, Failure> {
    // The line's own word is not a part of the result.
    serde_json::from_value(result).map_err(|error| {
        Failure::Retryable(format!(
            "plugin {name} gave a result that is not understood: {error}"
        ))
    })
}

fn described(said: &Description) -> Result<Schema, String> {
    if said.protocol != VERSION {
        return Err(format!(
            "it speaks version {} of the protocol, and this agent {VERSION}",
            said.protocol
        ));
    }
    Schema::parse(said.template.clone()).map_err(|why| format!("the schema of its template: {why}"))
}

impl Known {
    /// Time between two looks, in seconds.
    pub(super) fn interval_seconds(&self) -> u32 {
        let wanted = self
            .description
            .interval_seconds
            .unwrap_or(INTERVAL_SECONDS);
        wanted.clamp(INTERVAL_MIN_SECONDS, INTERVAL_MAX_SECONDS)
    }
}
