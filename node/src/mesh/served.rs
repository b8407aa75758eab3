//! A peer as whoever serves its connections knows it (`rookery_runtime::net::legs`): where what it sends goes, what it may say on the
//! control stream, and what is to be done when another connection has taken the place of the one that stood.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quinn::{Connection, RecvStream};
use rookery_protocol::{
    ControlFrame, WireError,
    handshake::{Agreement, Features},
};
use rookery_runtime::net::{
    control::ConnectionError,
    lanes::{Incoming, read},
    legs::{Served, Work},
    outbound::Outbound,
};

use super::{
    credentials::Version,
    dialler::Hint,
    driver::{Mesh, told},
    inbox::PeerInbox,
    peers::Peer,
    settling::Standing,
};
use crate::membership::driver::News;

/// See the module.
pub(super) struct ServedPeer {
    pub(super) mesh: Arc<Mesh>,
    /// By its first connection.
    pub(super) peer: Arc<Peer>,
    /// It has told where others are.
    pub(super) has_told: AtomicBool,
}

impl Served for ServedPeer {
    /// The identity that this node showed.
    type Note = Version;

    fn outbound(&self) -> &Arc<Outbound> {
        &self.peer.outbound
    }

    fn reading(&self, connection: &Connection, agreement: &Agreement, first: Option<RecvStream>) -> Work {
        let Self { mesh, peer, .. } = self;
        let inbox = Arc::new(PeerInbox { runtime: mesh.runtime.clone(), peer: peer.clone() });
        let incoming = Incoming {
            own: mesh.own().clone(),
            peer: peer.node.clone(),
            lanes: agreement.peer.lanes,
            max_message_bytes: mesh.settings.max_message_bytes,
            bulk: agreement.features.has(Features::BULK),
        };
        let connection = connection.clone();
        Box::pin(async move { read(&connection, incoming, inbox, first).await })
    }

    fn frame(&self, frame: ControlFrame) -> Result<(), ConnectionError> {
        let Self { mesh, peer, .. } = self;
        match frame {
            ControlFrame::Peers(peers) => {
                // What one who was dialled says first is where all others are; then, who comes after this node.
                let is_newcomer = peer.connection.side().is_client() && !self.has_told.swap(true, Ordering::Relaxed);
                let hint = if is_newcomer { Hint::Learned } else { Hint::Newcomer };
                for told in peers.iter().filter(|told| told.node != *mesh.own() && !mesh.knows(&told.node)) {
                    for &address in &told.addresses {
                        mesh.hint(hint(address));
                    }
                }
            }
            ControlFrame::HaveYouHeard(suspect) => mesh.news(News::Asked(peer.number, suspect)),
            ControlFrame::Heard(heard) => mesh.news(News::Answered(peer.number, heard)),
            ControlFrame::Goodbye(goodbye) => return Err(ConnectionError::Goodbye(goodbye.reason)),
            _ => {
                let detail = "the handshake is over";
                return Err(WireError::Unexpected { kind: "handshake", detail }.into());
            }
        }
        Ok(())
    }

    fn is_renewal_expected(&self) -> Option<Duration> {
        self.peer.renewal.is_expected().then_some(self.mesh.settings.handshake_timeout)
    }

    fn stays(&self) {
        self.peer.renewal.done();
    }

    fn has_gone_over(&self, connection: &Connection, made_with: Version) -> bool {
        let peer = Arc::new(self.peer.renewed(connection.clone(), made_with));
        if !self.mesh.peers.renew(&peer) {
            return false;
        }
        peer.renewal.done();
        let rtt = format_args!("{:.1?}", connection.rtt()).to_string();
        tracing::info!(node = %peer.node, rtt, "connection renewed with the present certificates");
        true
    }

    async fn leaves(&self) -> String {
        told(&mut self.mesh.leaving.subscribe()).await
    }
}
