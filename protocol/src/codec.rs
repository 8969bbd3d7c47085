//! The one module that names the wire codec: bincode 2 with a size limit and no trailing bytes.
//!
//! The crate is no longer developed, the format is frozen by recorded bytes, and another codec reads
//! and writes the same bytes (`docs/decisions/0002-bincode.md`). Without a limit a hostile length
//! ends the process, so there is no function here without one. Wire types must not be recursive and
//! must not hold collections of zero-sized elements: neither is counted by the limit.

use bincode::config::{self, Configuration};
use bincode::error::DecodeError;
use bincode::{Decode, Encode};

/// Why bytes are not the wanted value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CodecError {
    /// More bytes than the limit allows.
    #[error("{length} bytes are more than the {limit} allowed here")]
    TooLarge {
        /// Length of the input in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The bytes do not describe a value of this type.
    #[error("the bytes are not a valid message: {0}")]
    Malformed(String),
    /// A valid value, followed by something else.
    #[error("{0} bytes follow the end of the message")]
    Trailing(usize),
    /// The value was read, but is not the one way to write it.
    #[error("the message is not in canonical form")]
    NotCanonical,
}

/// The bytes of `value` in their one canonical form: variable-length little-endian integers, enum
/// variants and lengths as such integers.
///
/// # Panics
/// Never for wire types: encoding into memory fails only for types that refuse to be encoded.
#[must_use]
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    bincode::encode_to_vec(value, config::standard()).expect("wire types encode into memory")
}

/// Reads one value that fills `bytes` exactly and allocates no more than `limit` bytes.
///
/// # Errors
/// [`CodecError`], also for a valid value that is not in canonical form, so that a digest over bytes
/// is a digest over the value.
pub fn decode<T: Decode<()> + Encode>(bytes: &[u8], limit: usize) -> Result<T, CodecError> {
    if bytes.len() > limit {
        return Err(CodecError::TooLarge {
            length: bytes.len(),
            limit,
        });
    }
    let (value, used) = decode_capped::<T>(bytes, limit).map_err(malformed)?;
    if used < bytes.len() {
        return Err(CodecError::Trailing(bytes.len() - used));
    }
    if encode(&value) != bytes {
        return Err(CodecError::NotCanonical);
    }
    Ok(value)
}

fn malformed(error: DecodeError) -> CodecError {
    CodecError::Malformed(error.to_string())
}

/// The codec's limit is a type parameter, so the limits in use are a closed list.
fn decode_capped<T: Decode<()>>(bytes: &[u8], limit: usize) -> Result<(T, usize), DecodeError> {
    const SMALL: usize = 64 * 1024;
    const FRAME: usize = 4 * 1024 * 1024;
    if limit <= SMALL {
        bincode::decode_from_slice(bytes, limited::<SMALL>())
    } else {
        bincode::decode_from_slice(bytes, limited::<FRAME>())
    }
}

fn limited<const N: usize>() -> Configuration<config::LittleEndian, config::Varint, config::Limit<N>>
{
    config::standard().with_limit::<N>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_length_is_an_error_and_not_the_end_of_the_process() {
        let mut bytes = vec![0xfd];
        bytes.extend((1u64 << 40).to_le_bytes());
        assert!(matches!(
            decode::<Vec<u64>>(&bytes, 1024),
            Err(CodecError::Malformed(_))
        ));
        assert!(matches!(
            decode::<Vec<u8>>(&bytes, 1024),
            Err(CodecError::Malformed(_))
        ));
        assert!(matches!(
            decode::<String>(&bytes, 1 << 20),
            Err(CodecError::Malformed(_))
        ));
    }

    #[test]
    fn one_byte_too_many_is_refused() {
        let mut bytes = encode(&7u64);
        bytes.push(0);
        assert_eq!(decode::<u64>(&bytes, 64), Err(CodecError::Trailing(1)));
    }

    #[test]
    fn a_second_way_to_write_a_value_is_refused() {
        // 7 as a three-byte integer instead of one byte.
        assert_eq!(
            decode::<u64>(&[251, 7, 0], 64),
            Err(CodecError::NotCanonical)
        );
    }

    #[test]
    fn the_recorded_form_does_not_change() {
        assert_eq!(encode(&300u64), [251, 0x2c, 0x01]);
        assert_eq!(encode(&("ab".to_owned(), Some(1u8))), [2, b'a', b'b', 1, 1]);
    }
}
