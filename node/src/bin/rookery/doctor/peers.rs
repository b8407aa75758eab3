//! The other nodes: each address is dialled as a node dials it, up to the handshake's last step, in which this end says no. So it is known
//! who is there, and no node takes this program for a member.
//!
//! ```text
//! UDP ─▶ QUIC, TLS: certificates of both ends ─▶ Hello ─▶ Welcome, or Refuse: who it is ─▶ Abort
//! ```
//! The Hello has this node's name, as its certificate wants, and the incarnation of the node that runs here, if one does: so others say
//! that they are connected with it already.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use quinn::TransportErrorCode;
use rookery_node::{
    Incarnation, NodeConfig, NodeId,
    net::{
        control::{ConnectionError, Control, Verdict, close_code, facts_of, shake_hands},
        socket,
    },
    tls::{PeerIdentity, SERVER_NAME},
};
use rookery_protocol::handshake::{Features, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Refusal, RefusalCode, Role};
use thiserror::Error;
use tokio::{net::UdpSocket, task::JoinSet, time::timeout};

use super::report::Report;

const CHECK: &str = "peers";

/// Addresses that are dialled, all at once.
const MAX_DIALLED: usize = 64;

/// How long the last packets of a connection are waited for.
const FAREWELL: Duration = Duration::from_millis(500);

/// A node that answered.
#[derive(Debug, Clone)]
pub(super) struct Met {
    pub(super) node: NodeId,
    pub(super) address: SocketAddr,
    /// The round trip, as QUIC measures it.
    pub(super) rtt: Duration,
    /// Bytes of a datagram that got there.
    pub(super) mtu: u16,
}

/// Why nobody was met at an address.
#[derive(Debug, Error)]
pub(super) enum Missed {
    /// It came to no handshake, or to one that failed.
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    /// Nothing listens there.
    #[error("nothing listens there: the port is closed")]
    Closed,
    /// The own datagrams are too large for the way.
    #[error("this machine cannot send datagrams of 1,200 bytes there")]
    TooLarge,
}

/// Dials all. Gives those who answered, the node itself left out.
pub(super) async fn check(
    report: &mut Report,
    config: &NodeConfig,
    found: &BTreeSet<SocketAddr>,
    own: Option<&Met>,
    deadline: Duration,
) -> Vec<Met> {
    if found.is_empty() {
        report.skipped(CHECK, "no address is known to dial");
        return Vec::new();
    }
    let life = own.map(|own| own.node.incarnation());
    let mut dials = JoinSet::new();
    for &address in found.iter().take(MAX_DIALLED) {
        let config = config.clone();
        dials.spawn(async move { (address, meet(&config, address, life, deadline).await) });
    }
    let mut outcomes = dials.join_all().await;
    outcomes.sort_by_key(|(address, _)| *address);
    let mut met = Vec::new();
    for (address, outcome) in outcomes {
        match outcome {
            Ok(other) if other.node.name() == &config.name && life == Some(other.node.incarnation()) => {
                report.ok(CHECK, format!("{address} is this node itself"));
            }
            Ok(other) if other.node.name() == &config.name => {
                let advice = "each node of a cluster has a name of its own; if that is this one, it listens at another port than is set here";
                report.warning(CHECK, format!("{} at {address} has this node's name", other.node), advice);
            }
            Ok(other) => {
                report.ok(
                    CHECK,
                    format!("{} answers at {address}, after {}", other.node, rookery_node::words::span(other.rtt)),
                );
                met.push(other);
            }
            Err(missed) => report.failed(CHECK, format!("{address}: {missed}"), advice(&missed)),
        }
    }
    if found.len() > MAX_DIALLED {
        report.skipped(CHECK, format!("{} more addresses were not dialled", found.len() - MAX_DIALLED));
    }
    if met.is_empty() && report.is_well() {
        let advice = "with one replica it is right; else look whether the others run, and whether DNS names them before they are ready";
        report.warning(CHECK, "no node but this one is known", advice);
    }
    if !met.is_empty() {
        report.ok(
            "versions",
            format!("all who answered speak protocol {PROTOCOL_MIN} to {PROTOCOL_MAX}, or a part of it"),
        );
    }
    met
}

fn advice(missed: &Missed) -> &'static str {
    match missed {
        Missed::Closed => {
            "the pod runs no node now, or another port is set there (`listen`); DNS may name a pod that has gone"
        }
        Missed::TooLarge => "look at the MTU of this machine's interfaces: the way has to take 1,280 bytes",
        Missed::Connection(ConnectionError::NoAnswer(_) | ConnectionError::HandshakeTimeout(_)) => {
            "look whether a node runs there, whether network policies and firewalls let UDP through both ways, and at the MTU of the way"
        }
        Missed::Connection(ConnectionError::RefusedByPeer(refusal) | ConnectionError::RefusedByUs(refusal)) => {
            match refusal.code {
                RefusalCode::WrongCluster => {
                    "that is a node of another cluster: look at the Service's selector, and at `peers`"
                }
                RefusalCode::NoCommonVersion => "go from release to release, not over several at once",
                RefusalCode::NameNotInCertificate => "issue a certificate with that name, or set `name`",
                RefusalCode::Draining => "that node is about to leave: look again in a moment",
                _ => "",
            }
        }
        Missed::Connection(ConnectionError::Quic(quinn::ConnectionError::ConnectionClosed(close)))
            if matches!(
                close.error_code,
                TransportErrorCode::APPLICATION_ERROR | TransportErrorCode::CONNECTION_REFUSED
            ) =>
        {
            "that node leaves, or is short of CPU time: look at its log and at its limits, and look again"
        }
        Missed::Connection(ConnectionError::Quic(_)) => {
            "the two ends do not take each other's certificates: give both certificates of the same CA and cluster, and look that they are current"
        }
        Missed::Connection(_) => "",
    }
}

/// Dials an address, learns who is there, and leaves.
pub(super) async fn meet(
    config: &NodeConfig,
    address: SocketAddr,
    life: Option<Incarnation>,
    deadline: Duration,
) -> Result<Met, Missed> {
    tokio::select! {
        shaken = timeout(deadline, shake(config, address, life)) => match shaken {
            Ok(outcome) => outcome.map_err(Missed::Connection),
            Err(_) => Err(Missed::Connection(ConnectionError::NoAnswer(deadline))),
        },
        missed = refused(address) => Err(missed),
    }
}

/// Linux's number for a datagram that is larger than the way takes.
const EMSGSIZE: i32 = 90;

/// Waits until the way there, or its end, says no by ICMP, which QUIC's sockets do not hear; for ever, if neither does.
async fn refused(address: SocketAddr) -> Missed {
    match probe(address).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Missed::Closed,
        Err(error) if error.raw_os_error() == Some(EMSGSIZE) => Missed::TooLarge,
        _ => std::future::pending().await,
    }
}

async fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(any(address)).await?;
    socket.connect(address).await?;
    // Of a version that nobody speaks, and as large as the first of a handshake; a node may answer it.
    let mut datagram = [0_u8; 1_200];
    datagram[0] = 0xc0;
    datagram[1..5].copy_from_slice(&[0x5a; 4]);
    socket.send(&datagram).await?;
    socket.recv(&mut [0; 64]).await.map(drop)
}

fn any(like: SocketAddr) -> SocketAddr {
    let ip = if like.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    SocketAddr::new(ip, 0)
}

async fn shake(config: &NodeConfig, address: SocketAddr, life: Option<Incarnation>) -> Result<Met, ConnectionError> {
    let client = config.identity.quinn_client_config(config.connections.transport());
    let client = client.map_err(|error| ConnectionError::Socket(io::Error::other(error)))?;
    let endpoint =
        socket::endpoint(any(address), quinn::EndpointConfig::default(), None).map_err(ConnectionError::Socket)?;
    let connection = endpoint.connect_with(client, address, SERVER_NAME).map_err(ConnectionError::Dial)?.await?;
    let identity = PeerIdentity::of_connection(&connection)?;
    let mut control = Control::open(&connection).await?;
    // An incarnation that is older than any: it takes nobody's place.
    let own = NodeId::new(config.name.clone(), life.unwrap_or(Incarnation(1)));
    let mut welcomed = None;
    let hello = hello(config, own);
    let shaken = shake_hands(&mut control, true, hello, facts_of(&identity), |peer| {
        welcomed = Some(peer.node.clone());
        Verdict::Refuse(RefusalCode::Duplicate, "`rookery doctor` has a look, and does not join".to_owned())
    })
    .await;
    let path = connection.stats().path;
    connection.close(close_code::GOODBYE, b"rookery doctor has seen enough");
    drop(timeout(FAREWELL, endpoint.wait_idle()).await);
    let met = |node| Met { node, address, rtt: path.rtt, mtu: path.current_mtu };
    match (shaken, welcomed) {
        (_, Some(node)) => Ok(met(node)),
        // It knows the node of this name, or is it: that is an answer as good as a welcome.
        (Err(ConnectionError::RefusedByPeer(Refusal { code, by: Some(node), .. })), None) if is_known(code) => {
            Ok(met(node))
        }
        (Err(error), None) => Err(error),
        // Not to be had: whoever was not refused was welcomed first.
        (Ok(agreement), None) => Ok(met(agreement.peer.node)),
    }
}

fn is_known(code: RefusalCode) -> bool {
    matches!(code, RefusalCode::SelfDial | RefusalCode::Duplicate | RefusalCode::OlderIncarnation)
}

fn hello(config: &NodeConfig, own: NodeId) -> Hello {
    Hello {
        versions: (PROTOCOL_MIN, PROTOCOL_MAX),
        features: Features::OURS,
        cluster: config.identity.own().cluster.clone(),
        role: Role::Node,
        node: own,
        listen_port: config.listen.port(),
        advertised: Vec::new(),
        max_message_bytes: u32::try_from(config.connections.max_message_bytes).unwrap_or(u32::MAX),
        lanes: config.connections.lanes,
        replace: false,
        extensions: Vec::new(),
    }
}
