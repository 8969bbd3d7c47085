//! The append-only record of decisions: each entry's hash covers the hash before it, so that nothing
//! in between can be changed, dropped or added unnoticed.

use holdfast_protocol::api::event::{Audit, Event};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::{EnvironmentName, NotifierName, ServiceName, TargetName};
use holdfast_protocol::time::Timestamp;

use crate::store::{Store, StoreError};

/// Entries read at a time while the chain is checked.
const AUDIT_PAGE_ROWS: u32 = 1_000;

/// What is to be recorded; number and hash come from the chain.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// What happened: `deployment.stable`.
    pub kind: &'static str,
    /// Who did it; `coordinator` where nobody is named.
    pub actor: Option<String>,
    /// In one sentence.
    pub message: String,
    /// The service it is about.
    pub service: Option<ServiceName>,
    /// The environment it is about.
    pub environment: Option<EnvironmentName>,
    /// The target it is about.
    pub target: Option<TargetName>,
    /// The deployment it is about.
    pub deployment: Option<u64>,
    /// When it happened, where that was earlier than now.
    pub occurred_at: Option<Timestamp>,
    /// Who is to be told besides those who listen to this kind.
    pub notify: Option<NotifierName>,
    /// The notifier that it is about, which does not tell it.
    pub notifier: Option<NotifierName>,
}

/// The end of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of the last entry; 0 before the first.
    pub sequence: u64,
    /// Its hash.
    pub hash: Digest,
}

impl Head {
    /// The head after `last`, or of an empty record.
    #[must_use]
    pub fn after(last: Option<&Event>) -> Self {
        last.map_or_else(
            || Self {
                sequence: 0,
                hash: Digest::of(b"holdfast history v1"),
            },
            |event| Self {
                sequence: event.sequence,
                hash: event.hash,
            },
        )
    }

    /// Chains `entry` to the record.
    pub fn append(&mut self, entry: Entry, now: Timestamp) -> Event {
        let mut event = Event {
            sequence: self.sequence + 1,
            at: now,
            kind: entry.kind.to_owned(),
            actor: entry.actor.unwrap_or_else(|| "coordinator".to_owned()),
            message: entry.message,
            service: entry.service,
            environment: entry.environment,
            target: entry.target,
            deployment: entry.deployment,
            occurred_at: entry.occurred_at,
            hash: self.hash,
        };
        event.hash = chained(self.hash, &event);
        *self = Self {
            sequence: event.sequence,
            hash: event.hash,
        };
        event
    }

    /// Whether `event` is the next entry.
    fn accepts(self, event: &Event) -> Result<Self, String> {
        if event.sequence != self.sequence + 1 {
            return Err(format!("entry {} is missing", self.sequence + 1));
        }
        if chained(self.hash, event) != event.hash {
            return Err(format!("entry {} is not what was recorded", event.sequence));
        }
        Ok(Self {
            sequence: event.sequence,
            hash: event.hash,
        })
    }
}

/// SHA-256 over the hash before and the entry's JSON with that hash in place of its own. The order of
/// the keys is the order of the fields of [`Event`], to which fields are only added.
fn chained(before: Digest, event: &Event) -> Digest {
    let blank = Event {
        hash: before,
        ..event.clone()
    };
    let body = serde_json::to_vec(&blank).expect("our own types serialise");
    Digest::of(&[before.as_bytes().as_slice(), &body].concat())
}

/// Checks the whole chain, page by page.
///
/// # Errors
/// [`StoreError`] when the database fails or a row cannot be read at all.
pub async fn audit(store: &Store) -> Result<Audit, StoreError> {
    let mut head = Head::after(None);
    loop {
        let page = store.events(head.sequence, AUDIT_PAGE_ROWS).await?;
        if page.is_empty() {
            return Ok(Audit {
                valid: true,
                entries: head.sequence,
                head: (head.sequence > 0).then_some(head.hash),
                broken_at: None,
                message: format!(
                    "{} entries, each follows from the one before",
                    head.sequence
                ),
            });
        }
        for event in page {
            match head.accepts(&event) {
                Ok(next) => head = next,
                Err(message) => {
                    return Ok(Audit {
                        valid: false,
                        entries: head.sequence,
                        head: Some(head.hash),
                        broken_at: Some(head.sequence + 1),
                        message,
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(length: u64) -> Vec<Event> {
        let mut head = Head::after(None);
        (0..length)
            .map(|n| {
                let entry = Entry {
                    kind: "test",
                    message: format!("entry {n}"),
                    ..Entry::default()
                };
                head.append(entry, Timestamp::from_millis(n))
            })
            .collect()
    }

    fn verify(events: &[Event]) -> Result<Head, String> {
        events
            .iter()
            .try_fold(Head::after(None), |head, event| head.accepts(event))
    }

    #[test]
    fn a_chain_verifies() {
        assert_eq!(verify(&chain(5)).unwrap().sequence, 5);
    }

    #[test]
    fn a_changed_a_dropped_and_an_added_entry_are_noticed() {
        let mut changed = chain(5);
        changed[2].message.push('!');
        assert_eq!(
            verify(&changed).unwrap_err(),
            "entry 3 is not what was recorded"
        );
        let mut dropped = chain(5);
        dropped.remove(2);
        assert_eq!(verify(&dropped).unwrap_err(), "entry 3 is missing");
        let mut added = chain(5);
        let copy = added[2].clone();
        added.insert(3, copy);
        assert!(verify(&added).is_err());
        let mut renumbered = chain(5);
        renumbered.remove(2);
        for (n, event) in renumbered.iter_mut().enumerate() {
            event.sequence = n as u64 + 1;
        }
        assert_eq!(
            verify(&renumbered).unwrap_err(),
            "entry 3 is not what was recorded"
        );
    }
}
