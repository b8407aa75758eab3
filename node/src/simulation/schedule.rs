//! What is to happen, by virtual time. Things of the same time happen in the order in which they were scheduled, so one seed
//! is one story.

use std::{cmp::Ordering, collections::BinaryHeap, net::SocketAddr, time::Duration};

use bytes::Bytes;

use rookery_protocol::NodeId;

use super::network::HostIndex;
use crate::mesh::arbiter::ConnectionNumber;

/// One end of one connection: the dialler's is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EndId {
    pub(super) connection: u64,
    pub(super) end: usize,
}

impl EndId {
    pub(super) fn other(self) -> Self {
        Self { connection: self.connection, end: 1 - self.end }
    }

    /// As the node knows it: both ends may be on one node, which has dialled itself.
    pub(super) fn number(self) -> ConnectionNumber {
        ConnectionNumber(self.connection * 2 + self.end as u64)
    }

    pub(super) fn of(number: ConnectionNumber) -> Self {
        Self { connection: number.0 / 2, end: (number.0 % 2) as usize }
    }
}

/// One run of a node's program on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Life {
    pub(super) host: HostIndex,
    pub(super) life: u32,
}

/// A stream of a connection, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stream {
    Control,
    Lane(u8),
    /// By its ticket.
    Bulk(u64),
}

/// A piece of a stream. QUIC sends it until it arrives.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) stream: Stream,
    /// Its place in the stream.
    pub(super) index: u32,
    pub(super) bytes: Bytes,
    /// The stream ends with it.
    pub(super) last: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Packet {
    Data(Box<Piece>),
    Acknowledgement,
    Ping,
    /// The other end has closed it.
    Close(&'static str),
}

/// A life that the others must know to be down.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) life: Life,
    pub(super) id: NodeId,
    pub(super) since: Duration,
    /// It has not ended: it is stopped, if it has not run again meanwhile.
    pub(super) is_hung: bool,
}

#[derive(Debug)]
pub(super) enum Event {
    /// A packet arrives at this end.
    Arrives(EndId, Packet),
    /// It was lost: it is sent again after so long.
    Resend(EndId, Box<Piece>, Duration),
    /// The detector looks at its connections.
    Tick(Life),
    /// The dialling book has something due.
    Dial(Life),
    /// DNS is asked.
    Poll(Life),
    /// A process takes its mail, and sends.
    Turn(Life, usize),
    /// The handshake of this end has taken too long.
    HandshakeOver(EndId),
    /// This end has waited long enough for the other to hear why it is refused, or that it leaves.
    FarewellOver(EndId),
    /// Nobody listens where this connection's other end is.
    Refused(Life, ConnectionNumber),
    /// A node that was stopped runs again.
    Resume(HostIndex),
    /// DNS names an address, or does not any more.
    Zone(SocketAddr, bool),
    /// Something goes wrong, or right again; by its place in the story.
    Fault(usize),
    /// Whoever was connected with that life must know by now that it is gone since then, or does not run.
    MustBeDown(Gone),
}

struct Entry {
    at: Duration,
    order: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Entry {}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Default)]
pub(super) struct Schedule {
    heap: BinaryHeap<Entry>,
    order: u64,
}

impl Schedule {
    pub(super) fn at(&mut self, at: Duration, event: Event) {
        self.order += 1;
        self.heap.push(Entry { at, order: self.order, event });
    }

    /// The next event, if it is due by then.
    pub(super) fn next(&mut self, by: Duration) -> Option<(Duration, Event)> {
        if self.heap.peek()?.at > by {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }
}
