//! The node itself as a process: `rookery:node` on every node answers what people and tools ask about it. It is reached
//! like any process, from other nodes and from clients, in any codec.

use std::time::Instant;

use rookery_runtime::{Context, NodeId, Pid, ProcessInfo, ProcessName, Received, ReplyTo, RequestError, SpawnOptions};
use serde::{Deserialize, Serialize};

use crate::{
    Insight, PeerInfo,
    ask::Ask,
    status::{Labels, NodeStatus},
};

/// The name of the process on every node.
pub const SYSTEM_NAME: &str = "rookery:node";

/// How many processes one answer lists at most; more are counted only.
pub const MAX_LISTED: u32 = 10_000;

/// What the node answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "rookery.System")]
pub enum System {
    /// What the node is and has.
    Info(ReplyTo<NodeInfo>),
    /// Its processes, at most so many of them, longest mailbox first.
    Processes(Ask<u32, ProcessList>),
    /// Its names.
    Names(ReplyTo<Vec<(ProcessName, Pid)>>),
    /// The nodes that are up, this one among them, with what each has told of itself.
    Nodes(ReplyTo<Vec<NodeStatus>>),
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
    /// How many clients are connected to it.
    pub clients: u64,
    /// How many messages found no receiver, or one that did not understand them.
    pub dead_letters: u64,
    /// What can be started on it by name.
    pub behaviours: Vec<String>,
    /// The nodes that it is connected with.
    pub peers: Vec<PeerInfo>,
}

/// Processes of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessList {
    /// How many there are.
    pub total: u64,
    /// Those that are listed.
    pub processes: Vec<ProcessInfo>,
}

struct SystemServer {
    insight: Insight,
    since: Instant,
}

/// Starts the process on a node.
pub(crate) fn start(insight: Insight) -> Result<(), RequestError> {
    let runtime = insight.runtime().clone();
    let name = ProcessName::new(SYSTEM_NAME).map_err(|error| RequestError::Refused(error.to_string()))?;
    let options = SpawnOptions::new().name(name).label("rookery:node");
    runtime.spawn_with(options, move |mut context: Context<System>| async move {
        let mut server = SystemServer { insight, since: Instant::now() };
        while !server.insight.runtime().is_closed() {
            if let Received::Message(message) = context.receive().await {
                server.answer(message);
            }
        }
    })?;
    Ok(())
}

impl SystemServer {
    fn answer(&mut self, message: System) {
        let runtime = self.insight.runtime();
        // An answer that cannot be sent has been told to whoever asked.
        match message {
            System::Info(reply) => drop(reply.send(NodeInfo {
                node: runtime.node().clone(),
                labels: self.insight.labels(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                uptime_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
                processes: runtime.process_count() as u64,
                clients: self.insight.clients() as u64,
                dead_letters: runtime.dead_letters(),
                behaviours: runtime.behaviours().names().map(ToString::to_string).collect(),
                peers: self.insight.peers(),
            })),
            System::Processes(Ask { value: most, reply }) => {
                let mut processes = runtime.processes();
                let total = processes.len() as u64;
                processes.sort_by(|a, b| b.mailbox.cmp(&a.mailbox).then_with(|| a.pid.cmp(&b.pid)));
                processes.truncate(most.min(MAX_LISTED) as usize);
                drop(reply.send(ProcessList { total, processes }));
            }
            System::Nodes(reply) => drop(reply.send(self.insight.nodes())),
            System::Names(reply) => drop(reply.send(runtime.names_here())),
        }
    }
}
