//! Takes a service's objects away: all that were made for it, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use holdfast_protocol::name::ServiceName;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::adapter::Inner;
use super::check;
use super::cluster::{Cluster, Place};
use super::converge::LOOK;
use super::kind::Kind;
use super::object::Name;
use super::order::rank;
use super::record::{self, AGENT_LABEL, Entry, SERVICE_LABEL};
use super::refusal::ClusterError;
use crate::clock;
use crate::failure::Failure;

/// How long one object may take to go: less than any removal may.
const GONE_MAX: Duration = Duration::from_secs(4 * 60);

impl Inner {
    pub(super) async fn remove(
        self: &Arc<Self>,
        service: &ServiceName,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        let cluster = match self.cluster().await {
            Ok(cluster) => cluster,
            // Where no cluster was ever named nothing was made.
            Err(ClusterError::Unnamed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if let Some(mut set) = self.read_record(&cluster, service).await? {
            set.objects
                .sort_by_key(|entry| std::cmp::Reverse(rank(&entry.name.kind)));
            for entry in &set.objects {
                self.delete(&cluster, service, entry, cancel).await?;
            }
            let place = self.record_place(&cluster, service);
            if let Some(found) = cluster.get(&place).await?
                && let Some(uid) = found.pointer("/metadata/uid").and_then(Value::as_str)
            {
                cluster.delete(&place, uid).await?;
            }
        }
        self.forget_record(service);
        self.watch.stir();
        Ok(())
    }

    /// Deletes one object, where it is there and was made for the service, and waits until it is gone.
    pub(super) async fn delete(
        &self,
        cluster: &Cluster,
        service: &ServiceName,
        entry: &Entry,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        let Some(kind) = cluster.kind(&entry.name).await? else {
            // With its kind, all objects of it went.
            return Ok(());
        };
        let place = Place {
            kind,
            name: entry.name.clone(),
        };
        let Some(live) = cluster.get(&place).await? else {
            self.watch.forget(&place.name);
            return Ok(());
        };
        let Some(uid) = live.pointer("/metadata/uid").and_then(Value::as_str) else {
            return Ok(());
        };
        if !self.made(service, entry, &live) {
            tracing::info!(object = %place.name, "an object that others made anew is left");
            return Ok(());
        }
        check::holds_nothing_of_others(cluster, &place, &live, &self.agent, service).await?;
        cluster.delete(&place, uid).await?;
        self.await_gone(cluster, &place, uid, cancel).await
    }

    /// Whether an object was made for a service: by its id, or by its labels.
    fn made(&self, service: &ServiceName, entry: &Entry, live: &Value) -> bool {
        let uid = live.pointer("/metadata/uid").and_then(Value::as_str);
        let label = |key: &str| live.pointer("/metadata/labels")?.get(key)?.as_str();
        let by_id = entry
            .left
            .as_ref()
            .is_some_and(|left| Some(left.uid.as_str()) == uid);
        let by_labels = label(AGENT_LABEL) == Some(self.agent.as_str())
            && label(SERVICE_LABEL) == Some(service.as_str());
        by_id || by_labels
    }

    pub(super) async fn await_gone(
        &self,
        cluster: &Cluster,
        place: &Place,
        uid: &str,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        let begun = clock::monotonic();
        loop {
            let found = cluster.get(place).await?;
            let found = found
                .as_ref()
                .and_then(|live| live.pointer("/metadata/uid"));
            if found.and_then(Value::as_str) != Some(uid) {
                self.watch.forget(&place.name);
                return Ok(());
            }
            if clock::monotonic().saturating_sub(begun) > GONE_MAX {
                return Err(Failure::Retryable(format!(
                    "{} is being deleted for more than {} minutes; something holds it by a finalizer",
                    place.name,
                    GONE_MAX.as_secs() / 60
                )));
            }
            tokio::select! {
                () = cancel.cancelled() => return Err(Failure::Cancelled),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Where the record of a service is.
    pub(super) fn record_place(&self, cluster: &Cluster, service: &ServiceName) -> Place {
        Place {
            kind: Kind::secret(),
            name: Name {
                api: "v1".to_owned(),
                kind: "Secret".to_owned(),
                namespace: Some(cluster.home.clone()),
                name: record::name(&self.agent, service),
            },
        }
    }
}
