//! Frames: a `u32` length in network byte order, then that many bytes of one encoded message. The
//! decoder is fed bytes and never reads; it holds at most one frame and never allocates more than
//! has arrived.

use bincode::{Decode, Encode};

use crate::codec::{self, CodecError};

/// Largest frame once the peer has introduced itself, in bytes.
pub const FRAME_MAX_BYTES: usize = 1024 * 1024;
/// Largest frame before that, in bytes.
pub const FIRST_FRAME_MAX_BYTES: usize = 64 * 1024;
const HEADER_BYTES: usize = 4;

/// Why a stream of frames cannot go on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// The peer announced a frame larger than the limit in force.
    #[error("a frame of {length} bytes was announced; {limit} are allowed")]
    TooLarge {
        /// The announced length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A frame's content is not a message.
    #[error(transparent)]
    Content(#[from] CodecError),
}

/// Collects bytes until a frame is whole.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    limit: usize,
}

impl Decoder {
    /// A decoder that takes frames of up to `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            limit,
        }
    }

    /// Changes the limit for the frames that follow.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Adds bytes as they arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes wait to be decoded.
    #[must_use]
    pub const fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole message, if one has arrived.
    ///
    /// # Errors
    /// [`FrameError`]: the stream is of no more use.
    pub fn next_message<T: Decode<()> + Encode>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*header) as usize;
        if length > self.limit {
            return Err(FrameError::TooLarge {
                length,
                limit: self.limit,
            });
        }
        let end = HEADER_BYTES + length;
        let Some(content) = self.buffer.get(HEADER_BYTES..end) else {
            return Ok(None);
        };
        let message = codec::decode(content, self.limit)?;
        self.buffer.drain(..end);
        Ok(Some(message))
    }
}

/// One message as a frame.
///
/// # Errors
/// [`FrameError::TooLarge`] when it does not fit [`FRAME_MAX_BYTES`].
pub fn encode<T: Encode>(message: &T) -> Result<Vec<u8>, FrameError> {
    let content = codec::encode(message);
    let length = u32::try_from(content.len())
        .ok()
        .filter(|_| content.len() <= FRAME_MAX_BYTES);
    let Some(length) = length else {
        return Err(FrameError::TooLarge {
            length: content.len(),
            limit: FRAME_MAX_BYTES,
        });
    };
    let mut frame = Vec::with_capacity(HEADER_BYTES + content.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&content);
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_announced_giant_is_refused_at_its_header() {
        let mut decoder = Decoder::new(FRAME_MAX_BYTES);
        decoder.feed(&[0xff; 4]);
        let refused = decoder.next_message::<u64>();
        assert!(
            matches!(refused, Err(FrameError::TooLarge { .. })),
            "{refused:?}"
        );
        assert!(decoder.buffered() < 64);
    }

    #[test]
    fn what_does_not_fit_is_not_sent() {
        let refused = encode(&vec![7u8; FRAME_MAX_BYTES + 1]);
        assert!(matches!(refused, Err(FrameError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn frames_survive_any_fragmentation(
            messages in prop::collection::vec(".{0,40}", 0..8),
            pieces in prop::collection::vec(1usize..9, 1..40),
        ) {
            let bytes: Vec<u8> =
                messages.iter().flat_map(|m| encode(m).unwrap()).collect();
            let mut decoder = Decoder::new(FRAME_MAX_BYTES);
            let mut seen = Vec::new();
            let mut rest = bytes.as_slice();
            for size in pieces.iter().cycle() {
                let (piece, tail) = rest.split_at((*size).min(rest.len()));
                decoder.feed(piece);
                while let Some(message) = decoder.next_message::<String>().unwrap() {
                    seen.push(message);
                }
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, messages);
            prop_assert_eq!(decoder.buffered(), 0);
        }

        #[test]
        fn any_bytes_are_an_error_or_a_message_and_never_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..512),
        ) {
            let mut decoder = Decoder::new(FIRST_FRAME_MAX_BYTES);
            decoder.feed(&bytes);
            while let Ok(Some(_)) = decoder.next_message::<crate::message::ToCoordinator>() {}
            let _ = codec::decode::<crate::message::ToAgent>(&bytes, FRAME_MAX_BYTES);
            let _ = codec::decode::<crate::join::ToJoiner>(&bytes, FRAME_MAX_BYTES);
            let _ = codec::decode::<crate::workload::Body>(&bytes, FRAME_MAX_BYTES);
            let _ = codec::decode::<crate::assignment::Assignment>(&bytes, FRAME_MAX_BYTES);
        }
    }
}
