//! One lane of the sending side: what lies in it until its writer takes it.

use std::{sync::Mutex, task::Waker};

use bytes::Bytes;
use rookery_protocol::LaneEncoder;
use tokio::sync::Notify;

use super::{APART_BYTES, GiveUp, Leg, Traffic};
use crate::encoded::Encoded;

/// What a lane's buffer starts with.
pub(super) const BATCH_BYTES: usize = 4 * 1024;

/// A batch that has come to so many bytes makes room for the next, rather than grow and be copied over and over.
pub(super) const FULL_BATCH_BYTES: usize = 32 * 1024;

/// What a full batch is followed by: with the message that goes over the mark, and is no larger than [`APART_BYTES`].
pub(super) const NEXT_BATCH_BYTES: usize = FULL_BATCH_BYTES + APART_BYTES + 1024;

/// A batch of at most so many bytes is copied, so that the lane keeps its buffer.
const SMALL_BATCH_BYTES: usize = 512;

pub(super) struct Lane {
    pub(super) state: Mutex<LaneState>,
    /// Senders that wait for room.
    pub(super) room: Notify,
}

pub(super) struct LaneState {
    pub(super) encoder: LaneEncoder,
    /// Whole frames, but for a body that lies behind in `apart`.
    pub(super) batch: Vec<u8>,
    /// Chunks that go before `batch`.
    pub(super) apart: Vec<Bytes>,
    /// What the former connection still has to write.
    pub(super) parting: Vec<Bytes>,
    /// Which connection it is that `batch` is for.
    pub(super) leg: Leg,
    /// Something of it was let go as the connection was lost: it cannot end in good order.
    pub(super) let_go: bool,
    /// Bytes that are not handed to QUIC.
    pub(super) queued: usize,
    /// Signals that were queued, and their bytes with all that the lane needs around them.
    pub(super) sent: Traffic,
    /// The writer, while it has nothing to write, or only what may wait.
    pub(super) writer: Option<Waker>,
    pub(super) closed: bool,
    /// The lane cannot name one more node: the connection has to be made anew.
    pub(super) broken: Option<GiveUp>,
}

/// What the lane of that number begins with on each connection.
pub(super) fn first_batch(number: usize) -> Vec<u8> {
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    // The number is below `MAX_LANES`, which a byte holds.
    #[allow(clippy::cast_possible_truncation)]
    LaneEncoder::open(number as u8, &mut batch);
    batch
}

impl LaneState {
    /// What is queued is still for the former connection; what comes from now on is for the one of `leg`.
    pub(super) fn turn(&mut self, number: usize, leg: Leg, encoder: LaneEncoder) {
        let last = std::mem::replace(&mut self.batch, first_batch(number));
        self.parting = std::mem::take(&mut self.apart);
        if !last.is_empty() {
            self.parting.push(Bytes::from(last));
        }
        (self.encoder, self.leg) = (encoder, leg);
    }

    /// The frames that are queued, which are some.
    pub(super) fn take_batch(&mut self) -> Bytes {
        if self.batch.len() <= SMALL_BATCH_BYTES {
            let batch = Bytes::copy_from_slice(&self.batch);
            self.batch.clear();
            return batch;
        }
        let capacity = if self.batch.capacity() >= NEXT_BATCH_BYTES { NEXT_BATCH_BYTES } else { 2 * self.batch.len() };
        let capacity = capacity.clamp(BATCH_BYTES, NEXT_BATCH_BYTES);
        Bytes::from(std::mem::replace(&mut self.batch, Vec::with_capacity(capacity)))
    }
}

/// The body of a message that is queued.
#[derive(Debug)]
pub enum Body<'a> {
    /// Just encoded; a large one is taken.
    Encoded(&'a mut Encoded),
    /// Sent to others as well.
    Shared(&'a Bytes),
}

impl Body<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Encoded(body) => body.len(),
            Self::Shared(body) => body.len(),
        }
    }

    pub(super) fn append_to(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Encoded(body) => out.extend_from_slice(body.whole()),
            Self::Shared(body) => out.extend_from_slice(body),
        }
    }

    pub(super) fn take(&mut self) -> Bytes {
        match self {
            Self::Encoded(body) => body.take_whole(),
            Self::Shared(body) => body.clone(),
        }
    }

    pub(super) fn take_parts(&mut self) -> Vec<Bytes> {
        match self {
            Self::Encoded(body) => body.take_parts(),
            Self::Shared(body) => vec![body.clone()],
        }
    }
}
