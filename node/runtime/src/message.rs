//! What can be sent: any serde type. A message's stable name, its tag, is the name that serde knows it by, so that
//! `#[serde(rename = "…")]` keeps it through refactoring, and no macro or registration is needed.
//!
//! A [`ReplyTo`](crate::ReplyTo) takes no place in a payload: it stands in the frame. So encoding and decoding run
//! inside a scope of the thread, through which it gets out of, and back into, the message.

use std::{cell::RefCell, fmt, sync::Arc};

use bytes::Bytes;
use rookery_protocol::{Codec, Destination, Payload, ReplyRoute, Tag, codec};
use serde::{
    Deserializer, Serialize,
    de::{self, DeserializeOwned, Visitor},
};

use crate::{
    encoded::Encoded,
    process::deadline::Deadline,
    reply::{AnySlot, RemoteReply},
    runtime::Runtime,
};

/// Anything that a process can be sent. There is nothing to implement: every owned serde type is one.
pub trait Message: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Message for T {}

/// The stable name of `T`, by which a receiver tells whether it understands what arrives (S8).
///
/// ```
/// #[derive(serde::Serialize, serde::Deserialize)]
/// #[serde(rename = "shop.Order")]
/// struct Order(u32);
/// assert_eq!(rookery_runtime::tag_of::<Order>(), "shop.Order");
/// ```
#[must_use]
pub fn tag_of<T: Message>() -> &'static str {
    match T::deserialize(NameProbe) {
        Err(Probed(Some(name))) => name,
        // Untagged enums and the like have no name of their own.
        _ => std::any::type_name::<T>(),
    }
}

/// Why a message could not be encoded or decoded.
pub(crate) type CodecError = String;

thread_local! {
    static ENCODING: RefCell<Encoding> = const { RefCell::new(Encoding::new()) };
    static DECODING: RefCell<Decoding> =
        const { RefCell::new(Decoding { active: false, runtime: None, reply: None, body: None }) };
}

/// A message on its way out.
pub(crate) struct Encoding {
    /// Whether one is being encoded.
    active: bool,
    /// Where to; it is used again and again.
    scratch: Encoded,
    /// The reply that it carries.
    pub(crate) reply: Option<Carrying>,
    /// Large pieces of it that need not be copied.
    pub(crate) blobs: Vec<Bytes>,
}

impl Encoding {
    const fn new() -> Self {
        Self { active: false, scratch: Encoded::new(), reply: None, blobs: Vec::new() }
    }
}

/// The scope of the message that is encoded on this thread. When it ends, also by a panic, that of the message within whose
/// `Serialize` it is goes on.
struct EncodingScope {
    outer: Option<Box<(Option<Carrying>, Vec<Bytes>)>>,
}

impl EncodingScope {
    /// Gives the scratch space as well.
    fn begin() -> (Self, Encoded) {
        ENCODING.with_borrow_mut(|scope| {
            let outer = std::mem::replace(&mut scope.active, true)
                .then(|| Box::new((scope.reply.take(), std::mem::take(&mut scope.blobs))));
            (Self { outer }, std::mem::take(&mut scope.scratch))
        })
    }
}

impl EncodingScope {
    /// Gives the reply that the message carries.
    fn end(mut self) -> Option<Carrying> {
        let left = self.leave();
        // It has been left.
        std::mem::forget(self);
        left.and_then(|(reply, _)| reply)
    }

    /// The outer scope goes on. What was left in this one is not dropped within the borrow: it may be anything.
    fn leave(&mut self) -> Option<(Option<Carrying>, Vec<Bytes>)> {
        ENCODING.with_borrow_mut(|scope| {
            let outer = self.outer.take();
            scope.active = outer.is_some();
            if outer.is_none() && scope.reply.is_none() && scope.blobs.is_empty() {
                return None;
            }
            let (reply, blobs) = outer.map_or((None, Vec::new()), |outer| *outer);
            Some((std::mem::replace(&mut scope.reply, reply), std::mem::replace(&mut scope.blobs, blobs)))
        })
    }
}

impl Drop for EncodingScope {
    fn drop(&mut self) {
        drop(self.leave());
    }
}

/// `piece`, if it is one that the message which is encoded on this thread lends.
pub(crate) fn lent(piece: &[u8]) -> Option<Bytes> {
    let same = |blob: &Bytes| blob.as_ptr() == piece.as_ptr() && blob.len() == piece.len();
    while_encoding(|scope| scope.blobs.iter().position(same).map(|at| scope.blobs.swap_remove(at))).flatten()
}

/// A reply that is found in a message as it is encoded.
pub(crate) enum Carrying {
    /// Of a caller here: its call gets a number when the message goes out.
    Local(Arc<dyn AnySlot>, Option<Deadline>),
    /// Of a caller elsewhere.
    Remote(ReplyRoute, Option<Deadline>),
}

/// A reply that a message carries in its frame.
pub(crate) struct Carried {
    pub(crate) route: ReplyRoute,
    /// Until when the caller waits.
    pub(crate) deadline: Option<Deadline>,
}

/// A message on its way in.
pub(crate) struct Decoding {
    /// Whether one is being decoded.
    active: bool,
    /// Whose message it becomes.
    runtime: Option<Runtime>,
    /// The reply that came with it, until the message takes it.
    pub(crate) reply: Option<RemoteReply>,
    /// Its bytes, if they are many enough to be worth a view.
    body: Option<Bytes>,
}

/// From this size on a message's blobs are views of it.
const VIEWED_BYTES: usize = 4 * 1024;

/// `part`, if it is a part of the message that is decoded on this thread, as a view of it.
pub(crate) fn view(part: &[u8]) -> Option<Bytes> {
    let view = |scope: &mut Decoding| {
        let body = scope.body.as_ref()?;
        let start = (part.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
        let end = start.checked_add(part.len())?;
        (end <= body.len()).then(|| body.slice(start..end))
    };
    while_decoding(view).flatten()
}

impl Decoding {
    /// Whose message it becomes.
    pub(crate) fn runtime(&self) -> Option<&Runtime> {
        self.runtime.as_ref()
    }
}

/// Runs `f`, which decodes many messages for one runtime: it is not counted for each.
pub(crate) fn decoding_for<R>(runtime: &Runtime, f: impl FnOnce() -> R) -> R {
    /// Put back also when `f` panics.
    struct Outer(Option<Runtime>);
    impl Drop for Outer {
        fn drop(&mut self) {
            DECODING.with_borrow_mut(|scope| scope.runtime = self.0.take());
        }
    }
    let _outer = Outer(DECODING.with_borrow_mut(|scope| scope.runtime.replace(runtime.clone())));
    f()
}

/// What scratch space a thread keeps between messages; a larger message's is given back.
const SCRATCH_KEPT_BYTES: usize = 64 * 1024;

/// Encodes `message` in the thread's scratch space and hands the bytes to `then`, which may take them, with the reply
/// that it carries.
pub(crate) fn encode<T: Message, R>(
    message: &T,
    codec: Codec,
    runtime: &Runtime,
    to: &Destination,
    then: impl FnOnce(&mut Encoded, Option<&Carried>) -> R,
) -> Result<R, CodecError> {
    let (scope, mut scratch) = EncodingScope::begin();
    scratch.clear();
    let encoded = append(message, codec, &mut scratch);
    let reply = scope.end();
    let result = encoded.map(|()| {
        // A call that the message carries is lost with the connection to where it goes.
        let carried = reply.map(|reply| match reply {
            Carrying::Local(slot, deadline) => Carried { route: slot.await_reply(runtime, to), deadline },
            Carrying::Remote(route, deadline) => Carried { route, deadline },
        });
        then(&mut scratch, carried.as_ref())
    });
    if scratch.capacity() <= SCRATCH_KEPT_BYTES {
        ENCODING.with_borrow_mut(|scope| scope.scratch = scratch);
    }
    result
}

/// Encodes `message` as a payload of its own.
pub(crate) fn to_payload<T: Message>(
    message: &T,
    codec: Codec,
    runtime: &Runtime,
    to: &Destination,
) -> Result<Payload, CodecError> {
    encode(message, codec, runtime, to, |bytes, _| Payload {
        tag: Tag::from_static(tag_of::<T>()),
        codec,
        body: taken(bytes),
    })
}

/// The encoded bytes as a body: a small one is copied, so that the scratch space stays; a large one is taken.
pub(crate) fn taken(encoded: &mut Encoded) -> Bytes {
    if encoded.len() <= SCRATCH_KEPT_BYTES { Bytes::copy_from_slice(encoded.whole()) } else { encoded.take_whole() }
}

fn append<T: Serialize>(message: &T, codec: Codec, out: &mut Encoded) -> Result<(), CodecError> {
    match codec {
        Codec::Bincode => codec::write(message, out),
        Codec::Json => serde_json::to_writer(out, message).map_err(|error| error.to_string()),
        other => Err(format!("{other:?} payloads are passed on, not made, by this runtime")),
    }
}

/// Decodes a payload. Gives the message, and the reply if the message did not take it.
pub(crate) fn decode<T: Message>(
    payload: &Payload,
    runtime: &Runtime,
    reply: Option<RemoteReply>,
) -> Result<(T, Option<RemoteReply>), (CodecError, Option<RemoteReply>)> {
    if !payload.tag.fits(tag_of::<T>()) {
        return Err((format!("this process understands `{}`", tag_of::<T>()), reply));
    }
    let known = DECODING.with_borrow(|scope| scope.runtime.as_ref().is_some_and(|known| known.is(runtime)));
    let (decoded, reply) =
        if known { decode_here(payload, reply) } else { decoding_for(runtime, || decode_here(payload, reply)) };
    match decoded {
        Ok(Ok(message)) => Ok((message, reply)),
        Ok(Err(error)) => Err((error, reply)),
        Err(_) => Err(("its decoder panicked".to_owned(), reply)),
    }
}

/// Decodes in the scope of a runtime that is set. Gives what came of it, and the reply if the message did not take it.
fn decode_here<T: Message>(
    payload: &Payload,
    reply: Option<RemoteReply>,
) -> (std::thread::Result<Result<T, CodecError>>, Option<RemoteReply>) {
    let large = payload.body.len() >= VIEWED_BYTES;
    let (outer_active, outer_reply, outer_body) = DECODING.with_borrow_mut(|scope| {
        let outer_reply = if scope.reply.is_some() { scope.reply.take() } else { None };
        if reply.is_some() {
            scope.reply = reply;
        }
        let body = if large { Some(payload.body.clone()) } else { None };
        (std::mem::replace(&mut scope.active, true), outer_reply, std::mem::replace(&mut scope.body, body))
    });
    let decoded = decode_bytes(payload.codec, &payload.body);
    let reply = DECODING.with_borrow_mut(|scope| {
        scope.active = outer_active;
        scope.body = outer_body;
        let reply = if scope.reply.is_some() { scope.reply.take() } else { None };
        if outer_reply.is_some() {
            scope.reply = outer_reply;
        }
        reply
    });
    (decoded, reply)
}

fn decode_bytes<T: Message>(codec: Codec, body: &[u8]) -> std::thread::Result<Result<T, CodecError>> {
    // Deserialize is the user's code: should it panic, what it was decoding is at fault, not the thread's owner.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| decode_as(codec, body)))
}

/// Whether user code has dropped somebody else's reply within the scope: the next message must not find it.
#[inline]
pub(crate) fn has_left_reply() -> bool {
    DECODING.with_borrow(|scope| scope.reply.is_some())
}

/// Decodes a message in a scope that is set, outside of which a panic is caught.
#[inline]
pub(crate) fn decode_as<T: Message>(codec: Codec, body: &[u8]) -> Result<T, CodecError> {
    match codec {
        Codec::Bincode => codec::decode_payload(body),
        Codec::Json => serde_json::from_slice(body).map_err(|error| error.to_string()),
        other => Err(format!("{other:?} payloads are not understood by this process")),
    }
}

/// Runs `f`, which decodes messages that carry no reply by [`decode_as`], in the scope of a batch of their runtime; `None` if
/// there is no such scope. A panic of the user's code ends `f`.
pub(crate) fn decoding_plain<R>(runtime: &Runtime, f: impl FnOnce() -> R) -> Option<R> {
    let begun = DECODING.with_borrow_mut(|scope| {
        let known = scope.runtime.as_ref().is_some_and(|known| known.is(runtime));
        let begins = known && !scope.active && scope.reply.is_none();
        scope.active |= begins;
        begins
    });
    if !begun {
        return None;
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
    let dropped = DECODING.with_borrow_mut(|scope| {
        scope.active = false;
        scope.reply.take()
    });
    // Of somebody else's message, by the user's code, and not this one's to keep.
    drop(dropped);
    result.ok()
}

/// Runs `f` in the scope of the message that is being encoded on this thread, if one is.
pub(crate) fn while_encoding<R>(f: impl FnOnce(&mut Encoding) -> R) -> Option<R> {
    ENCODING.with_borrow_mut(|scope| scope.active.then(|| f(scope)))
}

/// Runs `f` in the scope of the message that is being decoded on this thread, if one is.
pub(crate) fn while_decoding<R>(f: impl FnOnce(&mut Decoding) -> R) -> Option<R> {
    DECODING.with_borrow_mut(|scope| scope.active.then(|| f(scope)))
}

/// A reply that was dropped while a message is being decoded on this thread was part of an attempt that failed: it goes
/// back to what is being decoded, for the next attempt or for the answer that it is not understood (S8).
pub(crate) fn give_back(reply: RemoteReply) -> Option<RemoteReply> {
    DECODING.with_borrow_mut(|scope| {
        if scope.active && scope.reply.is_none() {
            scope.reply = Some(reply);
            None
        } else {
            Some(reply)
        }
    })
}

/// A deserializer that reads nothing: it is told the name of what is wanted, and fails with it.
struct NameProbe;

#[derive(Debug)]
struct Probed(Option<&'static str>);

impl fmt::Display for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("only the name was asked for")
    }
}

impl std::error::Error for Probed {}

impl de::Error for Probed {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(None)
    }
}

macro_rules! primitive {
    ($($method:ident => $name:expr,)*) => {
        $(fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Probed> {
            Err(Probed($name))
        })*
    };
}

impl<'de> Deserializer<'de> for NameProbe {
    type Error = Probed;

    primitive! {
        deserialize_any => None, deserialize_ignored_any => None, deserialize_identifier => None,
        deserialize_bool => Some("bool"), deserialize_char => Some("char"),
        deserialize_i8 => Some("i8"), deserialize_i16 => Some("i16"), deserialize_i32 => Some("i32"),
        deserialize_i64 => Some("i64"), deserialize_i128 => Some("i128"),
        deserialize_u8 => Some("u8"), deserialize_u16 => Some("u16"), deserialize_u32 => Some("u32"),
        deserialize_u64 => Some("u64"), deserialize_u128 => Some("u128"),
        deserialize_f32 => Some("f32"), deserialize_f64 => Some("f64"),
        deserialize_str => Some("string"), deserialize_string => Some("string"),
        deserialize_bytes => Some("bytes"), deserialize_byte_buf => Some("bytes"),
        deserialize_option => Some("option"), deserialize_unit => Some("unit"),
        deserialize_seq => Some("seq"), deserialize_map => Some("map"),
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, _: V) -> Result<V::Value, Probed> {
        Err(Probed(Some(name)))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, _: V) -> Result<V::Value, Probed> {
        Err(Probed(Some(name)))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Probed> {
        Err(Probed(Some("tuple")))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, name: &'static str, _: usize, _: V) -> Result<V::Value, Probed> {
        Err(Probed(Some(name)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Probed> {
        Err(Probed(Some(name)))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Probed> {
        Err(Probed(Some(name)))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::tag_of;

    #[derive(Serialize, Deserialize)]
    enum Counter {
        Add(i64),
    }

    #[derive(Serialize, Deserialize)]
    #[serde(rename = "shop.Order")]
    struct Order {
        id: u32,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u8),
    }

    #[test]
    fn a_tag_is_the_name_that_serde_knows() {
        assert_eq!(tag_of::<Counter>(), "Counter");
        assert_eq!(tag_of::<Order>(), "shop.Order");
        assert_eq!(tag_of::<i64>(), "i64");
        assert_eq!(tag_of::<String>(), "string");
        assert!(tag_of::<Untagged>().ends_with("Untagged"));
    }
}
