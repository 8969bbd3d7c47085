//! A run that is given a request on standard input, and whose standard output is read while it
//! goes on; standard error is kept as its log.
//!
//! *Guarantees*: as of every run. What it writes is read as fast as it is asked for and no faster, so
//! that whoever reads decides how much there may be.

use std::ffi::OsString;
use std::pin::Pin;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Sleep;

use super::{DRAIN, Ended, Program, READ_BYTES, Running, exit, judged};
use crate::launch::{Limits, REASON_MARK};
use crate::output::{Kept, plain};

/// A program that was asked something and has not ended.
pub struct Conversation {
    running: Running,
    log: Kept,
    /// Whether standard output may still say something.
    speaks: bool,
    /// Whether standard error may.
    logs: bool,
    /// Whether anything was said yet.
    begun: bool,
    /// Why it was not started.
    refused: Option<String>,
    /// Since it ended: when nothing is waited for any more.
    drain: Option<Pin<Box<Sleep>>>,
}

impl Conversation {
    /// Starts a program and hands it `input`. `program.timeout` only bounds its processor time: for
    /// how long to listen is up to the caller. Keeps at most `log_bytes` of standard error.
    ///
    /// # Errors
    /// Why the launcher cannot be started, in words.
    pub async fn begin(
        launcher: &[OsString],
        program: Program,
        input: String,
        (limits, log_bytes): (Limits, usize),
    ) -> Result<Self, String> {
        let (mut running, order) = Running::start(launcher, program, Some(input), limits)?;
        if let Some(mut input) = running.child.stdin.take() {
            // A launcher that ended before it read all says so itself.
            drop(input.write_all(&order).await);
        }
        Ok(Self {
            running,
            log: Kept::most(log_bytes),
            speaks: true,
            logs: true,
            begun: false,
            refused: None,
            drain: None,
        })
    }

    /// The next bytes of standard output; none once it has ended and all was read.
    pub async fn read(&mut self) -> Option<Vec<u8>> {
        let mut said = vec![0; READ_BYTES];
        let mut logged = vec![0; READ_BYTES];
        while self.speaks || self.logs || self.drain.is_none() {
            let process = self.running.process;
            let drain = &mut self.drain;
            let over = async {
                match drain {
                    Some(until) => until.await,
                    None => exit(process).await,
                }
            };
            tokio::select! {
                // What was said before it ended is read before that counts.
                biased;
                read = self.running.words.read(&mut said), if self.speaks => {
                    let length = read.unwrap_or(0);
                    self.speaks = length > 0;
                    said.truncate(length);
                    if self.speaks {
                        return self.take(said);
                    }
                }
                read = self.running.output.read(&mut logged), if self.logs => {
                    let length = read.unwrap_or(0);
                    self.logs = length > 0;
                    self.log.push(logged.get(..length).unwrap_or_default());
                }
                () = over => {
                    if self.drain.is_some() {
                        return None;
                    }
                    // Its group goes at once, so that the pipes close.
                    self.running.kill();
                    self.drain = Some(Box::pin(tokio::time::sleep(DRAIN)));
                }
            }
        }
        None
    }

    fn take(&mut self, said: Vec<u8>) -> Option<Vec<u8>> {
        if !self.begun && said.first() == Some(&REASON_MARK) {
            self.refused = Some(plain(&said));
            return None;
        }
        self.begun = true;
        Some(said)
    }

    /// Ends whatever is left of it; how it ended and what it logged.
    pub async fn end(self) -> (Ended, String) {
        let Self {
            running,
            mut log,
            refused,
            ..
        } = self;
        let status = running.end(&mut log).await;
        let ended = refused.map_or_else(|| judged(status), Ended::NotStarted);
        (ended, log.text())
    }
}
