//! Every limit of the wire, with its reason, in one place. Relations between limits are asserted at compile time.
//! A length that comes from the network is compared with one of these before anything is allocated for it.

use std::time::Duration;

/// Bytes before each frame's body: length (4), kind (1), flags (1).
pub const FRAME_HEADER_BYTES: usize = 6;

/// The largest message payload that a node may be configured to take: beyond it a file transfer is the right tool.
pub const MAX_MESSAGE_BYTES_CEILING: usize = 256 * 1024 * 1024;

/// The smallest value of that setting: a control request must always fit.
pub const MAX_MESSAGE_BYTES_FLOOR: usize = 1024;

/// The payload limit unless configured: large enough for documents and images, small enough that a burst of them fits
/// a small pod.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// What a frame may add to its payload: addresses, names, tag, exit text.
pub const MAX_SIGNAL_OVERHEAD_BYTES: usize = 8 * 1024;

/// The largest body of a frame on the control stream. Address lists are its largest content.
pub const MAX_CONTROL_BODY_BYTES: usize = 64 * 1024;

/// A DNS name has at most 253 characters (RFC 1035), and a node is named after its host.
pub const MAX_NODE_NAME_BYTES: usize = 253;

/// Registered names, behaviour names: long enough for `shop.orders.eu-west-1/4711`, short enough for a table's row.
pub const MAX_NAME_BYTES: usize = 255;

/// A cluster's name is a DNS label, since it stands in certificates and addresses.
pub const MAX_CLUSTER_NAME_BYTES: usize = 63;

/// A tag is the stable name of a message type.
pub const MAX_TAG_BYTES: usize = 255;

/// The text of an exit reason is cut here (X4); a stack trace does not belong into every linked process.
pub const MAX_EXIT_TEXT_BYTES: usize = 4096;

/// The text of a refusal or failure.
pub const MAX_REASON_BYTES: usize = 1024;

/// How deep values may be nested in what is decoded, each option, list or structure being one level: serde_json's own
/// limit. Without it a peer could overflow the stack of whoever decodes a recursive type, which no panic handler stops.
pub const MAX_NESTING: usize = 128;

/// Nodes that one lane direction can name. A connection that has seen this many incarnations is closed and made anew.
pub const MAX_INTERNED_NODES: usize = 16_384;

/// Types of messages that one lane direction can number. Those beyond are named in each message.
pub const MAX_INTERNED_TYPES: usize = 1_024;

/// A message in a run: what is larger has a frame of its own, which costs it little.
pub const MAX_IN_RUN_BYTES: usize = 1024;

/// The body of a run: two hundred messages of 16 bytes, and no more than three packets, as it is delivered when all of it is there.
pub const MAX_RUN_BYTES: usize = 4 * 1024;

/// Messages in a run: more would cost less, but hardly. Without it one of 4 KiB could be 4,000 messages of no bytes.
pub const MAX_RUN_MESSAGES: usize = 256;

/// Names in one look-up, so that question and answer fit a frame even where messages are limited to the floor.
pub const MAX_NAMES_PER_LOOKUP: usize = 16;

/// Groups that a process joins as it is started; more are joined by itself.
pub const MAX_GROUPS_PER_SPAWN: usize = 16;

/// Bytes of pids in one answer or one change of a group: it has to fit a frame even where messages are limited to the
/// floor; a larger list goes in several.
pub const MAX_PIDS_BYTES: usize = 4 * 1024;

/// Addresses that one peer may tell about another.
pub const MAX_ADDRESSES_PER_PEER: usize = 16;

/// Peers in one list of addresses, so that the longest list fits a control body; a larger mesh sends several.
pub const MAX_PEERS_PER_FRAME: usize = 64;

/// Lanes of one connection, each way. Beyond it there are more streams than cores to fill them.
pub const MAX_LANES: usize = 64;

/// Messages that a node, or a client, may send to a process before it knows whether that process has a limit: enough for
/// most conversations, and few enough for a mailbox that is asked by many.
pub const CREDIT_ON_TRUST: u32 = 64;

/// With which of these it asks. Early, so that the answer is there before the rest is used up; not with the first, since
/// most conversations are shorter.
pub const CREDIT_ASKED_AFTER: u32 = 8;

/// For how many messages it is believed of the holder of a name that it has no limit: the next holder may have one.
pub const CREDIT_OF_NAMES: u32 = 4096;

/// Credits that one node, or client, may have towards one process: one for each way to address it, which are its pid and
/// its names. Beyond these it gets one message through for each answer.
pub const MAX_CREDITS_PER_ASKER: usize = 64;

/// How often in a row a client may renew its session's connection: a CA, its node's certificate and its own may change one after the
/// other, and one of these may have to be mended.
pub const RENEWALS_AT_ONCE: u32 = 4;

/// After so long it may once more. Each time has two connections until both ends have gone over; what changes in earnest does not change
/// more often, and identities are read every two seconds. (A try that is refused costs a handshake all the same, as any dial does.)
pub const RENEWAL_EVERY: Duration = Duration::from_secs(10);

/// What one peer in such a list takes at most: a name and its length, an incarnation, a count, and addresses of kind,
/// IPv6 address and port.
const MAX_PEER_BYTES: usize = 3 + MAX_NODE_NAME_BYTES + 9 + 1 + MAX_ADDRESSES_PER_PEER * (1 + 16 + 3);

/// What a pid takes in a bincode body at most: its node's name and two numbers of nine bytes.
pub(crate) const MAX_PID_BYTES: usize = MAX_NODE_NAME_BYTES + 3 + 2 * 9;

const _: () = assert!((4 + MAX_GROUPS_PER_SPAWN) * (MAX_NAME_BYTES + 3) < MAX_SIGNAL_OVERHEAD_BYTES);
const _: () = assert!(MAX_PIDS_BYTES + MAX_PID_BYTES + MAX_NAME_BYTES + 64 < MAX_SIGNAL_OVERHEAD_BYTES);
const _: () = assert!(
    MAX_NAMES_PER_LOOKUP * (MAX_PID_BYTES + MAX_NAME_BYTES + 8) < MAX_SIGNAL_OVERHEAD_BYTES + MAX_MESSAGE_BYTES_FLOOR
);
const _: () = assert!(DEFAULT_MAX_MESSAGE_BYTES <= MAX_MESSAGE_BYTES_CEILING);
const _: () = assert!(DEFAULT_MAX_MESSAGE_BYTES >= MAX_MESSAGE_BYTES_FLOOR);
const _: () = assert!(MAX_EXIT_TEXT_BYTES + MAX_NAME_BYTES + MAX_TAG_BYTES + 64 < MAX_SIGNAL_OVERHEAD_BYTES);
const _: () = assert!(MAX_MESSAGE_BYTES_CEILING + MAX_SIGNAL_OVERHEAD_BYTES < u32::MAX as usize);
const _: () = assert!(3 + MAX_PEERS_PER_FRAME * MAX_PEER_BYTES <= MAX_CONTROL_BODY_BYTES);
const _: () = assert!(MAX_INTERNED_NODES < u16::MAX as usize);
const _: () = assert!(0 < CREDIT_ASKED_AFTER && CREDIT_ASKED_AFTER < CREDIT_ON_TRUST);
const _: () = assert!(MAX_TAG_BYTES <= u8::MAX as usize && MAX_NAME_BYTES <= u8::MAX as usize);
