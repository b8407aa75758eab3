//! Makes connections and keeps them: dial and accept, handshake, the life of a peer, its loss. Decisions are the
//! arbiter's, the handshake's and the book's; this does them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quinn::{Connection, Endpoint, Incoming};
use rookery_protocol::{
    ClusterName, ControlFrame, NodeId, SessionId, Signal, SignalBody, WireError,
    control::{Goodbye, PeerAddresses},
    handshake::{Agreement, Features, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Refusal, RefusalCode, Role},
    limits::{MAX_ADDRESSES_PER_PEER, MAX_PEERS_PER_FRAME},
};
use rookery_runtime::{
    Runtime,
    net::{
        control::{
            ConnectionError, Control, ControlReceiver, ControlSender, Verdict, close_code, facts_of, shake_hands,
        },
        lanes::{Inbox, read_lanes, write_lane},
        outbound::{Outbound, Traffic},
        settings::ConnectionSettings,
    },
    tls::{CertificateRole, PeerIdentity, SERVER_NAME},
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{timeout, timeout_at},
};

use super::{
    arbiter::{Arbiter, ConnectionNumber, Ruling},
    dialler::Hint,
    peers::{Arrivals, Peer, Peers},
};
use crate::session::{self, policy::Policy};

/// Handshakes of strangers that may be under way at once; more are refused before they cost a signature.
const MAX_HANDSHAKES: usize = 256;

/// How long an end that has said no, or goodbye, waits for the other to hear it.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the mesh of one node is made of.
pub(crate) struct Mesh {
    pub(crate) cluster: ClusterName,
    pub(crate) runtime: Runtime,
    pub(crate) settings: ConnectionSettings,
    pub(crate) peers: Arc<Peers>,
    pub(crate) policies: Vec<Policy>,
    pub(crate) default_policy: Policy,
    pub(crate) max_clients: usize,
    /// Where this node can be dialled, if it says so itself.
    pub(crate) advertised: Vec<SocketAddr>,
    pub(crate) listen_port: u16,
    /// For dialling.
    pub(crate) client_config: quinn::ClientConfig,
    hints: mpsc::Sender<Hint>,
    /// A hint about a connection found no room: the dialling loop has to look for itself.
    missed_hint: AtomicBool,
    /// Says why this node leaves, once it does.
    pub(crate) leaving: watch::Sender<Option<String>>,
    /// How many things the policy has refused to clients.
    pub(crate) refused_to_clients: AtomicU64,
    arbiter: Mutex<Arbiter>,
    next_connection: AtomicU64,
    next_session: AtomicU32,
}

/// Another node was dialled: it is connected now by this connection or another, or was, or is about to be.
pub(crate) struct Dialled {
    pub(crate) node: NodeId,
}

/// A handshake that the arbiter may have been told of. Unless the connection comes to stand, the arbiter is told of its end,
/// however the handshake ends: a peer that falls silent must not be remembered as one that is about to be connected.
struct Pending<'a> {
    mesh: &'a Mesh,
    number: ConnectionNumber,
    /// The peer, once the arbiter was asked about it.
    node: Option<NodeId>,
}

impl<'a> Pending<'a> {
    fn new(mesh: &'a Mesh) -> Self {
        let number = ConnectionNumber(mesh.next_connection.fetch_add(1, Ordering::Relaxed));
        Self { mesh, number, node: None }
    }

    /// The connection stands: its end is told when it ends.
    fn stands(mut self) {
        self.node = None;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(node) = &self.node {
            self.mesh.arbiter().ended(self.number, node);
        }
    }
}

/// What a new mesh needs.
pub(crate) struct MeshParts {
    pub(crate) cluster: ClusterName,
    pub(crate) runtime: Runtime,
    pub(crate) settings: ConnectionSettings,
    pub(crate) peers: Arc<Peers>,
    pub(crate) policies: Vec<Policy>,
    pub(crate) default_policy: Policy,
    pub(crate) max_clients: usize,
    pub(crate) advertised: Vec<SocketAddr>,
    pub(crate) listen_port: u16,
    pub(crate) client_config: quinn::ClientConfig,
    pub(crate) hints: mpsc::Sender<Hint>,
}

/// A connection with both ends agreed.
struct Established {
    number: ConnectionNumber,
    connection: Connection,
    control: Control,
    agreement: Agreement,
    addresses: Vec<SocketAddr>,
    replaces: Option<ConnectionNumber>,
}

impl Mesh {
    pub(crate) fn new(parts: MeshParts) -> Arc<Self> {
        let own = parts.runtime.node().clone();
        Arc::new(Self {
            cluster: parts.cluster,
            runtime: parts.runtime,
            settings: parts.settings,
            peers: parts.peers,
            policies: parts.policies,
            default_policy: parts.default_policy,
            max_clients: parts.max_clients,
            advertised: parts.advertised,
            listen_port: parts.listen_port,
            client_config: parts.client_config,
            hints: parts.hints,
            missed_hint: AtomicBool::new(false),
            leaving: watch::channel(None).0,
            refused_to_clients: AtomicU64::new(0),
            arbiter: Mutex::new(Arbiter::new(own)),
            next_connection: AtomicU64::new(1),
            next_session: AtomicU32::new(1),
        })
    }

    pub(crate) fn own(&self) -> &NodeId {
        self.runtime.node()
    }

    /// Whether a connection with this life of a node stands.
    pub(crate) fn is_connected(&self, peer: &NodeId) -> bool {
        self.peers.all().iter().any(|connected| connected.node == *peer)
    }

    /// Whether one stands, or is about to.
    pub(crate) fn knows(&self, peer: &NodeId) -> bool {
        self.arbiter().knows(peer)
    }

    fn arbiter(&self) -> MutexGuard<'_, Arbiter> {
        self.arbiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the dialling loop. What a peer says of others may be lost, and is told again; what is known of connections not.
    fn hint(&self, hint: Hint) {
        if let Err(refused) = self.hints.try_send(hint)
            && !matches!(refused.into_inner(), Hint::Learned(_))
        {
            self.missed_hint.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a hint about a connection found no room since this was asked last.
    pub(crate) fn has_missed_hint(&self) -> bool {
        self.missed_hint.swap(false, Ordering::Relaxed)
    }

    fn hello(&self, replace: bool) -> Hello {
        Hello {
            versions: (PROTOCOL_MIN, PROTOCOL_MAX),
            features: Features::OURS,
            cluster: self.cluster.clone(),
            role: Role::Node,
            node: self.own().clone(),
            listen_port: self.listen_port,
            advertised: self.advertised.clone(),
            max_message_bytes: u32::try_from(self.settings.max_message_bytes).unwrap_or(u32::MAX),
            lanes: self.settings.lanes,
            replace,
            extensions: Vec::new(),
        }
    }

    /// Dials another node, and makes it a peer, or finds that it is one.
    pub(crate) async fn dial(self: &Arc<Self>, address: SocketAddr, replace: bool) -> Result<Dialled, ConnectionError> {
        let limit = self.settings.handshake_timeout;
        let deadline = tokio::time::Instant::now() + limit;
        let connection = timeout_at(deadline, self.connect(address)).await;
        let connection = connection.unwrap_or(Err(ConnectionError::HandshakeTimeout(limit)))?;
        let mut answered = None;
        let shaken = timeout_at(deadline, self.dial_until_agreed(&connection, address, replace, &mut answered)).await;
        match (shaken.unwrap_or(Err(ConnectionError::HandshakeTimeout(limit))), answered) {
            (Ok(established), _) => {
                let node = established.agreement.peer.node.clone();
                self.establish(established);
                Ok(Dialled { node })
            }
            (Err(error), answered) => {
                farewell(&connection, &error).await;
                match (error, answered) {
                    (ConnectionError::RefusedByUs(refusal), Some(node)) if refusal.code == RefusalCode::Duplicate => {
                        Ok(Dialled { node })
                    }
                    (error, _) => Err(error),
                }
            }
        }
    }

    async fn connect(&self, address: SocketAddr) -> Result<Connection, ConnectionError> {
        // A fresh port for each dial: an address translation that has gone stale for an old one does no harm.
        let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        let endpoint = Endpoint::client(SocketAddr::new(any, 0)).map_err(ConnectionError::Socket)?;
        let connecting = endpoint.connect_with(self.client_config.clone(), address, SERVER_NAME);
        Ok(connecting.map_err(ConnectionError::Dial)?.await?)
    }

    /// The dialler's end of the handshake. `answered` is who welcomed us, whatever came of it.
    async fn dial_until_agreed(
        self: &Arc<Self>,
        connection: &Connection,
        address: SocketAddr,
        replace: bool,
        answered: &mut Option<NodeId>,
    ) -> Result<Established, ConnectionError> {
        let identity = PeerIdentity::of_connection(connection)?;
        let facts = facts_of(&identity);
        let mut control = Control::open(connection).await?;
        let mut pending = Pending::new(self);
        let number = pending.number;
        let mut replaces = None;
        let agreement = shake_hands(&mut control, true, self.hello(replace), facts, |peer| {
            *answered = Some(peer.node.clone());
            pending.node = Some(peer.node.clone());
            match self.arbiter().welcomed(number, &peer.node) {
                Ruling::Keep(other) => {
                    replaces = other;
                    Verdict::Admit(None)
                }
                Ruling::Refuse(code, text) => Verdict::Refuse(code, text),
            }
        })
        .await?;
        pending.stands();
        let mut addresses = agreement.peer.advertised.clone();
        addresses.push(address);
        Ok(Established { number, connection: connection.clone(), control, agreement, addresses, replaces })
    }

    /// Accepts connections until the endpoint is closed.
    pub(crate) async fn accept_all(self: Arc<Self>, endpoint: Endpoint) {
        let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        while let Some(incoming) = endpoint.accept().await {
            if handshakes.available_permits() < MAX_HANDSHAKES / 2 && incoming.may_retry() {
                // Under load, only who really is where it says that it is gets further.
                drop(incoming.retry());
                continue;
            }
            let Ok(permit) = handshakes.clone().try_acquire_owned() else {
                tracing::warn!(from = %incoming.remote_address(), "too many handshakes at once: refused");
                incoming.refuse();
                continue;
            };
            let mesh = self.clone();
            tokio::spawn(async move {
                let from = incoming.remote_address();
                if let Err(error) = mesh.accept(incoming).await {
                    match &error {
                        ConnectionError::RefusedByUs(refusal) if refusal.code != RefusalCode::Duplicate => {
                            tracing::warn!(%from, code = refusal.code.name(), reason = %error, "connection refused");
                        }
                        ConnectionError::RefusedByUs(_) | ConnectionError::RefusedByPeer(_) => {
                            tracing::debug!(%from, reason = %error, "connection not used");
                        }
                        _ => tracing::warn!(%from, reason = %error, "connection refused"),
                    }
                }
                drop(permit);
            });
        }
    }

    async fn accept(self: &Arc<Self>, incoming: Incoming) -> Result<(), ConnectionError> {
        let limit = self.settings.handshake_timeout;
        let deadline = tokio::time::Instant::now() + limit;
        let connection = timeout_at(deadline, incoming.into_future()).await;
        let connection = connection.map_err(|_| ConnectionError::HandshakeTimeout(limit))??;
        let shaken = timeout_at(deadline, self.accept_until_agreed(&connection)).await;
        let established = match shaken.unwrap_or(Err(ConnectionError::HandshakeTimeout(limit))) {
            Ok(established) => established,
            Err(error) => {
                farewell(&connection, &error).await;
                return Err(error);
            }
        };
        match established.agreement.session {
            Some(session) => {
                let name = established.agreement.peer.node.name().as_str().to_owned();
                let client = session::driver::NewClient {
                    session,
                    name,
                    connection: established.connection,
                    control: established.control,
                    agreement: established.agreement,
                };
                session::driver::open(self, client);
            }
            None => self.establish(established),
        }
        Ok(())
    }

    async fn accept_until_agreed(self: &Arc<Self>, connection: &Connection) -> Result<Established, ConnectionError> {
        let identity = PeerIdentity::of_connection(connection)?;
        let is_client = matches!(identity.role, CertificateRole::Client { .. });
        let facts = facts_of(&identity);
        let mut control = Control::accept(connection).await?;
        let mut pending = Pending::new(self);
        let number = pending.number;
        let agreement = shake_hands(&mut control, false, self.hello(false), facts, |peer| {
            if is_client {
                return self.admit_client();
            }
            if let Some(reason) = &*self.leaving.borrow() {
                return Verdict::Refuse(RefusalCode::Draining, format!("{} is leaving: {reason}", self.own()));
            }
            pending.node = Some(peer.node.clone());
            match self.arbiter().asked(number, &peer.node, peer.replace) {
                Ruling::Keep(_) => Verdict::Admit(None),
                Ruling::Refuse(code, text) => Verdict::Refuse(code, text),
            }
        })
        .await?;
        let mut replaces = None;
        if let Some(node) = &pending.node {
            match self.arbiter().confirmed(number, node) {
                Ruling::Keep(other) => replaces = other,
                Ruling::Refuse(code, text) => {
                    // It takes the connection for made, so it waits for no word of ours: it is to hear at once.
                    connection.close(close_code::REFUSED, text.as_bytes());
                    let by = Some(self.own().clone());
                    return Err(ConnectionError::RefusedByUs(Refusal { code, text, by }));
                }
            }
        }
        pending.stands();
        let remote = SocketAddr::new(connection.remote_address().ip().to_canonical(), agreement.peer.listen_port);
        let mut addresses = agreement.peer.advertised.clone();
        addresses.push(remote);
        Ok(Established { number, connection: connection.clone(), control, agreement, addresses, replaces })
    }

    fn admit_client(&self) -> Verdict {
        if let Some(reason) = &*self.leaving.borrow() {
            return Verdict::Refuse(RefusalCode::Draining, format!("{} is leaving: {reason}", self.own()));
        }
        let clients = self.peers.client_count();
        if clients >= self.max_clients {
            let text = format!("{} has {clients} clients, as many as it may (max_clients)", self.own());
            return Verdict::Refuse(RefusalCode::Busy, text);
        }
        match SessionId::new(self.next_session.fetch_add(1, Ordering::Relaxed)) {
            Some(session) => Verdict::Admit(Some(session)),
            None => Verdict::Refuse(RefusalCode::Busy, format!("{} has no session numbers left", self.own())),
        }
    }

    /// Makes a peer of an agreed connection.
    fn establish(self: &Arc<Self>, established: Established) {
        let Established { number, connection, control, agreement, mut addresses, replaces } = established;
        let node = agreement.peer.node.clone();
        if let Some(old) = replaces
            && let Some(peer) = self.peers.all().into_iter().find(|peer| peer.number == old)
        {
            let reason = "another connection, or a newer life of it, takes its place";
            self.lost(&peer, reason);
            peer.connection.close(close_code::REPLACED, reason.as_bytes());
        }
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES_PER_PEER);
        let outbound = Arc::new(Outbound::new(
            self.own(),
            &node,
            usize::from(self.settings.lanes),
            self.settings.outbound_budget_bytes,
            agreement.peer.max_message_bytes,
        ));
        let peer = Arc::new(Peer {
            number,
            node: node.clone(),
            outbound,
            connection: connection.clone(),
            addresses,
            since: Instant::now(),
            received: Arrivals::default(),
        });
        self.peers.insert(peer.clone());
        tracing::info!(%node, address = %connection.remote_address(), rtt = ?connection.rtt(), "node up");
        self.runtime.node_up(&node);
        self.tell_clients(&SignalBody::NodeUp(node.clone()));
        for &address in &peer.addresses {
            self.hint(Hint::Connected(address, node.clone()));
        }
        let mesh = self.clone();
        tokio::spawn(async move {
            let end = mesh.serve(&peer, control, agreement).await;
            mesh.lost(&peer, &end.to_string());
            peer.connection.close(end.close_code(), end.to_string().as_bytes());
        });
    }

    /// The life of a peer. Gives why it ended.
    async fn serve(self: &Arc<Self>, peer: &Arc<Peer>, control: Control, agreement: Agreement) -> ConnectionError {
        let (mut sender, mut receiver) = control.split();
        let mut leaving = self.leaving.subscribe();
        let mut writers = JoinSet::new();
        for lane in 0..peer.outbound.lanes() {
            let (connection, outbound) = (peer.connection.clone(), peer.outbound.clone());
            writers.spawn(async move { write_lane(&connection, &outbound, lane).await });
        }
        let inbox = Arc::new(PeerInbox { runtime: self.runtime.clone(), peer: peer.clone() });
        let reading = read_lanes(
            &peer.connection,
            self.own(),
            &peer.node,
            agreement.peer.lanes,
            self.settings.max_message_bytes,
            inbox,
        );
        tokio::pin!(reading);
        if let Err(error) = self.gossip(peer, &mut sender).await {
            return error;
        }
        tokio::select! {
            ended = &mut reading => match ended {
                // All lanes ended in good order: the goodbye is on its way.
                Ok(()) => match timeout(FAREWELL, self.control_loop(&mut receiver)).await {
                    Ok(end) => end,
                    Err(_) => ConnectionError::StreamClosed("lane"),
                },
                Err(error) => error,
            },
            Some(ended) = writers.join_next() => match ended {
                Ok(Err(error)) => error,
                _ => ConnectionError::StreamClosed("lane"),
            },
            end = self.control_loop(&mut receiver) => match end {
                // What it sent before it left comes before the end.
                ConnectionError::Goodbye(reason) => {
                    drop(timeout(FAREWELL, reading).await);
                    ConnectionError::Goodbye(reason)
                }
                end => end,
            },
            reason = told(&mut leaving) => {
                // Say all that is to be said, then goodbye; the peer closes when it has read it.
                peer.outbound.finish();
                let last = async {
                    while writers.join_next().await.is_some() {}
                    sender.send(&ControlFrame::Goodbye(Goodbye { reason: reason.clone() })).await?;
                    drop(reading.await);
                    peer.connection.closed().await;
                    Ok::<(), ConnectionError>(())
                };
                drop(timeout(FAREWELL, last).await);
                ConnectionError::Goodbye(format!("this node leaves: {reason}"))
            }
        }
    }

    /// Tells a new peer where the others are.
    async fn gossip(&self, peer: &Peer, sender: &mut ControlSender) -> Result<(), ConnectionError> {
        let known: Vec<PeerAddresses> = self
            .peers
            .all()
            .iter()
            .filter(|other| other.node != peer.node)
            .map(|other| PeerAddresses { node: other.node.clone(), addresses: other.addresses.clone() })
            .collect();
        for part in known.chunks(MAX_PEERS_PER_FRAME) {
            sender.send(&ControlFrame::Peers(part.to_vec())).await?;
        }
        Ok(())
    }

    async fn control_loop(&self, receiver: &mut ControlReceiver) -> ConnectionError {
        loop {
            match receiver.receive().await {
                Ok(ControlFrame::Peers(peers)) => {
                    for told in peers.iter().filter(|told| told.node != *self.own() && !self.knows(&told.node)) {
                        for &address in &told.addresses {
                            self.hint(Hint::Learned(address));
                        }
                    }
                }
                Ok(ControlFrame::Goodbye(goodbye)) => return ConnectionError::Goodbye(goodbye.reason),
                Ok(_) => {
                    let detail = "the handshake is over";
                    return WireError::Unexpected { kind: "handshake", detail }.into();
                }
                Err(error) => return error,
            }
        }
    }

    /// A peer's connection is gone: tells everybody who must know, in the contract's order. Once.
    fn lost(&self, peer: &Peer, reason: &str) {
        self.arbiter().ended(peer.number, &peer.node);
        if self.peers.remove(&peer.node, peer.number).is_none() {
            return;
        }
        tracing::info!(node = %peer.node, reason, "node down");
        let tied = peer.outbound.close();
        self.runtime.node_lost(&peer.node, tied, reason);
        for client in self.peers.clients() {
            client.edges().node_lost(&peer.node);
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

/// Waits until the node is told to leave.
pub(crate) async fn told(leaving: &mut watch::Receiver<Option<String>>) -> String {
    match leaving.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or_default(),
        Err(_) => "shutting down".to_owned(),
    }
}

/// Lets the other end hear why, and closes.
pub(crate) async fn farewell(connection: &Connection, error: &ConnectionError) {
    if matches!(error, ConnectionError::RefusedByUs(_)) {
        // The refusal is on the control stream; the other end closes when it has read it.
        drop(timeout(FAREWELL, connection.closed()).await);
    }
    connection.close(error.close_code(), error.to_string().as_bytes());
}

/// Takes what a peer sends.
struct PeerInbox {
    runtime: Runtime,
    peer: Arc<Peer>,
}

impl Inbox for PeerInbox {
    async fn take(&self, signal: Signal) -> Result<(), WireError> {
        // Another connection has taken its place, and its end has been told: what QUIC still holds of it is lost, or it
        // would come after its `NodeDown` (M5), and among what the new one brings (S1).
        if self.peer.outbound.is_closed() {
            return Ok(());
        }
        // A node speaks for its own processes, to processes of this one.
        if signal.from.node() != &self.peer.node || &signal.to.node != self.runtime.node() {
            let detail = "a node speaks for its own processes, to those of the node it is connected to";
            return Err(WireError::Unexpected { kind: "signal", detail });
        }
        if matches!(signal.body, SignalBody::NodeUp(_) | SignalBody::NodeDown { .. }) {
            return Err(WireError::Misplaced { kind: "NodeUp", stream: "lane between nodes" });
        }
        if self.runtime.is_own(&signal.to) {
            self.runtime.receive(signal, Some(&self.peer.outbound));
        } else {
            self.runtime.signal(signal);
        }
        Ok(())
    }

    fn arrived(&self, more: Traffic) {
        self.peer.received.add(more);
    }
}
