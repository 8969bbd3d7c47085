//! What workloads wrote during deployments that are over: a bounded end of it, on this target's disk.
//!
//! *Expected flow*: before a service is brought to another body, or removed, the end of what it wrote is
//! read from its runtime once and put into a file; that costs nothing while it runs. *Guarantees*: at
//! most [`KEPT_MAX_BYTES`] a deployment, [`DEPLOYMENTS_MAX`] deployments a service, [`TOTAL_MAX_BYTES`]
//! in all, the oldest go first; nothing that fails here stops what is converged; no value of a secret that the
//! workload was given is written down. *Assumptions*: what a
//! workload writes while it is being stopped is its runtime's to keep.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_adapters::run::{Adapter, LogRequest};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{ServiceName, Version};
use holdfast_protocol::secret::SecretRef;
use holdfast_protocol::stream::{LOG_TAIL_MAX_LINES, LogLine};
use holdfast_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cache::record;
use crate::desired::Intent;
use crate::secrets::Secrets;
use crate::veil::Veil;

/// Output that is kept of one deployment, in bytes.
pub const KEPT_MAX_BYTES: usize = 256 << 10;
/// Deployments of one service that are kept, the one that runs among them.
pub const DEPLOYMENTS_MAX: usize = 5;
/// Output that is kept of all services, in bytes.
pub const TOTAL_MAX_BYTES: u64 = 64 << 20;
/// Time that a runtime has to give a workload's output before it is changed.
const READ_LIMIT: Duration = Duration::from_secs(3);

/// The directory of it all. Whoever acts on a service is the only one who writes of it.
#[derive(Debug, Clone)]
pub struct Outputs {
    root: PathBuf,
    secrets: Secrets,
}

/// One deployment of one service, as far as this target is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Digest of the body.
    pub body: Digest,
    /// The release.
    pub version: Version,
    /// Digest of its configuration.
    pub configuration: Digest,
    /// When it was begun.
    pub from: Timestamp,
    /// When the next one was begun, or the service was removed; none while it runs.
    pub until: Option<Timestamp>,
    /// The secrets that it was given.
    #[serde(default)]
    pub secrets: BTreeSet<SecretRef>,
}

impl Outputs {
    /// Keeps output below `root`, which need not exist; `secrets` has the values that are not to be in it.
    #[must_use]
    pub const fn new(root: PathBuf, secrets: Secrets) -> Self {
        Self { root, secrets }
    }

    /// What is not to be seen of what a service writes: the values that it was given in any deployment
    /// that is kept here, as far as they are still here.
    #[must_use]
    pub fn veil(&self, service: &ServiceName) -> Veil {
        let given = self
            .index(service)
            .into_iter()
            .flat_map(|kept| kept.secrets);
        let given: BTreeSet<_> = given.collect();
        Veil::over(given.iter().filter_map(|one| self.secrets.value(one).ok()))
    }

    /// Reads the end of what the newest deployment wrote, while its runtime still has it.
    pub async fn keep(&self, adapter: &dyn Adapter, service: &ServiceName) {
        let Some(current) = self
            .index(service)
            .pop()
            .filter(|kept| kept.until.is_none())
        else {
            return;
        };
        let all = self.present(adapter, service, &current).await;
        if all.is_empty() {
            return;
        }
        let (outputs, service) = (self.clone(), service.clone());
        // A disk may take its time, and the agent has one thread for all that goes on beside.
        let put = move || outputs.put(&service, current.body, &all);
        // Cut off only where the agent ends.
        drop(tokio::task::spawn_blocking(put).await);
    }

    fn put(&self, service: &ServiceName, body: Digest, lines: &[LogLine]) {
        if let Err(error) = write(&self.file(service, body), lines) {
            tracing::warn!(%service, %error, "its output could not be kept");
        }
        self.sweep();
    }

    /// What was written so far during a deployment that still runs: what is kept, and what its runtime has.
    /// Changes nothing.
    pub async fn present(
        &self,
        adapter: &dyn Adapter,
        service: &ServiceName,
        current: &Kept,
    ) -> Vec<LogLine> {
        let veil = self.veil(service);
        let written = written(adapter, service, current.from, &veil);
        let reading = tokio::time::timeout(READ_LIMIT, written);
        let fresh = reading.await.unwrap_or_else(|_| {
            tracing::debug!(%service, "its runtime does not give its output in time");
            Vec::new()
        });
        united(self.lines(service, current), fresh)
    }

    /// A service is being brought to a body: what is written from now on belongs to it.
    pub fn begin(&self, intent: &Intent, now: Timestamp) {
        let service = &intent.workload.service;
        let mut index = self.index(service);
        if index
            .last()
            .is_some_and(|kept| kept.body == intent.body && kept.until.is_none())
        {
            return;
        }
        close(&mut index, now);
        // The same body again continues what it wrote before.
        index.retain(|kept| kept.body != intent.body);
        index.push(Kept {
            body: intent.body,
            version: intent.workload.version.clone(),
            configuration: intent.workload.configuration,
            from: now,
            until: None,
            secrets: intent.secrets.clone(),
        });
        let excess = index.len().saturating_sub(DEPLOYMENTS_MAX);
        for kept in index.drain(..excess) {
            let _ = fs::remove_file(self.file(service, kept.body));
        }
        self.write_index(service, &index);
    }

    /// A service is being removed.
    pub fn end(&self, service: &ServiceName, now: Timestamp) {
        let mut index = self.index(service);
        if index.last().is_some_and(|kept| kept.until.is_none()) {
            close(&mut index, now);
            self.write_index(service, &index);
        }
    }

    /// The newest deployment of a release with a configuration, if any is kept.
    #[must_use]
    pub fn find(
        &self,
        service: &ServiceName,
        version: &Version,
        configuration: Digest,
    ) -> Option<Kept> {
        let mut all = self.index(service).into_iter().rev();
        all.find(|kept| kept.version == *version && kept.configuration == configuration)
    }

    /// What is kept of a deployment, oldest line first.
    #[must_use]
    pub fn lines(&self, service: &ServiceName, kept: &Kept) -> Vec<LogLine> {
        read(&self.file(service, kept.body))
    }

    fn index(&self, service: &ServiceName) -> Vec<Kept> {
        let bytes = fs::read(self.directory(service).join(INDEX)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    fn write_index(&self, service: &ServiceName, index: &[Kept]) {
        let directory = self.directory(service);
        let bytes = serde_json::to_vec(index).expect("an index is plain data");
        let written = make_directory(&directory)
            .map_err(|error| error.to_string())
            .and_then(|()| {
                record::replace_raw(&directory.join(INDEX), &bytes).map_err(|e| crate::chain(&e))
            });
        if let Err(error) = written {
            tracing::warn!(%service, error, "what it writes is not kept");
        }
    }

    /// Removes the oldest files until all fit.
    fn sweep(&self) {
        let mut files = files(&self.root);
        let mut total: u64 = files.iter().map(|(_, _, bytes)| bytes).sum();
        files.sort();
        for (_, path, bytes) in files {
            if total <= TOTAL_MAX_BYTES {
                return;
            }
            if fs::remove_file(&path).is_ok() {
                total = total.saturating_sub(bytes);
            }
        }
    }

    fn directory(&self, service: &ServiceName) -> PathBuf {
        self.root.join(service.as_str())
    }

    fn file(&self, service: &ServiceName, body: Digest) -> PathBuf {
        self.directory(service).join(format!("{}.log", body.hex()))
    }
}

const INDEX: &str = "index.json";

fn close(index: &mut [Kept], now: Timestamp) {
    for kept in index.iter_mut().filter(|kept| kept.until.is_none()) {
        kept.until = Some(now);
    }
}

/// What a workload wrote since a time, as far as its runtime has it.
async fn written(
    adapter: &dyn Adapter,
    service: &ServiceName,
    since: Timestamp,
    veil: &Veil,
) -> Vec<LogLine> {
    let request = LogRequest {
        since: Some(since),
        tail: LOG_TAIL_MAX_LINES as usize,
        follow: false,
    };
    // Not everything has output, and what has none leaves nothing.
    let Ok(mut receiver) = adapter.logs(service, request).await else {
        return Vec::new();
    };
    let mut lines = VecDeque::new();
    let mut bytes = 0;
    while let Some(line) = receiver.recv().await {
        let line = veil.cover(line);
        bytes += cost(&line);
        lines.push_back(line);
        while bytes > KEPT_MAX_BYTES
            && let Some(oldest) = lines.pop_front()
        {
            bytes -= cost(&oldest);
        }
    }
    lines.into()
}

/// What was kept before, and what its runtime has now: where a container was made again, that begins
/// later; elsewhere it holds what was kept.
fn united(before: Vec<LogLine>, fresh: Vec<LogLine>) -> Vec<LogLine> {
    let Some(oldest) = fresh.first() else {
        return before;
    };
    let Some(first) = oldest.at else {
        return fresh;
    };
    let earlier = before
        .into_iter()
        .filter(|line| line.at.is_some_and(|at| at < first));
    let mut all: VecDeque<LogLine> = earlier.chain(fresh).collect();
    let mut bytes: usize = all.iter().map(cost).sum();
    while bytes > KEPT_MAX_BYTES
        && let Some(oldest) = all.pop_front()
    {
        bytes -= cost(&oldest);
    }
    all.into()
}

/// What a line takes in its file, in bytes.
fn cost(line: &LogLine) -> usize {
    line.text.len() + TIME_BYTES
}

/// A time in milliseconds, a space, and the end of the line.
const TIME_BYTES: usize = 15;

fn write(path: &Path, lines: &[LogLine]) -> io::Result<()> {
    let mut text = String::new();
    for line in lines {
        let at = line
            .at
            .map_or_else(|| "-".to_owned(), |at| at.as_millis().to_string());
        text.extend([at.as_str(), " ", &line.text.replace('\n', " "), "\n"]);
    }
    record::replace_raw(path, text.as_bytes()).map_err(io::Error::other)
}

fn read(path: &Path) -> Vec<LogLine> {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = |line: &str| {
        let (at, text) = line.split_once(' ')?;
        Some(LogLine {
            at: at.parse().ok().map(Timestamp::from_millis),
            text: text.to_owned(),
        })
    };
    text.lines().filter_map(line).collect()
}

/// The directory is the agent's alone: who may read a workload's output is not for it to decide.
fn make_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Every file of output: when it was written, where it is, how long it is.
fn files(root: &Path) -> Vec<(std::time::SystemTime, PathBuf, u64)> {
    let inside = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
    let of_service = |entry: fs::DirEntry| inside(entry.path());
    let all = inside(root.to_owned()).flat_map(of_service);
    let logs = all.filter(|entry| entry.path().extension().is_some_and(|end| end == "log"));
    let each = |entry: fs::DirEntry| {
        let found = entry.metadata().ok()?;
        Some((found.modified().ok()?, entry.path(), found.len()))
    };
    logs.filter_map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::BoxFuture;
    use holdfast_adapters::failure::Failure;
    use holdfast_adapters::run::{Observed, Wanted};
    use holdfast_certs::seal::{Owner, SealingKey};
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    /// A runtime that has these lines and nothing else.
    struct Lines(Vec<(u64, String)>);

    impl Adapter for Lines {
        fn runtime(&self) -> &'static str {
            "lines"
        }
        fn observe(&self) -> BoxFuture<'_, Result<Vec<Observed>, Failure>> {
            Box::pin(async { Ok(Vec::new()) })
        }
        fn converge<'a>(
            &'a self,
            _: &'a Wanted,
            _: &'a mpsc::Sender<String>,
            _: &'a CancellationToken,
        ) -> BoxFuture<'a, Result<(), Failure>> {
            Box::pin(async { Ok(()) })
        }
        fn remove<'a>(&'a self, _: &'a ServiceName) -> BoxFuture<'a, Result<(), Failure>> {
            Box::pin(async { Ok(()) })
        }
        fn changes(&self) -> mpsc::Receiver<ServiceName> {
            mpsc::channel(1).1
        }
        fn logs<'a>(
            &'a self,
            _: &'a ServiceName,
            request: LogRequest,
        ) -> BoxFuture<'a, Result<mpsc::Receiver<LogLine>, Failure>> {
            let since = request.since.unwrap_or_default();
            let lines = self
                .0
                .iter()
                .filter(move |(at, _)| Timestamp::from_millis(*at) >= since);
            let (sender, receiver) = mpsc::channel(self.0.len().max(1));
            for (at, text) in lines {
                let at = Some(Timestamp::from_millis(*at));
                let text = text.clone();
                sender.try_send(LogLine { at, text }).unwrap();
            }
            Box::pin(async { Ok(receiver) })
        }
    }

    fn lines(texts: &[(u64, &str)]) -> Lines {
        Lines(
            texts
                .iter()
                .map(|(at, text)| (*at, (*text).to_owned()))
                .collect(),
        )
    }

    fn intent(release: u32) -> Intent {
        let (body, bytes) = crate::fixture::workload("web", &release.to_string()).seal();
        let intent = Intent::open(&bytes).unwrap();
        assert_eq!(intent.body, body);
        intent
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn texts(outputs: &Outputs, release: u32) -> Vec<String> {
        let intent = intent(release);
        let workload = &intent.workload;
        let kept = outputs.find(&workload.service, &workload.version, workload.configuration);
        let lines = kept.map(|kept| outputs.lines(&workload.service, &kept));
        lines
            .unwrap_or_default()
            .into_iter()
            .map(|line| line.text)
            .collect()
    }

    fn outputs(home: &Path) -> (Outputs, Secrets) {
        let key = SealingKey::generate().unwrap();
        let secrets = Secrets::open(&home.join("secrets"), key, owner()).unwrap();
        (Outputs::new(home.join("output"), secrets.clone()), secrets)
    }

    fn owner() -> Owner {
        Owner {
            environment: "staging".parse().unwrap(),
            target: "web-1".parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn what_is_kept_holds_no_value_of_a_secret_that_was_given_now_or_before() {
        let home = tempfile::tempdir().unwrap();
        let (outputs, secrets) = outputs(home.path());
        let service = intent(1).workload.service;
        let given = |version| SecretRef {
            name: "password".parse().unwrap(),
            version,
        };
        for (version, value) in [(1, "hunter2-then"), (2, "hunter3-now")] {
            let sealed = secrets
                .public()
                .seal(&owner(), &given(version), value.as_bytes());
            secrets.keep(&given(version), &sealed.unwrap()).unwrap();
            let mut intent = intent(u32::try_from(version).unwrap());
            intent.secrets = [given(version)].into();
            outputs.begin(&intent, at(version * 10));
        }
        let said = lines(&[(20, "PASSWORD=hunter3-now"), (30, "was hunter2-then")]);
        outputs.keep(&said, &service).await;
        assert_eq!(texts(&outputs, 2), ["PASSWORD=[secret]", "was [secret]"]);
    }

    #[tokio::test]
    async fn each_deployment_keeps_its_own_end_and_the_oldest_goes() {
        let home = tempfile::tempdir().unwrap();
        let (outputs, _) = outputs(home.path());
        let service = intent(1).workload.service;
        let all = lines(&[(10, "one"), (20, "two"), (30, "three")]);
        for release in 1..=3 {
            outputs.begin(&intent(release), at(u64::from(release) * 10));
            let runtime = Lines(all.0[..release as usize].to_vec());
            outputs.keep(&runtime, &service).await;
        }
        assert_eq!(texts(&outputs, 1), ["one"]);
        assert_eq!(texts(&outputs, 3), ["three"]);
        outputs.end(&service, at(40));
        // Nobody writes any more.
        outputs.keep(&lines(&[(50, "foreign")]), &service).await;
        assert_eq!(texts(&outputs, 3), ["three"]);
        for release in 4..8 {
            outputs.begin(&intent(release), at(50));
        }
        assert_eq!(texts(&outputs, 2), [""; 0]);
        assert_eq!(texts(&outputs, 3), ["three"]);
        assert_eq!(
            fs::read_dir(home.path().join("output/web"))
                .unwrap()
                .count(),
            2
        );
    }

    #[tokio::test]
    async fn what_was_kept_of_a_container_that_was_made_again_stays_and_is_bounded() {
        let home = tempfile::tempdir().unwrap();
        let (outputs, _) = outputs(home.path());
        let service = intent(1).workload.service;
        outputs.begin(&intent(1), at(0));
        outputs.keep(&lines(&[(1, "a"), (2, "b")]), &service).await;
        outputs.begin(&intent(1), at(3));
        outputs.keep(&lines(&[(2, "b"), (4, "c")]), &service).await;
        outputs.keep(&lines(&[]), &service).await;
        assert_eq!(texts(&outputs, 1), ["a", "b", "c"]);
        let long = Lines((5..1000).map(|n| (n, "x".repeat(1000))).collect());
        outputs.keep(&long, &service).await;
        let kept: usize = texts(&outputs, 1).iter().map(String::len).sum();
        assert!(
            (KEPT_MAX_BYTES / 2..=KEPT_MAX_BYTES).contains(&kept),
            "{kept}"
        );
    }
}
