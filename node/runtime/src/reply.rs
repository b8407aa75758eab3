//! Replies to calls. A [`ReplyTo`] is data: it may be kept, sent on to another process or node, and answers once.
//!
//! A caller learns at once that no answer will come, since a `ReplyTo` that is dropped unanswered says so: with the exit
//! reason when its holder ended, with `Refused` when its holder merely dropped it. What a drop means depends on where
//! it happens, so the thread knows (see [`dropping`] and [`crate::process::current`]).
//!
//! ```text
//! same node:    ReplyTo ── value ──▶ Slot ◀── caller                      nothing is serialised
//! other node:   ReplyTo ── payload ─▶ Reply signal ─▶ Calls ─▶ Slot ◀── caller
//! ```

mod calls;
pub(crate) mod dropping;
mod slot;

use std::{fmt, sync::Arc, time::Duration};

use rookery_protocol::{CallFailure, Codec, ExitReason, Payload, Pid, ReplyRoute, Signal, SignalBody, Tag};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    message::{self, Carrying, Message},
    process::{current, deadline::Deadline},
    runtime::Runtime,
};
pub(crate) use calls::Calls;
pub(crate) use slot::{AnySlot, RawReply, RawSlot, Slot};

/// Why a call gave no reply (A1).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallError {
    /// No answer came in time. The request may or may not have run (A3); an answer that comes now is dropped (A2).
    #[error("no answer came in time; the request may or may not have run")]
    Timeout,
    /// There is no such process: nothing ran.
    #[error("there is no such process")]
    NoProc,
    /// The connection to the receiver's node is lost, or there is none. The request may or may not have run (A3).
    #[error("there is no connection to the receiver's node; the request may or may not have run")]
    NoConnection,
    /// The receiver ended before it answered. The request may or may not have run.
    #[error("the receiver ended before it answered: {0}")]
    Exited(ExitReason),
    /// The receiver does not understand the request, or we do not understand its answer.
    #[error("the message{} is not understood: {detail}", if tag.as_str().is_empty() { String::new() } else { format!(" `{tag}`") })]
    Unsupported {
        /// The tag of what was not understood.
        tag: Tag,
        /// What its decoder says.
        detail: String,
    },
    /// The receiver, a policy on the way, or a limit declined.
    #[error("refused: {0}")]
    Refused(String),
}

impl From<CallFailure> for CallError {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::NoProc => Self::NoProc,
            CallFailure::Exited(reason) => Self::Exited(reason),
            CallFailure::Unsupported { tag, detail } => Self::Unsupported { tag, detail },
            CallFailure::Refused(detail) => Self::Refused(detail),
            CallFailure::NoConnection => Self::NoConnection,
        }
    }
}

/// Why a reply could not be given. The caller is told as well.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReplyError {
    /// The reply is larger than the caller's node accepts.
    #[error("a reply of {bytes} bytes is larger than the caller's limit of {limit} (max_message_bytes)")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The value's `Serialize` failed.
    #[error("the reply cannot be encoded: {0}")]
    Encode(String),
}

/// Answers one call, once.
///
/// In a message it takes no place: `Get(ReplyTo<i64>)` is `{"Get":null}` in JSON. A message that crosses to another
/// node can carry one. Dropping it unanswered ends the caller's wait with [`CallError::Refused`], or with
/// [`CallError::Exited`] when the holder ends.
pub struct ReplyTo<T: Send + 'static> {
    to: To<T>,
}

enum To<T: Send + 'static> {
    /// A caller in this runtime.
    Local(Arc<Slot<T>>),
    /// A caller elsewhere, or one that speaks another codec. Boxed, so that messages between processes of one node are small.
    Remote(Box<RemoteReply>),
    /// Nobody waits: the message was sent, not called; or it has been answered.
    Nobody,
}

/// A caller that is reached by a signal.
pub(crate) struct RemoteReply {
    pub(crate) runtime: Runtime,
    pub(crate) route: ReplyRoute,
    /// The codec that the request came in: the reply goes back in the same.
    pub(crate) codec: Codec,
    /// Until when the caller waits, as far as is known here.
    pub(crate) deadline: Option<Deadline>,
    /// Whether a client sent the request or waits for its answer.
    by_client: bool,
    /// Whether these are two.
    handed_on: bool,
}

impl RemoteReply {
    /// What came with a request of `from`. Who sends and who waits are not always one: a client can hand on what a member
    /// has asked it, and must not get by it what it may not ask itself.
    pub(crate) fn new(
        runtime: Runtime,
        from: &Pid,
        route: ReplyRoute,
        codec: Codec,
        deadline: Option<Deadline>,
    ) -> Self {
        let of_client = |pid: &Pid| pid.serial().session().is_some() && !runtime.is_own(&pid.into());
        let by_client = of_client(from) || of_client(&route.to);
        let handed_on = from.node() != route.to.node() || from.serial().session() != route.to.serial().session();
        Self { runtime, route, codec, deadline, by_client, handed_on }
    }

    pub(crate) fn answer(self, outcome: Result<Payload, CallFailure>) {
        let from = current::pid().unwrap_or_else(|| self.runtime.own_pid());
        let body = SignalBody::Reply { call: self.route.call, outcome };
        self.runtime.signal(Signal { from, to: self.route.to.into(), body });
    }

    /// Answers that the message was taken, to who called with a message that has no [`ReplyTo`].
    pub(crate) fn acknowledge(self) {
        let codec = self.codec;
        let payload = message::to_payload(&(), codec, &self.runtime, &(&self.route.to).into());
        self.answer(payload.map_err(CallFailure::Refused));
    }
}

impl<T: Send + 'static> ReplyTo<T> {
    pub(crate) fn local(slot: Arc<Slot<T>>) -> Self {
        Self { to: To::Local(slot) }
    }

    /// Whether somebody still waits for the answer. A remote caller that gave up is not known of here.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        match &self.to {
            To::Local(slot) => slot.is_awaited(),
            To::Remote(_) => true,
            To::Nobody => false,
        }
    }

    /// Whether it is a member that asks: a process of this runtime or of a node. For requests that clients may not make,
    /// whatever their policy, of a process that answers them others (C3). False when nobody waits, since then it is not
    /// known who has sent the message.
    #[must_use]
    pub fn asked_by_member(&self) -> bool {
        match &self.to {
            To::Local(_) => true,
            To::Remote(remote) => !remote.by_client,
            To::Nobody => false,
        }
    }

    /// The process of a client that asks, if it is a client's alone: for requests that some clients may make (C3). Which
    /// client it is, the node of that pid knows.
    #[must_use]
    pub fn asked_by_client(&self) -> Option<&Pid> {
        match &self.to {
            To::Remote(remote) if remote.by_client && !remote.handed_on => Some(&remote.route.to),
            _ => None,
        }
    }

    /// How long the caller still waits (A4); it may have given up before. `None` if nobody waits, or for weeks. A call
    /// that came from another node may have been on its way for longer than is known here.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        let clock = match &self.to {
            To::Local(slot) => slot.clock(),
            To::Remote(remote) => remote.runtime.clock(),
            To::Nobody => return None,
        };
        Some(clock.left(self.deadline()?, Instant::now()))
    }

    pub(crate) fn deadline(&self) -> Option<Deadline> {
        match &self.to {
            To::Local(slot) => slot.deadline(),
            To::Remote(remote) => remote.deadline,
            To::Nobody => None,
        }
    }

    /// Takes what it leads to, to answer: the process that does works no more under the call's deadline.
    fn take(&mut self) -> To<T> {
        if let Some(deadline) = self.deadline() {
            current::answered(deadline);
        }
        std::mem::replace(&mut self.to, To::Nobody)
    }
}

impl<T: Message> ReplyTo<T> {
    /// Gives the answer. Does not wait. One that cannot be sent is the caller's trouble, who gets [`CallError::Refused`]
    /// and the reason; [`send`](Self::send) tells it here too.
    pub fn answer(self, value: T) {
        drop(self.send(value));
    }

    /// Gives the answer. Does not wait. If the caller has given up, or its connection is lost, the answer is dropped.
    ///
    /// # Errors
    /// When the answer cannot be sent to where the caller is; the caller then gets [`CallError::Refused`].
    pub fn send(mut self, value: T) -> Result<(), ReplyError> {
        match self.take() {
            To::Local(slot) => {
                slot.put(Ok(value));
                Ok(())
            }
            To::Remote(remote) => {
                let to = (&remote.route.to).into();
                let payload = match message::to_payload(&value, remote.codec, &remote.runtime, &to) {
                    Ok(payload) => payload,
                    Err(detail) => {
                        remote.answer(Err(CallFailure::Refused(format!("the reply cannot be encoded: {detail}"))));
                        return Err(ReplyError::Encode(detail));
                    }
                };
                let limit = remote.runtime.max_message_bytes(&remote.route.to);
                let bytes = payload.body.len();
                if bytes > limit {
                    let error = ReplyError::TooLarge { bytes, limit };
                    remote.answer(Err(CallFailure::Refused(error.to_string())));
                    return Err(error);
                }
                remote.answer(Ok(payload));
                Ok(())
            }
            To::Nobody => Ok(()),
        }
    }
}

impl<T: Send + 'static> ReplyTo<T> {
    /// Gives the answer to a caller in this runtime; the value is moved.
    pub(crate) fn put(mut self, value: T) {
        if let To::Local(slot) = self.take() {
            slot.put(Ok(value));
        }
    }

    /// Declines: the caller gets [`CallError::Refused`] with this text. Does not wait.
    pub fn refuse(mut self, why: impl Into<String>) {
        fail(self.take(), CallFailure::Refused(why.into()));
    }
}

fn fail<T: Send + 'static>(to: To<T>, failure: CallFailure) {
    match to {
        To::Local(slot) => slot.put(Err(failure)),
        To::Remote(remote) => remote.answer(Err(failure)),
        To::Nobody => {}
    }
}

impl<T: Send + 'static> fmt::Debug for ReplyTo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            To::Local(_) => f.write_str("ReplyTo(local)"),
            To::Remote(remote) => write!(f, "ReplyTo({}, call {})", remote.route.to, remote.route.call),
            To::Nobody => f.write_str("ReplyTo(nobody)"),
        }
    }
}

impl<T: Send + 'static> Drop for ReplyTo<T> {
    fn drop(&mut self) {
        if matches!(self.to, To::Nobody) {
            return;
        }
        match dropping::mode() {
            dropping::Mode::Sent => {}
            dropping::Mode::Fail(failure) => fail(self.take(), failure),
            // Whether its holder goes on or ends is known only when it next yields.
            dropping::Mode::Unanswered => match self.take() {
                To::Local(slot) => current::orphan(Box::new(move |failure| slot.put(Err(failure)))),
                To::Remote(remote) => {
                    if let Some(remote) = message::give_back(*remote) {
                        current::orphan(Box::new(move |failure| remote.answer(Err(failure))));
                    }
                }
                To::Nobody => {}
            },
        }
    }
}

impl<T: Message> Serialize for ReplyTo<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let placed = message::while_encoding(|scope| {
            let reply = match &self.to {
                To::Local(slot) => Carrying::Local(slot.clone(), self.deadline()),
                To::Remote(remote) => Carrying::Remote(remote.route.clone(), self.deadline()),
                To::Nobody => return Ok(()),
            };
            if scope.reply.is_some() {
                return Err("a message to another node can carry one ReplyTo");
            }
            scope.reply = Some(reply);
            Ok(())
        });
        match placed {
            Some(Ok(())) => serializer.serialize_unit(),
            Some(Err(text)) => Err(ser::Error::custom(text)),
            None => Err(ser::Error::custom("a ReplyTo is serialised only as part of a message that is being sent")),
        }
    }
}

impl<'de, T: Send + 'static> Deserialize<'de> for ReplyTo<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer)?;
        match message::while_decoding(|scope| scope.reply.take()) {
            Some(Some(remote)) => Ok(Self { to: To::Remote(Box::new(remote)) }),
            Some(None) => Ok(Self { to: To::Nobody }),
            None => Err(de::Error::custom("a ReplyTo is decoded only as part of a message that arrives")),
        }
    }
}
