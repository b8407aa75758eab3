//! What a process receives beside messages. Events come in the same order as messages (S1), from `mailbox.rs`; nobody
//! can send one as a message.

use rookery_protocol::{Destination, ExitReason, GroupChange, NodeId, Pid, ProcessName, Recipient, Ref};

/// What [`Context::receive`](crate::Context::receive) gives.
#[derive(Debug)]
pub enum Received<M> {
    /// A message.
    Message(M),
    /// Something else.
    Event(Event),
}

/// What the system tells a process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An exit signal, since the process traps exits (X1, L3).
    Exit {
        /// Whose exit it is, or who sent it.
        from: Pid,
        /// Why.
        reason: ExitReason,
        /// Whether it comes from a link.
        linked: bool,
    },
    /// What the process monitored is down (M1).
    Down(Down),
    /// A node is connected (M5).
    NodeUp(NodeId),
    /// A node is not connected any more (M5).
    NodeDown {
        /// Which node.
        node: NodeId,
        /// What is known of the cause.
        reason: String,
    },
    /// What has changed in a group that this process watches (G3).
    Group(GroupChange),
    /// This process has lost a cluster name to another holder, since it traps exits (N2). It goes on without the name.
    NameConflict {
        /// The name.
        name: ProcessName,
        /// Who has it now.
        holder: Pid,
    },
    /// Something that this process sent was not allowed (C3).
    Refused(String),
}

/// Tells that a monitor has fired. There is exactly one for each monitor, or none after `demonitor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// The monitor.
    pub monitor: Ref,
    /// What was monitored.
    pub target: Destination,
    /// Why it is down; `NoProc` if it was so already.
    pub reason: ExitReason,
}

impl Down {
    /// The pid that was monitored, unless it was monitored by name.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        match &self.target.to {
            Recipient::Serial(serial) => Some(Pid::new(self.target.node.clone(), *serial)),
            _ => None,
        }
    }
}
