//! The wire of Rookery: what both ends of a connection agree on.
//!
//! This crate is sans-IO: it has no sockets, no clock, no randomness and no async runtime. Bytes and decoded frames go
//! in, frames and bytes come out. Nodes, clients in any language and tests stand on it, and `testdata/` holds golden
//! vectors of every frame.
//!
//! ```text
//! bytes ─▶ decoder ─▶ Frame ─▶ control   (handshake, membership)      one control stream a connection
//!                           └▶ lane      (Signal: message, link, …)   N ordered lanes each way
//! ```
//!
//! Nothing here panics on input, and nothing is allocated by a length that was read from the network.

pub mod codec;
pub mod control;
pub mod credit;
pub mod decoder;
pub mod directory;
pub mod error;
pub mod exit;
pub mod frame;
pub mod group;
pub mod handshake;
pub mod id;
pub mod lane;
pub mod limits;
pub mod payload;
pub mod request;
pub mod signal;
mod text;
pub mod trace;

pub use control::ControlFrame;
pub use credit::{CreditChange, CreditNumber};
pub use decoder::FrameDecoder;
pub use directory::{DirectoryUpdate, GroupChange, Stamp};
pub use error::{ParseIdError, WireError};
pub use exit::ExitReason;
pub use frame::{Frame, FrameKind};
pub use group::Group;
pub use id::{
    BehaviourName, CallId, ClusterName, Incarnation, NodeId, NodeName, Pid, ProcessName, Ref, Serial, SessionId,
    UnlinkId,
};
pub use lane::{
    Arrival, BulkOpening, LaneDecoder, LaneEncoder, PlainMessage, Reassembly, Run, RunBuffer, Ticket, TicketNumber,
};
pub use payload::{Codec, Payload, Tag};
pub use signal::{CallFailure, Destination, Recipient, ReplyRoute, Signal, SignalBody};
pub use trace::{SpanId, TraceContext, TraceId};
