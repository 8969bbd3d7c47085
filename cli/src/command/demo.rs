//! `demo`: the whole system on this machine, for real. A coordinator and three agents are started as
//! programs of their own; what is deployed is `examples/first`; every claim that is printed was
//! checked first, over HTTP or by process numbers.
//!
//! *Guarantees:* a step that does not come true ends the demo with exit code 1; whatever way it ends,
//! what it started is ended too, unless `--keep`. Traffic stays on the loopback address.

mod example;
mod program;
mod proof;
mod stage;
mod story;
mod teller;
mod visitor;

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::Outcome;
use crate::args::access::Demo;
use crate::error::{Exit, Failure};
use crate::output::Screen;
use stage::Stage;
use teller::Teller;

/// Runs the demo.
///
/// # Errors
/// A program is missing, a step did not come true, or a person interrupted it (130).
pub async fn run(args: &Demo, screen: &mut Screen) -> Outcome {
    let mut stage = Stage::new(args.bin_dir.as_deref())?;
    let mut teller = Teller::new(screen);
    let told = tokio::select! {
        biased;
        _ = interruption() => Err(Failure::interrupted()),
        told = story::tell(&mut stage, &mut teller) => told,
    };
    match told {
        Ok(()) if args.keep => {
            teller.plain(&stage.farewell())?;
            stage.leave_running();
            Ok(Exit::Done)
        }
        Ok(()) => {
            stage.clear().await;
            teller.step(
                "ended",
                "Everything that this demo started has been ended and removed.",
                &serde_json::json!({}),
            )?;
            Ok(Exit::Done)
        }
        Err(failure) => {
            if failure.exit != Exit::Interrupted {
                teller.beside(&stage.last_words());
            }
            stage.clear().await;
            Err(failure)
        }
    }
}

/// Ends when a person presses Ctrl-C or the demo is asked to end.
async fn interruption() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Looks until there is something, or the time is over.
async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if tokio::time::Instant::now() > deadline {
            let span = holdfast_protocol::time::friendly(limit);
            return Err(Failure::failed(format!(
                "this did not happen within {span}: {what}"
            )));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// A claim that the demo makes.
fn ensure(true_: bool, claim: impl FnOnce() -> String) -> Result<(), Failure> {
    if true_ {
        Ok(())
    } else {
        Err(Failure::failed(format!("this is not so: {}", claim())))
    }
}

/// Time between two looks at something that is awaited.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);
