//! A pod: a node that can run rooms, with its scribe under a supervisor. In Kubernetes each would be a process of its own
//! that finds the others by DNS; here they are three in one program, on loopback, told where one of them is.

use std::{net::SocketAddr, time::Duration};

use rookery_client::{Client, ClientConfig};
use rookery_node::{
    Behaviours, Node, NodeConfig, Runtime,
    json::Json,
    session::policy::{Pattern, Policy},
    supervise::{
        ChildId, ChildSpec, ChildSpecData, ChildStart, ClusterSupervisor, Placement, Strategy, Supervisor,
        SupervisorData, SupervisorSpec,
    },
    tls::{Authority, Identity},
};
use serde_json::json;

use crate::{
    Failure,
    room::{Room, name_of},
    scribe::Scribe,
};

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

/// Opens rooms: a supervisor of the cluster, whose children live on pods that have rooms. A room that crashes is started again
/// where it was, and elsewhere when its pod is lost. When the supervisor's pod is lost another one runs it, and starts the
/// rooms anew: those that were left have ended, since their links broke.
pub(crate) async fn open_rooms(runtime: &Runtime, rooms: &[&str]) -> Result<(), Failure> {
    let mut spec = SupervisorData::default();
    for room in rooms {
        let mut child = ChildSpecData::new(ChildId::new(*room)?, "room".parse()?);
        child.arguments = Json(json!(room));
        child.cluster_name = Some(name_of(room)?);
        child.placement = Placement::Label([("rooms".to_owned(), "true".to_owned())].into());
        spec.children.push(child);
    }
    Ok(ClusterSupervisor::start(runtime, "rooms".parse()?, spec).await?)
}

/// Connects a program outside the mesh to a pod.
pub(crate) async fn connect(authority: &Authority, name: &str, pod: &Node) -> Result<Client, Failure> {
    let pem = authority.issue_client(name, A_DAY)?;
    let identity = Identity::from_pem(&pem.ca, &pem.cert, &pem.key)?;
    Ok(Client::connect(ClientConfig::new(identity, vec![pod.listen_address().to_string().parse()?])).await?)
}
