//! A host and the life of a node on it: the machines that are tried, and what the thin drivers around them keep.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use rookery_protocol::{Incarnation, NodeId, NodeName};

use super::{
    contract::View,
    processes::Processes,
    schedule::{EndId, Event, Life},
};
use crate::{
    discovery::{DialBook, SourceWatch},
    membership::detector::Detector,
    mesh::{
        arbiter::{Arbiter, ConnectionNumber},
        gossip::Rounds,
        settling::{Memory, Standing},
    },
};

/// What a host measures time by. No two run alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// Seconds of its monotonic clock in a second.
    pub(super) rate: f64,
    /// How far its wall clock is ahead, in microseconds.
    pub(super) ahead_us: i64,
}

/// The wall clock at the beginning of the world, in microseconds.
const EPOCH_US: i64 = 1_800_000_000_000_000;

impl Clock {
    /// The incarnation of a node that starts now.
    pub(super) fn incarnation(self, now: Duration) -> Incarnation {
        Incarnation(u64::try_from(EPOCH_US + now.as_micros() as i64 + self.ahead_us).unwrap_or_default())
    }
}

pub(super) struct Host {
    pub(super) name: NodeName,
    pub(super) clock: Clock,
    pub(super) address: SocketAddr,
    /// How many nodes have run here.
    pub(super) lives: u32,
    pub(super) node: Option<Node>,
    /// It does not run before then.
    pub(super) stopped: Option<Duration>,
    /// When it was stopped last.
    pub(super) stopped_at: Duration,
    /// When it ran again last.
    pub(super) resumed: Duration,
    /// How long it had been stopped before.
    pub(super) stopped_before: Duration,
    /// What happened while it did not run.
    pub(super) backlog: Vec<Event>,
}

impl Host {
    pub(super) fn new(number: usize, clock: Clock, address: SocketAddr) -> Result<Self, String> {
        Ok(Self {
            name: NodeName::new(format!("node-{number}")).map_err(|error| error.to_string())?,
            clock,
            address,
            lives: 0,
            node: None,
            stopped: None,
            stopped_at: Duration::ZERO,
            resumed: Duration::ZERO,
            stopped_before: Duration::ZERO,
            backlog: Vec::new(),
        })
    }

    /// How long it has run, by true time.
    pub(super) fn run_time(&self, now: Duration) -> Duration {
        let stopped = if self.stopped.is_some() { now.saturating_sub(self.stopped_at) } else { Duration::ZERO };
        now.saturating_sub(self.stopped_before + stopped)
    }

    /// Whether it has run all the time since then.
    pub(super) fn ran_since(&self, since: Duration, now: Duration) -> bool {
        self.stopped.is_none() && (self.stopped_before.is_zero() || self.resumed < since) && now >= since
    }
}

/// One life of a node.
pub(super) struct Node {
    pub(super) life: Life,
    pub(super) id: NodeId,
    /// When it started.
    pub(super) since: Duration,
    pub(super) arbiter: Arbiter,
    pub(super) detector: Detector,
    pub(super) watch: SourceWatch,
    pub(super) book: DialBook,
    pub(super) memory: Memory,
    pub(super) rounds: Rounds,
    /// The connections that stand.
    pub(super) peers: BTreeMap<NodeName, Peer>,
    /// All ends of connections that are this node's.
    pub(super) ends: BTreeSet<EndId>,
    /// When the book is looked at next, if that is scheduled.
    pub(super) wake: Option<Duration>,
    pub(super) leaving: bool,
    pub(super) processes: Processes,
    /// What its processes are told.
    pub(super) view: View,
}

#[derive(Clone)]
pub(super) struct Peer {
    pub(super) number: ConnectionNumber,
    pub(super) node: NodeId,
    pub(super) addresses: Vec<SocketAddr>,
    /// When it came up.
    pub(super) since: Duration,
}

impl Node {
    pub(super) fn is_connected(&self, peer: &NodeId) -> bool {
        Stands { arbiter: &self.arbiter, peers: &self.peers }.is_connected(peer)
    }
}

/// The connections of a node, as a dial finds them when it ends.
pub(super) struct Stands<'a> {
    pub(super) arbiter: &'a Arbiter,
    pub(super) peers: &'a BTreeMap<NodeName, Peer>,
}

impl Standing for Stands<'_> {
    fn is_connected(&self, peer: &NodeId) -> bool {
        self.peers.get(peer.name()).is_some_and(|connected| connected.node == *peer)
    }

    fn knows(&self, peer: &NodeId) -> bool {
        self.arbiter.knows(peer)
    }
}

impl Host {
    /// What its clocks show.
    pub(super) fn local(&self, now: Duration) -> Duration {
        now.mul_f64(self.clock.rate)
    }

    /// What its monotonic clock shows, for machines that want it so.
    pub(super) fn instant(&self, origin: Instant, now: Duration) -> Instant {
        origin + self.local(now)
    }

    /// How long after now its clock shows so much more.
    pub(super) fn until(&self, more: Duration) -> Duration {
        more.div_f64(self.clock.rate)
    }
}
