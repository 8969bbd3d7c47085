//! When to wake up: long waits that need not be exact end on one beat, so that a machine at rest is
//! seldom woken.
//!
//! Tokio keeps waits in wheels whose slots are 1 ms, 64 ms, 4.096 s and so on. One that ends inside a
//! slot of a coarse wheel wakes the processor where that slot begins, and again for each finer wheel;
//! one that ends where a slot begins wakes it once, and all that end there wake it together. And a wait
//! that is put off wakes it at its old end, too, unless it is a new one. So the beat is as long as such
//! a slot and counted from when the wheels begin to turn. *Assumption*: if tokio counts otherwise one
//! day, processors wake more often, and nothing else changes.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};
use tokio::time::Sleep;

/// From one beat to the next.
pub const BEAT: Duration = Duration::from_millis(4096);
/// A wait shorter than this is exact; a longer one may be late by up to a beat.
pub const EXACT_MAX: Duration = Duration::from_secs(8);

/// When the first beat was.
static FIRST: OnceLock<Instant> = OnceLock::new();

/// Begins to count; to be called just before tokio's runtime is made, which also begins then.
pub fn begin() {
    let _ = FIRST.set(now());
}

/// The end of a wait until `at`, seen from the present: itself, or the beat after it.
#[must_use]
pub fn ends(at: Instant) -> Instant {
    let first = *FIRST.get_or_init(now);
    ends_at(at, first, now())
}

/// The end of a wait of so long, from now.
#[must_use]
pub fn after(span: Duration) -> tokio::time::Instant {
    ends(now() + span).into()
}

fn ends_at(at: Instant, first: Instant, now: Instant) -> Instant {
    if at.saturating_duration_since(now) < EXACT_MAX {
        return at;
    }
    let beats = at
        .saturating_duration_since(first)
        .as_nanos()
        .div_ceil(BEAT.as_nanos());
    let beats = u32::try_from(beats).ok();
    let end = beats.and_then(|beats| first.checked_add(BEAT.checked_mul(beats)?));
    end.unwrap_or(at)
}

#[expect(
    clippy::disallowed_methods,
    reason = "timers are asked for by when they end"
)]
fn now() -> Instant {
    Instant::now()
}

/// What QUIC runs on here: tokio, but for its long waits (keep-alive, idle time), which end on a beat.
#[derive(Debug)]
pub struct OnBeat;

impl Runtime for OnBeat {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer(sleep(at)))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

/// A wait that is made anew when it is put off: tokio would wake up at its old end.
struct Timer(Pin<Box<Sleep>>);

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.0 = sleep(at);
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Future::poll(self.0.as_mut(), context)
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timer").field(&self.0.deadline()).finish()
    }
}

fn sleep(at: Instant) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep_until(ends(at).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_wait_is_exact_and_a_long_one_ends_on_a_beat() {
        let first = now();
        let present = first + Duration::from_secs(100);
        let short = present + Duration::from_secs(7);
        assert_eq!(ends_at(short, first, present), short);
        assert_eq!(ends_at(first, first, present), first);
        for seconds in [8, 10, 30, 60, 3600] {
            let at = present + Duration::from_secs(seconds);
            let end = ends_at(at, first, present);
            assert!(end >= at && end - at < BEAT, "{seconds}");
            assert_eq!((end - first).as_millis() % BEAT.as_millis(), 0);
        }
    }

    #[tokio::test]
    async fn a_timer_that_is_put_off_ends_at_its_new_end() {
        let begun = now();
        let mut timer = OnBeat.new_timer(begun + Duration::from_secs(3600));
        let soon = begun + Duration::from_millis(20);
        timer.as_mut().reset(soon);
        std::future::poll_fn(|context| timer.as_mut().poll(context)).await;
        assert!(now() >= soon);
    }
}
