//! Bytes in a message that are copied neither when it goes nor when it arrives.

use std::{fmt, ops::Deref};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{encoded::VIEWED_BYTES, message};

/// Many bytes, as a file or a picture, in a message or an answer.
///
/// A large one (64 KiB) goes to another node as it is, and in the message that arrives there it is a view of what was
/// received: nothing is copied, and cloning it copies nothing either. A view keeps all of its message's bytes. A `Vec<u8>` instead would be decoded number by number. In JSON it is
/// an array of numbers.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Blob(pub Bytes);

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Bytes::from(bytes))
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.len() >= VIEWED_BYTES {
            message::while_encoding(|scope| scope.blobs.push(self.0.clone()));
        }
        serializer.serialize_bytes(&self.0)
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
        Ok(Blob(message::view(bytes).unwrap_or_else(|| Bytes::copy_from_slice(bytes))))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(Blob(Bytes::copy_from_slice(bytes)))
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
        Ok(Blob(Bytes::from(bytes)))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut numbers: A) -> Result<Blob, A::Error> {
        let mut bytes = Vec::new();
        while let Some(number) = numbers.next_element()? {
            bytes.push(number);
        }
        Ok(Blob(Bytes::from(bytes)))
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
