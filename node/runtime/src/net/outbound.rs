//! The sending side of a connection: lanes that processes fill, and that the connection's writers empty.
//!
//! A signal's lane is chosen by its sender alone, so one sender's signals keep their order whomever they are for (S1).
//! A sender appends encoded frames under the lane's lock; the lane's writer takes all that is there at once, so many
//! signals make one write, without a timer. Messages wait for room within the budget (S6); other signals never wait:
//! they are few, bounded by the ties and calls they come from.

mod lane;
mod queueing;
pub(crate) mod staged;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use rookery_protocol::{LaneEncoder, NodeId, Serial, Signal, WireError, handshake::Features, lane::MessageHead};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{
    net::bulk::{BULK_BYTES, BulkQueue},
    scheduler::wake_io,
    sync::lock,
};

pub use lane::Body;
use lane::{Lane, LaneState, first_batch};

/// A body from this size on is handed to the writer as it is; smaller ones are copied behind their heads, so that many
/// of them make one write.
const APART_BYTES: usize = 16 * 1024;

/// How many budgets of bytes may wait. What goes beyond one is signals that do not wait, as the exits of many processes
/// at once; a peer that lets this much pile up has stopped to read.
const LIMIT_BUDGETS: usize = 32;

/// Which connection, of those that took each other's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leg(u64);

/// The sending side of one connection, or of several that take each other's place.
pub struct Outbound {
    own: NodeId,
    peer: NodeId,
    lanes: Vec<Lane>,
    /// From how many waiting bytes on a lane's messages wait: its part of the budget.
    budget: usize,
    /// The same of all lanes together, and of bodies that go apart.
    budget_of_all: usize,
    /// How many bytes may wait on a lane at all: whoever reads slower than that is given up.
    limit: usize,
    /// Sees what is queued, where the peer is a client.
    tap: Option<Box<dyn Tap>>,
    /// The largest payload that the peer takes.
    max_message_bytes: usize,
    /// Bodies that go apart, where the peer takes that.
    bulk: Option<BulkQueue>,
    /// Whether the peer knows of credit.
    credit: bool,
    /// Whether it knows of traces.
    trace: bool,
    /// Whether it knows of types by number.
    types: bool,
    /// Whether several messages share a frame.
    runs: bool,
    /// Told when a lane is given up.
    gave_up: Notify,
    /// Own processes with ties over this connection; `None` once it is closed.
    interested: Mutex<Option<HashSet<Serial>>>,
    /// Set when `interested` becomes `None`; read for each signal.
    closed: AtomicBool,
}

/// Sees what is queued for a client, in order.
pub trait Tap: Send + Sync + 'static {
    /// A signal is queued.
    fn signal(&self, signal: &Signal);
    /// A message of a local process is queued for `to`, whose answer is awaited, or which took or asks for a credit.
    fn message(&self, to: Serial, head: &MessageHead<'_>);
}

/// What went one way over a connection, or one lane of it, since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Signals: messages, replies, links, exits and all others.
    pub signals: u64,
    /// Their bytes, before encryption.
    pub bytes: u64,
}

/// What can be told about one lane of the sending side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaneInfo {
    /// Bytes that wait for its writer. What the writer has taken and QUIC not is not among them.
    pub queued_bytes: u64,
    /// What was queued so far.
    pub sent: Traffic,
}

/// Why a signal was not taken.
#[derive(Debug)]
pub enum NotTaken {
    /// The connection is closed.
    Closed,
    /// The budget is used up.
    Full,
    /// The payload is larger than the peer takes.
    TooLarge,
}

/// Why a lane cannot go on; the connection is closed with this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GiveUp {
    /// Signals pile up.
    #[error("the peer is too slow: more than {bytes} bytes wait for it")]
    TooSlow {
        /// The limit.
        bytes: usize,
    },
    /// The lane can name no more nodes.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// What was queued is let go, since the connection is lost.
    #[error("the connection is closed, and what was queued is let go")]
    LetGo,
}

impl Outbound {
    /// The sending side of a connection from `own` to `peer`, with `lanes` lanes and `budget` bytes of room.
    #[must_use]
    pub fn new(own: &NodeId, peer: &NodeId, lanes: usize, budget: usize, max_message_bytes: usize) -> Self {
        let lanes = lanes.clamp(1, rookery_protocol::limits::MAX_LANES);
        let budget_of_all = budget;
        let budget = budget.div_ceil(lanes);
        let lanes = (0..lanes)
            .map(|number| Lane {
                state: Mutex::new(LaneState {
                    encoder: LaneEncoder::new(own.clone(), peer.clone()),
                    batch: first_batch(number),
                    apart: Vec::new(),
                    parting: Vec::new(),
                    leg: Leg::default(),
                    let_go: false,
                    queued: 0,
                    sent: Traffic::default(),
                    writer: None,
                    closed: false,
                    broken: None,
                }),
                room: Notify::new(),
            })
            .collect();
        Self {
            own: own.clone(),
            peer: peer.clone(),
            lanes,
            budget,
            budget_of_all,
            limit: budget.saturating_mul(LIMIT_BUDGETS),
            tap: None,
            max_message_bytes,
            bulk: None,
            credit: false,
            trace: false,
            types: false,
            runs: false,
            gave_up: Notify::new(),
            interested: Mutex::new(Some(HashSet::new())),
            closed: AtomicBool::new(false),
        }
    }

    /// With what both ends have: bodies of more than [`BULK_BYTES`] on streams of their own (S4), credit for messages to
    /// bounded mailboxes (S7), types of messages by number, several messages in one frame, and traces.
    #[must_use]
    pub fn with_features(mut self, common: Features) -> Self {
        if common.has(Features::BULK) {
            self.bulk = Some(BulkQueue::new(self.budget_of_all));
        }
        self.credit = common.has(Features::CREDIT);
        self.trace = common.has(Features::TRACE);
        self.types = common.has(Features::TYPES);
        self.runs = common.has(Features::RUNS);
        for lane in &self.lanes {
            lock(&lane.state).encoder = self.encoder();
        }
        self
    }

    /// What encodes a lane from its beginning.
    fn encoder(&self) -> LaneEncoder {
        let mut encoder = LaneEncoder::new(self.own.clone(), self.peer.clone());
        if self.types {
            encoder.number_types();
            if self.runs {
                encoder.share_frames(self.max_message_bytes);
            }
        }
        encoder
    }

    /// Whether the peer knows of credit.
    #[must_use]
    pub fn has_credit(&self) -> bool {
        self.credit
    }

    /// Whether the peer knows of traces.
    #[must_use]
    pub fn has_trace(&self) -> bool {
        self.trace
    }

    /// Bodies that go apart, where the peer takes that.
    pub(crate) fn bulk(&self) -> Option<&BulkQueue> {
        self.bulk.as_ref()
    }

    /// Where a body of that size waits; `None`: on its lane.
    fn apart(&self, body_bytes: usize) -> Option<&BulkQueue> {
        self.bulk.as_ref().filter(|_| body_bytes > BULK_BYTES)
    }

    /// With `tap` told of what is queued.
    #[must_use]
    pub fn tapped(mut self, tap: impl Tap) -> Self {
        self.tap = Some(Box::new(tap));
        self
    }

    /// The node at the other end; for a client, the node it is connected to.
    #[must_use]
    pub fn peer(&self) -> &NodeId {
        &self.peer
    }

    /// How many lanes there are.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// The largest payload that the peer takes, in bytes.
    #[must_use]
    pub fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }

    /// Bytes that wait to be written, on lanes and apart.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.lanes.iter().map(|lane| lock(&lane.state).queued).sum::<usize>() + self.bulk_queued_bytes()
    }

    fn bulk_queued_bytes(&self) -> usize {
        self.bulk.as_ref().map_or(0, BulkQueue::queued_bytes)
    }

    /// Whether bodies that go apart wait to be written, or are being written.
    #[must_use]
    pub fn has_bodies(&self) -> bool {
        self.bulk_queued_bytes() > 0
    }

    /// What can be told about each lane.
    #[must_use]
    pub fn lane_infos(&self) -> Vec<LaneInfo> {
        let info = |lane: &Lane| {
            let state = lock(&lane.state);
            LaneInfo { queued_bytes: state.queued as u64, sent: state.sent }
        };
        self.lanes.iter().map(info).collect()
    }

    /// What a lane's writer writes next, in order; waits while there is nothing.
    ///
    /// # Errors
    /// The lane cannot go on: the connection is to be closed with this.
    pub fn poll_take(&self, lane: usize, leg: Leg, cx: &Context<'_>) -> Poll<Result<Option<Vec<Bytes>>, GiveUp>> {
        let mut state = lock(&self.lanes[lane].state);
        if state.let_go {
            // Not as if it had ended in good order: what follows elsewhere must not be taken for what comes next.
            return Poll::Ready(Err(GiveUp::LetGo));
        }
        if leg != state.leg {
            let parting = std::mem::take(&mut state.parting);
            return Poll::Ready(Ok((!parting.is_empty()).then_some(parting)));
        }
        if state.batch.is_empty() && state.apart.is_empty() {
            if let Some(error) = state.broken.clone() {
                return Poll::Ready(Err(error));
            }
            if state.closed {
                return Poll::Ready(Ok(None));
            }
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut chunks = std::mem::take(&mut state.apart);
        if !state.batch.is_empty() {
            chunks.push(state.take_batch());
        }
        drop(state);
        Poll::Ready(Ok(Some(chunks)))
    }

    /// The connection that is written to just now.
    #[must_use]
    pub fn leg(&self) -> Leg {
        self.lanes.first().map_or(Leg::default(), |lane| lock(&lane.state).leg)
    }

    /// Another connection takes the place of this one: what is queued is still written to the old one, whose lanes then end; what
    /// comes from now on is for the new one. Both write at the same time, and whoever reads takes the old one's first. Not before
    /// the former turn is over: the old one's writers must have ended. `None`: it is closed.
    #[must_use]
    pub fn turn(&self) -> Option<Leg> {
        // All at once, since a body belongs to the connection that its ticket goes by.
        let mut lanes: Vec<_> = self.lanes.iter().map(|lane| lock(&lane.state)).collect();
        if lanes.iter().any(|state| state.closed) {
            return None;
        }
        let leg = Leg(lanes.first().map_or(0, |state| state.leg.0) + 1);
        for (number, state) in lanes.iter_mut().enumerate() {
            state.turn(number, leg, self.encoder());
            if let Some(writer) = state.writer.take() {
                wake_io(writer);
            }
        }
        if let Some(queue) = &self.bulk {
            queue.turn(leg);
        }
        Some(leg)
    }

    /// Tells that so many bytes of a lane have been handed to the connection, so that there is room for others.
    pub fn written(&self, lane: usize, bytes: usize) {
        let lane = &self.lanes[lane];
        let has_room = {
            let mut state = lock(&lane.state);
            state.queued -= bytes.min(state.queued);
            state.queued < self.budget
        };
        if has_room {
            lane.room.notify_waiters();
        }
    }

    /// Notes that `process` has a tie over this connection; false if it is closed.
    pub fn interested(&self, process: Serial) -> bool {
        lock(&self.interested).as_mut().is_some_and(|interested| {
            interested.insert(process);
            true
        })
    }

    /// Notes that `process` has none any more.
    pub fn not_interested(&self, process: Serial) {
        if let Some(interested) = lock(&self.interested).as_mut() {
            interested.remove(&process);
        }
    }

    /// Takes no more signals; what is queued is still written, and the lanes then end.
    pub fn finish(&self) {
        for lane in &self.lanes {
            let mut state = lock(&lane.state);
            state.closed = true;
            if let Some(writer) = state.writer.take() {
                writer.wake();
            }
        }
        if let Some(queue) = &self.bulk {
            queue.finish();
        }
    }

    /// The processes that had ties over this connection when it was lost. Closes it.
    #[must_use]
    pub fn close(&self) -> HashSet<Serial> {
        self.finish();
        let interested = lock(&self.interested).take().unwrap_or_default();
        self.closed.store(true, Ordering::Release);
        for lane in &self.lanes {
            // Addresses may hold this for long; what waits in it can go nowhere any more.
            let mut state = lock(&lane.state);
            state.let_go |= !state.batch.is_empty() || !state.apart.is_empty() || !state.parting.is_empty();
            (state.batch, state.apart, state.parting, state.queued) = (Vec::new(), Vec::new(), Vec::new(), 0);
            drop(state);
            lane.room.notify_waiters();
        }
        if let Some(queue) = &self.bulk {
            queue.discard();
        }
        interested
    }

    /// The processes that have ties over this connection.
    #[must_use]
    pub fn tied(&self) -> HashSet<Serial> {
        lock(&self.interested).clone().unwrap_or_default()
    }

    /// Whether the connection is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outbound(to {}, {} bytes queued)", self.peer, self.queued_bytes())
    }
}
