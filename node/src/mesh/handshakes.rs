//! How a connection comes to stand: dial or accept, TLS, handshake, the arbiter's word. What both ends agreed on goes to
//! the life of a peer (`life.rs`) or, of a client, to its session. Each has a deadline, and whoever is refused hears why.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Instant,
};

use quinn::{Connection, Endpoint, EndpointConfig, Incoming};
use rookery_protocol::{
    NodeId, SessionId,
    handshake::{Agreement, Features, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Refusal, RefusalCode, RenewedSession, Role},
};
use rookery_runtime::{
    net::{
        control::{ConnectionError, Control, Verdict, close_code, facts_of, session_proof, shake_hands},
        legs::Made,
        socket,
    },
    tls::{CertificateRole, PeerIdentity, SERVER_NAME},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{timeout, timeout_at},
};

use super::{
    arbiter::{ConnectionNumber, Ruling},
    counts::{Failed, With},
    credentials::Version,
    driver::{FAREWELL, Mesh},
    peers::Client,
    renewal::{By, Renewal},
    renewing::hand_on,
};
use crate::session;

/// Handshakes of strangers that may be under way at once; more are refused before they cost a signature.
const MAX_HANDSHAKES: usize = 256;

/// Another node was dialled: it is connected now by this connection or another, or was, or is about to be.
pub(crate) struct Dialled {
    pub(crate) node: NodeId,
}

/// A connection with both ends agreed.
pub(crate) struct Established {
    pub(super) number: ConnectionNumber,
    pub(super) connection: Connection,
    pub(super) control: Control,
    pub(super) agreement: Agreement,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) replaces: Option<ConnectionNumber>,
    /// Whether this node dialled.
    pub(super) dialled: bool,
    /// The identity that this node showed.
    pub(super) made_with: Version,
    /// Where it goes, if it is to take another connection's place without a loss.
    pub(super) renews: Option<mpsc::Sender<Made<Version>>>,
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

/// Somebody who is welcome to renew the connection, until that is confirmed, or is not.
struct Renewing {
    renewal: Arc<Renewal>,
    next: mpsc::Sender<Made<Version>>,
    number: ConnectionNumber,
}

impl Drop for Renewing {
    fn drop(&mut self) {
        self.renewal.failed(By::Peer(self.number));
    }
}

impl Mesh {
    pub(super) fn hello(&self, replace: bool) -> Hello {
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
        let connected = connection.unwrap_or(Err(ConnectionError::NoAnswer(limit))).inspect_err(|error| {
            self.handshakes.count_failed(Failed::of(error));
        })?;
        let connection = connected.0.clone();
        let mut answered = None;
        let shaken = timeout_at(deadline, self.dial_until_agreed(&connected, address, replace, &mut answered)).await;
        match (shaken.unwrap_or(Err(ConnectionError::HandshakeTimeout(limit))), answered) {
            (Ok(established), _) => {
                let node = established.agreement.peer.node.clone();
                self.handshakes.count_done(With::DialledNode);
                self.establish(established);
                Ok(Dialled { node })
            }
            (Err(error), answered) => {
                self.handshakes.count_failed(Failed::of(&error));
                self.lives.heed(&connection, &error, self.own().incarnation(), self.peers.all().len());
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

    pub(super) async fn connect(&self, address: SocketAddr) -> Result<(Connection, Version), ConnectionError> {
        // A fresh port for each dial: an address translation that has gone stale for an old one does no harm.
        let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        let any = SocketAddr::new(any, 0);
        let endpoint = socket::endpoint(any, EndpointConfig::default(), None).map_err(ConnectionError::Socket)?;
        let (config, made_with) = self.credentials.client_config();
        let connecting = endpoint.connect_with(config, address, SERVER_NAME);
        Ok((connecting.map_err(ConnectionError::Dial)?.await?, made_with))
    }

    /// The dialler's end of the handshake. `answered` is who welcomed us, whatever came of it.
    async fn dial_until_agreed(
        self: &Arc<Self>,
        (connection, made_with): &(Connection, Version),
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
            // Looked at once more for a refusal.
            let ruling = self.arbiter().welcomed(number, &peer.node);
            match ruling {
                Ruling::Keep(other) => {
                    replaces = other;
                    Verdict::Admit(None)
                }
                Ruling::Refuse(code, text) => self.refuse(connection, &peer.node, code, text),
            }
        })
        .await?;
        pending.stands();
        let mut addresses = agreement.peer.advertised.clone();
        addresses.push(address);
        let connection = connection.clone();
        let (made_with, renews) = (*made_with, None);
        Ok(Established {
            number,
            connection,
            control,
            agreement,
            addresses,
            replaces,
            dialled: true,
            made_with,
            renews,
        })
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
                self.handshakes.count_failed(Failed::TOO_MANY);
                tracing::warn!(from = %incoming.remote_address(), "too many handshakes at once: refused");
                incoming.refuse();
                continue;
            };
            let mesh = self.clone();
            tokio::spawn(async move {
                let from =
                    SocketAddr::new(incoming.remote_address().ip().to_canonical(), incoming.remote_address().port());
                if let Err(error) = mesh.accept(incoming).await {
                    mesh.handshakes.count_failed(Failed::of(&error));
                    mesh.tell_refusal(from, &error);
                }
                drop(permit);
            });
        }
    }

    /// Logs why a connection was not made. Another one of the same two nodes stands, or is about to: no trouble.
    fn tell_refusal(&self, from: SocketAddr, error: &ConnectionError) {
        let (code, reason) = match error {
            // DNS gives a node its own address, too: each dials itself once.
            ConnectionError::RefusedByUs(Refusal {
                code: RefusalCode::Duplicate | RefusalCode::SelfDial,
                text,
                ..
            })
            | ConnectionError::RefusedByPeer(Refusal { text, .. }) => {
                return tracing::debug!(%from, reason = text, "connection not used");
            }
            ConnectionError::RefusedByUs(refusal) => (Some(refusal.code.name()), refusal.text.clone()),
            error => (None, error.to_string()),
        };
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = refusals.is_news((from.ip(), reason.clone()), &reason, Instant::now());
        match (code, is_news) {
            (Some(code), true) => tracing::warn!(%from, code, reason, "connection refused"),
            (None, true) => tracing::warn!(%from, reason, "connection not made"),
            (code, false) => tracing::debug!(%from, code, reason, "connection not made, as before"),
        }
    }

    async fn accept(self: &Arc<Self>, incoming: Incoming) -> Result<(), ConnectionError> {
        let limit = self.settings.handshake_timeout;
        let deadline = tokio::time::Instant::now() + limit;
        // Should it change just now, the connection is renewed once too often.
        let made_with = self.credentials.version();
        let connection = timeout_at(deadline, incoming.into_future()).await;
        let connection = connection.map_err(|_| ConnectionError::HandshakeTimeout(limit))??;
        let shaken = timeout_at(deadline, self.accept_until_agreed(&connection, made_with)).await;
        let established = match shaken.unwrap_or(Err(ConnectionError::HandshakeTimeout(limit))) {
            Ok(established) => established,
            Err(error) => {
                self.lives.heed(&connection, &error, self.own().incarnation(), self.peers.all().len());
                farewell(&connection, &error).await;
                return Err(error);
            }
        };
        let with = if established.agreement.session.is_some() { With::Client } else { With::Node };
        self.handshakes.count_done(with);
        match established.agreement.session {
            _ if established.renews.is_some() => return hand_on(established),
            Some(session) => {
                let Established { connection, control, agreement, dialled, made_with: note, .. } = established;
                session::driver::open(self, session, Made { connection, control, agreement, dialled, note });
            }
            None => self.establish(established),
        }
        Ok(())
    }

    async fn accept_until_agreed(
        self: &Arc<Self>,
        connection: &Connection,
        made_with: Version,
    ) -> Result<Established, ConnectionError> {
        let identity = PeerIdentity::of_connection(connection)?;
        let is_client = matches!(identity.role, CertificateRole::Client { .. });
        let facts = facts_of(&identity);
        let mut control = Control::accept(connection).await?;
        let mut pending = Pending::new(self);
        let number = pending.number;
        let mut renewing: Option<Renewing> = None;
        let agreement = shake_hands(&mut control, false, self.hello(false), facts, |peer| {
            if is_client {
                let Some(renewed) = &peer.renewed_session else { return self.admit_client() };
                return match self.admit_again(&peer.node, renewed, number) {
                    Ok(standing) => {
                        renewing = Some(standing);
                        Verdict::Admit(Some(renewed.session))
                    }
                    Err((code, text)) => Verdict::Refuse(code, text),
                };
            }
            if let Some(reason) = &*self.leaving.borrow() {
                return Verdict::Refuse(RefusalCode::Draining, format!("{} is leaving: {reason}", self.own()));
            }
            if peer.renew {
                let ours_wins = self.own().name() < peer.node.name();
                let standing = self.peers.of(&peer.node).filter(|peer| peer.renewal.asked(number, ours_wins));
                renewing =
                    standing.map(|peer| Renewing { renewal: peer.renewal.clone(), next: peer.next.clone(), number });
                let text = || format!("the connection with {} is not renewed by this one", peer.node);
                return match renewing {
                    Some(_) => Verdict::Admit(None),
                    None => Verdict::Refuse(RefusalCode::Duplicate, text()),
                };
            }
            pending.node = Some(peer.node.clone());
            // Looked at once more for a refusal.
            let ruling = self.arbiter().asked(number, &peer.node, peer.replace);
            match ruling {
                Ruling::Keep(_) => Verdict::Admit(None),
                Ruling::Refuse(code, text) => self.refuse(connection, &peer.node, code, text),
            }
        })
        .await?;
        let renews = renewing.as_ref().map(|renewing| renewing.next.clone());
        if let Some(Renewing { renewal, number, .. }) = &renewing
            && !renewal.agreed(By::Peer(*number))
        {
            let text = format!("the connection with {} was not waited for any more", agreement.peer.node);
            connection.close(close_code::REFUSED, text.as_bytes());
            let by = Some(self.own().clone());
            return Err(ConnectionError::RefusedByUs(Refusal {
                code: RefusalCode::Duplicate,
                text,
                by,
                newer_life: None,
            }));
        }
        let mut replaces = None;
        if let Some(node) = &pending.node {
            match self.arbiter().confirmed(number, node) {
                Ruling::Keep(other) => replaces = other,
                Ruling::Refuse(code, text) => {
                    let text = self.located(connection, node, code, text);
                    // It takes the connection for made, so it waits for no word of ours: it is to hear at once.
                    connection.close(close_code::REFUSED, text.as_bytes());
                    let by = Some(self.own().clone());
                    return Err(ConnectionError::RefusedByUs(Refusal { code, text, by, newer_life: None }));
                }
            }
        }
        pending.stands();
        let remote = SocketAddr::new(connection.remote_address().ip().to_canonical(), agreement.peer.listen_port);
        let mut addresses = agreement.peer.advertised.clone();
        addresses.push(remote);
        let connection = connection.clone();
        let dialled = false;
        Ok(Established { number, connection, control, agreement, addresses, replaces, dialled, made_with, renews })
    }

    fn refuse(&self, connection: &Connection, peer: &NodeId, code: RefusalCode, text: String) -> Verdict {
        let text = self.located(connection, peer, code, text);
        match self.arbiter().newer_life(peer) {
            Some(newer) if code == RefusalCode::OlderIncarnation => Verdict::RefuseLife(newer, text),
            _ => Verdict::Refuse(code, text),
        }
    }

    /// Adds to a refusal for the sake of a name where the other one of that name is: somebody has to find it.
    fn located(&self, connection: &Connection, peer: &NodeId, code: RefusalCode, text: String) -> String {
        if code != RefusalCode::OlderIncarnation {
            return text;
        }
        let other = if peer.name() == self.own().name() {
            connection.local_ip().map(|ip| (self.own().clone(), SocketAddr::new(ip.to_canonical(), self.listen_port)))
        } else {
            let known = self.peers.all().into_iter().find(|known| known.node.name() == peer.name());
            known.and_then(|known| Some((known.node.clone(), *known.addresses.last()?)))
        };
        match other {
            Some((node, address)) => format!("{text} ({node} is at {address})"),
            None => text,
        }
    }

    /// A client's session is to go on over another connection, if it shows that it is its own.
    fn admit_again(
        &self,
        client: &NodeId,
        renewed: &RenewedSession,
        number: ConnectionNumber,
    ) -> Result<Renewing, (RefusalCode, String)> {
        if let Some(reason) = &*self.leaving.borrow() {
            return Err((RefusalCode::Draining, format!("{} is leaving: {reason}", self.own())));
        }
        let standing = self.peers.client(renewed.session);
        let own = |standing: &Arc<Client>| {
            let proof = session_proof(&standing.connection);
            standing.node == *client && proof.is_some_and(|proof| is_same(&proof, &renewed.proof))
        };
        match standing.filter(own) {
            Some(standing) => match standing.may_renew(|| standing.renewal.asked(number, false)) {
                Ok(()) => Ok(Renewing { renewal: standing.renewal.clone(), next: standing.next.clone(), number }),
                Err((code, why)) => Err((code, format!("{client} {why}"))),
            },
            None => Err((RefusalCode::Duplicate, format!("{} has no such session of {client}", self.own()))),
        }
    }

    fn admit_client(&self) -> Verdict {
        if let Some(reason) = &*self.leaving.borrow() {
            return Verdict::Refuse(RefusalCode::Draining, format!("{} is leaving: {reason}", self.own()));
        }
        // It would lose its node soon: another one takes it.
        if self.runtime.is_draining() {
            return Verdict::Refuse(
                RefusalCode::Draining,
                format!("{} is draining and takes no new clients", self.own()),
            );
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
}

/// Compares in a time that tells nothing of where they differ.
fn is_same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// Lets the other end hear why, and closes.
pub(super) async fn farewell(connection: &Connection, error: &ConnectionError) {
    if matches!(error, ConnectionError::RefusedByUs(_)) {
        // The refusal is on the control stream; the other end closes when it has read it.
        drop(timeout(FAREWELL, connection.closed()).await);
    }
    connection.close(error.close_code(), error.to_string().as_bytes());
}
