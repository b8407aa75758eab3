//! Waiting for replies: the caller's half of a call.
//!
//! A call makes a slot, sends what leads to it, and waits; what fills the slot is in `reply.rs`. However the wait ends
//! (reply, failure, timeout, or the caller's own end), the slot is closed and its entry in the table of calls goes, so
//! that a late reply finds nobody (A2).

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rookery_protocol::{CallFailure, CreditNumber, Destination, Payload, Signal, SignalBody, TraceContext};
use tokio::time::Instant;

use crate::{
    process::{AnyProcess, alarm::Until, current, deadline::FAR, info::Callee},
    reply::{AnySlot, CallError, RawReply, RawSlot, Slot},
    runtime::Runtime,
    trace::ActiveSpan,
};

/// Closes the slot, and takes the call out of the table, however the wait ends.
pub(crate) struct Waiting<'a, T: Send + 'static> {
    runtime: &'a Runtime,
    pub(crate) slot: Arc<Slot<T>>,
    /// The outcome was taken, so the slot is closed.
    taken: bool,
}

impl<'a, T: Send + 'static> Waiting<'a, T> {
    pub(crate) fn new(runtime: &'a Runtime, slot: Arc<Slot<T>>) -> Self {
        Self { runtime, slot, taken: false }
    }

    /// What comes into the slot; waits for it.
    pub(crate) async fn outcome(&self) -> Result<T, CallError> {
        poll_fn(|cx| self.slot.poll_take(cx)).await.map_err(CallError::from)
    }
}

impl<T: Send + 'static> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        if !self.taken {
            self.slot.close();
        }
        if let Some(call) = self.slot.call() {
            self.runtime.calls().remove(call);
        }
    }
}

/// A call under way: `slot` is to be put into the message, and then waited at.
pub(crate) struct Call<'a, T: Send + 'static> {
    waiting: Waiting<'a, T>,
    since: Instant,
    until: Instant,
    span: CallSpan,
}

/// Its span, if it is of a trace. Boxed, as it is rare. Dropped before there is an outcome, it has failed.
struct CallSpan(Option<Box<ActiveSpan>>);

impl Drop for CallSpan {
    fn drop(&mut self) {
        if let Some(span) = &mut self.0 {
            span.fail("it was given up before an answer came".to_owned());
        }
    }
}

impl<T: Send + 'static> Call<'_, T> {
    pub(crate) fn slot(&self) -> &Arc<Slot<T>> {
        &self.waiting.slot
    }

    /// It is part of a trace, if what calls is, or if one begins with it.
    #[inline]
    pub(crate) fn trace(&mut self, tag: &str, to: impl FnOnce() -> String) {
        if self.waiting.runtime.tracer().is_some() {
            self.span = CallSpan(self.waiting.runtime.begin_call_span(tag, to));
        }
    }

    /// What is sent for it belongs to this.
    pub(crate) fn context(&self) -> Option<TraceContext> {
        self.span.0.as_ref().map(|span| span.context())
    }

    /// Waits for what sending waits for, no longer than for the answer.
    ///
    /// # Errors
    /// `Timeout`.
    pub(crate) async fn in_time<R>(&self, sending: impl Future<Output = R>) -> Result<R, CallError> {
        Until::new(self.until, sending).await.ok_or(CallError::Timeout)
    }

    /// Waits for what `to` answers.
    pub(crate) async fn answer(&mut self, to: Callee<'_>) -> Result<T, CallError> {
        let answer = Answer { slot: self.slot(), to, since: self.since, caller: None };
        let outcome = match Until::new(self.until, answer).await {
            Some(outcome) => {
                self.waiting.taken = true;
                outcome.map_err(CallError::from)
            }
            None => Err(CallError::Timeout),
        };
        // It has a number only if it has left this runtime.
        let is_local = self.slot().call().is_none();
        self.waiting.runtime.count_call(is_local, &outcome, || self.since.elapsed());
        if let Some(mut span) = self.span.0.take()
            && let Err(error) = &outcome
        {
            span.fail(error.to_string());
        }
        outcome
    }
}

/// What comes into the slot. While it waits, the calling process can be asked whom it waits for.
struct Answer<'a, T: Send + 'static> {
    slot: &'a Slot<T>,
    to: Callee<'a>,
    since: Instant,
    /// The process that has noted it.
    caller: Option<Arc<dyn AnyProcess>>,
}

impl<T: Send + 'static> Future for Answer<'_, T> {
    type Output = Result<T, CallFailure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.slot.poll_take(cx);
        if polled.is_pending() && self.caller.is_none() {
            let (to, since) = (self.to, self.since.into_std());
            self.caller = current::process().filter(|process| process.begin_call(to, since));
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Answer<'_, T> {
    fn drop(&mut self) {
        if let Some(caller) = &self.caller {
            caller.vitals().end_call();
        }
    }
}

impl Runtime {
    /// Begins a call that waits for `timeout` at most.
    pub(crate) fn begin_call<T: Send + 'static>(&self, timeout: Duration) -> Call<'_, T> {
        let since = Instant::now();
        let timeout = self.patience(timeout, since);
        let slot = Slot::new(self.clock(), self.clock().deadline(since, timeout));
        Call { waiting: Waiting::new(self, slot), since, until: since + timeout, span: CallSpan(None) }
    }

    /// How long a call may wait from `now`: no longer than whoever this process works for (A4).
    pub(crate) fn patience(&self, timeout: Duration, now: Instant) -> Duration {
        let inherited = current::inherited().map_or(FAR, |deadline| self.clock().left(deadline, now));
        timeout.min(inherited)
    }

    /// Sends a payload as it is, as one typed by hand. To another node it waits for room, as [`Address::send`] does.
    ///
    /// [`Address::send`]: crate::Address::send
    ///
    /// # Errors
    /// The payload is larger than the receiver's node takes; the text names the limit (S5).
    pub async fn send_payload(&self, to: &Destination, payload: Payload) -> Result<(), CallError> {
        let to = &self.resolved(to.clone());
        self.check_size(to, &payload)?;
        let credit = self.admitted(to, payload.body.len()).await;
        let from = current::pid().unwrap_or_else(|| self.own_pid());
        let trace = self.outgoing().map(Box::new);
        let body = SignalBody::Message { payload, reply: None, deadline_ms: None, credit, trace };
        self.signal(Signal { from, to: to.clone(), body });
        Ok(())
    }

    /// Calls with a payload as it is; the answer comes in the same codec, undecoded. A message that has no place for a
    /// [`ReplyTo`](crate::ReplyTo) is answered with unit (`null`) once its receiver has taken it.
    ///
    /// # Errors
    /// As [`Address::call`](crate::Address::call).
    pub async fn call_payload(
        &self,
        to: &Destination,
        payload: Payload,
        timeout: Duration,
    ) -> Result<Payload, CallError> {
        let to = &self.resolved(to.clone());
        self.check_size(to, &payload)?;
        let mut call: Call<'_, RawReply> = self.begin_call(timeout);
        call.trace(payload.tag.as_str(), || to.to_string());
        let credit = call.in_time(self.admitted(to, payload.body.len())).await?;
        let reply = Some(Arc::new(RawSlot(call.slot().clone())).await_reply(self, to));
        let deadline_ms = call.slot().deadline().map(|deadline| self.clock().left_ms(deadline, Instant::now()));
        let from = current::pid().unwrap_or_else(|| self.own_pid());
        let body = SignalBody::Message { payload, reply, deadline_ms, credit, trace: call.context().map(Box::new) };
        self.signal(Signal { from, to: to.clone(), body });
        Ok(call.answer(Callee::Other(to)).await?.0)
    }

    fn check_size(&self, to: &Destination, payload: &Payload) -> Result<(), CallError> {
        if self.is_own(to) {
            return Ok(());
        }
        let (bytes, limit) = match self.connection(to) {
            Some(connection) => (payload.body.len(), connection.max_message_bytes()),
            None => return Ok(()),
        };
        if bytes > limit {
            let text = format!(
                "a message of {bytes} bytes is larger than the receiver's limit of {limit} (max_message_bytes)"
            );
            return Err(CallError::Refused(text));
        }
        Ok(())
    }

    /// Waits until a message may be sent to another node; gives what stands in it of credit.
    async fn admitted(&self, to: &Destination, body_bytes: usize) -> Option<CreditNumber> {
        if self.is_own(to) {
            return None;
        }
        loop {
            let way = self.way(to)?;
            way.connection.room(self.sender(), body_bytes).await;
            let credit = way.credit?;
            match self.credits().take(&credit) {
                Some(taken) => return taken.number(),
                None => credit.room().await,
            }
        }
    }
}
