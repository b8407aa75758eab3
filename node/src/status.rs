//! What each node knows of the others beyond that they are up: labels, load, whether they are draining. Supervisors choose
//! by it where their children live (V7).
//!
//! ```text
//! rookery:status ── Tell, to a node that comes up; each second, when something has changed, to all ──▶ rookery:status
//!       ▲ Nodes: supervisors
//! ```
//! What is told is old by up to a second, and lost with the connection: it is a hint, and a choice that it misleads is
//! corrected by the answer of the node that was chosen.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use rookery_runtime::{
    Context, Destination, Event, NodeId, ProcessName, Received, ReplyTo, RequestError, Runtime, SpawnOptions,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::system::{SYSTEM_NAME, System};

/// The name of the process on every node.
pub const STATUS_NAME: &str = "rookery:status";

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

/// What `rookery:status` understands. It is out of reach of clients: they ask `rookery:node`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "rookery.Status")]
pub enum Status {
    /// The nodes that are up, this one among them, with what each has told of itself; in the order of their names.
    Nodes(ReplyTo<Vec<NodeStatus>>),
    /// A node tells of itself.
    Tell(NodeStatus),
    /// Its own timer; cannot come from elsewhere.
    #[serde(skip)]
    Tick,
    /// Something has changed that others are to know at once: the node leaves.
    #[serde(skip)]
    Now,
}

/// Starts the process on a node.
pub(crate) fn start(runtime: &Runtime, labels: Labels) -> Result<(), RequestError> {
    let name = ProcessName::new(STATUS_NAME).map_err(|error| RequestError::Refused(error.to_string()))?;
    let options = SpawnOptions::new().name(name.clone()).label(STATUS_NAME).members_only().vital();
    runtime.spawn_with(options, move |mut context: Context<Status>| async move {
        context.monitor_nodes(true);
        let own = NodeStatus { labels, ..status_of(context.runtime(), 0) };
        let mut board = Board { name, runtime: context.runtime().clone(), own, others: BTreeMap::new() };
        context.send_after(TELL_EVERY, Status::Tick);
        while !context.runtime().is_closed() {
            match context.receive().await {
                Received::Message(Status::Nodes(reply)) => drop(reply.send(board.nodes())),
                Received::Message(Status::Tell(status)) => board.told(status),
                Received::Message(Status::Tick) => {
                    board.tick();
                    context.send_after(TELL_EVERY, Status::Tick);
                }
                Received::Message(Status::Now) => board.tick(),
                Received::Event(Event::NodeUp(node)) => board.tell(&node),
                Received::Event(Event::NodeDown { node, .. }) => drop(board.others.remove(&node)),
                Received::Event(_) => {}
            }
        }
    })?;
    Ok(())
}

/// Lets `rookery:status` answer who has asked the node.
pub(crate) fn ask(runtime: &Runtime, reply: ReplyTo<Vec<NodeStatus>>) {
    if let Ok(name) = ProcessName::new(STATUS_NAME) {
        // Should there be no room, the question is dropped, and whoever asks is told.
        drop(runtime.named::<Status>(name).try_send(Status::Nodes(reply)));
    }
}

/// Lets others know at once what has changed.
pub(crate) fn tell_now(runtime: &Runtime) {
    if let Ok(name) = ProcessName::new(STATUS_NAME) {
        drop(runtime.named::<Status>(name).try_send(Status::Now));
    }
}

/// The nodes that are up, in the order of their names, with what the node of this runtime knows of them within `patience`.
/// Who is up is known here; what is told is a hint.
pub(crate) async fn look(runtime: &Runtime, patience: Duration) -> Vec<NodeStatus> {
    let told = match ProcessName::new(STATUS_NAME) {
        // A client's supervisor cannot reach it, and asks the node.
        Ok(_) if runtime.session().is_some() => match ProcessName::new(SYSTEM_NAME) {
            Ok(name) => runtime.named::<System>(name).call_within(patience, System::Statuses).await,
            Err(_) => Ok(Vec::new()),
        },
        Ok(name) => runtime.named::<Status>(name).call_within(patience, Status::Nodes).await,
        Err(_) => Ok(Vec::new()),
    };
    with_told(runtime, |node| told.as_ref().ok()?.iter().find(|status| status.node == *node))
}

/// The nodes that are up, and what is told of each.
pub(crate) fn with_told<'a>(runtime: &Runtime, told: impl Fn(&NodeId) -> Option<&'a NodeStatus>) -> Vec<NodeStatus> {
    let status = |node| told(&node).cloned().unwrap_or_else(|| NodeStatus::unknown(node));
    runtime.nodes().into_iter().map(status).collect()
}

fn status_of(runtime: &Runtime, told: u64) -> NodeStatus {
    let processes = runtime.process_count() as u64;
    NodeStatus { processes, draining: runtime.is_draining(), told, ..NodeStatus::unknown(runtime.node().clone()) }
}

/// What one node knows.
struct Board {
    /// The name of the process on every node.
    name: ProcessName,
    runtime: Runtime,
    /// What was told last.
    own: NodeStatus,
    /// What others have told, as long as they are up.
    others: BTreeMap<NodeId, NodeStatus>,
}

impl Board {
    fn nodes(&self) -> Vec<NodeStatus> {
        with_told(&self.runtime, |node| if *node == self.own.node { Some(&self.own) } else { self.others.get(node) })
    }

    /// Another node tells of itself. One that is not up any more has told before it went.
    fn told(&mut self, status: NodeStatus) {
        if status.labels.len() <= MAX_LABELS && self.runtime.nodes().contains(&status.node) {
            self.others.insert(status.node.clone(), status);
        }
    }

    fn tick(&mut self) {
        let now = status_of(&self.runtime, self.own.told + 1);
        if now.differs(&self.own) {
            self.own = NodeStatus { labels: std::mem::take(&mut self.own.labels), ..now };
            self.runtime.nodes().iter().for_each(|node| self.tell(node));
        }
    }

    /// Tells a node. One whose buffer is full is told with the next change.
    fn tell(&self, node: &NodeId) {
        if *node == self.own.node {
            return;
        }
        let other = self.runtime.address::<Status>(Destination::name(node.clone(), self.name.clone()));
        if let Err(error) = other.try_send(Status::Tell(self.own.clone())) {
            tracing::debug!(to = %other.destination(), %error, "a node was not told of this one; it is with the next change");
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
