//! Slots: where a caller waits for the outcome of its call, filled from this node by the value itself, and from elsewhere by
//! a payload. A slot is filled once; whoever comes later finds it full or closed, and what it brings is dropped (A2).

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use rookery_protocol::{CallFailure, CallId, Destination, Payload, ReplyRoute};

use super::{CallError, dropping};
use crate::{
    address::SendError,
    message::{self, Message},
    net::arriving,
    process::{
        current,
        deadline::{Clock, Deadline},
    },
    runtime::Runtime,
    sync::lock,
};

/// Where a local caller waits.
pub(crate) struct Slot<T: Send + 'static> {
    state: Mutex<SlotState<T>>,
    /// The number in [`Calls`](super::Calls), once the call has left this node; 0 before.
    call: AtomicU64,
    /// Until when the caller waits; none if for weeks.
    deadline: Option<Deadline>,
    /// What the deadline is relative to.
    clock: Clock,
}

enum SlotState<T: Send + 'static> {
    /// Nothing has come; the caller is woken when it does.
    Empty(Option<Waker>),
    /// The outcome, until the caller takes it.
    Full(Result<T, CallFailure>),
    /// The caller has it, or gave up.
    Closed,
}

impl<T: Send + 'static> Slot<T> {
    pub(crate) fn new(clock: Clock, deadline: Option<Deadline>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(SlotState::Empty(None)), call: AtomicU64::new(0), deadline, clock })
    }

    pub(crate) fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    pub(super) fn put(&self, outcome: Result<T, CallFailure>) {
        let mut state = lock(&self.state);
        let SlotState::Empty(waker) = &mut *state else {
            drop(state);
            return dropping::quietly(outcome);
        };
        let waker = waker.take();
        *state = SlotState::Full(outcome);
        drop(state);
        if let Some(waker) = waker {
            arriving::wake(waker);
        }
    }

    /// The message of the call was not sent.
    pub(crate) fn not_sent<M>(&self, error: SendError<M>) {
        self.put(Err(CallFailure::Refused(error.to_string())));
        dropping::within(dropping::Mode::Sent, error.into_message());
    }

    /// The outcome, if there is one.
    pub(crate) fn take(&self) -> Option<Result<T, CallError>> {
        match std::mem::replace(&mut *lock(&self.state), SlotState::Closed) {
            SlotState::Full(outcome) => Some(outcome.map_err(CallError::from)),
            SlotState::Empty(_) | SlotState::Closed => None,
        }
    }

    pub(crate) fn poll_take(&self, cx: &Context<'_>) -> Poll<Result<T, CallFailure>> {
        let mut state = lock(&self.state);
        if let SlotState::Empty(waker) = &mut *state {
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        match std::mem::replace(&mut *state, SlotState::Closed) {
            SlotState::Full(outcome) => Poll::Ready(outcome),
            SlotState::Empty(_) | SlotState::Closed => Poll::Ready(Err(CallFailure::NoProc)),
        }
    }

    /// The number that this call has in [`Calls`](super::Calls), once it has left this node.
    pub(crate) fn call(&self) -> Option<CallId> {
        match self.call.load(Ordering::Acquire) {
            0 => None,
            call => Some(CallId(call)),
        }
    }

    /// The caller waits no more; what comes is dropped.
    pub(crate) fn close(&self) {
        *lock(&self.state) = SlotState::Closed;
    }

    pub(super) fn is_awaited(&self) -> bool {
        matches!(&*lock(&self.state), SlotState::Empty(_))
    }
}

/// A slot whose type is known to the caller alone.
pub(crate) trait AnySlot: Send + Sync {
    /// Puts a reply that came from elsewhere.
    fn fill(&self, payload: Payload, runtime: &Runtime);
    /// Puts a failure.
    fn fail(&self, failure: CallFailure);
    /// Makes the caller known to the wire, with what becomes of it should the connection to `to` be lost.
    fn await_reply(self: Arc<Self>, runtime: &Runtime, to: &Destination) -> ReplyRoute;
}

impl<T: Message> AnySlot for Slot<T> {
    fn fill(&self, payload: Payload, runtime: &Runtime) {
        self.put(match message::decode::<T>(&payload, runtime, None) {
            Ok((value, _)) => Ok(value),
            Err((detail, _)) => Err(CallFailure::Unsupported { tag: payload.tag, detail }),
        });
    }

    fn fail(&self, failure: CallFailure) {
        self.put(Err(failure));
    }

    fn await_reply(self: Arc<Self>, runtime: &Runtime, to: &Destination) -> ReplyRoute {
        known(&self, self.clone(), runtime, to)
    }
}

/// The route to `slot`, by a number that it has from now on.
fn known<T: Send + 'static>(
    slot: &Slot<T>,
    shared: Arc<dyn AnySlot>,
    runtime: &Runtime,
    to: &Destination,
) -> ReplyRoute {
    let call = match slot.call() {
        Some(call) => {
            runtime.calls().redirect(call, to);
            call
        }
        None => {
            let call = runtime.calls().insert(shared, to.clone());
            slot.call.store(call.0, Ordering::Release);
            // Who handed it on may be later than the caller's patience, which then found no entry to take away.
            if !slot.is_awaited() {
                runtime.calls().remove(call);
            }
            call
        }
    };
    ReplyRoute { to: current::pid().unwrap_or_else(|| runtime.own_pid()), call }
}

/// A caller that takes the reply as it comes, without decoding it.
pub(crate) struct RawSlot(pub(crate) Arc<Slot<RawReply>>);

/// A reply that was not decoded. Never a message itself.
pub(crate) struct RawReply(pub(crate) Payload);

impl AnySlot for RawSlot {
    fn fill(&self, payload: Payload, _: &Runtime) {
        self.0.put(Ok(RawReply(payload)));
    }

    fn fail(&self, failure: CallFailure) {
        self.0.put(Err(failure));
    }

    fn await_reply(self: Arc<Self>, runtime: &Runtime, to: &Destination) -> ReplyRoute {
        known(&self.0, self.clone(), runtime, to)
    }
}
