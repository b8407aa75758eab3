//! What one asks of a node itself, rather than of a process: to start a process, to register, look up or release a
//! name. Bodies are bincode; the requests' numbers are the variants' order, so new ones are added at the end.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    exit::ExitReason,
    group::Group,
    id::{BehaviourName, Pid, ProcessName, Ref},
    limits::MAX_REASON_BYTES,
    payload::Payload,
    text,
};

/// Asks a node to start a process of a behaviour that it has registered (R1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnRequest {
    /// Which behaviour.
    pub behaviour: BehaviourName,
    /// Its arguments.
    pub arguments: Payload,
    /// Register the new process under this name, as part of the spawn.
    pub name: Option<ProcessName>,
    /// Link the new process with the asking one, as part of the spawn.
    pub link: bool,
    /// Monitor it, as part of the spawn.
    pub monitor: Option<Ref>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestBody {
    /// Start a process.
    Spawn(SpawnRequest),
    /// Give `pid`, which is one of the asking side's, this name on the asked node.
    Register {
        /// The name.
        name: ProcessName,
        /// Who gets it.
        pid: Pid,
    },
    /// Take the name from `pid`.
    Unregister {
        /// The name.
        name: ProcessName,
        /// Who has it.
        pid: Pid,
    },
    /// Who has this name on the asked node?
    WhereIs {
        /// The name.
        name: ProcessName,
    },
    /// May `pid`, a process of the asking node or of one of its clients, have this cluster name? Asked of the name's
    /// arbiter, which keeps it for `pid` until a `DirectoryUpdate` says whether it was taken.
    Claim {
        /// The name.
        name: ProcessName,
        /// Who wants it.
        pid: Pid,
    },
    /// A client's: give `pid`, one of its processes, this cluster name.
    RegisterInCluster {
        /// The name.
        name: ProcessName,
        /// Who gets it.
        pid: Pid,
    },
    /// A client's: take the cluster name from `pid`.
    UnregisterInCluster {
        /// The name.
        name: ProcessName,
        /// Who has it.
        pid: Pid,
    },
    /// Who has these names in the cluster? Answered in their order.
    WhereInCluster {
        /// The names, at most [`MAX_NAMES_PER_LOOKUP`](crate::limits::MAX_NAMES_PER_LOOKUP).
        names: Vec<ProcessName>,
    },
    /// A client's: `pid`, one of its processes, joins.
    Join {
        /// The group.
        group: Group,
        /// Who joins.
        pid: Pid,
    },
    /// A client's: `pid` leaves.
    Leave {
        /// The group.
        group: Group,
        /// Who leaves.
        pid: Pid,
    },
    /// A client's: tell `pid` what changes in the group, from its present members on; or stop to.
    Watch {
        /// The group.
        group: Group,
        /// Who is told.
        pid: Pid,
        /// Whether it is to be told.
        tell: bool,
    },
    /// The members of the group, in the order of their pids, as many as fit one answer.
    Members {
        /// The group.
        group: Group,
        /// Begin behind this one.
        after: Option<Pid>,
    },
    /// As `Spawn`, with what the new process has in the cluster before its `init` is done.
    SpawnInCluster {
        /// What is started.
        spawn: SpawnRequest,
        /// The cluster name that it gets; if it cannot, it is not started.
        name: Option<ProcessName>,
        /// The groups that it joins, at most [`MAX_GROUPS_PER_SPAWN`](crate::limits::MAX_GROUPS_PER_SPAWN).
        groups: Vec<Group>,
    },
}

impl RequestBody {
    /// What is to be started, if this asks for it.
    #[must_use]
    pub fn spawn(&self) -> Option<&SpawnRequest> {
        match self {
            Self::Spawn(spawn) | Self::SpawnInCluster { spawn, .. } => Some(spawn),
            _ => None,
        }
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResponseBody {
    /// The process was started.
    Spawned(Pid),
    /// It was done.
    Done,
    /// Who has the name.
    Found(Option<Pid>),
    /// It was not done.
    Failed(RequestError),
    /// Who has the names.
    Holders(Vec<Option<Pid>>),
    /// Members of a group. More follow behind the last of them if `more`.
    Members {
        /// Some members, each once.
        pids: Vec<Pid>,
        /// Whether there are more.
        more: bool,
    },
}

/// Why a node did not do what it was asked (R2, N1).
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RequestError {
    /// The node has no behaviour of that name.
    #[error("node has no behaviour `{name}`; it has: {known}")]
    UnknownBehaviour {
        /// What was asked for.
        name: BehaviourName,
        /// What there is.
        known: String,
    },
    /// The arguments are not what the behaviour takes.
    #[error("behaviour `{name}` does not take these arguments: {detail}")]
    BadArguments {
        /// The behaviour.
        name: BehaviourName,
        /// What its decoder said.
        detail: String,
    },
    /// `init` did not succeed.
    #[error("init failed: {0}")]
    InitFailed(ExitReason),
    /// The node is about to leave and takes no new processes.
    #[error("the node is draining and takes no new processes")]
    Draining,
    /// The node holds as many processes as it may.
    #[error("the node has reached its limit of processes")]
    TooManyProcesses,
    /// Another process has the name.
    #[error("the name `{name}` belongs to {holder}")]
    NameTaken {
        /// The name.
        name: ProcessName,
        /// Who has it.
        holder: Pid,
    },
    /// The process that was to have the name does not live, or does not have it.
    #[error("no such process: {0}")]
    NoProc(Pid),
    /// Not allowed for this client (C3).
    #[error("refused: {0}")]
    Refused(String),
    /// The node does not understand the request: it is older.
    #[error("the node does not support this request")]
    Unsupported,
    /// The connection was lost. It may or may not have been done (A3).
    #[error("the connection was lost; the request may or may not have been carried out")]
    NoConnection,
    /// No answer came in time. It may or may not have been done (A3).
    #[error("no answer came in time; the request may or may not have been carried out")]
    Timeout,
    /// The process is no member of the group.
    #[error("{pid} is no member of group `{group}`")]
    NoMember {
        /// The group.
        group: Group,
        /// The process.
        pid: Pid,
    },
}

impl RequestError {
    /// With its text cut at [`MAX_REASON_BYTES`]; an exit reason's at its own limit.
    #[must_use]
    pub fn cut(mut self) -> Self {
        match &mut self {
            Self::UnknownBehaviour { known: text, .. }
            | Self::BadArguments { detail: text, .. }
            | Self::Refused(text) => text::cut_string(text, MAX_REASON_BYTES),
            Self::InitFailed(reason) => *reason = reason.clone().cut(),
            _ => {}
        }
        self
    }
}
