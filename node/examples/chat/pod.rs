//! A pod: a node that can run rooms, with its scribe under a supervisor. In Kubernetes each would be a process of its own
//! that finds the others by DNS; here they are three in one program, on loopback, told where one of them is.

use std::{net::SocketAddr, time::Duration};

use rookery_client::{Client, ClientConfig};
use rookery_node::{
    Address, Behaviours, Node, NodeConfig, Runtime, Start,
    session::policy::{Pattern, Policy},
    supervise::{ChildId, ChildSpec, ChildStart, Placement, Strategy, Supervisor, SupervisorMessage, SupervisorSpec},
    tls::{Authority, Identity},
};

use crate::{Failure, room::Room, scribe::Scribe};

/// How long the certificates hold.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Starts a pod that looks for the one at `peer`. Only some have rooms.
pub(crate) async fn start(
    authority: &Authority,
    name: &str,
    peer: Option<SocketAddr>,
    has_rooms: bool,
) -> Result<Node, Failure> {
    let pem = authority.issue_node(name, &[], A_DAY)?;
    let mut config = NodeConfig::new(name.parse()?, Identity::from_pem(&pem.ca, &pem.cert, &pem.key)?);
    config.listen = "127.0.0.1:0".parse()?;
    config.discovery.peers = peer.iter().map(|peer| peer.to_string().parse()).collect::<Result<_, _>>()?;
    config.behaviours = Behaviours::new().server::<Room>("room")?;
    config.labels = [("rooms".to_owned(), has_rooms.to_string())].into();
    // Clients may come into rooms; what they may do otherwise is the default: send, call, monitor.
    config.default_policy = Policy { join: vec![Pattern::new("chat#*")], ..Policy::new("*") };
    // Sooner than by default, for those who watch: a pod that is lost is missed after three seconds.
    config.connections.keep_alive = Duration::from_millis(500);
    config.connections.idle_timeout = Duration::from_secs(3);
    let node = Node::start(config).await?;
    let scribe = ChildSpec::new(ChildId::new("scribe")?, ChildStart::server::<Scribe>(|| ()));
    Supervisor::start(&node, SupervisorSpec::new(Strategy::OneForOne).name("pod".parse()?).child(scribe)).await?;
    Ok(node)
}

/// Opens rooms: a supervisor on this node, whose children live on pods that have rooms. When a room crashes it starts it
/// again where it was, and elsewhere when its pod is lost. Should this node be lost, they end with it.
pub(crate) async fn open_rooms(runtime: &Runtime, rooms: &[&str]) -> Result<Address<SupervisorMessage>, Failure> {
    let mut spec = SupervisorSpec::new(Strategy::OneForOne).name("rooms".parse()?);
    for room in rooms {
        let start = Start::new("room".parse()?, &(*room).to_owned())?;
        let with_rooms = Placement::Label([("rooms".to_owned(), "true".to_owned())].into());
        spec = spec.child(ChildSpec::new(ChildId::new(*room)?, ChildStart::placed(start, with_rooms)));
    }
    Ok(Supervisor::start(runtime, spec).await?)
}

/// Connects a program outside the mesh to a pod.
pub(crate) async fn connect(authority: &Authority, name: &str, pod: &Node) -> Result<Client, Failure> {
    let pem = authority.issue_client(name, A_DAY)?;
    let identity = Identity::from_pem(&pem.ca, &pem.cert, &pem.key)?;
    Ok(Client::connect(ClientConfig::new(identity, vec![pod.listen_address().to_string().parse()?])).await?)
}
