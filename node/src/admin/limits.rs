//! What bounds the admin port. Whoever can reach it can do no more than ask, and not at everybody's cost.

use std::time::Duration;

/// How long a process of the node has to answer, until it counts as stuck. A kubelet waits five seconds in our manifests.
pub const BEAT_DEADLINE: Duration = Duration::from_secs(2);

/// How often the answering process is asked while nobody probes, for the lag in the metrics.
pub const BEAT_EVERY: Duration = Duration::from_secs(1);

/// A beat that began so shortly before a question answers it, too: many who ask at once cost one message.
pub const BEAT_SHARED: Duration = Duration::from_millis(100);

/// Connections that are open at once; for one more, one of those goes.
pub const MAX_CONNECTIONS: usize = 64;

/// How long the head of a request may take, and how long a connection may be idle between two.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may last, whatever is done on it: also that of a reader who does not read.
pub const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

/// The largest head of a request, in bytes; the least that hyper can be told.
pub const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The most header fields of a request: browsers send some twenty.
pub const MAX_HEADERS: usize = 64;

/// How long is waited after a connection could not be accepted, as for want of file descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const _: () = assert!(BEAT_DEADLINE.as_millis() < HEAD_TIMEOUT.as_millis());
const _: () = assert!(BEAT_SHARED.as_millis() < BEAT_EVERY.as_millis());
const _: () = assert!(HEAD_TIMEOUT.as_millis() < CONNECTION_LIFETIME.as_millis());
