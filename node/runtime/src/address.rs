//! Addresses: where to send messages of one type. The same in a node and in a client, for a process here or elsewhere.
//!
//! ```text
//! local process ─▶ its mailbox, by a pointer that the address holds      (the value is moved)
//! anything else ─▶ looked up at each send: here by name, or the connection to its node (`routing.rs`)
//! ```
//! A message that is not sent comes back with the reason. Order (S1) is that of the sender's own steps.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rookery_protocol::{CallFailure, Codec, Destination, Pid, Recipient, RunBuffer, lane::MessageHead};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use crate::{
    message::{self, Message},
    net::{credit::Credit, outbound::Outbound},
    process::{
        AnyProcess,
        deadline::Deadline,
        info::Callee,
        mailbox::{Process, Pushed},
    },
    reply::{CallError, ReplyTo, dropping},
    runtime::Runtime,
    tally::{Kind, Route},
    trace,
};

/// How long a call waits for its answer unless told: as `gen_server:call/2`.
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Where to send messages of type `M`.
///
/// Sending to a process that does not live is no error (S3): monitor it, or call it, to know. An address can be sent in
/// a message; it is the process's pid then.
///
/// ```no_run
/// # use rookery_runtime::{Address, CallError, ReplyTo};
/// #[derive(serde::Serialize, serde::Deserialize)]
/// enum Counter { Add(i64), Get(ReplyTo<i64>) }
///
/// async fn add_and_get(counter: &Address<Counter>) -> Result<i64, CallError> {
///     counter.send(Counter::Add(5)).await.map_err(|error| CallError::Refused(error.to_string()))?;
///     counter.call(Counter::Get).await
/// }
/// ```
pub struct Address<M: Message> {
    target: Target<M>,
}

enum Target<M: Message> {
    /// A process of this runtime: no look-up.
    Local(Arc<Process<M>>),
    /// Anything else.
    Elsewhere(Arc<Elsewhere>),
}

/// What is looked up at each send, but for the way to another node.
pub(crate) struct Elsewhere {
    runtime: Runtime,
    to: Destination,
    way: OnceLock<Way>,
}

/// The way to another node, and what may be sent there.
pub(crate) struct Way {
    /// Good until it is closed.
    pub(crate) connection: Arc<Outbound>,
    /// Good for ever. `None`: whoever is connected does not count.
    pub(crate) credit: Option<Arc<Credit>>,
}

impl Elsewhere {
    /// Who has the name just now, where a node sends by a name of the cluster.
    fn resolved(&self) -> Cow<'_, Destination> {
        match &self.to.to {
            Recipient::ClusterName(_) => Cow::Owned(self.runtime.resolved(self.to.clone())),
            _ => Cow::Borrowed(&self.to),
        }
    }

    /// What is addressed.
    pub(crate) fn destination(&self) -> &Destination {
        &self.to
    }

    /// Queues messages that were staged on the way that is known. Whether there is room for more; `None` if it is closed.
    pub(crate) fn push_staged(&self, head: &MessageHead<'_>, messages: &RunBuffer) -> Option<bool> {
        let has_room = self.way.get()?.connection.push_messages(head, messages).ok()?;
        self.runtime.count_many(Route::Sent, Kind::Message, messages.messages() as u64);
        Some(has_room)
    }

    /// So many messages were for a connection that is closed.
    pub(crate) fn lost(&self, count: u64) {
        self.runtime.undeliverable_messages(&self.to, count);
    }

    fn push<M: Message>(self: &Arc<Self>, message: M, deadline: Option<Deadline>) -> Result<(), Unsent<M>> {
        let Self { runtime, to, way } = &**self;
        // Known since the first send, and good until it is closed.
        if let Some(way) = way.get().filter(|way| !way.connection.is_closed()) {
            return runtime.send_over(way, to, message, Codec::Bincode, Some(self));
        }
        let to = &*self.resolved();
        if runtime.is_own(to) {
            return match runtime.recipient(&to.to) {
                Some(process) => match process.clone().as_any().downcast::<Process<M>>() {
                    Ok(process) => push(&process, message, deadline, false),
                    Err(_) => Ok(runtime.send_as_bytes(&*process, message, Codec::Bincode)?),
                },
                None => match runtime.client_of(&to.to) {
                    Some(pid) => runtime.send_remote(&pid.into(), message, Codec::Bincode),
                    None => {
                        runtime.undeliverable(to, message);
                        Ok(())
                    }
                },
            };
        }
        match runtime.way(to) {
            Some(found) => {
                let sent = runtime.send_over(&found, to, message, Codec::Bincode, None);
                // A name of the cluster may be held elsewhere next time.
                if !matches!(self.to.to, Recipient::ClusterName(_)) && way.get().is_none() {
                    drop(way.set(found));
                }
                sent
            }
            None => {
                runtime.undeliverable(to, message);
                Ok(())
            }
        }
    }
}

/// Why a message was not sent; it comes back. A receiver that does not live is no such error.
#[derive(Error)]
pub enum SendError<M> {
    /// It is larger than the receiver's node accepts (S5).
    #[error("a message of {bytes} bytes is larger than the receiver's limit of {limit} (max_message_bytes)")]
    TooLarge {
        /// Its size in bytes, encoded.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
        /// The message.
        message: M,
    },
    /// Its `Serialize` failed.
    #[error("the message cannot be encoded: {detail}")]
    Encode {
        /// What the codec says.
        detail: String,
        /// The message.
        message: M,
    },
    /// Only by `try_send`: the receiver's mailbox (S7), or the buffer to its node (S6), is full.
    #[error("the receiver's mailbox, or the buffer to its node, is full")]
    Full {
        /// The message.
        message: M,
    },
}

impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendError({self})")
    }
}

impl<M> SendError<M> {
    /// The message, given back.
    pub fn into_message(self) -> M {
        match self {
            Self::TooLarge { message, .. } | Self::Encode { message, .. } | Self::Full { message } => message,
        }
    }
}

/// A message that was not sent, and how large it is when encoded, if it was: where there must be room for it.
pub(crate) struct Unsent<M> {
    pub(crate) error: SendError<M>,
    pub(crate) body_bytes: usize,
}

impl<M> From<SendError<M>> for Unsent<M> {
    fn from(error: SendError<M>) -> Self {
        Self { error, body_bytes: 0 }
    }
}

impl<M: Message> Address<M> {
    pub(crate) fn local(process: Arc<Process<M>>) -> Self {
        Self { target: Target::Local(process) }
    }

    pub(crate) fn new(runtime: Runtime, to: Destination) -> Self {
        // A name may change hands, so an address by name is looked up at each send.
        if let Recipient::Serial(serial) = to.to
            && let Some(process) = runtime.typed::<M>(&Pid::new(to.node.clone(), serial))
        {
            return Self::local(process);
        }
        Self { target: Target::Elsewhere(Arc::new(Elsewhere { runtime, to, way: OnceLock::new() })) }
    }

    /// The process, unless it is addressed by name.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        match &self.target {
            Target::Local(process) => Some(process.pid().clone()),
            Target::Elsewhere(elsewhere) => match &elsewhere.to {
                Destination { node, to: Recipient::Serial(serial) } => Some(Pid::new(node.clone(), *serial)),
                _ => None,
            },
        }
    }

    /// What is addressed, as [`Context::monitor`](crate::Context::monitor) takes it.
    #[must_use]
    pub fn destination(&self) -> Destination {
        match &self.target {
            Target::Local(process) => process.pid().into(),
            Target::Elsewhere(elsewhere) => elsewhere.to.clone(),
        }
    }

    /// Sends a message. At most one copy arrives (S2), after everything that this process sent there before (S1).
    ///
    /// Waits only while the receiver's bounded mailbox (S7), or the buffer to its node (S6), is full; not for a receiver that
    /// ends meanwhile, nor for a connection that is lost. While many messages wait for a process of this node, it lets
    /// other processes run now and then. What is lost with a connection is not told here: links, monitors and calls tell.
    ///
    /// Of several small ones in a row to one process of another node those behind the first leave together: when this process
    /// next waits or sends anything else, and some milliseconds later at the latest, should it keep its thread.
    ///
    /// # Errors
    /// The message is too large, or cannot be encoded; both only towards another node or client.
    pub fn send(&self, message: M) -> impl Future<Output = Result<(), SendError<M>>> + Send {
        self.send_until(message, None)
    }

    /// As [`send`](Self::send); beside the message lies until when its sender waits for the answer.
    #[inline]
    pub(crate) async fn send_until(&self, message: M, deadline: Option<Deadline>) -> Result<(), SendError<M>> {
        match self.offer(message, deadline, true) {
            Ok(()) => Ok(()),
            // Boxed: it is rare, and nobody's future shall have room for it.
            Err(Unsent { error: SendError::Full { message }, body_bytes }) => {
                Box::pin(self.send_when_room(message, deadline, body_bytes)).await
            }
            Err(unsent) => Err(unsent.error),
        }
    }

    async fn send_when_room(
        &self,
        mut message: M,
        deadline: Option<Deadline>,
        mut body_bytes: usize,
    ) -> Result<(), SendError<M>> {
        loop {
            self.room(body_bytes).await;
            (message, body_bytes) = match self.try_send_until(message, deadline) {
                Ok(()) => return Ok(()),
                Err(Unsent { error: SendError::Full { message }, body_bytes }) => (message, body_bytes),
                Err(unsent) => return Err(unsent.error),
            };
        }
    }

    /// Waits until there may be room for a message that takes so much when encoded.
    pub(crate) async fn room(&self, body_bytes: usize) {
        let (runtime, to) = match &self.target {
            Target::Local(process) => return process.room().await,
            Target::Elsewhere(elsewhere) => (&elsewhere.runtime, &*elsewhere.resolved()),
        };
        if !runtime.is_own(to) {
            return runtime.room_towards(to, body_bytes).await;
        }
        let local = runtime.recipient(&to.to).and_then(|process| process.as_any().downcast::<Process<M>>().ok());
        match (local, runtime.client_of(&to.to)) {
            (Some(process), _) => process.room().await,
            (None, Some(client)) => runtime.room_towards(&client.into(), body_bytes).await,
            // Whoever had the name has ended meanwhile; the next try finds out.
            (None, None) => {}
        }
    }

    /// As [`send`](Self::send), but gives the message back instead of waiting.
    ///
    /// # Errors
    /// As `send`, and [`SendError::Full`].
    pub fn try_send(&self, message: M) -> Result<(), SendError<M>> {
        self.try_send_until(message, None).map_err(|unsent| unsent.error)
    }

    /// What goes as bytes has the deadline in its [`ReplyTo`].
    pub(crate) fn try_send_until(&self, message: M, deadline: Option<Deadline>) -> Result<(), Unsent<M>> {
        self.offer(message, deadline, false)
    }

    /// As [`try_send`](Self::try_send); who can give way finds a crowded mailbox full at first.
    #[inline]
    fn offer(&self, message: M, deadline: Option<Deadline>, gives_way: bool) -> Result<(), Unsent<M>> {
        match &self.target {
            Target::Local(process) => push(process, message, deadline, gives_way),
            Target::Elsewhere(elsewhere) => elsewhere.push(message, deadline),
        }
    }

    /// Asks and waits for the answer, at most [`DEFAULT_CALL_TIMEOUT`].
    ///
    /// The argument makes the message from the place where the answer goes; an enum's variant does:
    /// `counter.call(Counter::Get)`.
    ///
    /// # Errors
    /// Exactly one of [`CallError`]'s (A1). The receiver's end, or the loss of its node, is told at once. Of
    /// `Timeout`, `NoConnection` and `Exited` nothing follows about whether the request has run (A3).
    pub async fn call<T: Message>(&self, make: impl FnOnce(ReplyTo<T>) -> M) -> Result<T, CallError> {
        self.call_within(DEFAULT_CALL_TIMEOUT, make).await
    }

    /// As [`call`](Self::call), waiting at most `timeout`; less if the calling process itself works on a call whose caller
    /// waits less (A4): see [`Context::time_left`](crate::Context::time_left).
    ///
    /// # Errors
    /// As `call`.
    pub async fn call_within<T: Message>(
        &self,
        timeout: Duration,
        make: impl FnOnce(ReplyTo<T>) -> M,
    ) -> Result<T, CallError> {
        let mut call = self.runtime().begin_call(timeout);
        call.trace(message::tag_of::<M>(), || self.destination().to_string());
        let (message, deadline) = (make(ReplyTo::local(call.slot().clone())), call.slot().deadline());
        let sent = match trace::with(call.context(), || self.offer(message, deadline, true)) {
            Err(Unsent { error: SendError::Full { message }, body_bytes }) => {
                let sending = self.send_when_room(message, deadline, body_bytes);
                call.in_time(Box::pin(trace::maybe_within(call.context(), sending))).await?
            }
            sent => sent.map_err(|unsent| unsent.error),
        };
        if let Err(error) = sent {
            let text = error.to_string();
            dropping::within(dropping::Mode::Sent, error.into_message());
            return Err(CallError::Refused(text));
        }
        call.answer(self.callee()).await
    }

    fn callee(&self) -> Callee<'_> {
        match &self.target {
            Target::Local(process) => Callee::Own(process.pid().serial()),
            Target::Elsewhere(elsewhere) => Callee::Other(&elsewhere.to),
        }
    }

    /// The runtime that this address sends through.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        match &self.target {
            Target::Local(process) => process.runtime(),
            Target::Elsewhere(elsewhere) => &elsewhere.runtime,
        }
    }
}

#[inline]
fn push<M: Message>(
    process: &Process<M>,
    message: M,
    deadline: Option<Deadline>,
    gives_way: bool,
) -> Result<(), Unsent<M>> {
    let is_call = deadline.is_some();
    match process.offer(message, deadline, gives_way) {
        Pushed::Queued => {
            let kind = if is_call { Kind::Call } else { Kind::Message };
            process.runtime().count(Route::Local, kind);
            Ok(())
        }
        Pushed::Full(message) => Err(SendError::Full { message }.into()),
        Pushed::Ended(message) => {
            process.runtime().dead_letter(process.pid(), "the process has ended");
            dropping::within(dropping::Mode::Fail(CallFailure::NoProc), message);
            Ok(())
        }
    }
}

impl<M: Message> Clone for Address<M> {
    fn clone(&self) -> Self {
        let target = match &self.target {
            Target::Local(process) => Target::Local(process.clone()),
            Target::Elsewhere(elsewhere) => Target::Elsewhere(elsewhere.clone()),
        };
        Self { target }
    }
}

/// What is addressed: for [`Context::monitor`](crate::Context::monitor), and for the same process as another node or client
/// of this program reaches it, [`Runtime::address`].
impl<M: Message> From<&Address<M>> for Destination {
    fn from(address: &Address<M>) -> Self {
        address.destination()
    }
}

impl<M: Message> PartialEq for Address<M> {
    fn eq(&self, other: &Self) -> bool {
        self.destination() == other.destination()
    }
}

impl<M: Message> Eq for Address<M> {}

impl<M: Message> fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.destination())
    }
}

impl<M: Message> Serialize for Address<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.pid() {
            Some(pid) => pid.serialize(serializer),
            None => Err(serde::ser::Error::custom("an address by name cannot be sent; send the name")),
        }
    }
}

impl<'de, M: Message> Deserialize<'de> for Address<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pid = Pid::deserialize(deserializer)?;
        match message::while_decoding(|scope| scope.runtime().cloned()).flatten() {
            Some(runtime) => Ok(Self::new(runtime, pid.into())),
            None => Err(de::Error::custom("an address is decoded only as part of a message that arrives")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use std::sync::atomic::{AtomicU64, Ordering};

    use crate::{Context, Runtime, RuntimeConfig};

    /// Far more than a mailbox is crowded by.
    const MANY: u64 = 100_000;

    #[tokio::test]
    async fn whoever_sends_in_a_loop_lets_the_receiver_run() {
        let runtime = Runtime::new(RuntimeConfig::new("a.1".parse().unwrap())).unwrap();
        let received = std::sync::Arc::new(AtomicU64::new(0));
        let count = received.clone();
        let receiver = runtime.spawn(async move |mut context: Context<u64>| {
            while context.message().await.is_some() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let receiver = receiver.unwrap();
        for number in 0..MANY {
            receiver.send(number).await.unwrap();
        }
        let received = received.load(Ordering::Relaxed);
        assert!(received > MANY / 2, "of {MANY} messages {received} were received while they were sent, by one thread");
    }
}
