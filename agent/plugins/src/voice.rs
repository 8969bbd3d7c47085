//! Where a plugin's lines go, one JSON object each.

use std::io::Write;

use holdfast_adapters::plugin::message::Said;
use holdfast_protocol::time::Timestamp;
use serde_json::Value;

/// Longest text that is said in a line, in bytes: the agent takes lines of 64 KiB, and JSON may
/// write a byte as six.
const TEXT_MAX_BYTES: usize = 10 << 10;

/// Says lines. What cannot be said any more is nobody's loss: the agent is gone.
#[derive(Clone, Copy)]
pub(crate) struct Voice<'a>(&'a dyn Fn(&Said) -> bool);

/// Writes a line; whether somebody still listens.
pub(crate) fn write(output: &mut dyn Write, said: &Said) -> bool {
    let Ok(mut line) = serde_json::to_vec(said) else {
        return true;
    };
    line.push(b'\n');
    let written = output.write_all(&line).and_then(|()| output.flush());
    written.is_ok()
}

impl<'a> Voice<'a> {
    pub(crate) const fn new(say: &'a dyn Fn(&Said) -> bool) -> Self {
        Self(say)
    }

    pub(crate) fn progress(&self, message: &str) {
        let message = short(message);
        (self.0)(&Said::Progress { message });
    }

    pub(crate) fn line(&self, at: Option<Timestamp>, text: &str) -> bool {
        let text = short(text);
        (self.0)(&Said::Line { at, text })
    }

    pub(crate) fn error(&self, message: &str) {
        let message = short(message);
        (self.0)(&Said::Error { message });
    }

    pub(crate) fn result(&self, result: Value) {
        (self.0)(&Said::Result(result));
    }
}

fn short(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_MAX_BYTES)].to_owned()
}
