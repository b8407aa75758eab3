//! What a supervisor may be asked, from any node, client and the command line (V8), and what it answers.
//!
//! ```text
//! {"Children":null}                                       what there is
//! {"Count":null}
//! {"StartChild":{"id":"orders","behaviour":"counter"}}    arguments, name, restart, shutdown, placement where wanted
//! {"StopChild":"orders"}   {"RestartChild":"orders"}   {"DeleteChild":"orders"}
//! ```

use rookery_runtime::{BehaviourName, NodeName, Pid, ProcessName, ReplyTo, Start};
use serde::{Deserialize, Serialize};

use crate::{
    ask::Ask,
    json::Json,
    supervise::{
        effect::TimerToken,
        placement::Placement,
        policy::{ChildId, Restart, Shutdown},
        spec::{ChildSpec, ChildStart},
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
    /// Its own timer; cannot come from elsewhere.
    #[serde(skip)]
    Timer(TimerToken),
}

/// A child that can be told of in a message: one that a behaviour's name starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// When it is started again; `"permanent"` unless told.
    #[serde(default)]
    pub restart: Restart,
    /// How it is ended: `"kill"`, `"forever"` or `{"within":5000}`, which is what it is unless told.
    #[serde(default)]
    pub shutdown: Shutdown,
    /// Where it lives: `"here"` unless told, `"any"`, `{"node":"orders-0"}`, `{"any_of":["orders-0","orders-1"]}`.
    #[serde(default)]
    pub placement: Placement,
}

impl From<ChildSpecData> for ChildSpec {
    fn from(data: ChildSpecData) -> Self {
        let mut start = Start::json(data.behaviour, data.arguments.to_string());
        if let Some(name) = data.name {
            start = start.name(name);
        }
        let start = ChildStart::Behaviour { start, placement: data.placement };
        Self { id: data.id, start, restart: data.restart, shutdown: data.shutdown }
    }
}

/// What a child does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildStatus {
    /// It is started for the first time.
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
    /// When it is started again.
    pub restart: Restart,
    /// How often it was.
    pub restarts: u64,
    /// Why its last life ended, or its last start failed.
    pub last_end: Option<String>,
}

/// How many children there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChildCount {
    /// With a spec.
    pub specs: u64,
    /// That run.
    pub running: u64,
}
