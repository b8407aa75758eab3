//! Renews connections that were made with another identity than the one that this node has now: each is dialled anew, at a time of its
//! own, and goes over without a loss (`served.rs`).

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rookery_protocol::handshake::{Features, RENEW, RefusalCode};
use rookery_runtime::{
    net::{
        control::{ConnectionError, Control, Verdict, close_code, facts_of, shake_hands},
        legs::{BODIES, Made, until_no_bodies},
    },
    tls::PeerIdentity,
};
use tokio::{
    sync::mpsc::error::TrySendError,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::{
    arbiter::ConnectionNumber,
    counts::{Failed, With},
    driver::{Mesh, told},
    handshakes::{Established, farewell},
    peers::Peer,
    renewal::By,
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

/// Hands a connection to whoever serves the peer, if somebody still does.
pub(super) fn hand_on(established: Established) -> Result<(), ConnectionError> {
    let Established { connection, control, agreement, dialled, made_with: note, renews, .. } = established;
    let Some(next) = renews else { return Ok(()) };
    next.try_send(Made { connection, control, agreement, dialled, note }).map_err(|error| {
        let made = match error {
            TrySendError::Full(made) | TrySendError::Closed(made) => made,
        };
        made.connection.close(close_code::REFUSED, b"the connection that it renews is lost");
        ConnectionError::StreamClosed("lane")
    })
}

/// A renewal that this node has begun to dial for; it has failed when this is dropped.
struct Begun<'a>(&'a Peer, By);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.renewal.failed(self.1);
    }
}

impl Mesh {
    async fn renew_at_any_address(self: &Arc<Self>, peer: &Arc<Peer>) {
        let mut last: Option<ConnectionError> = None;
        // The last is where it was reached, or came from.
        for address in peer.addresses.iter().rev() {
            if self.peers.of(&peer.node).is_none_or(|now| now.number != peer.number) {
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

    /// Dials a peer for a connection that is to take the place of the one that stands.
    async fn renew(self: &Arc<Self>, peer: &Arc<Peer>, address: SocketAddr) -> Result<(), ConnectionError> {
        let number = ConnectionNumber(self.next_connection.fetch_add(1, Ordering::Relaxed));
        until_no_bodies(&peer.outbound, BODIES).await;
        if !peer.renewal.begin(number) {
            // The other end does.
            return Ok(());
        }
        // Also when this is dropped in the middle: it would never be renewed otherwise.
        let begun = Begun(peer, By::Us(number));
        let limit = self.settings.handshake_timeout;
        let renewed = timeout(limit, self.renew_until_agreed(peer, address, By::Us(number))).await;
        let renewed = renewed.unwrap_or(Err(ConnectionError::HandshakeTimeout(limit)));
        match &renewed {
            Ok(()) => {
                std::mem::forget(begun);
                self.handshakes.count_done(With::DialledNode);
            }
            Err(error) => self.handshakes.count_failed(Failed::of(error)),
        }
        renewed
    }

    async fn renew_until_agreed(&self, peer: &Arc<Peer>, address: SocketAddr, by: By) -> Result<(), ConnectionError> {
        let (connection, made_with) = self.connect(address).await?;
        let facts = facts_of(&PeerIdentity::of_connection(&connection)?);
        let mut control = Control::open(&connection).await?;
        let mut hello = self.hello(false);
        hello.extensions.push((RENEW.to_owned(), Vec::new()));
        let agreed = shake_hands(&mut control, true, hello, facts, |met| {
            // It may have been lost meanwhile, and made anew.
            let stands = self.peers.of(&peer.node).is_some_and(|now| now.number == peer.number);
            if met.node == peer.node && stands && peer.renewal.agreed(by) {
                return Verdict::Admit(None);
            }
            let text = format!("the connection with {} is not renewed by this one", peer.node);
            Verdict::Refuse(RefusalCode::Duplicate, text)
        });
        let agreement = match agreed.await {
            Ok(agreement) => agreement,
            Err(error) => {
                farewell(&connection, &error).await;
                return Err(error);
            }
        };
        let (number, addresses, renews) = (peer.number, Vec::new(), Some(peer.next.clone()));
        hand_on(Established {
            number,
            connection,
            control,
            agreement,
            addresses,
            replaces: None,
            dialled: true,
            made_with,
            renews,
        })
    }
}
