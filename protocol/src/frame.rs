//! A frame: `length u32 │ kind u8 │ flags u8 │ body`, little endian; the length counts the body alone.
//!
//! The numbers below are the protocol. A frame's body never changes: a new shape is a new number, and a retired number
//! stays listed. A receiver skips a frame of a kind that it does not know if [`FLAG_SKIPPABLE`] is set, and closes the
//! connection otherwise; so an older node can talk to a newer one.

use bytes::Bytes;

use crate::limits::FRAME_HEADER_BYTES;

/// "If you do not know this kind, skip it."
pub const FLAG_SKIPPABLE: u8 = 0x80;

/// Declares the kinds of frames once: number, name, and the way back.
macro_rules! kinds {
    ($($(#[$meta:meta])* $name:ident = $number:literal,)*) => {
        /// The kind of a frame, by its number on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum FrameKind { $($(#[$meta])* $name = $number,)* }

        impl FrameKind {
            /// Every kind, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The kind of that number.
            #[must_use]
            pub fn from_wire(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// Its name, for errors and logs.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

kinds! {
    /// A message to a process. Lanes.
    Message = 1,
    /// The answer to a call. Lanes.
    Reply = 2,
    /// Makes a link. Lanes.
    Link = 3,
    /// Removes a link; is acknowledged. Lanes.
    Unlink = 4,
    /// Acknowledges an `Unlink`. Lanes.
    UnlinkAck = 5,
    /// An exit signal. Lanes.
    Exit = 6,
    /// Starts to monitor. Lanes.
    Monitor = 7,
    /// Stops to monitor. Lanes.
    Demonitor = 8,
    /// What is monitored is down. Lanes.
    Down = 9,
    /// Asks a node for something: spawn, register, look up. Lanes.
    Request = 10,
    /// Answers a `Request`. Lanes.
    Response = 11,
    /// What a process has in the cluster's directory. Lanes between nodes; a client sends `Gone` alone.
    Directory = 12,
    /// How much may be sent to a bounded mailbox. Lanes.
    Credit = 13,
    /// A message whose body comes on a stream of its own. Lanes.
    MessageTicket = 14,
    /// The answer to a call, whose body comes on a stream of its own. Lanes.
    ReplyTicket = 15,
    /// First on each lane: its number. Lanes.
    LaneOpen = 16,
    /// Gives a node a number on this lane. Lanes.
    NodeDef = 17,
    /// A node of the mesh is up, told to a client. Lanes.
    NodeUp = 18,
    /// A node of the mesh is down, told to a client. Lanes.
    NodeDown = 19,
    /// What a client asked for is not allowed. Lanes.
    Refused = 20,
    /// What has changed in a group, told to a client that watches it. Lanes.
    GroupChange = 21,
    /// A process of a client has lost a cluster name to another. Lanes.
    NameConflict = 22,
    /// First on each bulk stream: its ticket. The rest of the stream is the body.
    BulkOpen = 23,
    /// A message in its most frequent form, its type given by number. Lanes.
    Brief = 24,
    /// Gives a type of messages a number on this lane. Lanes.
    TypeDef = 25,
    /// Messages of one process to another in their most frequent form, behind each other. Lanes.
    Run = 26,
    /// First of all: who dials. Control stream.
    Hello = 32,
    /// The acceptor takes the dialler. Control stream.
    Welcome = 33,
    /// The acceptor does not. Control stream.
    Refuse = 34,
    /// The dialler uses this connection. Control stream.
    Confirm = 35,
    /// The dialler does not. Control stream.
    Abort = 36,
    /// An orderly end. Control stream.
    Goodbye = 37,
    /// Addresses of other nodes. Control stream.
    Peers = 38,
    /// Asks when the peer has heard from a node last. Control stream.
    HaveYouHeard = 39,
    /// Tells it. Control stream.
    Heard = 40,
    /// A client is to dial its node for a connection that takes this one's place. Control stream.
    Renew = 41,
    /// The sender is about to leave, and says goodbye later. Control stream.
    Leaving = 42,
    /// Before a refusal: the life of its name that the peer is older than. Control stream.
    NewerLife = 43,
}

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: FrameKind,
    /// Its flags, with [`FLAG_SKIPPABLE`] among them.
    pub flags: u8,
    /// Its body.
    pub body: Bytes,
}

/// Starts a frame at the end of `out`; the body is appended by the caller, and [`finish`] sets the length.
#[must_use]
pub fn begin(out: &mut Vec<u8>, kind: FrameKind, flags: u8) -> FrameStart {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind as u8, flags]);
    FrameStart(start)
}

/// Where a frame began.
#[derive(Debug, Clone, Copy)]
pub struct FrameStart(usize);

/// Sets the length of a frame that [`begin`] started. `apart` bytes of its body are sent behind `out` by the caller.
pub fn finish(out: &mut [u8], start: FrameStart, apart: usize) {
    let length = out.len() - start.0 - FRAME_HEADER_BYTES + apart;
    // Bodies are bounded by limits that a compile-time assertion keeps below 2^32.
    #[allow(clippy::cast_possible_truncation)]
    out[start.0..start.0 + 4].copy_from_slice(&(length as u32).to_le_bytes());
}

/// Takes back a frame that [`begin`] started and that cannot be sent.
pub fn cancel(out: &mut Vec<u8>, start: FrameStart) {
    out.truncate(start.0);
}

/// The length of the body so far.
#[must_use]
pub fn body_bytes(out: &[u8], start: FrameStart) -> usize {
    out.len().saturating_sub(start.0 + FRAME_HEADER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_leads_back_to_its_kind() {
        for &kind in FrameKind::ALL {
            assert_eq!(FrameKind::from_wire(kind as u8), Some(kind));
        }
        assert_eq!(FrameKind::from_wire(0), None);
        assert_eq!(FrameKind::from_wire(255), None);
    }
}
