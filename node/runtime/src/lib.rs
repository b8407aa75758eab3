//! The process runtime that Rookery's nodes and clients share: processes, mailboxes, links, monitors, calls, behaviours;
//! and the connections and identities that carry them. A function that takes an [`Address`] works in both.
//!
//! `rookery-node` puts a mesh under it and `rookery-client` a session; both re-export what a program needs.

mod address;
mod behaviour;
mod blob;
mod calling;
mod census;
mod directory;
mod encoded;
mod group;
mod handover;
mod listing;
mod load;
mod message;
mod multi_call;
pub mod net;
mod process;
mod reply;
mod requests;
mod routing;
mod runtime;
pub mod scheduler;
mod spawn;
mod start;
mod sync;
mod tally;
pub mod tls;
pub mod trace;

pub use address::{Address, DEFAULT_CALL_TIMEOUT, SendError};
pub use behaviour::{
    event_manager::{EventHandler, EventManager, EventMessage, HandlerId, HandlerToAdd, MAX_HANDLERS},
    registry::Behaviours,
    server::{Next, Server},
    starting::Starting,
    state_machine::{MAX_HELD_EVENTS, Machine, StateEvent, StateMachine, Timeouts, Transition},
    task::{Task, TaskError, TaskStartError, TaskSupervisor},
};
pub use blob::Blob;
pub use census::{Census, QUEUE_STEPS};
pub use encoded::Encoded;
pub use group::GroupAddress;
pub use handover::Handover;
pub use listing::{GroupInfo, GroupList, MAX_LISTED, NameList, NameQuery, ProcessList, ProcessQuery, SortBy};
pub use load::Load;
pub use message::{Message, tag_of};
pub use process::{
    context::Context,
    event::{Down, Event, Received},
    info::{CallInfo, MAX_TIES_TOLD, ProcessDetails, ProcessInfo, ProcessState},
    send_timer::SendTimer,
    timers::TimerRef,
};
pub use reply::{CallError, ReplyError, ReplyTo};
pub use requests::REQUEST_TIMEOUT;
pub use rookery_protocol as protocol;
pub use rookery_protocol::{
    BehaviourName, ClusterName, Codec, Destination, ExitReason, Group, GroupChange, Incarnation, NodeId, NodeName,
    Payload, Pid, ProcessName, Recipient, Ref, Tag, request::RequestError,
};
pub use routing::Unreachable;
pub use runtime::{DEFAULT_MAX_PROCESSES, RegisterError, Runtime, RuntimeConfig, Uplink};
pub use spawn::{IntoExit, SpawnError, SpawnOptions, Spawned};
pub use start::{Start, Started};
pub use tally::{CALL_BOUNDS, Durations, Kind as MessageKind, MAX_COUNTED_SUPERVISORS, Route as MessageRoute, Tally};
