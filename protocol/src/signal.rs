//! Signals: what one process sends to another. All kinds travel in one order from a sender to a receiver (S1).
//!
//! The vocabulary is Erlang's ("Processes", "Signals" in the reference manual; the distribution protocol): message,
//! link, unlink with acknowledgement, exit, monitor, demonitor, down. Replies are apart, since they do not pass the
//! mailbox; requests ask the node itself.

use std::fmt;

use crate::{
    credit::{CreditChange, CreditNumber},
    directory::{DirectoryUpdate, GroupChange},
    exit::ExitReason,
    group::Group,
    id::{CallId, NodeId, Pid, ProcessName, Ref, Serial, UnlinkId},
    payload::{Payload, Tag},
    request::{RequestBody, ResponseBody},
    trace::TraceContext,
};

/// One process of a node: by number, or by the name that it has there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Recipient {
    /// The process with this serial.
    Serial(Serial),
    /// Whoever holds this name on the node when the signal arrives.
    Name(ProcessName),
    /// Whoever holds this name in the cluster; a node passes it on.
    ClusterName(ProcessName),
    /// Every member that the group has on the node. Messages only; a node passes on a client's to all other nodes.
    Group(Group),
}

/// Where a signal goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The node.
    pub node: NodeId,
    /// The process on it.
    pub to: Recipient,
}

impl Destination {
    /// The process `name` of `node`.
    #[must_use]
    pub fn name(node: NodeId, name: ProcessName) -> Self {
        Self { node, to: Recipient::Name(name) }
    }
}

impl From<Pid> for Destination {
    fn from(pid: Pid) -> Self {
        Self { node: pid.node().clone(), to: Recipient::Serial(pid.serial()) }
    }
}

impl From<&Pid> for Destination {
    fn from(pid: &Pid) -> Self {
        pid.clone().into()
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            Recipient::Serial(serial) => write!(f, "<{}.{serial}>", self.node),
            Recipient::Name(name) => write!(f, "{name}@{}", self.node.name()),
            Recipient::ClusterName(name) => write!(f, "{name}"),
            Recipient::Group(group) => write!(f, "group {group}"),
        }
    }
}

/// Where the answer to a call goes: to whoever asked, and which of its calls it answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReplyRoute {
    /// Whose call it is. Serial 0, or number 0 of a session, when no process asked.
    pub to: Pid,
    /// Which call.
    pub call: CallId,
}

/// Why a call has no reply. The caller's own failures (time out, no connection) are not sent, hence not here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CallFailure {
    /// There is no such process.
    NoProc,
    /// The receiver ended before it answered.
    Exited(ExitReason),
    /// The receiver does not understand what was sent.
    Unsupported {
        /// The tag of what was sent.
        tag: Tag,
        /// What the receiver could not make of it.
        detail: String,
    },
    /// The receiver, or a policy on the way, declined.
    Refused(String),
    /// The connection to the receiver's node was lost on the way.
    NoConnection,
}

/// A signal's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignalBody {
    /// A message.
    Message {
        /// What it carries.
        payload: Payload,
        /// Where an answer is awaited, if one is.
        reply: Option<ReplyRoute>,
        /// Milliseconds that were left to answer when it was sent.
        deadline_ms: Option<u32>,
        /// The credit that it took, or asks for.
        credit: Option<CreditNumber>,
        /// The trace that it belongs to, if that is recorded. Boxed, as it is rare.
        trace: Option<Box<TraceContext>>,
    },
    /// The answer to a call.
    Reply {
        /// Which call it answers.
        call: CallId,
        /// The answer.
        outcome: Result<Payload, CallFailure>,
    },
    /// The sender links to the receiver.
    Link,
    /// The sender removes the link.
    Unlink(UnlinkId),
    /// The sender has seen that `Unlink`.
    UnlinkAck(UnlinkId),
    /// An exit signal.
    Exit {
        /// Why.
        reason: ExitReason,
        /// Whether it comes from a link, or was sent by `exit`.
        linked: bool,
    },
    /// The sender monitors the receiver.
    Monitor(Ref),
    /// The sender does not any more.
    Demonitor(Ref),
    /// What was monitored is down.
    Down {
        /// The monitor.
        monitor: Ref,
        /// Why it is down.
        reason: ExitReason,
    },
    /// Asks the receiver's node for something.
    Request {
        /// The number to answer with.
        call: CallId,
        /// What is asked.
        body: Box<RequestBody>,
    },
    /// Answers a request.
    Response {
        /// Which request.
        call: CallId,
        /// The answer.
        body: Box<ResponseBody>,
    },
    /// Tells a client that a node is up.
    NodeUp(NodeId),
    /// Tells a client that a node is down.
    NodeDown {
        /// The node.
        node: NodeId,
        /// What is known of the cause.
        reason: String,
    },
    /// Tells a client that what it sent was not allowed, where nothing else answers.
    Refused {
        /// What was refused, to whom, and by which rule.
        detail: String,
    },
    /// How many messages the receiver, or what asks for it, may send to the sender; `Forget` goes the other way.
    Credit {
        /// The receiver's number for it.
        number: CreditNumber,
        /// What is said.
        change: CreditChange,
    },
    /// What the sending process has in the cluster's directory.
    Directory(DirectoryUpdate),
    /// Tells a client's process what has changed in a group.
    GroupChange(GroupChange),
    /// Tells a client's process that it has lost a cluster name.
    NameConflict {
        /// The name.
        name: ProcessName,
        /// Who has it now.
        holder: Pid,
    },
}

impl SignalBody {
    /// The size of the payload that it carries, in bytes. The peer takes a larger one than it said for the end of the
    /// connection.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Message { payload, .. } | Self::Reply { outcome: Ok(payload), .. } => payload.body.len(),
            Self::Request { body, .. } => body.spawn().map_or(0, |spawn| spawn.arguments.body.len()),
            _ => 0,
        }
    }
}

/// A signal with its two ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// Who sent it.
    pub from: Pid,
    /// Whom it is for.
    pub to: Destination,
    /// What it is.
    pub body: SignalBody,
}
