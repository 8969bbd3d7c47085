//! One adapter that stays open, as in an agent, spoken to from a test that waits for each answer.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use holdfast_adapters::conformance::Subject;
use holdfast_adapters::failure::Failure;
use holdfast_adapters::run::{Adapter, Live, LogRequest, Observed, Wanted};
use holdfast_protocol::name::ServiceName;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bench::{patiently, runtime};

/// An adapter, and the runtime that it lives on.
pub(crate) struct Driver {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) adapter: Arc<dyn Adapter>,
}

/// What an agent does at a time.
const ACTIONS_MAX: usize = 4;

impl Driver {
    pub(crate) fn new(subject: &dyn Subject) -> Self {
        Self::over(subject.open().unwrap())
    }

    pub(crate) fn over(adapter: Arc<dyn Adapter>) -> Self {
        Self {
            runtime: runtime(),
            adapter,
        }
    }

    pub(crate) fn try_converge(&self, wanted: &Wanted) -> Result<(), Failure> {
        let (progress, _told) = mpsc::channel(64);
        let cancel = CancellationToken::new();
        let work = self.adapter.converge(wanted, &progress, &cancel);
        self.runtime.block_on(work)
    }

    pub(crate) fn converge(&self, wanted: &Wanted) {
        self.try_converge(wanted).unwrap();
    }

    /// Converges many, as many of them at a time as an agent does.
    pub(crate) fn converge_all(&self, wanted: &[Wanted]) {
        let one = |wanted| async move {
            let (progress, _told) = mpsc::channel(64);
            let cancel = CancellationToken::new();
            self.adapter.converge(wanted, &progress, &cancel).await
        };
        let all = stream::iter(wanted).map(one).buffer_unordered(ACTIONS_MAX);
        let results: Vec<_> = self.runtime.block_on(all.collect());
        let failed: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        assert_eq!(failed.len(), 0, "{failed:?}");
    }

    /// The same for what is wanted no more.
    pub(crate) fn remove_all(&self, wanted: &[Wanted]) {
        let one = |wanted: &'_ Wanted| {
            let service = wanted.workload.service.clone();
            async move { self.adapter.remove(&service).await }
        };
        let all = stream::iter(wanted).map(one).buffer_unordered(ACTIONS_MAX);
        let results: Vec<_> = self.runtime.block_on(all.collect());
        let failed: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        assert_eq!(failed.len(), 0, "{failed:?}");
    }

    /// Why a workload is refused for good.
    pub(crate) fn refused(&self, wanted: &Wanted) -> String {
        match self.try_converge(wanted) {
            Err(Failure::Permanent(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn try_observe(&self) -> Result<Vec<Observed>, Failure> {
        self.runtime.block_on(self.adapter.observe())
    }

    pub(crate) fn observe(&self, service: &str) -> Option<Observed> {
        let all = self.try_observe().unwrap();
        all.into_iter()
            .find(|seen| seen.service.as_str() == service)
    }

    pub(crate) fn live(&self, service: &str) -> Live {
        self.observe(service).unwrap().live
    }

    /// What differs, of a service that somebody changed.
    pub(crate) fn altered(&self, service: &str) -> String {
        match self.live(service) {
            Live::Altered { what } => what,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn runs(&self, service: &str) -> bool {
        let seen = self.observe(service);
        seen.is_some_and(|seen| matches!(seen.live, Live::Running { .. }))
    }

    pub(crate) fn await_running(&self, service: &str) {
        let runs = || matches!(self.live(service), Live::Running { .. });
        patiently(&format!("{service} runs"), runs);
    }

    /// What differs, of a service that somebody changes.
    pub(crate) fn await_altered(&self, service: &str) -> String {
        let altered = || match self.live(service) {
            Live::Altered { what } => Some(what),
            Live::Running { .. } | Live::Unready { .. } | Live::Ended { .. } => None,
        };
        patiently("it is seen as changed", || altered().is_some());
        altered().unwrap()
    }

    pub(crate) fn remove(&self, service: &str) {
        let service = ServiceName::parse(service).unwrap();
        let removed = self.runtime.block_on(self.adapter.remove(&service));
        removed.unwrap();
    }

    pub(crate) fn lines(&self, service: &str, request: LogRequest) -> Vec<String> {
        let service = ServiceName::parse(service).unwrap();
        self.runtime.block_on(async {
            let mut lines = self.adapter.logs(&service, request).await.unwrap();
            let mut all = Vec::new();
            while let Some(line) = lines.recv().await {
                all.push(line.text);
            }
            all
        })
    }
}
