//! Every limit of discovery, with its reason.
//!
//! What comes from DNS or from a peer is somebody else's data: each of these bounds what it can
//! cost this node. Relations between limits are asserted at compile time at the end.

use std::time::Duration;

/// Addresses taken from one answer. A mesh of 1,000 nodes fits; a DNS message over TCP (64 KiB)
/// carries about as many SRV records. The rest is dropped and logged.
pub const ADDRESSES_PER_ANSWER: usize = 1_024;

/// Static peers in one configuration: each that is a host name costs a task and its own polls.
pub const STATIC_PEERS: usize = 256;

/// Host names looked up at a time for one source: a resolver refuses more than 32 questions in
/// flight per server, and each name is two of them.
pub const PARALLEL_LOOKUPS: usize = 12;

/// Shortest time between two polls: a TTL of 0 must not become a busy loop against the server.
pub const POLL_MIN: Duration = Duration::from_secs(1);

/// Longest time between two polls: a new pod is dialled at most this long after it is in DNS.
/// Kubernetes' own TTL is 5 s.
pub const POLL_MAX: Duration = Duration::from_secs(5);

/// Longest time for one look-up, every candidate of the search list included.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// An answer of "no such name" is believed for this long at most, so that the first pod's records
/// are seen soon after they appear.
pub const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(1);

/// Polls are spread by this share either way, so that the nodes of a cluster drift apart.
pub const POLL_JITTER: f64 = 0.10;

/// Addresses in the dialling book: four addresses each for the largest mesh intended (1,000 nodes).
pub const BOOK_ADDRESSES: usize = 4_096;

/// Sources that the book keeps apart: the service, every static peer, and room to spare.
pub const BOOK_SOURCES: usize = 512;

/// Dials at a time. A mutual TLS handshake costs milliseconds of CPU at both ends: 32 keep one core
/// busy, and more would only make each slower.
pub const PARALLEL_DIALS: usize = 32;

/// The shortest wait after a failed dial.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// The longest wait after a failed dial; it is never given up while a source names the address.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// After a peer's connection is lost its addresses are dialled within this time, spread so that the
/// peers of a node that fell do not dial all at once.
pub const RECONNECT_SPREAD: Duration = Duration::from_millis(250);

/// How long a newcomer is waited for that others tell of, at least, and twice that at most: it is told of this node as well, and
/// dials first. A mesh of twenty on two cores has formed by then; and where it cannot reach this node, it costs no more.
pub const NEWCOMER_PATIENCE: Duration = Duration::from_millis(500);

/// Wait after a stranger answered (another cluster, a certificate that does not verify): nothing
/// that a dial does will change it, and the address may pass to one of ours.
pub const STRANGER_RETRY: Duration = Duration::from_secs(30);

/// Wait after a node without a common protocol version answered: it changes only when one of the two
/// is upgraded, and that takes a restart.
pub const INCOMPATIBLE_RETRY: Duration = Duration::from_secs(10);

/// Wait after a node answered that it is busy or draining.
pub const BUSY_RETRY: Duration = Duration::from_secs(1);

/// The waits after a refusal are spread by this share either way.
pub const REFUSAL_JITTER: f64 = 0.10;

/// An address that only peers told of, and no source names, is forgotten after so many failures in a
/// row: with the backoff above that is about 20 s of trying.
pub const LEARNED_FAILURES: u32 = 8;

/// Bytes kept of the text that says why an address could not be dialled.
pub const REASON_BYTES: usize = 256;

const _: () = assert!(POLL_MIN.as_millis() <= POLL_MAX.as_millis());
const _: () = assert!(BACKOFF_MIN.as_millis() * 2 <= BACKOFF_MAX.as_millis());
const _: () = assert!(BACKOFF_MAX.as_millis() <= STRANGER_RETRY.as_millis());
const _: () = assert!(ADDRESSES_PER_ANSWER <= BOOK_ADDRESSES);
const _: () = assert!(STATIC_PEERS < BOOK_SOURCES);
const _: () = assert!(PARALLEL_LOOKUPS * 2 < 32);
