//! The dialling loop: takes addresses from discovery and from peers, dials what the book says is due, and tells peers of
//! each other again, until the node leaves.
//!
//! It decides little: which address is due is the book's (`discovery/reconcile.rs`), what comes of a dial is settled in
//! `settling.rs`, and which connection is kept is the arbiter's.

use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use rookery_protocol::NodeId;
use rookery_runtime::net::control::ConnectionError;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    driver::{Mesh, told},
    gossip::Rounds,
    handshakes::Dialled,
    settling::{Memory, key, settle},
};
use crate::discovery::{DialBook, DialStatus, DiscoveryEvent, Jitter, NodeKey};

/// What the loop is told.
pub(crate) enum Hint {
    /// A peer tells where another one is.
    Learned(SocketAddr),
    /// A peer tells of one that has come up, and is told of this node as well.
    Newcomer(SocketAddr),
    /// A node is connected, and can be dialled here.
    Connected(SocketAddr, NodeId),
    /// A node is not connected any more.
    Disconnected(NodeId),
    /// This node has another identity now.
    Renewed,
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
    let mut jitter = Jitter::new(seed);
    let mut rounds = Rounds::new(jitter.fork(), Duration::ZERO);
    let mut book = DialBook::new(jitter);
    let mut dials: JoinSet<(SocketAddr, Result<Dialled, ConnectionError>)> = JoinSet::new();
    let mut memory = Memory::default();
    let mut discovering = true;
    let mut leaving = mesh.leaving.subscribe();
    loop {
        for address in book.poll_dials(start.elapsed()) {
            let (mesh, replace) = (mesh.clone(), memory.asks_to_replace(&address));
            tracing::debug!(%address, "dial");
            dials.spawn(async move { (address, mesh.dial(address, replace).await) });
        }
        if hints.is_empty() && mesh.has_missed_hint() {
            look_at_connections(&mesh, &mut book, start.elapsed());
        }
        mesh.gossip_again(&mut rounds, start.elapsed());
        let due = book.next_due().map_or(rounds.due(), |due| due.min(rounds.due()));
        let wake = start + wake(Some(due), start.elapsed());
        tokio::select! {
            event = discovered.recv(), if discovering => match event {
                Some(DiscoveryEvent::Addresses { source, set, .. }) => book.addresses(source, &set, start.elapsed()),
                Some(_) => {}
                // No sources, or discovery has ended with the node.
                None => discovering = false,
            },
            hint = hints.recv() => match hint {
                Some(Hint::Learned(address)) => book.learned(address, start.elapsed()),
                Some(Hint::Newcomer(address)) => book.newcomer(address, start.elapsed()),
                Some(Hint::Connected(address, node)) => {
                    book.learned(address, start.elapsed());
                    book.already_connected(address, key(&node));
                }
                Some(Hint::Disconnected(node)) => book.disconnected(&key(&node), start.elapsed()),
                Some(Hint::Renewed) => book.retry(start.elapsed()),
                None => return,
            },
            Some(Ok((address, outcome))) = dials.join_next(), if !dials.is_empty() => {
                settle(&*mesh, &mut book, &mut memory, address, outcome, start.elapsed());
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
