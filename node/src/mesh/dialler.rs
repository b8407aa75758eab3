//! The dialling loop: takes addresses from discovery and from peers, dials what the book says is due, until the node
//! leaves.
//!
//! It decides little: which address is due, and what a failure means for the next try, is the book's
//! (`discovery/reconcile.rs`); which connection is kept is the arbiter's. What comes of a dial is told to the book
//! once.

use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use rookery_protocol::{NodeId, handshake::RefusalCode};
use rookery_runtime::net::control::ConnectionError;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    driver::{Mesh, told},
    handshakes::Dialled,
    troubles::Troubles,
};
use crate::discovery::{DialBook, DialStatus, DiscoveryEvent, Jitter, NodeKey, Refusal};

/// What the loop is told.
pub(crate) enum Hint {
    /// A peer tells where another one is.
    Learned(SocketAddr),
    /// A node is connected, and can be dialled here.
    Connected(SocketAddr, NodeId),
    /// A node is not connected any more.
    Disconnected(NodeId),
}

/// How many hints may wait. Beyond it what peers tell of others is dropped: it is told again, and discovery polls on. If one
/// about a connection is dropped, the loop looks at the connections themselves once it has come to the others.
pub(crate) const MAX_HINTS: usize = 1024;

/// How long the loop sleeps at most: a guard, not a poll.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

pub(crate) async fn run(
    mesh: Arc<Mesh>,
    seed: u64,
    mut discovered: mpsc::Receiver<DiscoveryEvent>,
    mut hints: mpsc::Receiver<Hint>,
) {
    let start = Instant::now();
    let mut book = DialBook::new(Jitter::new(seed));
    let mut dials: JoinSet<(SocketAddr, Result<Dialled, ConnectionError>)> = JoinSet::new();
    let mut memory = Memory::default();
    let mut discovering = true;
    let mut leaving = mesh.leaving.subscribe();
    loop {
        for address in book.poll_dials(start.elapsed()) {
            let (mesh, replace) = (mesh.clone(), memory.stale.remove(&address));
            tracing::debug!(%address, "dial");
            dials.spawn(async move { (address, mesh.dial(address, replace).await) });
        }
        if hints.is_empty() && mesh.has_missed_hint() {
            look_at_connections(&mesh, &mut book, start.elapsed());
        }
        let wake = start + wake(book.next_due(), start.elapsed());
        tokio::select! {
            event = discovered.recv(), if discovering => match event {
                Some(DiscoveryEvent::Addresses { source, set, .. }) => book.addresses(source, &set, start.elapsed()),
                Some(_) => {}
                // No sources, or discovery has ended with the node.
                None => discovering = false,
            },
            hint = hints.recv() => match hint {
                Some(Hint::Learned(address)) => book.learned(address, start.elapsed()),
                Some(Hint::Connected(address, node)) => {
                    book.learned(address, start.elapsed());
                    book.already_connected(address, key(&node));
                }
                Some(Hint::Disconnected(node)) => book.disconnected(&key(&node), start.elapsed()),
                None => return,
            },
            Some(Ok((address, outcome))) = dials.join_next(), if !dials.is_empty() => {
                settle(&mesh, &mut book, &mut memory, address, outcome, start.elapsed());
            }
            // Who has said goodbye does not come back: whatever is under way is dropped.
            _ = told(&mut leaving) => return,
            () = sleep_until(wake) => {}
        }
    }
}

/// When to look at the book again, as times since the start.
fn wake(next_due: Option<Duration>, now: Duration) -> Duration {
    let latest = now + LONGEST_SLEEP;
    next_due.map_or(latest, |due| due.min(latest))
}

/// Brings the book in line with the connections that stand.
fn look_at_connections(mesh: &Mesh, book: &mut DialBook, now: Duration) {
    let peers = mesh.peers.all();
    let believed: HashSet<String> = book
        .statuses()
        .filter_map(|(_, status)| match status {
            DialStatus::Connected(node) => Some(node.as_str().to_owned()),
            _ => None,
        })
        .collect();
    for name in believed.iter().filter(|name| !peers.iter().any(|peer| peer.node.name().as_str() == name.as_str())) {
        book.disconnected(&NodeKey::new(name.as_str()), now);
    }
    for peer in peers {
        for &address in &peer.addresses {
            book.already_connected(address, key(&peer.node));
        }
    }
}

fn settle(
    mesh: &Mesh,
    book: &mut DialBook,
    memory: &mut Memory,
    address: SocketAddr,
    outcome: Result<Dialled, ConnectionError>,
    now: Duration,
) {
    let error = match outcome {
        // What is told of the end of a connection goes to addresses that stand as connected: only what stands now may.
        Ok(Dialled { node }) if mesh.is_connected(&node) => {
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
        (RefusalCode::Duplicate, Some(node)) if mesh.is_connected(node) => {
            book.already_connected(address, key(node));
        }
        // The other connection is about to be made here too; if nothing comes of it, this address is due again.
        (RefusalCode::Duplicate, Some(node)) if mesh.knows(node) => {
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
struct Memory {
    /// Whose node says that we are connected when we know that we are not: the next dial asks it to let go.
    stale: HashSet<SocketAddr>,
    /// What was logged of dials that failed.
    troubles: Troubles<SocketAddr>,
}

impl Memory {
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

fn key(node: &NodeId) -> NodeKey {
    NodeKey::new(node.name().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_nothing_due_the_loop_sleeps_however_long_it_has_run() {
        for now in [0, 59, 61, 3_600, 1_000_000].map(Duration::from_secs) {
            assert_eq!(wake(None, now), now + LONGEST_SLEEP);
            assert_eq!(wake(Some(now + Duration::from_secs(1)), now), now + Duration::from_secs(1));
            assert_eq!(wake(Some(now + 2 * LONGEST_SLEEP), now), now + LONGEST_SLEEP);
        }
    }
}
