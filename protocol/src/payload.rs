//! What a message carries: bytes, the stable name of their type, and how they are encoded. Everything between the two
//! ends passes payloads on without looking into them.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{error::ParseIdError, limits::MAX_TAG_BYTES};

/// How a payload's bytes are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Codec {
    /// bincode 2, standard configuration: Rust to Rust.
    Bincode,
    /// MessagePack with named fields: across languages and versions.
    MessagePack,
    /// JSON text: command line and web.
    Json,
    /// Bytes that only the two ends understand.
    Raw,
}

impl Codec {
    /// The number on the wire.
    #[must_use]
    pub fn to_wire(self) -> u8 {
        match self {
            Self::Bincode => 1,
            Self::MessagePack => 2,
            Self::Json => 3,
            Self::Raw => 4,
        }
    }

    /// The codec of that number.
    #[must_use]
    pub fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Bincode,
            2 => Self::MessagePack,
            3 => Self::Json,
            4 => Self::Raw,
            _ => return None,
        })
    }
}

/// The stable name of a message type: the name that serde knows it by, `#[serde(rename)]` included. An empty tag means
/// "whatever the receiver understands", as when a person types JSON. Cloning it never allocates.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Tag(Bytes);

impl Tag {
    /// The tag of a type whose name is part of the program.
    #[must_use]
    pub fn from_static(name: &'static str) -> Self {
        Self(Bytes::from_static(name.as_bytes()))
    }

    /// Checks `bytes` and makes a tag of it.
    ///
    /// # Errors
    /// When it is longer than [`MAX_TAG_BYTES`], or no UTF-8.
    pub fn new(bytes: Bytes) -> Result<Self, ParseIdError> {
        let accepts = "UTF-8 of at most 255 bytes";
        match std::str::from_utf8(&bytes) {
            Ok(_) if bytes.len() <= MAX_TAG_BYTES => Ok(Self(bytes)),
            Ok(text) => Err(ParseIdError::new("tag", text, accepts)),
            Err(_) => Err(ParseIdError::new("tag", &String::from_utf8_lossy(&bytes), accepts)),
        }
    }

    /// The same in memory of its own, and no slice of something larger.
    #[must_use]
    pub(crate) fn copied(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The bytes of the text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether a receiver that understands `own` may try to decode what carries this tag.
    #[must_use]
    pub fn fits(&self, own: &str) -> bool {
        self.0.is_empty() || self.0 == own.as_bytes()
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Bytes::from(String::deserialize(deserializer)?)).map_err(de::Error::custom)
    }
}

/// A message as bytes. Cloning it shares them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The name of the type that the bytes are of.
    pub tag: Tag,
    /// How they are encoded.
    pub codec: Codec,
    /// The bytes.
    pub body: Bytes,
}

impl Payload {
    /// JSON text for whatever the receiver understands.
    #[must_use]
    pub fn json(text: impl Into<String>) -> Self {
        Self { tag: Tag::default(), codec: Codec::Json, body: Bytes::from(text.into()) }
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.tag, self.codec, &self.body[..]).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (tag, codec, body) = <(Tag, Codec, Vec<u8>)>::deserialize(deserializer)?;
        Ok(Self { tag, codec, body: Bytes::from(body) })
    }
}
