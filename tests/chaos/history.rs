//! What happened: an entry for each operation of a client, with when it was asked for, when it was answered and how, and one for
//! each fault and each thing that a client was told. Pure data; as a file, one entry a line in JSON.
//!
//! Made by `recorder.rs`, judged by `checker`. Pids and names are texts here, as people read them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How an operation came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It was done.
    Ok,
    /// It was not done, for sure.
    Fail(String),
    /// It may or may not have been done.
    Info(String),
}

/// What an entry tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub(crate) enum What {
    /// A message that nobody answers. `monitor` is the one that its sender has on the receiver.
    Send { from: String, to: String, monitor: u64, number: u64, outcome: Outcome },
    /// A message that is answered. Numbers are of both kinds together.
    Call { from: String, to: String, monitor: u64, number: u64, outcome: Outcome },
    /// A process got a message of another one.
    Received { by: String, from: String, number: u64 },
    /// A process monitors another one from now on.
    Monitor { by: String, target: String, monitor: u64 },
    /// It is told that what it monitors is down.
    Down { by: String, monitor: u64, reason: String },
    /// A process was told to end.
    Exit { target: String },
    /// A process asks for a name of the cluster, on the node with this index.
    Register { by: String, at: usize, name: String, outcome: Outcome },
    /// It gives it up.
    Unregister { by: String, name: String, outcome: Outcome },
    /// It is told that it has lost it.
    Conflict { by: String, name: String },
    /// A process asks its node who has a name that it was just given.
    Find { by: String, at: usize, name: String, found: Option<String> },
    /// A process writes. It alone writes to this key, and each value is larger than the last.
    Put { by: String, store: String, key: String, value: u64, outcome: Outcome },
    /// Somebody reads; `value` means something only if it is answered.
    Get { by: String, store: String, key: String, value: Option<u64>, outcome: Outcome },
    /// A process starts another one on a node.
    Start { by: String, on: String, outcome: Outcome },
    /// A process of a client has ended: it went, or its client's session did.
    Ended { pid: String },
    /// A node was killed; as its name and incarnation.
    Killed { node: String },
    /// A node says that it has lost another one.
    DeclaredDown { by: usize, of: usize, reason: String },
    /// What a node saw when all was said to be whole; those of one `round` belong together.
    Saw { round: u64, at: usize, nodes: Vec<String>, names: BTreeMap<String, String>, groups: Vec<Vec<String>> },
    /// A fault begins. `cut`: pairs of nodes of which at least one does not hear the other; `touched`: nodes that are killed,
    /// or stopped.
    Fault { fault: String, cut: Vec<(usize, usize)>, touched: Vec<usize> },
    /// What shows that it really happened to the nodes, or that it did not.
    Shown { fault: String, shown: bool, how: String },
    /// It was taken back.
    Over { fault: String },
    /// All was whole again, so long after it was taken back.
    Healed { fault: String, took_ms: u64 },
    /// It was not, within the stated time.
    Unhealed { fault: String, why: String },
    /// The machine itself stood still.
    Stood { still_ms: u64 },
    /// All load has ended, all was whole, and what was under way had its time to arrive.
    Settled,
}

/// See the module. Times are milliseconds since the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// When it was asked for, or when it happened.
    pub(crate) begin: u64,
    /// When it was answered; the same for what has no answer.
    pub(crate) end: u64,
    #[serde(flatten)]
    pub(crate) what: What,
}

impl What {
    /// How it came out, if it is an operation of a client.
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        match self {
            Self::Send { outcome, .. }
            | Self::Call { outcome, .. }
            | Self::Register { outcome, .. }
            | Self::Unregister { outcome, .. }
            | Self::Put { outcome, .. }
            | Self::Get { outcome, .. }
            | Self::Start { outcome, .. } => Some(outcome),
            _ => None,
        }
    }

    /// Enters how it came out.
    pub(crate) fn set_outcome(&mut self, new: Outcome) {
        match self {
            Self::Send { outcome, .. }
            | Self::Call { outcome, .. }
            | Self::Register { outcome, .. }
            | Self::Unregister { outcome, .. }
            | Self::Put { outcome, .. }
            | Self::Get { outcome, .. }
            | Self::Start { outcome, .. } => *outcome = new,
            _ => {}
        }
    }
}
