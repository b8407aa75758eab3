//! What a supervisor may be asked (V8), and what it answers. Whoever reaches it may look, from any node, client and the
//! command line; what changes something is for members alone, since a supervisor starts whatever it is told to.
//!
//! ```text
//! {"Children":null}   {"Count":null}   {"GetSpec":"orders"}       what there is
//! {"StartChild":{"id":"orders","behaviour":"counter"}}            arguments, name, restart, … where wanted
//! {"StopChild":"orders"}   {"RestartChild":"orders"}   {"DeleteChild":"orders"}
//! {"StartDynamic":{"room":7}}   {"StopPid":"<node-0.1f3a.42>"}     of simple_one_for_one: arguments beside the template's
//! ```

use rookery_runtime::{BehaviourName, Group, NodeId, NodeName, Pid, ProcessName, ReplyTo, Start};
use serde::{Deserialize, Serialize};

use crate::{
    ask::Ask,
    json::Json,
    supervise::{
        bequest::Estate,
        effect::TimerToken,
        placement::Placement,
        policy::{ChildId, ChildType, Restart, Shutdown},
        spec::ChildSpec,
        start::ChildStart,
    },
};

/// What a supervisor understands. What cannot be done is answered by [`CallError::Refused`](rookery_runtime::CallError), with why.
#[derive(Debug, Serialize, Deserialize)]
pub enum SupervisorMessage {
    /// Its children, in the order of their start.
    Children(ReplyTo<Vec<ChildInfo>>),
    /// How many there are.
    Count(ReplyTo<ChildCount>),
    /// Adds a child and starts it; the answer is its pid. If it cannot be started it is not kept.
    StartChild(Ask<ChildSpecData, Pid>),
    /// Stops a child and keeps its spec, unless it is temporary; the answer comes when it has ended.
    StopChild(Ask<ChildId, ()>),
    /// Starts a child that is stopped.
    RestartChild(Ask<ChildId, Pid>),
    /// Removes a child that is stopped.
    DeleteChild(Ask<ChildId, ()>),
    /// How a child is started and treated; of a `simple_one_for_one` supervisor, its template too.
    GetSpec(Ask<ChildId, ChildSpecInfo>),
    /// Of a `simple_one_for_one` supervisor: starts a child with these arguments beside the template's; the answer is its
    /// pid. Two objects become one, in which these fields count; two lists become one, the template's first; otherwise
    /// these stand for the template's, unless they are `null`.
    StartDynamic(Ask<Json, Pid>),
    /// As `StopChild`, for the child that runs as this process.
    StopPid(Ask<Pid, ()>),
    /// This node is about to leave: its children there, as far as they may live elsewhere, are handed over to successors on
    /// other nodes. Answered when none is left, with how many could not go.
    Evacuate(Ask<NodeId, u64>),
    /// This process takes the supervisor's place on another node: tells it the children, and changes nothing until
    /// `Bequeathed`, or until that process has ended.
    Bequeath(Ask<Pid, Estate>),
    /// It has linked to the children: they are its own now.
    Bequeathed(Ask<Pid, ()>),
    /// Its own timer; cannot come from elsewhere.
    #[serde(skip)]
    Timer(TimerToken),
    /// Its own timer: children that spread may have to move.
    #[serde(skip)]
    Rebalance,
    /// Its own timer: a process that it knows no more was told to end, and is killed if it is there still.
    #[serde(skip)]
    Overdue(Pid),
    /// Its own timer: children that were not handed over are tried again.
    #[serde(skip)]
    Evacuating,
}

/// A child that can be told of in a message: one that a behaviour's name starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChildSpecData {
    /// Its name within the supervisor.
    pub id: ChildId,
    /// What it does.
    pub behaviour: BehaviourName,
    /// What it is started with; `null` unless told.
    #[serde(default)]
    pub arguments: Json,
    /// The name that it is registered under on its node.
    #[serde(default)]
    pub name: Option<ProcessName>,
    /// The name that it has in the cluster. While another process has it, as one that is about to end beyond a lost
    /// connection, the child waits.
    #[serde(default)]
    pub cluster_name: Option<ProcessName>,
    /// The groups that it joins.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// When it is started again; `"permanent"` unless told.
    #[serde(default)]
    pub restart: Restart,
    /// How it is ended: `"kill"`, `"forever"` or `{"within":5000}`; unless told, `"forever"` for a supervisor and
    /// `{"within":5000}` for others.
    #[serde(default)]
    pub shutdown: Option<Shutdown>,
    /// Where it lives: `"here"` unless told, `"any"`, `"spread"`, `"least_loaded"`, `{"node":"orders-0"}`,
    /// `{"any_of":["orders-0","orders-1"]}`, `{"label":{"zone":"a"}}`.
    #[serde(default)]
    pub placement: Placement,
    /// Whether its end can end the supervisor (V5).
    #[serde(default)]
    pub significant: bool,
    /// `"supervisor"` unless told for the behaviour of that name, `"worker"` for others.
    #[serde(default, rename = "type")]
    pub kind: Option<ChildType>,
}

impl ChildSpecData {
    /// A permanent child without arguments, on the supervisor's node.
    #[must_use]
    pub fn new(id: ChildId, behaviour: BehaviourName) -> Self {
        Self {
            id,
            behaviour,
            arguments: Json::default(),
            name: None,
            cluster_name: None,
            groups: Vec::new(),
            restart: Restart::default(),
            shutdown: None,
            placement: Placement::default(),
            significant: false,
            kind: None,
        }
    }
}

impl From<ChildSpecData> for ChildSpec {
    fn from(data: ChildSpecData) -> Self {
        let mut start = Start::json(data.behaviour, data.arguments.to_string());
        if let Some(name) = data.name {
            start = start.name(name);
        }
        if let Some(name) = data.cluster_name {
            start = start.cluster_name(name);
        }
        let start = data.groups.into_iter().fold(start, Start::join);
        let start = ChildStart::Behaviour { start, placement: data.placement };
        let kind = data.kind.unwrap_or_else(|| start.kind());
        let shutdown = data.shutdown.unwrap_or_else(|| kind.default_shutdown());
        Self { id: data.id, start, restart: data.restart, shutdown, significant: data.significant, kind }
    }
}

/// How a child is started and treated, as told to who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildSpecInfo {
    /// Its name within the supervisor.
    pub id: ChildId,
    /// What it does; `None` for one that a program starts by a closure.
    pub behaviour: Option<BehaviourName>,
    /// What it is started with, where that is JSON.
    pub arguments: Option<Json>,
    /// The name that it is registered under on its node.
    pub name: Option<ProcessName>,
    /// The name that it has in the cluster.
    pub cluster_name: Option<ProcessName>,
    /// The groups that it joins.
    pub groups: Vec<Group>,
    /// When it is started again.
    pub restart: Restart,
    /// How it is ended.
    pub shutdown: Shutdown,
    /// Where it lives.
    pub placement: Placement,
    /// Whether its end can end the supervisor.
    pub significant: bool,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: ChildType,
}

impl From<&ChildSpec> for ChildSpecInfo {
    fn from(spec: &ChildSpec) -> Self {
        let (start, placement) = match &spec.start {
            ChildStart::Behaviour { start, placement } => (Some(start), placement.clone()),
            ChildStart::Local(_) => (None, Placement::Here),
        };
        Self {
            id: spec.id.clone(),
            behaviour: start.map(|start| start.behaviour().clone()),
            arguments: start.and_then(|start| serde_json::from_slice(&start.arguments().body).ok()),
            name: start.and_then(|start| start.registered_name().cloned()),
            cluster_name: start.and_then(|start| start.registered_in_cluster().cloned()),
            groups: start.map(|start| start.groups().to_vec()).unwrap_or_default(),
            restart: spec.restart,
            shutdown: spec.shutdown,
            placement,
            significant: spec.significant,
            kind: spec.kind,
        }
    }
}

/// What a child does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildStatus {
    /// It is started for the first time, or waits for a node to live on.
    Starting,
    /// It runs.
    Running,
    /// It is started again, or waits for that.
    Restarting,
    /// It was told to end.
    Stopping,
    /// It has ended, or was stopped, and is not started again by itself.
    Stopped,
}

/// A child, as told to who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildInfo {
    /// Its name within the supervisor.
    pub id: ChildId,
    /// Its process, while it has one.
    pub pid: Option<Pid>,
    /// The node that it lives on.
    pub node: Option<NodeName>,
    /// What it does.
    pub status: ChildStatus,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: ChildType,
    /// Whether its end can end the supervisor.
    pub significant: bool,
    /// When it is started again.
    pub restart: Restart,
    /// How often it was.
    pub restarts: u64,
    /// Why its last life ended, or its last start failed.
    pub last_end: Option<String>,
}

/// How many children there are, as OTP's `count_children`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChildCount {
    /// Child specs; of a `simple_one_for_one` supervisor, its template alone.
    pub specs: u64,
    /// Children that have a process.
    pub active: u64,
    /// Children that are supervisors, whether they have a process or not.
    pub supervisors: u64,
    /// Other children.
    pub workers: u64,
}
