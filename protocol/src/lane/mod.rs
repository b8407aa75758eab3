//! A lane: signals of some senders to one connection's other end, in order. Encoder and decoder are each other's mirror.
//!
//! Every signal's body begins alike, so that routing decodes nothing else:
//!
//! ```text
//! to node u16 │ from node u16 │ to serial u64 │ from serial u64 │ …what the kind adds
//! ```
//! Node number 0 is the end that the field speaks of: for `to` the receiving node, for `from` the sending one. Other
//! nodes get a number by a `NodeDef` frame earlier on the same lane. A recipient by name has flag [`BY_NAME`],
//! [`BY_CLUSTER_NAME`] or [`BY_GROUP`], and the text behind the serials.
//!
//! Where both ends know of numbered types, a message between processes of the two ends with nothing beside its payload is
//! brief, its type defined by a `TypeDef` frame earlier on the lane:
//!
//! ```text
//! type u16 │ to serial u64 │ from serial u64 │ payload
//! ```
//! Where both know of runs, several of them share a frame (`run.rs`).
//!
//! Integers are little endian; texts are `length u8 │ bytes` where at most 255 bytes long, and
//! `length u16 │ bytes` otherwise.

mod bulk;
mod decoder;
mod encoder;
mod fields;
mod plain;
mod reassembly;
mod run;
mod types;

use crate::{
    credit::CreditNumber,
    id::Pid,
    payload::Codec,
    signal::{Destination, ReplyRoute},
    trace::TraceContext,
};

pub use bulk::{BulkOpening, Ticket, TicketNumber};
pub use decoder::{Arrival, LaneDecoder};
pub use encoder::LaneEncoder;
pub use plain::PlainMessage;
pub use reassembly::Reassembly;
pub use run::{Run, RunBuffer};

/// The recipient is given by name.
pub const BY_NAME: u8 = 0x01;
/// A message: an answer is awaited, and its route stands in the frame.
pub const HAS_REPLY: u8 = 0x02;
/// A message: the time that is left stands in the frame.
pub const HAS_DEADLINE: u8 = 0x04;
/// The recipient is given by its name in the cluster.
pub const BY_CLUSTER_NAME: u8 = 0x08;
/// The recipients are the members of a group. Messages alone.
pub const BY_GROUP: u8 = 0x10;
/// A message: the number of a credit stands in the frame.
pub const HAS_CREDIT: u8 = 0x20;
/// A message: the trace that it belongs to stands in the frame.
pub const HAS_TRACE: u8 = 0x40;
/// An exit signal that comes from a link.
pub const LINKED: u8 = 0x02;

/// What stands before a message's payload.
#[derive(Debug, Clone, Copy)]
pub struct MessageHead<'a> {
    /// Who sends.
    pub from: &'a Pid,
    /// To whom.
    pub to: &'a Destination,
    /// The payload's type.
    pub tag: &'a [u8],
    /// The payload's encoding.
    pub codec: Codec,
    /// Where an answer is awaited.
    pub reply: Option<&'a ReplyRoute>,
    /// Milliseconds left to answer.
    pub deadline_ms: Option<u32>,
    /// The credit that it took, or asks for.
    pub credit: Option<CreditNumber>,
    /// The trace that it belongs to.
    pub trace: Option<&'a TraceContext>,
}

/// The end that a node number speaks of: number 0 is that end itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    To,
    From,
}
