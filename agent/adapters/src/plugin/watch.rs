//! Plugins tell nothing by themselves: they are asked again, those that want it more often than the
//! driver looks anyway.

use std::sync::{Arc, Weak};
use std::time::Duration;

use holdfast_protocol::name::ServiceName;
use tokio::sync::mpsc;

use super::adapter::Inner;
use super::message::INTERVAL_SECONDS;

/// Announcements that may wait.
const WAITING_MAX: usize = 16;

/// Services to look at again. Where there is no runtime to wait in, the driver's own looks are all.
pub(super) fn follow(inner: &Arc<Inner>) -> mpsc::Receiver<ServiceName> {
    let (send, receive) = mpsc::channel(WAITING_MAX);
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(announce(Arc::downgrade(inner), send));
    }
    receive
}

async fn announce(inner: Weak<Inner>, send: mpsc::Sender<ServiceName>) {
    while let Some(strong) = inner.upgrade() {
        let due = often(&strong);
        let stirred = async {
            strong.stirred.notified().await;
        };
        let pause = due.as_ref().map(|(_, interval)| *interval);
        tokio::select! {
            () = send.closed() => return,
            () = stirred => continue,
            () = pause_for(pause) => {}
        }
        drop(strong);
        // Every announcement makes the driver look at all of them: one is enough.
        if let Some((service, _)) = due {
            drop(send.try_send(service));
        }
    }
}

async fn pause_for(interval: Option<Duration>) {
    match interval {
        Some(interval) => tokio::time::sleep(interval).await,
        None => std::future::pending().await,
    }
}

/// The service that wants to be looked at most often, if that is more often than the driver does.
fn often(inner: &Inner) -> Option<(ServiceName, Duration)> {
    let records = inner.records().unwrap_or_default();
    let often = records
        .into_iter()
        .map(|(service, record)| (service, record.interval_seconds));
    let (service, seconds) = often.min_by_key(|(_, seconds)| *seconds)?;
    let interval = Duration::from_secs(seconds.into());
    (seconds < INTERVAL_SECONDS).then_some((service, interval))
}
