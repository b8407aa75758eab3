//! The life of a peer, from the handshake's end to the loss of its connection: its lanes and control stream, what it is
//! told of others, and who is told that it is up and down (M5).

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use rookery_protocol::{
    ControlFrame, Signal, SignalBody,
    control::PeerAddresses,
    handshake::Features,
    limits::{MAX_ADDRESSES_PER_PEER, MAX_PEERS_PER_FRAME},
};
use rookery_runtime::net::{
    control::close_code,
    legs::{Made, Patience, serve},
    outbound::Outbound,
};
use tokio::sync::mpsc;

use super::{
    dialler::Hint,
    driver::Mesh,
    gossip::{Rounds, newcomer_is_told_of, told_of_newcomer},
    handshakes::Established,
    peers::{Peer, Silence},
    served::ServedPeer,
};

/// Frames that wait for one peer's control stream. What finds no room is asked, or told, again.
const MAX_CONTROL_QUEUE: usize = 64;

impl Mesh {
    /// Makes a peer of an agreed connection.
    pub(super) fn establish(self: &Arc<Self>, established: Established) {
        let Established { number, connection, control, agreement, mut addresses, replaces, dialled, made_with, .. } =
            established;
        let node = agreement.peer.node.clone();
        self.lives.taken_by(node.name());
        if let Some(old) = replaces
            && let Some(peer) = self.peers.all().into_iter().find(|peer| peer.number == old)
        {
            let reason = if peer.node == node {
                format!("another connection of {node} takes its place")
            } else {
                format!("{node}, a newer life of it, takes its place")
            };
            self.lost(&peer, &reason);
            peer.connection.close(close_code::REPLACED, reason.as_bytes());
        }
        let dialler = if dialled { self.own() } else { &node }.name();
        let rtt = format_args!("{:.1?}", connection.rtt()).to_string();
        // The last is where it was reached, or can be.
        let address = addresses.last().copied().unwrap_or(connection.remote_address());
        tracing::info!(%node, %address, %dialler, rtt, "node up");
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES_PER_PEER);
        let outbound = Outbound::new(
            self.own(),
            &node,
            usize::from(self.settings.lanes),
            self.settings.outbound_budget_bytes,
            agreement.peer.max_message_bytes,
        );
        let outbound = Arc::new(outbound.with_features(agreement.features));
        let (control_out, control_queue) = mpsc::channel(MAX_CONTROL_QUEUE);
        let (next, renewed) = mpsc::channel(1);
        let understands = agreement.features.has(Features::MEMBERSHIP);
        let peer = Arc::new(Peer {
            number,
            node: node.clone(),
            outbound,
            connection: connection.clone(),
            addresses,
            since: Instant::now(),
            received: Arc::default(),
            silence: Silence::default(),
            control: understands.then_some(control_out.clone()),
            features: agreement.features,
            made_with,
            renewal: Arc::default(),
            next,
        });
        if agreement.features.has(Features::DIRECTORY) {
            // First of all, so that whoever is told of a process can look up what it has.
            self.runtime.directory_peer_up(&peer.outbound);
        }
        self.peers.insert(peer.clone());
        self.runtime.node_up(&node);
        self.tell_clients(&SignalBody::NodeUp(node.clone()));
        for &address in &peer.addresses {
            self.hint(Hint::Connected(address, node.clone()));
        }
        let newcomer = vec![PeerAddresses { node: node.clone(), addresses: peer.addresses.clone() }];
        let mut others = self.peers.all();
        others.retain(|other| other.node != node);
        for other in told_of_newcomer(&others, number) {
            if let Some(control) = &other.control {
                drop(control.try_send(ControlFrame::Peers(newcomer.clone())));
            }
        }
        // It is told where others are.
        let others = self.others(&peer);
        let some: Vec<PeerAddresses> = newcomer_is_told_of(&others, number).cloned().collect();
        if !some.is_empty() {
            drop(control_out.try_send(ControlFrame::Peers(some)));
        }
        let mesh = self.clone();
        tokio::spawn(async move {
            let first = Made { connection, control, agreement, dialled, note: made_with };
            let served = ServedPeer { mesh, peer, has_told: AtomicBool::new(false) };
            let (connection, end) = serve(&served, first, control_queue, renewed, Patience::default()).await;
            let ServedPeer { mesh, peer, .. } = served;
            mesh.lost(&peer, &end.to_string());
            connection.close(end.close_code(), end.to_string().as_bytes());
        });
    }

    /// Tells the peer whose turn it is where the others are. What finds no room is told in another round.
    pub(super) fn gossip_again(&self, rounds: &mut Rounds, now: Duration) {
        let mut peers = self.peers.all();
        let Some(turn) = rounds.poll(now, peers.len()) else { return };
        peers.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        if let Some(peer) = peers.get(turn)
            && let Some(control) = &peer.control
        {
            for part in self.others(peer).chunks(MAX_PEERS_PER_FRAME) {
                drop(control.try_send(ControlFrame::Peers(part.to_vec())));
            }
        }
    }

    /// Where all but this one are.
    fn others(&self, peer: &Peer) -> Vec<PeerAddresses> {
        let peers = self.peers.all();
        let others = peers.iter().filter(|other| other.node != peer.node);
        others.map(|other| PeerAddresses { node: other.node.clone(), addresses: other.addresses.clone() }).collect()
    }

    /// A peer's connection is gone: tells everybody who must know, in the contract's order. Once.
    pub(crate) fn lost(&self, peer: &Peer, reason: &str) {
        self.arbiter().ended(peer.number, &peer.node);
        if self.peers.remove(&peer.node, peer.number).is_none() {
            return;
        }
        tracing::info!(node = %peer.node, reason, "node down");
        let tied = peer.outbound.close();
        self.runtime.node_lost(&peer.node, tied, reason);
        for client in self.peers.clients() {
            let told = client.edges().node_lost(&peer.node, self.own());
            told.into_iter().for_each(|signal| self.runtime.signal(signal));
        }
        let reason = reason.to_owned();
        self.tell_clients(&SignalBody::NodeDown { node: peer.node.clone(), reason });
        self.hint(Hint::Disconnected(peer.node.clone()));
    }

    fn tell_clients(&self, body: &SignalBody) {
        for client in self.peers.clients() {
            let to =
                rookery_protocol::Pid::new(self.own().clone(), rookery_protocol::Serial::of_client(client.session, 0));
            self.runtime.signal(Signal { from: self.runtime.own_pid(), to: to.into(), body: body.clone() });
        }
    }
}
