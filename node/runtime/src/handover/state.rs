//! What a server hands over to its successor.

use std::fmt;

use bytes::Bytes;
use rookery_protocol::codec;
use serde::{Serialize, de::DeserializeOwned};

use super::limits::MAX_STATE_BYTES;

/// The state of a server on its way to its successor on another node, which may be of another release. So it has a
/// version: raise it when the shape changes, and read the former one as well.
///
/// ```
/// use rookery_runtime::Handover;
///
/// let state = Handover::new(1, &("tea", 7_u32))?;
/// assert_eq!((state.version(), state.read::<(String, u32)>()?), (1, ("tea".to_owned(), 7)));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Handover {
    version: u32,
    body: Bytes,
}

impl Handover {
    /// `state` in its shape of this `version`.
    ///
    /// # Errors
    /// It cannot be encoded, or takes more than 128 MiB.
    pub fn new<T: Serialize + ?Sized>(version: u32, state: &T) -> Result<Self, String> {
        let mut body = Vec::new();
        codec::append(state, &mut body)?;
        Self::bytes(version, body)
    }

    /// A state that is bytes already.
    ///
    /// # Errors
    /// They are more than 128 MiB.
    pub fn bytes(version: u32, body: impl Into<Bytes>) -> Result<Self, String> {
        let body = body.into();
        if body.len() > MAX_STATE_BYTES {
            return Err(format!("a state of {} bytes is more than can be handed over, {MAX_STATE_BYTES}", body.len()));
        }
        Ok(Self { version, body })
    }

    /// The version that it was made with.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The bytes.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The state that it was [made](Self::new) of.
    ///
    /// # Errors
    /// These are no bytes of that type. Its bytes can be those of another type as well: a version tells shapes apart.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        codec::decode_payload(&self.body)
    }
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handover(version {}, {} bytes)", self.version, self.body.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;

    #[test]
    fn a_state_is_bounded() {
        assert!(Handover::bytes(1, vec![0; MAX_STATE_BYTES]).is_ok());
        let refused = Handover::bytes(1, vec![0; MAX_STATE_BYTES + 1]).unwrap_err();
        assert!(refused.contains("134217728"), "{refused}");
    }

    #[test]
    fn another_type_is_an_error() {
        assert!(Handover::new(1, "text").unwrap().read::<(String, String)>().is_err());
    }
}
