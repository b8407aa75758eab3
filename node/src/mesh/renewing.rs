//! Renews connections that were made with another identity than the one that this node has now: each is dialled anew, at a time of its
//! own, and goes over without a loss (`legs.rs`).

use std::{collections::HashMap, sync::Arc, time::Duration};

use rookery_protocol::handshake::Features;
use rookery_runtime::net::control::ConnectionError;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    arbiter::ConnectionNumber,
    driver::{Mesh, told},
    peers::Peer,
};
use crate::discovery::Jitter;

/// How often connections are looked at: one may have been made just while the identity changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// After so long a renewal that came to nothing is tried again at the soonest; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(500);

/// The longest wait: the peer may not be reached from here at all, and renew it itself some day.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Looks after the connections until the node leaves. Each is renewed within `spread` after the identity has changed, and the time
/// of a dial.
pub(crate) async fn run(mesh: Arc<Mesh>, spread: Duration, seed: u64) {
    let mut changes = mesh.credentials.changes();
    let mut leaving = mesh.leaving.subscribe();
    let mut jitter = Jitter::new(seed);
    let mut due: HashMap<ConnectionNumber, (Instant, Duration)> = HashMap::new();
    let mut dials = JoinSet::new();
    loop {
        let (now, current) = (Instant::now(), *changes.borrow_and_update());
        let mut old = mesh.peers.all();
        old.retain(|peer| peer.made_with != current && peer.features.has(Features::RENEW));
        due.retain(|number, _| old.iter().any(|peer| peer.number == *number));
        for peer in old {
            let first = || (now + jitter.between(Duration::ZERO, spread), RETRY_MIN);
            let (at, wait) = due.entry(peer.number).or_insert_with(first);
            if *at <= now {
                *at = now + jitter.between(*wait, 2 * *wait);
                *wait = (2 * *wait).min(RETRY_MAX);
                let mesh = mesh.clone();
                dials.spawn(async move { mesh.renew_at_any_address(&peer).await });
            }
        }
        let next = due.values().map(|(at, _)| *at).min().unwrap_or(now + LOOK_EVERY).min(now + LOOK_EVERY);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            Some(_) = dials.join_next(), if !dials.is_empty() => {}
            () = sleep_until(next) => {}
            _ = told(&mut leaving) => return,
        }
    }
}

impl Mesh {
    async fn renew_at_any_address(self: &Arc<Self>, peer: &Arc<Peer>) {
        let mut last: Option<ConnectionError> = None;
        // The last is where it was reached, or came from.
        for address in peer.addresses.iter().rev() {
            if !self.peers.of(&peer.node).is_some_and(|now| now.number == peer.number) {
                return;
            }
            match self.renew(peer, *address).await {
                Ok(()) => return,
                Err(error) => last = Some(error),
            }
        }
        if let Some(reason) = last {
            let node = &peer.node;
            tracing::debug!(%node, %reason, "the connection was not renewed with the new certificate; it goes on, and is tried again");
        }
    }
}
