//! The words of the dialling book: who was met, why not, what is known; and the rules of one address.
//!
//! Addresses come from DNS and from peers, so they are brought to one form and checked here before the
//! book takes them. Nothing in here has state.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::limits;

/// Who answered at an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey(String);

impl NodeKey {
    /// The key of the node with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why whoever answered will not be a peer now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Of another cluster, or its certificate does not verify.
    Stranger,
    /// No protocol version in common.
    Incompatible,
    /// Draining, or out of room.
    Busy,
}

/// What the book knows of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DialStatus {
    /// To be dialled at `due`.
    Waiting {
        /// When.
        due: Duration,
        /// Failures in a row so far.
        failures: u32,
        /// What the last dial met, if it failed.
        trouble: Option<String>,
    },
    /// Given out by [`DialBook::poll_dials`](super::DialBook::poll_dials); its outcome is awaited.
    Dialling,
    /// This peer is there, and connected by this or another connection.
    Connected(NodeKey),
    /// This node's own.
    Itself,
}

/// The longest wait after this many failures in a row; the shortest is half of it.
pub(super) fn backoff(failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures);
    limits::BACKOFF_MIN.saturating_mul(factor).min(limits::BACKOFF_MAX)
}

/// An IPv4-mapped IPv6 address is its IPv4 address: one node must not be dialled as two.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
        IpAddr::V6(_) => addr,
    }
}

/// Whether a node can be there at all: records and peers can name anything.
pub(super) fn is_dialable(addr: &SocketAddr) -> bool {
    let ip = addr.ip();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// At most [`limits::REASON_BYTES`] of a text, cut between characters.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(limits::REASON_BYTES)]
}
