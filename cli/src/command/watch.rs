//! `-w`: a line for each change.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{Outcome, Session};
use crate::client::Client;
use crate::error::Failure;
use crate::output::row::Row;

/// Prints each object of a list, and from then on each that is new or differs from before, until
/// interrupted. A coordinator that is away for a while is waited for.
///
/// # Errors
/// The list cannot be had, for a reason that does not pass.
pub async fn watch<T, F>(session: &mut Session<'_>, mut list: F) -> Outcome
where
    T: Row + Serialize + PartialEq,
    F: AsyncFnMut(&Client) -> Result<Vec<T>, Failure>,
{
    let mut known: BTreeMap<String, T> = BTreeMap::new();
    let mut away = false;
    loop {
        match list(&session.client).await {
            Ok(items) => {
                away = false;
                known = changes(session, known, items)?;
            }
            Err(failure) if failure.passing && !known.is_empty() => {
                if !away {
                    session.screen.note(&format!("{failure}; waiting for it"));
                }
                away = true;
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn changes<T: Row + Serialize + PartialEq>(
    session: &mut Session<'_>,
    mut known: BTreeMap<String, T>,
    items: Vec<T>,
) -> Result<BTreeMap<String, T>, Failure> {
    let mut fresh = BTreeMap::new();
    for item in items {
        if known.remove(&item.name()).as_ref() != Some(&item) {
            session.screen.change(&item)?;
        }
        fresh.insert(item.name(), item);
    }
    for name in known.into_keys() {
        session.screen.note(&format!("{name} is gone"));
    }
    Ok(fresh)
}

/// Time between two looks.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
