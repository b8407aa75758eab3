//! The one module that knows bincode. Everything is decoded with a limit, and must consume all of its bytes.
//!
//! bincode 2.0.1 is no longer maintained, which is why nothing else may touch it: should it ever have to go, a drop-in
//! with the same bytes takes its place here. Layout: little endian, variable-length integers. What is decoded holds
//! no vectors of zero-sized types, since no limit catches those; recursive types are cut off at a depth.

mod borrowing;

use std::marker::PhantomData;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::{Serialize, de::DeserializeOwned};

use crate::limits::{MAX_CONTROL_BODY_BYTES, MAX_MESSAGE_BYTES_CEILING};
use borrowing::Root;

/// bincode charges the limit with a value's size in memory, which for a small integer is up to this many times its
/// size on the wire (`u128` in one byte). Lengths on the wire are checked apart, and by [`borrowing`].
const CHARGED_PER_BYTE: usize = 16;
const CONTROL_LIMIT: usize = MAX_CONTROL_BODY_BYTES.saturating_mul(CHARGED_PER_BYTE);
const PAYLOAD_LIMIT: usize = MAX_MESSAGE_BYTES_CEILING.saturating_mul(CHARGED_PER_BYTE);

const CONTROL: Configuration<LittleEndian, Varint, Limit<CONTROL_LIMIT>> =
    bincode::config::standard().with_limit::<CONTROL_LIMIT>();

const PAYLOAD: Configuration<LittleEndian, Varint, Limit<PAYLOAD_LIMIT>> =
    bincode::config::standard().with_limit::<PAYLOAD_LIMIT>();

/// Appends the bincode form of `value`.
///
/// # Errors
/// When `value`'s own `Serialize` fails.
pub fn append<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), String> {
    bincode::serde::encode_into_std_write(value, out, PAYLOAD).map(drop).map_err(|error| error.to_string())
}

/// As [`append`], to anything that can be written to.
///
/// # Errors
/// As there, and when it cannot be written.
pub fn write<T: Serialize + ?Sized>(value: &T, out: &mut impl std::io::Write) -> Result<(), String> {
    bincode::serde::encode_into_std_write(value, out, PAYLOAD).map(drop).map_err(|error| error.to_string())
}

/// Decodes a message's payload.
///
/// # Errors
/// When the bytes are no `T`, or there are more of them than `T` takes.
pub fn decode_payload<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    whole(bytes, bincode::serde::seed_decode_from_slice(Root(PhantomData), bytes, PAYLOAD))
}

/// Decodes the body of a control frame.
///
/// # Errors
/// As [`decode_payload`], and when there are more than [`MAX_CONTROL_BODY_BYTES`].
pub fn decode_control<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() > MAX_CONTROL_BODY_BYTES {
        return Err(format!("{} bytes; a control body has at most {MAX_CONTROL_BODY_BYTES}", bytes.len()));
    }
    whole(bytes, bincode::serde::seed_decode_from_slice(Root(PhantomData), bytes, CONTROL))
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
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shapes {
        Unit,
        Newtype(Option<Box<str>>),
        Tuple(u8, i128, char, f32),
        Struct { list: Vec<String>, map: BTreeMap<u16, (bool, [u8; 3])>, nested: Option<Box<Shapes>> },
    }

    #[test]
    fn every_shape_that_serde_knows_comes_back() {
        for shape in [
            Shapes::Unit,
            Shapes::Newtype(None),
            Shapes::Newtype(Some("text".into())),
            Shapes::Tuple(1, i128::MIN, 'ä', 0.5),
            Shapes::Struct {
                list: vec!["a".into(), String::new()],
                map: BTreeMap::from([(7, (true, [1, 2, 3])), (900, (false, [0; 3]))]),
                nested: Some(Box::new(Shapes::Unit)),
            },
        ] {
            let mut bytes = Vec::new();
            append(&shape, &mut bytes).unwrap();
            assert_eq!(decode_payload::<Shapes>(&bytes).unwrap(), shape);
            assert_eq!(decode_control::<Shapes>(&bytes).unwrap(), shape);
        }
    }

    #[test]
    fn a_value_within_values_without_end_is_an_error_and_no_stack_overflow() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Chain(Option<Box<Chain>>);
        let mut chain = Chain(None);
        for _ in 0..30 {
            chain = Chain(Some(Box::new(chain)));
        }
        let mut bytes = Vec::new();
        append(&chain, &mut bytes).unwrap();
        assert_eq!(decode_payload::<Chain>(&bytes).unwrap(), chain);

        let error = decode_payload::<Chain>(&vec![1; 1 << 20]).unwrap_err();
        assert!(error.contains("nested"), "{error}");
    }

    #[test]
    fn small_integers_may_fill_a_control_body() {
        // Each takes one byte, and is charged with eight.
        let numbers = vec![1_u64; MAX_CONTROL_BODY_BYTES - 3];
        let mut bytes = Vec::new();
        append(&numbers, &mut bytes).unwrap();
        assert_eq!(bytes.len(), MAX_CONTROL_BODY_BYTES);
        assert_eq!(decode_control::<Vec<u64>>(&bytes).unwrap(), numbers);
        bytes.push(0);
        assert!(decode_control::<Vec<u64>>(&bytes).is_err());
    }

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
