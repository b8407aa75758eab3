//! The one module that knows bincode. Everything is decoded with a limit, and must consume all of its bytes.
//!
//! bincode 2.0.1 is no longer maintained, which is why nothing else may touch it: should it ever have to go, a drop-in
//! with the same bytes takes its place here. Layout: little endian, variable-length integers. What is decoded holds
//! no recursive types and no vectors of zero-sized types, since the limit does not catch those.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::{Serialize, de::DeserializeOwned};

use crate::limits::{MAX_CONTROL_BODY_BYTES, MAX_MESSAGE_BYTES_CEILING};

const CONTROL: Configuration<LittleEndian, Varint, Limit<MAX_CONTROL_BODY_BYTES>> =
    bincode::config::standard().with_limit::<MAX_CONTROL_BODY_BYTES>();

const PAYLOAD: Configuration<LittleEndian, Varint, Limit<MAX_MESSAGE_BYTES_CEILING>> =
    bincode::config::standard().with_limit::<MAX_MESSAGE_BYTES_CEILING>();

/// Appends the bincode form of `value`.
///
/// # Errors
/// When `value`'s own `Serialize` fails.
pub fn append<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), String> {
    bincode::serde::encode_into_std_write(value, out, PAYLOAD).map(drop).map_err(|error| error.to_string())
}

/// Decodes a message's payload.
///
/// # Errors
/// When the bytes are no `T`, or there are more of them than `T` takes.
pub fn decode_payload<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    whole(bytes, bincode::serde::decode_from_slice(bytes, PAYLOAD))
}

/// Decodes the body of a control frame.
///
/// # Errors
/// As [`decode_payload`], and when the value would be larger than [`MAX_CONTROL_BODY_BYTES`].
pub fn decode_control<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    whole(bytes, bincode::serde::decode_from_slice(bytes, CONTROL))
}

fn whole<T>(bytes: &[u8], decoded: Result<(T, usize), bincode::error::DecodeError>) -> Result<T, String> {
    match decoded {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Ok((_, used)) => Err(format!("{} bytes are left over", bytes.len() - used)),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_limit_is_an_error_and_no_panic() {
        // A vector that claims 2^64-1 elements, in nine bytes.
        let bytes = [253, 255, 255, 255, 255, 255, 255, 255, 255];
        assert!(decode_control::<Vec<u64>>(&bytes).is_err());
        assert!(decode_payload::<Vec<u64>>(&bytes).is_err());
        assert!(decode_payload::<String>(&bytes).is_err());
    }

    #[test]
    fn left_over_bytes_are_an_error() {
        assert!(decode_payload::<u8>(&[1, 2]).is_err());
    }
}
