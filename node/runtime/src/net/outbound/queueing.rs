//! What goes onto the lanes: signals of every kind, messages where there is room, and who waits for that.

use bytes::Bytes;
use rookery_protocol::{Recipient, RunBuffer, Serial, Signal, SignalBody, lane::MessageHead, request::RequestBody};

use super::{
    APART_BYTES, Body, GiveUp, LIMIT_BUDGETS, NotTaken, Outbound,
    lane::{BATCH_BYTES, FULL_BATCH_BYTES, Lane, LaneState, NEXT_BATCH_BYTES},
    staged,
};
use crate::{scheduler::wake_io, sync::lock};

/// When the lane's writer takes what is queued.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    /// With what is queued next, or when it is [woken](Outbound::wake_writers).
    Later,
}

impl Outbound {
    /// Queues a signal of any kind. Never waits; a message may go beyond the budget by this way.
    ///
    /// # Errors
    /// Gives the signal back when the connection is closed, or its payload too large.
    pub fn push(&self, signal: Signal) -> Result<(), (NotTaken, Box<Signal>)> {
        self.queue(signal, When::Now)
    }

    /// As [`push`](Self::push), of what may wait until there is more on its lane, or until [`wake_writers`](Self::wake_writers),
    /// which the caller sees to.
    ///
    /// # Errors
    /// As `push`.
    pub(crate) fn push_later(&self, signal: Signal) -> Result<(), (NotTaken, Box<Signal>)> {
        self.queue(signal, When::Later)
    }

    /// Has what may wait written.
    pub(crate) fn wake_writers(&self) {
        for lane in &self.lanes {
            let mut state = lock(&lane.state);
            if state.batch.is_empty() && state.apart.is_empty() {
                continue;
            }
            if let Some(writer) = state.writer.take() {
                wake_io(writer);
            }
        }
    }

    fn queue(&self, mut signal: Signal, when: When) -> Result<(), (NotTaken, Box<Signal>)> {
        if signal.body.payload_bytes() > self.max_message_bytes {
            return Err((NotTaken::TooLarge, Box::new(signal)));
        }
        if let SignalBody::Message { trace, .. } = &mut signal.body
            && !self.trace
        {
            *trace = None;
        }
        staged::flush();
        let mut state = lock(&self.lane(lane_of(&signal)).state);
        if state.closed {
            return Err((NotTaken::Closed, Box::new(signal)));
        }
        let state = &mut *state;
        let before = state.batch.len();
        let bulk_limit = self.budget_of_all.saturating_mul(LIMIT_BUDGETS);
        if state.queued > self.limit || self.bulk_queued_bytes() > bulk_limit {
            self.give_up(state, before, GiveUp::TooSlow { bytes: self.limit });
            return Err((NotTaken::Closed, Box::new(signal)));
        }
        if let Some(tap) = &self.tap {
            tap.signal(&signal);
        }
        let payload = match &signal.body {
            SignalBody::Message { payload, .. } | SignalBody::Reply { outcome: Ok(payload), .. } => Some(payload),
            _ => None,
        };
        if let Some((payload, queue)) = payload.and_then(|it| Some((it, self.apart(it.body.len())?))) {
            let ticket = queue.ticket(payload.body.len());
            match state.encoder.ticketed(&signal, ticket, &mut state.batch) {
                Ok(()) => {
                    queue.push(ticket.number, vec![payload.body.clone()]);
                    self.queued_more(state, before, None, when);
                }
                Err(error) => self.give_up(state, before, error.into()),
            }
            return Ok(());
        }
        let apart = match &signal.body {
            SignalBody::Message { payload, reply, deadline_ms, credit, trace } if payload.body.len() >= APART_BYTES => {
                let head = MessageHead {
                    from: &signal.from,
                    to: &signal.to,
                    tag: payload.tag.as_bytes(),
                    codec: payload.codec,
                    reply: reply.as_ref(),
                    deadline_ms: *deadline_ms,
                    credit: *credit,
                    trace: trace.as_deref(),
                };
                let encoded = state.encoder.message_head(&head, payload.body.len(), &mut state.batch);
                encoded.map(|()| Some(payload.body.clone()))
            }
            _ => state.encoder.signal(&signal, &mut state.batch).map(|()| None),
        };
        match apart {
            Ok(apart) => self.queued_more(state, before, apart, when),
            Err(error) => self.give_up(state, before, error.into()),
        }
        Ok(())
    }

    /// Queues a message, if there is room. A large body is not copied.
    ///
    /// # Errors
    /// When the connection is closed, its budget used up, or the payload too large; `body` is as it was then.
    pub fn push_message(&self, head: &MessageHead<'_>, mut body: Body<'_>) -> Result<(), NotTaken> {
        let body_bytes = body.len();
        if body_bytes > self.max_message_bytes {
            return Err(NotTaken::TooLarge);
        }
        staged::flush();
        let mut state = lock(&self.lane(head.from.serial()).state);
        if state.closed {
            return Err(NotTaken::Closed);
        }
        let apart = self.apart(body_bytes);
        // What waits apart holds up nobody else, and nobody else holds it up; but for its ticket.
        if state.queued >= self.budget || apart.is_some_and(|queue| !queue.has_room()) {
            return Err(NotTaken::Full);
        }
        let state = &mut *state;
        if let (Some(tap), Recipient::Serial(to)) = (&self.tap, &head.to.to)
            && (head.reply.is_some() || head.credit.is_some())
        {
            tap.message(*to, head);
        }
        let before = state.batch.len();
        if let Some(queue) = apart {
            let ticket = queue.ticket(body_bytes);
            match state.encoder.message_ticket(head, ticket, &mut state.batch) {
                Ok(()) => {
                    queue.push(ticket.number, body.take_parts());
                    self.queued_more(state, before, None, When::Now);
                }
                Err(error) => self.give_up(state, before, error.into()),
            }
            return Ok(());
        }
        match state.encoder.message_head(head, body_bytes, &mut state.batch) {
            Ok(()) => {
                let apart = (body_bytes >= APART_BYTES).then(|| body.take());
                if apart.is_none() {
                    body.append_to(&mut state.batch);
                }
                self.queued_more(state, before, apart, When::Now);
            }
            Err(error) => self.give_up(state, before, error.into()),
        }
        Ok(())
    }

    /// Whether messages with nothing beside them, of one process to another, share frames.
    pub(crate) fn shares_frames(&self) -> bool {
        self.types && self.runs
    }

    /// Queues messages that have one head, and nothing beside them. True if there is room for more.
    ///
    /// # Errors
    /// When the connection is closed.
    pub(crate) fn push_messages(&self, head: &MessageHead<'_>, messages: &RunBuffer) -> Result<bool, NotTaken> {
        let mut state = lock(&self.lane(head.from.serial()).state);
        if state.closed {
            return Err(NotTaken::Closed);
        }
        let state = &mut *state;
        let before = state.batch.len();
        if state.queued > self.limit {
            self.give_up(state, before, GiveUp::TooSlow { bytes: self.limit });
            return Err(NotTaken::Closed);
        }
        match state.encoder.messages(head, messages, &mut state.batch) {
            Ok(()) => {
                self.queued_more(state, before, None, When::Now);
                // The first is counted.
                state.sent.signals += messages.messages().saturating_sub(1) as u64;
                Ok(state.queued < self.budget)
            }
            Err(error) => {
                self.give_up(state, before, error.into());
                Err(NotTaken::Closed)
            }
        }
    }

    fn queued_more(&self, state: &mut LaneState, before: usize, apart: Option<Bytes>, when: When) {
        let mut more = state.batch.len() - before;
        if let Some(apart) = apart {
            more += apart.len();
            let batch = std::mem::replace(&mut state.batch, Vec::with_capacity(BATCH_BYTES));
            state.apart.push(Bytes::from(batch));
            state.apart.push(apart);
        } else if state.batch.len() >= FULL_BATCH_BYTES {
            let batch = std::mem::replace(&mut state.batch, Vec::with_capacity(NEXT_BATCH_BYTES));
            state.apart.push(Bytes::from(batch));
        }
        state.sent.signals += 1;
        state.sent.bytes += more as u64;
        state.queued += more;
        if when == When::Now
            && let Some(writer) = state.writer.take()
        {
            wake_io(writer);
        }
    }

    /// The lane's table of nodes is full. What stands in the batch before is still sent; the writer then ends the
    /// connection, and with it every tie is told.
    fn give_up(&self, state: &mut LaneState, before: usize, error: GiveUp) {
        state.batch.truncate(before);
        state.broken = Some(error);
        state.closed = true;
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
        self.gave_up.notify_waiters();
    }

    /// Waits until the peer is given up for being too slow. Then nothing of what is queued can be written: the writer may
    /// be waiting for that very peer.
    pub async fn too_slow(&self, lane: usize) -> GiveUp {
        loop {
            let gave_up = self.gave_up.notified();
            if let Some(error @ GiveUp::TooSlow { .. }) = &lock(&self.lanes[lane].state).broken {
                return error.clone();
            }
            gave_up.await;
        }
    }

    fn lane(&self, sender: Serial) -> &Lane {
        // Neighbouring serials differ in their low bits, and sessions above; both count.
        let hash = (sender.0 ^ (sender.0 >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        #[allow(clippy::cast_possible_truncation)]
        &self.lanes[hash as usize % self.lanes.len()]
    }

    /// Waits until there is room for a message of `from` with a body of that size, or the connection is closed.
    pub async fn room(&self, from: Serial, body_bytes: usize) {
        let lane = self.lane(from);
        loop {
            let mut room = std::pin::pin!(lane.room.notified());
            // Before looking, so that what happens in between is not missed.
            room.as_mut().enable();
            if self.is_closed() || lock(&lane.state).queued < self.budget {
                break;
            }
            room.await;
        }
        if let Some(queue) = self.apart(body_bytes) {
            queue.room(|| self.is_closed()).await;
        }
    }
}

/// Whose lane a signal takes: its sender's. A name that a node asks for in the name of a client's process is asked for on the lane of
/// that process, which tells of its names there.
fn lane_of(signal: &Signal) -> Serial {
    match &signal.body {
        SignalBody::Request { body, .. } if let RequestBody::Claim { pid, .. } = &**body => pid.serial(),
        _ => signal.from.serial(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use rookery_protocol::{CallId, Destination, DirectoryUpdate, Pid};

    use super::*;

    #[test]
    fn n2_a_name_is_asked_for_on_the_lane_on_which_it_is_given_back() {
        let (node, client): (Pid, Pid) = ("<a.1.0>".parse().unwrap(), "<a.1.9223372041149743105>".parse().unwrap());
        let to = Destination { node: "b.1".parse().unwrap(), to: Recipient::Serial(Serial::NODE) };
        let name = "till".parse().unwrap();
        let body = Box::new(RequestBody::Claim { name, pid: client.clone() });
        let asked = Signal { from: node, to: to.clone(), body: SignalBody::Request { call: CallId(1), body } };
        let body = SignalBody::Directory(DirectoryUpdate::Release { name: "till".parse().unwrap() });
        let given_back = Signal { from: client.clone(), to, body };
        assert_eq!((lane_of(&asked), lane_of(&given_back)), (client.serial(), client.serial()));
    }
}
