//! How messages of other nodes get into a mailbox: decoded as they arrive, outside of its lock.

use rookery_protocol::{CallFailure, CreditChange, Payload, PlainMessage, Run, TraceContext};

use crate::{
    message::{self, Message},
    net::arriving,
    process::{
        bounded::{self, Admission},
        mailbox::{
            Process,
            item::{Item, Other},
        },
    },
    reply::RemoteReply,
    sync::lock,
};

/// Payloads up to this size are decoded as they arrive; larger ones by their receiver, on its own time.
const DECODED_ON_ARRIVAL_BYTES: usize = 1024;

/// Messages that are decoded, outside of the lock, before they are queued together.
const DECODED_AT_ONCE: usize = 64;

impl<M: Message> Process<M> {
    pub(super) fn take_payload(
        &self,
        payload: Payload,
        reply: Option<RemoteReply>,
        trace: Option<Box<TraceContext>>,
        admission: Admission<'_>,
    ) -> bool {
        if !payload.tag.fits(message::tag_of::<M>()) {
            let detail = format!("the process understands `{}`", message::tag_of::<M>());
            self.runtime.not_understood(&self.pid, payload.tag, detail, reply);
            return self.tell(self.counted(admission, false));
        }
        let deadline = reply.as_ref().and_then(|reply| reply.deadline);
        let (item, taken) = if payload.body.len() <= DECODED_ON_ARRIVAL_BYTES {
            match message::decode::<M>(&payload, &self.runtime, reply) {
                Ok((message, untaken)) => (Item::of(message, deadline, trace.map(|trace| *trace)), untaken),
                Err((detail, reply)) => {
                    self.runtime.not_understood(&self.pid, payload.tag, detail, reply);
                    return self.tell(self.counted(admission, false));
                }
            }
        } else {
            (Item::Other(Box::new(Other::Encoded(payload, reply, trace))), None)
        };
        let mut state = lock(&self.state);
        if state.ended() {
            drop(state);
            self.runtime.dead_letter(&self.pid, "the process has ended");
            item.fail(&CallFailure::NoProc);
            if let Some(reply) = taken {
                reply.answer(Err(CallFailure::NoProc));
            }
            if let Admission::Counted(asker, number) = admission {
                bounded::tell(&self.runtime, &self.pid, asker.clone(), number, CreditChange::Unlimited);
            }
            return false;
        }
        if matches!(admission, Admission::IfRoom) && state.is_full() {
            drop(state);
            self.runtime.dead_letter(&self.pid, "its mailbox is full");
            return false;
        }
        let told = self.counted(admission, true);
        let waker = state.push(item);
        if let Some(reply) = taken {
            state.queue.push_back(Item::Other(Box::new(Other::Taken(reply))));
        }
        drop(state);
        if let Some(waker) = waker {
            arriving::wake(waker);
        }
        self.tell(told)
    }

    pub(super) fn take_plain(&self, message: &PlainMessage) -> bool {
        if message.tag_bytes() != message::tag_of::<M>().as_bytes() || message.body().len() > DECODED_ON_ARRIVAL_BYTES {
            return false;
        }
        let decode = || message::decode_as::<M>(message.codec(), message.body());
        let message = message::decoding_plain(&self.runtime, decode).and_then(Result::ok);
        let is_understood = message.is_some();
        self.queue_all(message.into_iter());
        is_understood
    }

    pub(super) fn take_run(&self, run: &mut Run) -> u64 {
        if run.tag_bytes() != message::tag_of::<M>().as_bytes() {
            return 0;
        }
        let mut taken = 0;
        // On the heap: a message may be large, and this is the I/O's stack.
        let mut decoded = Vec::new();
        let mut last = None;
        loop {
            // What panics, or is not understood, stays in the run, and is told of as a message for itself.
            let stopped = message::decoding_plain(&self.runtime, || {
                while let Some(body) = run.peek() {
                    let Ok(message) = message::decode_as::<M>(run.codec(), body) else { return true };
                    run.advance();
                    let is_last = run.peek().is_none() || message::has_left_reply();
                    if decoded.is_empty() {
                        if is_last {
                            last = Some(message);
                            return true;
                        }
                        decoded.reserve(DECODED_AT_ONCE);
                    }
                    decoded.push(message);
                    if is_last {
                        return true;
                    }
                    if decoded.len() == DECODED_AT_ONCE {
                        return false;
                    }
                }
                true
            });
            taken += decoded.len() as u64 + u64::from(last.is_some());
            if !decoded.is_empty() || last.is_some() {
                self.queue_all(decoded.drain(..).chain(last.take()));
            }
            if stopped != Some(false) {
                return taken;
            }
        }
    }

    /// Queues messages of others that ask for no answer, in order.
    fn queue_all(&self, messages: impl Iterator<Item = M>) {
        let mut state = lock(&self.state);
        if state.ended() {
            drop(state);
            for message in messages {
                self.runtime.dead_letter(&self.pid, "the process has ended");
                Item::Message(message).fail(&CallFailure::NoProc);
            }
            return;
        }
        let wakers = messages.map(|message| state.push(Item::Message(message)));
        let waker = wakers.fold(None, Option::or);
        drop(state);
        if let Some(waker) = waker {
            arriving::wake(waker);
        }
    }
}
