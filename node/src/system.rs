//! The node itself as a process: `rookery:node` on every node answers what people and tools ask about it. It is reached
//! like any process, from other nodes and from clients, in any codec.

use std::time::Instant;

pub use rookery_runtime::{
    CallInfo, GroupInfo, GroupList, Load, MAX_LISTED, NameList, NameQuery, ProcessDetails, ProcessInfo, ProcessList,
    ProcessQuery, ProcessState, SortBy,
};
use rookery_runtime::{Context, NodeId, Pid, ProcessName, Received, ReplyTo, RequestError, SpawnOptions};
use serde::{Deserialize, Serialize};

use crate::{
    Insight, PeerInfo,
    ask::Ask,
    operate::{Operation, Operator},
    status::{self, Labels, NodeStatus},
};

/// The name of the process on every node.
pub const SYSTEM_NAME: &str = "rookery:node";

/// What the node answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "rookery.System")]
pub enum System {
    /// What the node is and has.
    Info(ReplyTo<NodeInfo>),
    /// The nodes that are up, with what each has told of itself.
    Statuses(ReplyTo<Vec<NodeStatus>>),
    /// Its processes, sorted, filtered and in pages.
    Processes(Ask<ProcessQuery, ProcessList>),
    /// Everything about one process of this node; none if it does not live.
    Inspect(Ask<Pid, Option<ProcessDetails>>),
    /// The names of processes on it.
    Names(Ask<NameQuery, NameList>),
    /// The names of the cluster, as it knows them.
    ClusterNames(Ask<NameQuery, NameList>),
    /// The groups of the cluster, as it knows them.
    Groups(Ask<NameQuery, GroupList>),
    /// Suspends a server, on any node, that allows it; the answer comes when it has stopped. A client needs `exit`.
    Suspend(Ask<Pid, ()>),
    /// Lets a suspended server go on. A client needs `exit`.
    Resume(Ask<Pid, ()>),
    /// What a server, on any node, tells of its state, suspended or not.
    State(Ask<Pid, String>),
}

/// A node, as it tells of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name and incarnation.
    pub node: NodeId,
    /// The version of its program.
    pub version: String,
    /// Its labels.
    pub labels: Labels,
    /// For how long it has run, in milliseconds.
    pub uptime_ms: u64,
    /// How many processes live on it.
    pub processes: u64,
    /// How many may live on it.
    pub max_processes: u64,
    /// How busy it is.
    pub load: Load,
    /// Whether it is about to leave, and takes no new processes.
    pub draining: bool,
    /// How many names processes have on it.
    pub names: u64,
    /// How many names there are in the cluster, as it knows them.
    pub cluster_names: u64,
    /// How many groups there are, as it knows them.
    pub groups: u64,
    /// How many clients are connected to it.
    pub clients: u64,
    /// How often something that clients asked for was refused by policy.
    pub refused_to_clients: u64,
    /// How many messages found no receiver, or one that did not understand them.
    pub dead_letters: u64,
    /// What can be started on it by name.
    pub behaviours: Vec<String>,
    /// The nodes that it is connected with.
    pub peers: Vec<PeerInfo>,
}

struct SystemServer {
    operator: Operator,
    insight: Insight,
    since: Instant,
}

/// Starts the process on a node.
pub(crate) fn start(insight: Insight) -> Result<(), RequestError> {
    let runtime = insight.runtime().clone();
    let name = ProcessName::new(SYSTEM_NAME).map_err(|error| RequestError::Refused(error.to_string()))?;
    let options = SpawnOptions::new().name(name).label("rookery:node").vital();
    runtime.spawn_with(options, move |mut context: Context<System>| async move {
        let mut server = SystemServer { operator: Operator::new(insight.clone()), insight, since: Instant::now() };
        while !server.insight.runtime().is_closed() {
            if let Received::Message(message) = context.receive().await {
                server.answer(message).await;
            }
        }
    })?;
    Ok(())
}

impl SystemServer {
    async fn answer(&mut self, message: System) {
        let runtime = self.insight.runtime();
        // An answer that cannot be sent has been told to whoever asked.
        match message {
            System::Info(reply) => drop(reply.send(NodeInfo {
                node: runtime.node().clone(),
                labels: self.insight.labels(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                uptime_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
                processes: runtime.process_count() as u64,
                max_processes: runtime.max_processes() as u64,
                load: runtime.load(),
                draining: runtime.is_draining(),
                names: runtime.name_count() as u64,
                cluster_names: runtime.cluster_name_count() as u64,
                groups: runtime.group_count() as u64,
                clients: self.insight.clients() as u64,
                refused_to_clients: runtime.refused_to_clients(),
                dead_letters: runtime.dead_letters(),
                behaviours: runtime.behaviours().names().map(ToString::to_string).collect(),
                peers: self.insight.peers(),
            })),
            // One list after the other: many who ask at once share the node with all else.
            System::Processes(Ask { value: query, reply }) => {
                let list = runtime.list_processes(&query).await;
                drop(reply.send(list));
            }
            System::Inspect(Ask { value: pid, reply }) => match elsewhere(runtime.node(), &pid) {
                Some(why) => reply.refuse(why),
                None => drop(reply.send(runtime.inspect(&pid))),
            },
            System::Statuses(reply) => status::ask(runtime, reply),
            System::Names(Ask { value: query, reply }) => drop(reply.send(runtime.list_names(&query))),
            System::ClusterNames(Ask { value: query, reply }) => drop(reply.send(runtime.list_cluster_names(&query))),
            System::Suspend(Ask { value: pid, reply }) => self.operator.operate(Operation::Suspend, pid, reply),
            System::Resume(Ask { value: pid, reply }) => self.operator.operate(Operation::Resume, pid, reply),
            System::State(Ask { value: pid, reply }) => self.operator.state(pid, reply),
            System::Groups(Ask { value: query, reply }) => drop(reply.send(runtime.list_groups(&query))),
        }
    }
}

/// Why this node cannot tell about a process, if it cannot.
fn elsewhere(own: &NodeId, pid: &Pid) -> Option<String> {
    if pid.node().name() != own.name() {
        return Some(format!("{pid} is not on {}: ask {SYSTEM_NAME} of its own node", own.name()));
    }
    pid.serial().session().map(|_| format!("{pid} is a client's process: it lives in the client, which alone can tell"))
}
