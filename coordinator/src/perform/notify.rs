//! Tells the world outside what the history recorded.
//!
//! *Expected flow:* whenever the history grows, the driver is asked for the oldest notice of every
//! notifier that is not busy; each is delivered by a task of its own, tried up to [`TRIES_MAX`] times
//! with growing pauses, and brought back as [`Event::Told`]. *Guarantees:* one notifier's messages
//! go out one after the other, in order; a message has the same number at every try, also after a
//! restart. Addresses and keys are in no log and in no event.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_certs::vault::Plain;
use holdfast_engine::compiled::notifier::{Channel, Notifier, Sealable};
use holdfast_protocol::name::{EnvironmentName, NotifierName, SecretName};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use serde_json::Value;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::check::Outside;
use super::egress::{Purpose, read};
use super::message;
use crate::clock;
use crate::driver::Handle;
use crate::event::Event;
use crate::world::notice::Due;

/// Tries of one message.
pub const TRIES_MAX: u32 = 5;
/// Notifiers that tell something at once.
const AT_ONCE_MAX: usize = 16;
/// Time that one try may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// The span over which the second try is spread; four times as long for each that follows.
const PAUSE: Duration = Duration::from_secs(1);
/// The least pause between two tries.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause that a receiver can ask for.
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);
/// Bytes of a refusal that are shown.
const SHOWN_MAX_BYTES: usize = 200;
/// Largest file that holds an address or a key, in bytes.
const SECRET_MAX_BYTES: u64 = 4 * 1024;

/// Delivers notices until it is stopped.
#[derive(Debug)]
pub struct Deliverer {
    driver: Handle,
    post: Arc<Post>,
    busy: BTreeSet<NotifierName>,
    on_their_way: HashMap<Id, Due>,
    tasks: JoinSet<Result<(), String>>,
}

/// What messages are sent with.
#[derive(Debug)]
struct Post {
    driver: Handle,
    outside: Arc<Outside>,
    /// Where the files that notifiers name are.
    secrets: PathBuf,
    /// The installation's URI.
    source: String,
}

/// Why one try failed.
struct Failed {
    why: String,
    /// The receiver asks for a pause.
    pause: Option<Duration>,
    /// Whether only a person can mend it.
    lasting: bool,
}

impl Deliverer {
    /// Tells what `driver` has to tell. `secrets` is the directory of the files that notifiers name,
    /// `source` the installation's URI.
    #[must_use]
    pub fn new(driver: Handle, outside: Arc<Outside>, secrets: PathBuf, source: String) -> Self {
        let post = Post {
            driver: driver.clone(),
            outside,
            secrets,
            source,
        };
        Self {
            driver,
            post: Arc::new(post),
            busy: BTreeSet::new(),
            on_their_way: HashMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Runs until `stop` is cancelled; what is under way then is told after the next start.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut head = self.driver.head();
        loop {
            head.mark_unchanged();
            if self.begin().await.is_none() {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                grown = head.changed() => if grown.is_err() {
                    return;
                },
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended).await,
            }
        }
    }

    /// Begins all that can; none while the coordinator stops.
    async fn begin(&mut self) -> Option<()> {
        let room = AT_ONCE_MAX.saturating_sub(self.tasks.len());
        if room == 0 {
            return Some(());
        }
        let busy = self.busy.clone();
        let due = self.driver.ask(move |world| world.notices_due(&busy, room));
        for due in due.await.ok()? {
            self.busy.insert(due.name.clone());
            let post = Arc::clone(&self.post);
            let task = self.tasks.spawn(deliver(post, due.clone()));
            self.on_their_way.insert(task.id(), due);
        }
        Some(())
    }

    async fn ended(&mut self, ended: Result<(Id, Result<(), String>), JoinError>) {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => (
                error.id(),
                Err("it failed inside; please report this".to_owned()),
            ),
        };
        let Some(due) = self.on_their_way.remove(&id) else {
            return;
        };
        let told = |reply| Event::Told {
            notifier: due.name.clone(),
            sequence: due.event.sequence,
            outcome,
            reply,
        };
        // While the coordinator stops nobody is told: it is delivered again after the next start.
        drop(self.driver.request(told).await);
        self.busy.remove(&due.name);
    }
}

async fn deliver(post: Arc<Post>, due: Due) -> Result<(), String> {
    let Some(notifier) = &due.notifier else {
        tracing::debug!(notifier = %due.name, "declared no more; its messages are dropped");
        return Ok(());
    };
    let mut tries = 1;
    loop {
        let failed = match attempt(&post, notifier, &due).await {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        if failed.lasting {
            return Err(failed.why);
        }
        if tries == TRIES_MAX {
            return Err(format!("{} ({TRIES_MAX} tries)", failed.why));
        }
        tracing::debug!(notifier = %due.name, why = failed.why, tries, "a try failed");
        tokio::time::sleep(failed.pause.unwrap_or_else(|| pause(tries))).await;
        tries += 1;
    }
}

/// A random pause over a span that grows with each try.
fn pause(tries: u32) -> Duration {
    let span = (PAUSE * 4_u32.saturating_pow(tries - 1)).min(PAUSE_MAX);
    PAUSE_MIN + span.mul_f64(rand::random())
}

async fn attempt(post: &Post, notifier: &Notifier, due: &Due) -> Result<(), Failed> {
    let trying = async {
        let opened = opened(post, notifier).await.map_err(Failed::because)?;
        let (url, body, headers) =
            letter((post, &opened), notifier, due).map_err(Failed::for_good)?;
        let egress = &post.outside.egress;
        let url = egress.admit(Purpose::Notice, &url).await;
        let request = egress
            .client(Purpose::Notice)
            .post(url.map_err(Failed::for_good)?);
        let sent = request.headers(headers).body(body).send().await;
        let response = sent.map_err(|error| Failed::because(egress.said(error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let pause = response.headers().get(RETRY_AFTER);
        let pause = pause.and_then(|value| value.to_str().ok()?.parse().ok());
        let said = holdfast_confine::output::plain(&read(response, SHOWN_MAX_BYTES).await);
        Err(Failed {
            why: format!("{status} {said}").trim_end().to_owned(),
            pause: pause.map(|seconds| Duration::from_secs(seconds).min(PAUSE_MAX)),
            lasting: false,
        })
    };
    tokio::time::timeout(TRY_TIMEOUT, trying)
        .await
        .unwrap_or_else(|_| Err(Failed::because(super::check::no_answer(TRY_TIMEOUT))))
}

/// Where to, what, and under which headers.
fn letter(
    (post, opened): (&Post, &Opened),
    notifier: &Notifier,
    due: &Due,
) -> Result<(String, String, HeaderMap), String> {
    let (url, body, media) = match &notifier.channel {
        Channel::Webhook { url, .. } => {
            let body = message::cloud_event(&post.source, &due.event);
            (url, body, message::CLOUD_EVENT)
        }
        Channel::Slack { url } => (url, message::slack(&due.event), message::JSON),
        Channel::Teams { url } => (url, message::teams(&due.event), message::JSON),
    };
    let body = Value::to_string(&body);
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media))]);
    if let Channel::Webhook { key, .. } = &notifier.channel {
        let key = key.as_ref().map(|key| reveal((post, opened), key));
        sign(key.transpose()?.as_deref(), due, &body, &mut headers)?;
    }
    Ok((reveal((post, opened), url)?, body, headers))
}

/// Standard Webhooks 1.0: number and time of a message always, the signature where there is a key.
fn sign(key: Option<&str>, due: &Due, body: &str, headers: &mut HeaderMap) -> Result<(), String> {
    let (id, now) = (message::id(&due.name, &due.event), clock::now());
    let mut set = |name: &'static str, value: &str| {
        let value = HeaderValue::from_str(value).map_err(|error| error.to_string())?;
        headers.insert(name, value);
        Ok::<_, String>(())
    };
    set("webhook-id", &id)?;
    set("webhook-timestamp", &message::seconds(now).to_string())?;
    if let Some(key) = key {
        set(
            "webhook-signature",
            &message::signature(key, &id, now, body)?,
        )?;
    }
    Ok(())
}

/// Values of the secrets that one notifier names; why not, in words, where there is none.
type Opened = BTreeMap<(EnvironmentName, SecretName), Result<Plain, String>>;

/// The secrets of a notifier, in the clear for one try.
async fn opened(post: &Post, notifier: &Notifier) -> Result<Opened, String> {
    let mut opened = Opened::new();
    for text in notifier.channel.confidential() {
        if let Sealable::Secret(environment, name) = text {
            let which = (environment.clone(), name.clone());
            let asked = which.clone();
            let value = post
                .driver
                .ask(move |world| world.newest_value(&asked.0, &asked.1));
            let stops = |_| "the coordinator stops".to_owned();
            opened.insert(which, value.await.map_err(stops)?);
        }
    }
    Ok(opened)
}

/// The text itself, from its file or its secret where it is one.
fn reveal((post, opened): (&Post, &Opened), text: &Sealable) -> Result<String, String> {
    let secrets = &post.secrets;
    match text {
        Sealable::Plain(text) => Ok(text.clone()),
        Sealable::Secret(environment, name) => {
            let value = opened.get(&(environment.clone(), name.clone()));
            let value = value.ok_or("nobody looked for it")?.as_ref();
            let text = value.map_err(Clone::clone)?.bytes().to_vec();
            let text = String::from_utf8(text);
            text.map(|text| text.trim().to_owned())
                .map_err(|_| format!("secret {name} of {environment} is no text"))
        }
        Sealable::File(name) => {
            let path = secrets.join(name);
            let shown = path.display();
            let read = read_secret(secrets, name);
            read.map_err(|why| format!("the file {shown} on the coordinator {why}"))
        }
    }
}

fn read_secret(secrets: &Path, name: &str) -> Result<String, String> {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_name) {
        return Err("has no name of letters, digits, '.', '-' and '_'".to_owned());
    }
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let file = std::fs::File::open(secrets.join(name)).map_err(cannot)?;
    let mode = file.metadata().map_err(cannot)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err("is open to everybody on that machine; chmod 600 it".to_owned());
    }
    let mut text = String::new();
    file.take(SECRET_MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(cannot)?;
    Ok(text.trim().to_owned())
}

impl Failed {
    const fn because(why: String) -> Self {
        Self {
            why,
            pause: None,
            lasting: false,
        }
    }

    const fn for_good(why: String) -> Self {
        Self {
            why,
            pause: None,
            lasting: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_read_only_from_its_directory_and_only_where_it_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, mode| {
            let path = folder.path().join(name);
            std::fs::write(&path, "https://example.com/T1\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("chat", 0o640);
        write("open", 0o644);
        let read = |name: &str| read_secret(folder.path(), name);
        assert_eq!(read("chat").unwrap(), "https://example.com/T1");
        assert!(read("open").unwrap_err().contains("chmod 600"));
        assert!(read("none").unwrap_err().contains("cannot be read"));
        for bad in ["../chat", "/etc/passwd", ".chat", ""] {
            assert!(read(bad).unwrap_err().contains("no name"), "{bad}");
        }
    }

    #[test]
    fn pauses_grow_and_are_spread() {
        for tries in 1..TRIES_MAX {
            let most = PAUSE_MIN + PAUSE * 4_u32.pow(tries - 1);
            assert!((0..100).all(|_| (PAUSE_MIN..=most).contains(&pause(tries))));
        }
    }
}
