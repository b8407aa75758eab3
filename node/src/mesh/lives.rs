//! What peers say of newer lives of this node, as they refuse it; see `outlived.rs`, which decides what that comes to.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use quinn::Connection;
use rookery_protocol::{Incarnation, NodeName, handshake::Refusal};
use rookery_runtime::{net::control::ConnectionError, tls::PeerIdentity};
use tokio::sync::watch;

use super::outlived::{Heeded, Outlived, TakenForOlder, Words, by_clock};

/// See the module.
#[derive(Debug)]
pub(crate) struct Lives {
    began: Instant,
    words: Mutex<Words>,
    /// Says so, once this node is outlived.
    outlived: watch::Sender<Option<Outlived>>,
    /// It has been said that a peer speaks of a life that no clock would give.
    too_far: AtomicBool,
}

impl Default for Lives {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            words: Mutex::default(),
            outlived: watch::channel(None).0,
            too_far: AtomicBool::new(false),
        }
    }
}

impl Lives {
    /// Why a connection with the node at its other end was not made. So many `peers` take this node, which is `own`.
    pub(super) fn heed(&self, connection: &Connection, error: &ConnectionError, own: Incarnation, peers: usize) {
        let ConnectionError::RefusedByPeer(Refusal { by: Some(by), newer_life: Some(newer), .. }) = error else {
            return;
        };
        if newer.incarnation <= own {
            return;
        }
        // Who refuses was not asked who it is: a client is no judge of lives, nor does anybody speak for another node.
        if !PeerIdentity::of_connection(connection).is_ok_and(|peer| peer.may_be_node(by.name().as_str())) {
            return;
        }
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        match words.told(by.name().clone(), *newer, self.began.elapsed(), by_clock(), peers) {
            Heeded::Nothing => {}
            // Once: it is dialled again every second.
            Heeded::TooFar if self.too_far.swap(true, Ordering::Relaxed) => {}
            Heeded::TooFar => tracing::warn!(
                %by,
                incarnation = %newer.incarnation,
                "a peer takes this node for older than a life that no clock would give; that peer has to be started anew"
            ),
            Heeded::Outlived(outlived) => {
                if self.outlived.borrow().as_ref() != Some(&outlived) {
                    tracing::error!(by = %outlived.by, newest = %outlived.newest, "outlived: {outlived}");
                    self.outlived.send_replace(Some(outlived));
                }
            }
        }
    }

    /// A connection with `peer` is agreed on.
    pub(super) fn taken_by(&self, peer: &NodeName) {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).taken_by(peer);
    }

    /// Why peers refuse this node, while they take it for older than its last life.
    pub(crate) fn taken_for_older(&self) -> Option<TakenForOlder> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).taken_for_older(self.began.elapsed())
    }

    /// Waits until this node is outlived.
    pub(crate) async fn outlived(&self) -> Outlived {
        let mut told = self.outlived.subscribe();
        match told.wait_for(Option::is_some).await.ok().and_then(|outlived| outlived.clone()) {
            Some(outlived) => outlived,
            // The sender is our own, so there is nothing that could end it.
            None => std::future::pending().await,
        }
    }
}
