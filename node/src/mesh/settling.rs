//! What comes of a dial: the book is told once, and what is remembered of the address beside it. Pure but for the log; the
//! connections that stand are asked for.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use rookery_protocol::{NodeId, handshake::RefusalCode};
use rookery_runtime::net::control::ConnectionError;
use tokio::time::Instant;

use super::{handshakes::Dialled, troubles::Troubles};
use crate::discovery::{DialBook, NodeKey, Refusal};

/// The connections of a node, as a dial finds them when it ends.
pub(crate) trait Standing {
    /// Whether one with this life of a node stands.
    fn is_connected(&self, peer: &NodeId) -> bool;

    /// Whether one stands, or is about to.
    fn knows(&self, peer: &NodeId) -> bool;
}

/// Tells the book what came of a dial, once.
pub(crate) fn settle(
    standing: &impl Standing,
    book: &mut DialBook,
    memory: &mut Memory,
    address: SocketAddr,
    outcome: Result<Dialled, ConnectionError>,
    now: Duration,
) {
    let error = match outcome {
        // What is told of the end of a connection goes to addresses that stand as connected: only what stands now may.
        Ok(Dialled { node }) if standing.is_connected(&node) => {
            memory.troubles.over(&address);
            return book.connected(address, key(&node));
        }
        Ok(Dialled { node }) => {
            return book.dial_failed(address, &format!("the connection with {node} is lost, or not made yet"), now);
        }
        Err(error) => error,
    };
    let (ConnectionError::RefusedByPeer(refusal) | ConnectionError::RefusedByUs(refusal)) = &error else {
        memory.tell_trouble(address, &error);
        return match &error {
            ConnectionError::Identity(_) => book.refused(address, Refusal::Stranger, now),
            ConnectionError::Quic(error) => match refusal_of(error) {
                Some(refusal) => book.refused(address, refusal, now),
                None => book.dial_failed(address, &error.to_string(), now),
            },
            _ => book.dial_failed(address, &error.to_string(), now),
        };
    };
    match (refusal.code, &refusal.by) {
        (RefusalCode::SelfDial, _) => book.is_self(address),
        (RefusalCode::Duplicate, Some(node)) if standing.is_connected(node) => {
            book.already_connected(address, key(node));
        }
        // The other connection is about to be made here too; if nothing comes of it, this address is due again.
        (RefusalCode::Duplicate, Some(node)) if standing.knows(node) => {
            book.dial_failed(address, &error.to_string(), now);
        }
        (RefusalCode::Duplicate, _) => {
            // It holds on to a connection that we do not have: ask it to let go.
            memory.stale.insert(address);
            book.dial_failed(address, &error.to_string(), now);
        }
        (RefusalCode::WrongCluster | RefusalCode::WrongRole | RefusalCode::NameNotInCertificate, _) => {
            memory.tell_trouble(address, &error);
            book.refused(address, Refusal::Stranger, now);
        }
        (RefusalCode::NoCommonVersion, _) => {
            memory.tell_trouble(address, &error);
            book.refused(address, Refusal::Incompatible, now);
        }
        (_, _) => {
            memory.tell_trouble(address, &error);
            book.refused(address, Refusal::Busy, now);
        }
    }
}

/// What the loop remembers of addresses beside the book.
#[derive(Default)]
pub(crate) struct Memory {
    /// Whose node says that we are connected when we know that we are not: the next dial asks it to let go.
    stale: HashSet<SocketAddr>,
    /// What was logged of dials that failed.
    troubles: Troubles<SocketAddr>,
}

impl Memory {
    /// Whether the dial that is about to begin is to ask for that.
    pub(crate) fn asks_to_replace(&mut self, address: &SocketAddr) -> bool {
        self.stale.remove(address)
    }

    fn tell_trouble(&mut self, address: SocketAddr, error: &ConnectionError) {
        let reason = error.to_string();
        if self.troubles.is_news(address, &reason, Instant::now().into_std()) {
            tracing::warn!(%address, reason, "dial failed; it is tried again for ever");
        } else {
            tracing::debug!(%address, reason, "dial failed again");
        }
    }
}

/// What QUIC says of whoever answered, if it says that there is somebody.
fn refusal_of(error: &quinn::ConnectionError) -> Option<Refusal> {
    let code = match error {
        quinn::ConnectionError::TransportError(error) => error.code,
        quinn::ConnectionError::ConnectionClosed(close) => close.error_code,
        _ => return None,
    };
    match code {
        // It has too much to do, or is about to end.
        quinn::TransportErrorCode::CONNECTION_REFUSED => Some(Refusal::Busy),
        // TLS says no: of another cluster, or no node at all.
        code if CRYPTO_ERRORS.contains(&u64::from(code)) => Some(Refusal::Stranger),
        _ => None,
    }
}

/// The codes that carry an alert of TLS (RFC 9000, section 20.1).
const CRYPTO_ERRORS: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;

/// The node, as the book knows it.
pub(crate) fn key(node: &NodeId) -> NodeKey {
    NodeKey::new(node.name().as_str())
}
