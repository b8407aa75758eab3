//! The peers that are connected, and the sessions of clients: where signals for elsewhere go. Read on every remote send,
//! written when a connection comes or goes.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rookery_protocol::{
    ControlFrame, Destination, NodeId, NodeName, Recipient, SessionId,
    handshake::{Features, RefusalCode},
};
use rookery_runtime::{
    Uplink,
    net::{
        legs::Made,
        outbound::{LaneInfo, Outbound, Traffic},
    },
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{arbiter::ConnectionNumber, credentials::Version, renewal::Renewal};
use crate::session::{
    departure::Departure,
    driver::locked,
    edges::Edges,
    pace::{Pace, TOO_OFTEN},
};

/// A node that is connected.
pub(crate) struct Peer {
    pub(crate) number: ConnectionNumber,
    pub(crate) node: NodeId,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) connection: quinn::Connection,
    /// Where it can be dialled.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) since: Instant,
    pub(crate) received: Arc<Arrivals>,
    pub(crate) silence: Silence,
    /// What goes out on its control stream; none to a peer that does not understand more than the handshake.
    pub(crate) control: Option<mpsc::Sender<ControlFrame>>,
    /// What both ends can do.
    pub(crate) features: Features,
    /// The identity that this node showed.
    pub(crate) made_with: Version,
    /// How another connection comes to take this one's place.
    pub(crate) renewal: Arc<Renewal>,
    /// Where that goes.
    pub(crate) next: mpsc::Sender<Made<Version>>,
}

/// Counts what arrives, on all lanes.
#[derive(Default)]
pub(crate) struct Arrivals {
    signals: AtomicU64,
    bytes: AtomicU64,
}

impl Arrivals {
    pub(crate) fn add(&self, more: Traffic) {
        self.signals.fetch_add(more.signals, Ordering::Relaxed);
        self.bytes.fetch_add(more.bytes, Ordering::Relaxed);
    }

    fn so_far(&self) -> Traffic {
        Traffic { signals: self.signals.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// Since when a peer has been silent, while it is suspected to be lost.
#[derive(Default)]
pub(crate) struct Silence(Mutex<Option<Instant>>);

impl Silence {
    /// It is suspected, and has been silent for so long.
    pub(crate) fn begin(&self, silent: Duration) {
        *self.since() = Instant::now().checked_sub(silent);
    }

    /// It is heard again.
    pub(crate) fn end(&self) {
        *self.since() = None;
    }

    fn so_far(&self) -> Option<Duration> {
        self.since().map(|since| since.elapsed())
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What can be told about a connected node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// The node.
    pub node: NodeId,
    /// Where it can be dialled.
    pub addresses: Vec<SocketAddr>,
    /// The round trip, as QUIC measures it, in microseconds.
    pub rtt_us: u64,
    /// For how long nothing has come from it, in milliseconds, if it is suspected to be lost for that. None of one that is up.
    pub silent_ms: Option<u64>,
    /// For how long it has been connected, in milliseconds.
    pub connected_ms: u64,
    /// Bytes that wait to be sent to it.
    pub queued_bytes: u64,
    /// The lanes to it.
    pub lanes: Vec<LaneInfo>,
    /// What came from it.
    pub received: Traffic,
    /// Packets that were sent to it; what was lost of them was sent again.
    pub sent_packets: u64,
    /// Packets to it that were lost.
    pub lost_packets: u64,
    /// How many bytes QUIC has under way to it at most just now.
    pub congestion_window_bytes: u64,
}

impl PeerInfo {
    /// What was sent to it, on all lanes.
    #[must_use]
    pub fn sent(&self) -> Traffic {
        self.lanes.iter().fold(Traffic::default(), |sum, lane| Traffic {
            signals: sum.signals + lane.sent.signals,
            bytes: sum.bytes + lane.sent.bytes,
        })
    }
}

impl Peer {
    /// The same peer by another connection.
    pub(super) fn renewed(&self, connection: quinn::Connection, made_with: Version) -> Self {
        Self {
            number: self.number,
            node: self.node.clone(),
            outbound: self.outbound.clone(),
            connection,
            addresses: self.addresses.clone(),
            since: Instant::now(),
            received: self.received.clone(),
            silence: Silence::default(),
            control: self.control.clone(),
            features: self.features,
            made_with,
            renewal: self.renewal.clone(),
            next: self.next.clone(),
        }
    }

    fn info(&self) -> PeerInfo {
        let path = self.connection.stats().path;
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        PeerInfo {
            node: self.node.clone(),
            addresses: self.addresses.clone(),
            rtt_us: u64::try_from(path.rtt.as_micros()).unwrap_or(u64::MAX),
            silent_ms: self.silence.so_far().map(ms),
            connected_ms: ms(self.since.elapsed()),
            queued_bytes: self.outbound.queued_bytes() as u64,
            lanes: self.outbound.lane_infos(),
            received: self.received.so_far(),
            sent_packets: path.sent_packets,
            lost_packets: path.lost_packets,
            congestion_window_bytes: path.cwnd,
        }
    }
}

/// A client that is connected.
pub(crate) struct Client {
    pub(crate) session: SessionId,
    /// The name in its certificate.
    pub(crate) name: String,
    /// With the incarnation, that tells its program's runs apart.
    pub(crate) node: NodeId,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) connection: quinn::Connection,
    pub(crate) edges: Arc<Mutex<Edges>>,
    /// What both ends can do.
    pub(crate) features: Features,
    /// What goes out on its control stream.
    pub(crate) control: mpsc::Sender<ControlFrame>,
    /// The identity that this node showed.
    pub(crate) made_with: Version,
    /// How another connection comes to take this one's place.
    pub(crate) renewal: Arc<Renewal>,
    /// How often it may.
    pub(crate) pace: Arc<Mutex<Pace>>,
    /// Where that goes.
    pub(crate) next: mpsc::Sender<Made<Version>>,
    /// How it goes when this node is about to leave.
    pub(crate) departure: Arc<Departure>,
}

impl Client {
    /// The same client by another connection.
    pub(crate) fn renewed(&self, connection: quinn::Connection, made_with: Version) -> Self {
        Self {
            session: self.session,
            name: self.name.clone(),
            node: self.node.clone(),
            outbound: self.outbound.clone(),
            connection,
            edges: self.edges.clone(),
            features: self.features,
            control: self.control.clone(),
            made_with,
            renewal: self.renewal.clone(),
            pace: self.pace.clone(),
            next: self.next.clone(),
            departure: self.departure.clone(),
        }
    }

    /// Whether it may renew its connection now, if `admitted` says so as well. It counts then.
    pub(crate) fn may_renew(&self, admitted: impl FnOnce() -> bool) -> Result<(), (RefusalCode, &'static str)> {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if !pace.may(now) {
            return Err((RefusalCode::Busy, TOO_OFTEN));
        }
        if !admitted() {
            return Err((RefusalCode::Duplicate, "renews its session already"));
        }
        pace.renews(now);
        Ok(())
    }

    /// What ties its processes to others.
    pub(crate) fn edges(&self) -> MutexGuard<'_, Edges> {
        locked(&self.edges)
    }
}

/// See the module.
pub(crate) struct Peers {
    own: NodeId,
    nodes: RwLock<HashMap<NodeName, Arc<Peer>>>,
    clients: RwLock<HashMap<SessionId, Arc<Client>>>,
    /// Whether there was a peer at any time.
    joined: AtomicBool,
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Peers {
    pub(crate) fn new(own: NodeId) -> Self {
        Self { own, nodes: RwLock::default(), clients: RwLock::default(), joined: AtomicBool::new(false) }
    }

    pub(crate) fn insert(&self, peer: Arc<Peer>) {
        write(&self.nodes).insert(peer.node.name().clone(), peer);
        self.joined.store(true, Ordering::Relaxed);
    }

    /// Whether this node was ever connected with another.
    pub(crate) fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    /// Removes the peer if this is still its connection.
    pub(crate) fn remove(&self, node: &NodeId, number: ConnectionNumber) -> Option<Arc<Peer>> {
        let mut nodes = write(&self.nodes);
        if nodes.get(node.name())?.number != number {
            return None;
        }
        nodes.remove(node.name())
    }

    /// The peer's connection has been renewed; false if it was lost meanwhile.
    pub(super) fn renew(&self, peer: &Arc<Peer>) -> bool {
        let mut nodes = write(&self.nodes);
        match nodes.get_mut(peer.node.name()) {
            Some(known) if known.number == peer.number => {
                *known = peer.clone();
                true
            }
            _ => false,
        }
    }

    /// The peer that is this life of that node.
    pub(super) fn of(&self, node: &NodeId) -> Option<Arc<Peer>> {
        read(&self.nodes).get(node.name()).filter(|peer| peer.node == *node).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        read(&self.nodes).values().cloned().collect()
    }

    pub(crate) fn infos(&self) -> Vec<PeerInfo> {
        let mut infos: Vec<PeerInfo> = self.all().iter().map(|peer| peer.info()).collect();
        infos.sort_by(|a, b| a.node.cmp(&b.node));
        infos
    }

    pub(crate) fn insert_client(&self, client: Arc<Client>) {
        write(&self.clients).insert(client.session, client);
    }

    /// The client's connection has been renewed; false if it was lost meanwhile.
    pub(crate) fn renew_client(&self, client: Arc<Client>) -> bool {
        let mut clients = write(&self.clients);
        let known = clients.get_mut(&client.session);
        known.map(|known| *known = client).is_some()
    }

    pub(crate) fn remove_client(&self, session: SessionId) -> Option<Arc<Client>> {
        write(&self.clients).remove(&session)
    }

    pub(crate) fn clients(&self) -> Vec<Arc<Client>> {
        read(&self.clients).values().cloned().collect()
    }

    pub(crate) fn client(&self, session: SessionId) -> Option<Arc<Client>> {
        read(&self.clients).get(&session).cloned()
    }

    pub(crate) fn client_count(&self) -> usize {
        read(&self.clients).len()
    }
}

impl Uplink for Peers {
    fn connection(&self, to: &Destination) -> Option<Arc<Outbound>> {
        if to.node == self.own {
            let Recipient::Serial(serial) = to.to else { return None };
            return Some(read(&self.clients).get(&serial.session()?)?.outbound.clone());
        }
        let nodes = read(&self.nodes);
        // A pid of a former life has no connection: it is dead (P1).
        let peer = nodes.get(to.node.name()).filter(|peer| peer.node == to.node)?;
        Some(peer.outbound.clone())
    }

    fn connections(&self) -> Vec<Arc<Outbound>> {
        let nodes = read(&self.nodes);
        let clients = read(&self.clients);
        nodes.values().map(|peer| peer.outbound.clone()).chain(clients.values().map(|c| c.outbound.clone())).collect()
    }

    fn nodes(&self) -> Vec<NodeId> {
        let nodes = read(&self.nodes);
        nodes.values().map(|peer| peer.node.clone()).chain([self.own.clone()]).collect()
    }
}
