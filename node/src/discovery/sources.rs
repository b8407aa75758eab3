//! What discovery is asked for and what it tells.
//!
//! The configuration comes from the node's own; events go to whoever keeps the dialling book. A source
//! is the unit of both: the service, or one static peer. Each has its own last good set, and an event
//! about one says nothing of the others.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::limits;
use super::peer_address::PeerAddress;

/// What to look for, where to ask, and how often.
#[derive(Debug, Clone)]
pub struct DiscoveryConfig {
    /// The name of the headless Service; its SRV records are at `_rookery._udp.<service>`. A name that
    /// ends in a dot is absolute; otherwise the search list and `ndots` apply.
    pub service: Option<String>,
    /// The DNS servers to ask; empty means the system's configuration, its search list included.
    pub dns_servers: Vec<SocketAddr>,
    /// The search list that goes with `dns_servers`; not used with the system's configuration.
    pub search_domains: Vec<String>,
    /// Static peers; names among them are resolved on each poll.
    pub peers: Vec<PeerAddress>,
    /// The port where neither SRV nor the peer's address tells one.
    pub default_port: u16,
    /// Shortest time between two polls of one source.
    pub poll_min: Duration,
    /// Longest time between two polls of one source, before the jitter of ±10 %.
    pub poll_max: Duration,
    /// Longest time for one look-up.
    pub lookup_timeout: Duration,
}

impl DiscoveryConfig {
    /// No service, no peers, the system's DNS configuration: a cluster of one.
    pub fn new(default_port: u16) -> Self {
        Self {
            service: None,
            dns_servers: Vec::new(),
            search_domains: Vec::new(),
            peers: Vec::new(),
            default_port,
            poll_min: limits::POLL_MIN,
            poll_max: limits::POLL_MAX,
            lookup_timeout: limits::LOOKUP_TIMEOUT,
        }
    }
}

/// Where addresses come from. A copy shares its text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The service that the node belongs to.
    Service(Arc<str>),
    /// A static peer, as it was written.
    Peer(Arc<str>),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "service {name}"),
            Self::Peer(address) => write!(f, "peer {address}"),
        }
    }
}

/// Something that changed at a source. Nothing is told of a poll that changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiscoveryEvent {
    /// The source now names this set, which replaces its former one and is never empty.
    Addresses {
        /// Whose set it is.
        source: Source,
        /// The whole set.
        set: BTreeSet<SocketAddr>,
        /// How many more the answer held than [`limits::ADDRESSES_PER_ANSWER`] allows.
        excess: usize,
    },
    /// The source gives no addresses since now; the last good set stays. Told once, not on each poll.
    Trouble {
        /// Whose answers are missing.
        source: Source,
        /// What it answers instead.
        reason: Trouble,
    },
    /// The source gives addresses again; if they differ from the last good set, `Addresses` follows.
    Recovered {
        /// Whose answers are back.
        source: Source,
    },
}

/// Why a source gives no addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The server answered that there are none: no such name, or no records.
    Empty,
    /// There was no usable answer; the text says why.
    Failed(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("DNS has no addresses for it"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}
