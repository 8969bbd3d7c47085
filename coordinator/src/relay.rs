//! The relay: files that the coordinator fetches from their homes for targets that cannot.
//!
//! ```text
//! DATA/relay/HEX         whole and verified      DATA/relay/HEX.part   on its way
//! ```
//! *Guarantees:* one fetch an artifact, however many targets ask; at most [`RELAYS_MAX`] at once; no
//! more bytes on disk than the operator allows, the oldest go first. What lies here can be fetched
//! again, so it is in no backup. A target is given bytes as they come and verifies the whole itself.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use holdfast_homes::download;
use holdfast_homes::partial::{digest_of_name, path_of};
use holdfast_homes::way::Homes;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::home::Home;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::world::login::Told;

/// Most fetches at once.
const RELAYS_MAX: usize = 8;
/// Questions that may wait for the relay.
const QUESTIONS_MAX: usize = 256;
/// Most fetches that wait for their turn.
const WAITING_MAX: usize = 1_024;

/// An artifact that is to be fetched.
#[derive(Debug, Clone)]
pub struct Errand {
    /// Which.
    pub artifact: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Where it stays.
    pub home: Home,
    /// What its home is told, if a manifest says so.
    pub told: Option<Told>,
}

/// How far one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes are here.
    Going(u64),
    /// All is here, and verified.
    Whole,
    /// It did not come.
    Failed(String),
}

/// For those who want something fetched.
#[derive(Debug, Clone)]
pub struct Relay {
    directory: PathBuf,
    questions: mpsc::Sender<Question>,
}

struct Question {
    errand: Errand,
    reply: oneshot::Sender<watch::Receiver<Progress>>,
}

/// The task that fetches.
pub struct Relayer {
    directory: PathBuf,
    homes: Arc<Homes>,
    most_bytes: u64,
    held: Gauge,
    questions: mpsc::Receiver<Question>,
    underway: BTreeMap<Digest, watch::Receiver<Progress>>,
    waiting: VecDeque<(Errand, watch::Sender<Progress>)>,
    fetches: JoinSet<Digest>,
}

/// A relay that keeps at most `most_bytes` in `directory`; `held` shows how much it is.
#[must_use]
pub fn relay(
    directory: PathBuf,
    homes: Arc<Homes>,
    most_bytes: u64,
    held: Gauge,
) -> (Relay, Relayer) {
    let (sender, questions) = mpsc::channel(QUESTIONS_MAX);
    let relay = Relay {
        directory: directory.clone(),
        questions: sender,
    };
    let relayer = Relayer {
        directory,
        homes,
        most_bytes,
        held,
        questions,
        underway: BTreeMap::new(),
        waiting: VecDeque::new(),
        fetches: JoinSet::new(),
    };
    (relay, relayer)
}

impl Relay {
    /// Has an artifact fetched, unless it is here or under way, and tells how far it is. Nothing
    /// where the coordinator stops or too much waits already.
    pub async fn fetch(&self, errand: Errand) -> Option<watch::Receiver<Progress>> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(Question { errand, reply }).await.ok()?;
        answer.await.ok()
    }

    /// The file, whole or as far as it is.
    ///
    /// # Errors
    /// What the file system said.
    pub async fn open(&self, artifact: Digest) -> io::Result<tokio::fs::File> {
        match tokio::fs::File::open(self.directory.join(artifact.hex())).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tokio::fs::File::open(path_of(&self.directory, artifact)).await
            }
            opened => opened,
        }
    }
}

impl Relayer {
    /// Fetches until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        self.tidy(None);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(question) = self.questions.recv() => self.answer(question),
                Some(ended) = self.fetches.join_next() => {
                    let ended = ended.ok();
                    self.underway.retain(|artifact, progress| {
                        Some(*artifact) != ended && progress.has_changed().is_ok()
                    });
                    self.tidy(ended);
                }
            }
            self.begin();
        }
    }

    fn answer(&mut self, question: Question) {
        let Question { errand, reply } = question;
        let progress = match self.underway.get(&errand.artifact) {
            Some(progress) => progress.clone(),
            None if self.directory.join(errand.artifact.hex()).exists() => {
                watch::channel(Progress::Whole).1
            }
            None if errand.size > self.most_bytes => {
                let most = self.most_bytes;
                let why = format!("the coordinator's relay keeps at most {most} bytes");
                watch::channel(Progress::Failed(why)).1
            }
            // Dropping the reply says that there is no room.
            None if self.waiting.len() >= WAITING_MAX => return,
            None => {
                let (told, progress) = watch::channel(Progress::Going(0));
                self.underway.insert(errand.artifact, progress.clone());
                self.waiting.push_back((errand, told));
                progress
            }
        };
        // Who has gone away needs no answer.
        drop(reply.send(progress));
    }

    fn begin(&mut self) {
        while self.fetches.len() < RELAYS_MAX
            && let Some((errand, told)) = self.waiting.pop_front()
        {
            let (homes, directory) = (Arc::clone(&self.homes), self.directory.clone());
            self.fetches.spawn(async move {
                let (artifact, home) = (errand.artifact, errand.home.plain());
                tracing::info!(%artifact, home, "relaying");
                let fetched = fetch(&homes, &directory, &errand, &told).await;
                if let Err(why) = &fetched {
                    tracing::warn!(%artifact, home, why, "not relayed");
                }
                told.send_replace(match fetched {
                    Ok(()) => Progress::Whole,
                    Err(why) => Progress::Failed(why),
                });
                artifact
            });
        }
    }

    /// Removes the oldest files until the rest is within the bound; `fresh` and what is on its way
    /// stay.
    fn tidy(&self, fresh: Option<Digest>) {
        let kept =
            |artifact: &Digest| fresh == Some(*artifact) || self.underway.contains_key(artifact);
        let mut files = files(&self.directory);
        let mut held: u64 = files.iter().map(|file| file.size).sum();
        files.sort_by_key(|file| file.modified);
        for file in files {
            if held <= self.most_bytes {
                break;
            }
            if !file.artifact.as_ref().is_some_and(kept) && std::fs::remove_file(&file.path).is_ok()
            {
                held = held.saturating_sub(file.size);
            }
        }
        self.held.set(crate::store::integer(held));
    }
}

async fn fetch(
    homes: &Homes,
    directory: &Path,
    errand: &Errand,
    told: &watch::Sender<Progress>,
) -> Result<(), String> {
    let way = homes.way().map_err(|error| crate::chain(&error))?;
    let going = |length| {
        told.send_replace(Progress::Going(length));
    };
    let wanted = (errand.artifact, errand.size);
    let told = errand.told.as_ref();
    let login = told
        .map(|told| told.open(errand.home.host()))
        .transpose()?
        .flatten();
    let from = (&errand.home, login.as_ref());
    let brought = download::bring(&way, from, directory, wanted, &going).await;
    brought.map_err(|error| crate::chain(&error))
}

struct Kept {
    path: PathBuf,
    artifact: Option<Digest>,
    size: u64,
    modified: SystemTime,
}

fn files(directory: &Path) -> Vec<Kept> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let file = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().ok()?;
        Some(Kept {
            path: entry.path(),
            artifact: digest_of_name(&entry.file_name().to_string_lossy()),
            size: metadata.len(),
            modified: metadata.modified().ok()?,
        })
    };
    entries.filter_map(file).collect()
}
