//! What a plugin said and how it ended, as a result or a failure. Pure.

use holdfast_confine::Ended;
use holdfast_confine::output::{cut, plain};
use serde_json::Value;

use super::message::Said;
use crate::failure::Failure;

/// Longest line on standard output, in bytes.
pub(super) const LINE_MAX_BYTES: usize = 64 << 10;
/// Most of standard output, in bytes; where output is followed there is no end.
pub(super) const OUTPUT_MAX_BYTES: usize = 4 << 20;
/// Longest reason that is passed on, in bytes.
const REASON_MAX_BYTES: usize = 800;
/// Last lines of the log that explain a failure without one of its own.
const LAST_LINES: usize = 3;

/// Lines out of bytes, and no more than may be.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    rest: Vec<u8>,
    taken: usize,
    /// Whether the whole may be of any length.
    endless: bool,
}

impl Splitter {
    /// For output that may go on for ever, where it is followed.
    pub(super) fn following(endless: bool) -> Self {
        Self {
            endless,
            ..Self::default()
        }
    }

    /// Takes bytes; gives the lines that are whole by now.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Said>, String> {
        self.taken = self.taken.saturating_add(bytes.len());
        if self.taken > OUTPUT_MAX_BYTES && !self.endless {
            return Err(format!("it wrote more than {OUTPUT_MAX_BYTES} bytes"));
        }
        self.rest.extend_from_slice(bytes);
        let mut said = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            said.extend(read(&line)?);
        }
        if self.rest.len() > LINE_MAX_BYTES {
            return Err(format!("a line is longer than {LINE_MAX_BYTES} bytes"));
        }
        Ok(said)
    }

    /// What was left without a line feed.
    pub(super) fn finish(&mut self) -> Result<Option<Said>, String> {
        read(&std::mem::take(&mut self.rest))
    }
}

fn read(line: &[u8]) -> Result<Option<Said>, String> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() > LINE_MAX_BYTES {
        return Err(format!("a line is longer than {LINE_MAX_BYTES} bytes"));
    }
    serde_json::from_slice(line).map(Some).map_err(|error| {
        let shown = cut(plain(line), 120);
        format!("it wrote {shown:?}, which is no line of the protocol: {error}")
    })
}

/// What came of the lines of one call.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The result.
    pub(super) result: Option<Value>,
    /// Why it fails, in its own words.
    pub(super) error: Option<String>,
    /// How it broke the protocol.
    pub(super) broken: Option<String>,
}

impl Answer {
    /// Notes a line that says what came of the call; another one is given back.
    pub(super) fn note(&mut self, said: Said) -> Option<Said> {
        match said {
            Said::Result(_) if self.result.is_some() => {
                self.broken = Some("it gave two results".to_owned());
            }
            Said::Result(value) => self.result = Some(value),
            Said::Error { message } => self.error = Some(message),
            Said::Progress { .. } | Said::Line { .. } => return Some(said),
        }
        None
    }
}

/// The result of a call of plugin `name`, or why there is none.
pub(super) fn judge(
    name: &str,
    answer: Answer,
    ended: &Ended,
    log: &str,
) -> Result<Value, Failure> {
    if let Some(why) = answer.broken {
        return Err(Failure::Retryable(format!("plugin {name}: {why}")));
    }
    let why = || reason(answer.error.as_deref(), log);
    let retryable = |what: String| Err(Failure::Retryable(format!("plugin {name} {what}")));
    match ended {
        Ended::Code(0) => match answer.result {
            Some(result) => Ok(result),
            None => retryable("ended without a result".to_owned()),
        },
        Ended::Code(1) => Err(Failure::Permanent(format!("plugin {name}: {}", why()))),
        Ended::Code(2) => Err(Failure::Retryable(format!("plugin {name}: {}", why()))),
        Ended::Code(code) => retryable(format!("ended with exit code {code}: {}", why())),
        Ended::Signal(signal) => retryable(format!("was ended by signal {signal}: {}", why())),
        Ended::TimedOut => retryable(format!("did not end in time and was killed: {}", why())),
        Ended::NotStarted(why) => retryable(format!("was not started: {why}")),
    }
}

fn reason(error: Option<&str>, log: &str) -> String {
    let text = match error {
        Some(error) => plain(error.as_bytes()),
        None => {
            let said = log.lines().filter(|line| !line.trim().is_empty());
            let lines: Vec<&str> = said.collect();
            let last = lines.len().saturating_sub(LAST_LINES);
            lines.get(last..).unwrap_or_default().join(" | ")
        }
    };
    if text.is_empty() {
        return "it does not say why".to_owned();
    }
    cut(text, REASON_MAX_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_bounded() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.take(b"{\"type\":\"prog").unwrap(), []);
        let said = splitter.take(b"ress\",\"message\":\"m\"}\n\n{").unwrap();
        assert_eq!(
            said,
            [Said::Progress {
                message: "m".to_owned()
            }]
        );
        assert!(
            splitter
                .finish()
                .unwrap_err()
                .contains("no line of the protocol")
        );
        let long = vec![b'x'; LINE_MAX_BYTES + 1];
        assert!(
            Splitter::default()
                .take(&long)
                .unwrap_err()
                .contains("longer")
        );
        let mut flood = Splitter::default();
        let blank = vec![b'\n'; 1 << 20];
        let refused = (0..9).find_map(|_| flood.take(&blank).err());
        assert!(refused.unwrap().contains("more than"));
    }

    #[test]
    fn an_end_says_whether_trying_again_may_help() {
        let said = |code| {
            let answer = Answer::default();
            judge("x", answer, &Ended::Code(code), "a\nb\nc\nd").unwrap_err()
        };
        assert_eq!(
            said(1),
            Failure::Permanent("plugin x: b | c | d".to_owned())
        );
        assert!(said(2).is_retryable());
        assert!(said(127).to_string().contains("exit code 127"));
        assert!(said(0).to_string().contains("without a result"));
        let told = Answer {
            error: Some("no\x1b[31m disk".to_owned()),
            ..Answer::default()
        };
        let failure = judge("x", told, &Ended::Code(2), "log").unwrap_err();
        assert_eq!(failure.to_string(), "plugin x: no disk");
    }
}
