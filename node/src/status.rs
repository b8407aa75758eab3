//! What each node knows of the others beyond that they are up: labels, load, whether they are draining. Supervisors choose
//! by it where their children live (V7).
//!
//! ```text
//! rookery:status ── Tell, to a node that comes up; each second, when something has changed, to all ──▶ rookery:status
//!       └─▶ board ◀── rookery:node answers supervisors, people and tools
//! ```
//! What is told is old by up to a second, and lost with the connection: it is a hint, and a choice that it misleads is
//! corrected by the answer of the node that was chosen.

use std::{
    collections::BTreeMap,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rookery_runtime::{
    Context, Destination, Event, NodeId, ProcessName, Received, RequestError, Runtime, SpawnOptions,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The name of the process on every node.
const STATUS_NAME: &str = "rookery:status";

/// How often a node tells of what has changed. A choice by load is no better than this, whatever it costs.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A change of the number of processes by less than this part of it is not told.
const TOLD_CHANGE: u64 = 16;

/// Labels of one node. Each is in each choice by label, and told to each peer.
pub const MAX_LABELS: usize = 32;

/// Bytes of a label's name, and of its value: as in Kubernetes.
pub const MAX_LABEL_BYTES: usize = 63;

/// What a node is, in words of whoever runs it: `zone=a`.
pub type Labels = BTreeMap<String, String>;

/// One label as it is written: `zone=a`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Before the `=`.
    pub name: String,
    /// After it.
    pub value: String,
}

/// A text that is no label.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("is no label: it takes NAME=VALUE, each of 1 to {MAX_LABEL_BYTES} letters, digits, `-`, `_`, `.` or `/`")]
pub struct BadLabel;

impl FromStr for Label {
    type Err = BadLabel;

    fn from_str(text: &str) -> Result<Self, BadLabel> {
        let good = |part: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
            (1..=MAX_LABEL_BYTES).contains(&part.len()) && part.chars().all(plain)
        };
        match text.split_once('=') {
            Some((name, value)) if good(name) && good(value) => {
                Ok(Self { name: name.to_owned(), value: value.to_owned() })
            }
            _ => Err(BadLabel),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// A node, as it has told of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name and incarnation.
    pub node: NodeId,
    /// Its labels.
    pub labels: Labels,
    /// How many processes live on it.
    pub processes: u64,
    /// Whether it takes no new processes any more.
    pub draining: bool,
    /// How often it had told before.
    pub told: u64,
}

impl NodeStatus {
    /// A node that is up and has told nothing yet: without labels, and chosen last by load.
    #[must_use]
    pub fn unknown(node: NodeId) -> Self {
        Self { node, labels: Labels::new(), processes: u64::MAX, draining: false, told: 0 }
    }

    fn differs(&self, told: &Self) -> bool {
        let change = self.processes.abs_diff(told.processes);
        self.draining != told.draining || change > told.processes / TOLD_CHANGE
    }
}

/// What is known of the nodes that are up.
#[derive(Debug, Clone, Default)]
pub(crate) struct StatusBoard(Arc<Mutex<BTreeMap<NodeId, NodeStatus>>>);

impl StatusBoard {
    /// The nodes of the runtime that are up, in the order of their names.
    pub(crate) fn nodes(&self, runtime: &Runtime) -> Vec<NodeStatus> {
        let known = self.lock();
        let status = |node| known.get(&node).cloned().unwrap_or_else(|| NodeStatus::unknown(node));
        runtime.nodes().into_iter().map(status).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, NodeStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename = "rookery.Status")]
enum Status {
    /// A node tells of itself.
    Tell(NodeStatus),
    /// Its own timer; cannot come from elsewhere.
    #[serde(skip)]
    Tick,
}

/// Starts the process on a node.
pub(crate) fn start(runtime: &Runtime, labels: Labels, board: StatusBoard) -> Result<(), RequestError> {
    let name = ProcessName::new(STATUS_NAME).map_err(|error| RequestError::Refused(error.to_string()))?;
    let options = SpawnOptions::new().name(name.clone()).label(STATUS_NAME).members_only();
    runtime.spawn_with(options, move |mut context: Context<Status>| async move {
        context.monitor_nodes(true);
        let own = NodeStatus { labels, ..status_of(context.runtime(), 0) };
        let mut teller = Teller { name, board, own };
        teller.note();
        context.send_after(TELL_EVERY, Status::Tick);
        while !context.runtime().is_closed() {
            match context.receive().await {
                Received::Message(Status::Tell(status)) => teller.told(status, context.runtime()),
                Received::Message(Status::Tick) => {
                    teller.tick(context.runtime());
                    context.send_after(TELL_EVERY, Status::Tick);
                }
                Received::Event(Event::NodeUp(node)) => teller.tell(&node, context.runtime()),
                Received::Event(Event::NodeDown { node, .. }) => drop(teller.board.lock().remove(&node)),
                Received::Event(_) => {}
            }
        }
    })?;
    Ok(())
}

fn status_of(runtime: &Runtime, told: u64) -> NodeStatus {
    let processes = runtime.process_count() as u64;
    NodeStatus { processes, draining: runtime.is_draining(), told, ..NodeStatus::unknown(runtime.node().clone()) }
}

struct Teller {
    name: ProcessName,
    board: StatusBoard,
    /// What was told last.
    own: NodeStatus,
}

impl Teller {
    fn note(&self) {
        self.board.lock().insert(self.own.node.clone(), self.own.clone());
    }

    /// Another node tells of itself. One that is not up any more has told before it went.
    fn told(&self, status: NodeStatus, runtime: &Runtime) {
        if status.labels.len() <= MAX_LABELS && status.node != self.own.node && runtime.nodes().contains(&status.node) {
            self.board.lock().insert(status.node.clone(), status);
        }
    }

    fn tick(&mut self, runtime: &Runtime) {
        let now = status_of(runtime, self.own.told + 1);
        if now.differs(&self.own) {
            self.own = NodeStatus { labels: std::mem::take(&mut self.own.labels), ..now };
            self.note();
            runtime.nodes().iter().for_each(|node| self.tell(node, runtime));
        }
    }

    fn tell(&self, node: &NodeId, runtime: &Runtime) {
        if *node != self.own.node {
            let to = Destination::name(node.clone(), self.name.clone());
            // A node to which nothing can be sent just now is told when something changes again.
            drop(runtime.address(to).try_send(Status::Tell(self.own.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;

    #[test]
    fn labels_are_names_and_values() {
        let label: Label = "topology/zone=eu-west_1.b".parse().unwrap();
        assert_eq!((label.name.as_str(), label.value.as_str()), ("topology/zone", "eu-west_1.b"));
        let long = format!("{}=a", "x".repeat(MAX_LABEL_BYTES + 1));
        for bad in ["", "zone", "=a", "zone=", "zo ne=a", "zone=a,b", "a=b=c", &long] {
            assert_eq!(bad.parse::<Label>(), Err(BadLabel), "{bad}");
        }
    }

    #[test]
    fn small_changes_are_not_told() {
        let told = NodeStatus { processes: 160, ..NodeStatus::unknown("a.1".parse().unwrap()) };
        let now = |processes, draining| NodeStatus { processes, draining, ..told.clone() };
        assert!(!now(170, false).differs(&told) && !now(150, false).differs(&told));
        assert!(now(171, false).differs(&told) && now(149, false).differs(&told) && now(160, true).differs(&told));
    }
}
