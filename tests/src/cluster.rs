//! Clusters of a test: a CA and identities that are made once, and nodes that find each other by static lists, at free
//! ports of the loopback.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::OnceLock,
    time::Duration,
};

use rookery_client::{Client, ClientConfig, Server};
use rookery_node::{ConnectionSettings, Node, NodeConfig, discovery::PeerAddress, session::policy::Policy};
use rookery_runtime::{
    NodeName,
    tls::{Authority, ClusterName, Identity},
};

use crate::{behaviours::behaviours, patience::eventually};

/// How long the certificates of the tests are valid.
const VALID: Duration = Duration::from_secs(24 * 3600);

/// Long enough that a busy machine does not lose a connection that a test is about to use.
const PATIENT_IDLE: Duration = Duration::from_secs(30);

/// The largest message that nodes of the tests take: small, so that one that is larger is quickly made.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// The cluster's CA: one a test process, since making keys takes time.
fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::create(&ClusterName::try_from("contract").unwrap()).unwrap())
}

/// The identity of a node.
///
/// # Panics
/// When `name` is no DNS name.
#[must_use]
pub fn node_identity(name: &str) -> Identity {
    let pem = authority().issue_node(name, &[], VALID).unwrap();
    Identity::from_pem(&pem.ca, &pem.cert, &pem.key).unwrap()
}

/// The identity of a client.
///
/// # Panics
/// When `name` is no client's name.
#[must_use]
pub fn client_identity(name: &str) -> Identity {
    let pem = authority().issue_client(name, VALID).unwrap();
    Identity::from_pem(&pem.ca, &pem.cert, &pem.key).unwrap()
}

/// What a node of a test is started with: on the loopback, with the behaviours of the tests, clients may do everything,
/// and it dials `peers`.
///
/// # Panics
/// When `name` is no name.
#[must_use]
pub fn node_config(name: &str, peers: &[SocketAddr]) -> NodeConfig {
    let mut config = NodeConfig::new(NodeName::new(name).unwrap(), node_identity(name));
    config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.discovery.peers = peers.iter().map(|peer| peer.to_string().parse::<PeerAddress>().unwrap()).collect();
    config.behaviours = behaviours();
    config.default_policy = Policy::all("*");
    config.connections.idle_timeout = PATIENT_IDLE;
    config.connections.max_message_bytes = MAX_MESSAGE_BYTES;
    config
}

/// Settings by which a loss is soon noticed, for tests that lose something.
pub fn impatient(connections: &mut ConnectionSettings) {
    connections.keep_alive = Duration::from_millis(200);
    connections.idle_timeout = Duration::from_millis(1_500);
}

/// Connects a client to one of these nodes.
///
/// # Panics
/// When that does not succeed.
pub async fn client(name: &str, nodes: &[&Node]) -> Client {
    Client::connect(client_config(name, nodes)).await.unwrap()
}

/// What a client of a test is made with.
///
/// # Panics
/// When `name` is no client's name.
#[must_use]
pub fn client_config(name: &str, nodes: &[&Node]) -> ClientConfig {
    let servers: Vec<Server> = nodes.iter().map(|node| node.listen_address().to_string().parse().unwrap()).collect();
    let mut config = ClientConfig::new(client_identity(name), servers);
    config.connections.idle_timeout = PATIENT_IDLE;
    config.connections.max_message_bytes = MAX_MESSAGE_BYTES;
    config
}

/// Starts so many nodes, and waits until each is connected with each.
///
/// # Panics
/// When a node does not start, or the mesh does not form.
pub async fn mesh(count: usize, change: impl Fn(&mut NodeConfig)) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for number in 0..count {
        let peers: Vec<SocketAddr> = nodes.iter().map(Node::listen_address).collect();
        let mut config = node_config(&format!("node-{number}"), &peers);
        change(&mut config);
        nodes.push(Node::start(config).await.unwrap());
    }
    meshed(&nodes.iter().collect::<Vec<_>>()).await;
    nodes
}

/// Waits until these nodes, and no others, know each other to be up.
///
/// # Panics
/// When that does not happen.
pub async fn meshed(nodes: &[&Node]) {
    eventually("the mesh has formed", || nodes.iter().all(|node| node.nodes().len() == nodes.len())).await;
}
