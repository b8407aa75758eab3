//! Slots: where a caller waits for the outcome of its call, filled from this node by the value itself, and from elsewhere by
//! a payload. A slot is filled once; whoever comes later finds it full or closed, and what it brings is dropped (A2).

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use rookery_protocol::{CallFailure, CallId, Payload};

use super::{CallError, dropping};
use crate::{
    address::SendError,
    message::{self, Message},
    process::deadline::{Clock, Deadline},
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
            waker.wake();
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

    /// Notes the number that this call has in [`Calls`](super::Calls).
    pub(crate) fn set_call(&self, call: CallId) {
        self.call.store(call.0, Ordering::Release);
    }

    /// That number, once the call has left this node.
    pub(super) fn call(&self) -> Option<CallId> {
        match self.call.load(Ordering::Acquire) {
            0 => None,
            call => Some(CallId(call)),
        }
    }

    pub(crate) fn close(&self) -> Option<CallId> {
        *lock(&self.state) = SlotState::Closed;
        self.call()
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
}
