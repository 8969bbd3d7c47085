//! The far end of a runtime's events, which is handed out once.

use std::sync::{Mutex, PoisonError};

use holdfast_protocol::name::ServiceName;
use tokio::sync::mpsc;

/// Services to look at again, for whoever asks first; everybody else hears nothing.
pub(crate) struct Changes(Mutex<Option<mpsc::Receiver<ServiceName>>>);

impl Changes {
    pub(crate) const fn new(changes: mpsc::Receiver<ServiceName>) -> Self {
        Self(Mutex::new(Some(changes)))
    }

    pub(crate) fn take(&self) -> mpsc::Receiver<ServiceName> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.unwrap_or_else(|| mpsc::channel(1).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_are_told_to_whoever_asks_first() {
        let (tell, told) = mpsc::channel(1);
        let changes = Changes::new(told);
        let mut first = changes.take();
        let web = ServiceName::parse("web").unwrap();
        tell.try_send(web.clone()).unwrap();
        assert_eq!(first.recv().await, Some(web));
        assert_eq!(changes.take().recv().await, None);
    }
}
