//! Bytes in a message that are copied neither when it goes nor when it arrives.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{encoded::VIEWED_BYTES, message};

/// Many bytes, as a file or a picture, in a message or an answer.
///
/// A large one (64 KiB) goes to another node as it is, and in the message that arrives there it is a view of what was
/// received: nothing is copied, and cloning it copies nothing either. A view keeps all of its message's bytes. One of up to 23
/// bytes lies in the value itself, without memory of its own. A `Vec<u8>` instead would be decoded number by number. In JSON it is
/// an array of numbers.
#[derive(Clone)]
pub struct Blob(Bits);

/// How many bytes lie in the value itself: with their number as many as [`Bytes`] takes.
const INLINE_BYTES: usize = 23;

#[derive(Clone)]
enum Bits {
    Inline { length: u8, bytes: [u8; INLINE_BYTES] },
    Shared(Bytes),
}

const _: () = assert!(size_of::<Blob>() == size_of::<Bytes>());

impl Blob {
    /// A copy of `bytes`.
    #[must_use]
    pub fn copied(bytes: &[u8]) -> Self {
        Self::inline(bytes).unwrap_or_else(|| Self(Bits::Shared(Bytes::copy_from_slice(bytes))))
    }

    /// Its bytes, which others may hold as well; copied if they lie in the value itself.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Bits::Inline { length, bytes } => {
                Bytes::copy_from_slice(bytes.get(..usize::from(length)).unwrap_or_default())
            }
            Bits::Shared(bytes) => bytes,
        }
    }

    #[inline]
    fn inline(of: &[u8]) -> Option<Self> {
        let mut bytes = [0; INLINE_BYTES];
        bytes.get_mut(..of.len())?.copy_from_slice(of);
        Some(Self(Bits::Inline { length: u8::try_from(of.len()).ok()?, bytes }))
    }
}

impl Deref for Blob {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bits::Inline { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Bits::Shared(bytes) => bytes,
        }
    }
}

impl Default for Blob {
    fn default() -> Self {
        Self(Bits::Inline { length: 0, bytes: [0; INLINE_BYTES] })
    }
}

impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Blob {}

impl Hash for Blob {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self::inline(&bytes).unwrap_or_else(|| Self(Bits::Shared(bytes.into())))
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Self::inline(&bytes).unwrap_or(Self(Bits::Shared(bytes)))
    }
}

impl From<Blob> for Bytes {
    fn from(blob: Blob) -> Self {
        blob.into_bytes()
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Bits::Shared(bytes) = &self.0
            && bytes.len() >= VIEWED_BYTES
        {
            message::while_encoding(|scope| scope.blobs.push(bytes.clone()));
        }
        serializer.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BlobVisitor)
    }
}

struct BlobVisitor;

impl<'de> de::Visitor<'de> for BlobVisitor {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Blob, E> {
        if let Some(blob) = Blob::inline(bytes) {
            return Ok(blob);
        }
        Ok(message::view(bytes).map_or_else(|| Blob::copied(bytes), Blob::from))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(Blob::copied(bytes))
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
        Ok(Blob::from(bytes))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut numbers: A) -> Result<Blob, A::Error> {
        let mut bytes = Vec::new();
        while let Some(number) = numbers.next_element()? {
            bytes.push(number);
        }
        Ok(Blob::from(bytes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use rookery_protocol::{Codec, Payload, Tag};

    use super::*;
    use crate::{Runtime, RuntimeConfig, message};

    #[derive(Serialize, Deserialize)]
    struct Picture(u8, Blob, u8);

    #[test]
    fn a_small_blob_lies_in_the_value_itself() {
        for length in [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 300] {
            let bytes: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let blobs = [Blob::from(bytes.clone()), Blob::from(Bytes::from(bytes.clone())), Blob::copied(&bytes)];
            for blob in blobs {
                let inside = std::ptr::from_ref(&blob) as usize..std::ptr::from_ref(&blob) as usize + size_of::<Blob>();
                assert_eq!(inside.contains(&(blob.as_ptr() as usize)), length <= INLINE_BYTES, "{length}");
                assert_eq!(
                    (&*blob, &blob, blob.clone().into_bytes()),
                    (&*bytes, &blob.clone(), Bytes::from(bytes.clone()))
                );
            }
        }
        assert_eq!(&*Blob::default(), b"");
    }

    #[tokio::test]
    async fn a_large_blob_goes_out_as_it_is() {
        let runtime = Runtime::new(RuntimeConfig::new("a.1".parse().unwrap())).unwrap();
        let to = runtime.own_pid().into();
        let (one, other) = (Blob::from(vec![1; 70_000]), Blob::from(vec![2; 80_000]));
        let message = (3_u8, one.clone(), 4_u8, other.clone(), vec![Blob::from(vec![5; 10])], one.clone());
        let parts =
            message::encode(&message, Codec::Bincode, &runtime, &to, |encoded, _| encoded.take_parts()).unwrap();
        let lent = [&one, &other, &one].map(|blob| blob.as_ptr());
        let views: Vec<*const u8> = parts.iter().filter(|part| part.len() > 1_000).map(|part| part.as_ptr()).collect();
        assert_eq!(views, lent);
        let mut copied = Vec::new();
        rookery_protocol::codec::append(&message, &mut copied).unwrap();
        assert!(parts.concat() == copied, "the bytes are the same");
        let whole = message::to_payload(&message, Codec::Bincode, &runtime, &to).unwrap();
        assert!(whole.body == copied, "in one piece, too");
    }

    #[tokio::test]
    async fn a_blob_is_a_view_of_what_arrived() {
        let runtime = Runtime::new(RuntimeConfig::new("a.1".parse().unwrap())).unwrap();
        for size in [0, 1, 5_000, 100_000] {
            let picture = Picture(1, Blob::from(vec![9; size]), 2);
            let to = runtime.own_pid().into();
            for codec in [Codec::Bincode, Codec::Json] {
                let payload = message::to_payload(&picture, codec, &runtime, &to).unwrap();
                let (decoded, _) = message::decode::<Picture>(&payload, &runtime, None).ok().unwrap();
                assert!(decoded.0 == 1 && decoded.1 == picture.1 && decoded.2 == 2, "{size} {codec:?}");
                let body = payload.body.as_ptr() as usize..payload.body.as_ptr() as usize + payload.body.len();
                let within = body.contains(&(decoded.1.as_ptr() as usize));
                assert_eq!(within, size >= 5_000 && codec == Codec::Bincode, "{size} {codec:?}");
            }
        }
        let odd = Payload { tag: Tag::default(), codec: Codec::Json, body: Bytes::from_static(b"[1,[300],2]") };
        assert!(message::decode::<Picture>(&odd, &runtime, None).is_err());
    }
}
