//! Every limit of the stock behaviours, with its reason. They bound what one process can be made to hold by whoever may
//! send to it.

use std::time::Duration;

/// A key of `kv`: long enough for a path or a URL.
pub const MAX_KEY_BYTES: usize = 1_024;

/// A value of `kv`, as JSON text. A store of documents; what is larger belongs into an object store.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// Entries of one `kv`; its keys, all together, still fit one message of the default limit.
pub const MAX_ENTRIES: usize = 100_000;

/// Keys and values of one `kv` together: what a small pod can spare.
pub const MAX_STORE_BYTES: usize = 64 * 1024 * 1024;

/// Subscribers of one `topic`; each message goes to each of them in turn.
pub const MAX_SUBSCRIBERS: usize = 10_000;

/// A message of a `topic`, in bytes: it is copied for each subscriber.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;

/// How long one message of a `topic` waits in all for subscribers whose mailbox, or whose node's buffer, is full. Then
/// these miss it: a slow subscriber must not hold up the others for ever.
pub const PUBLISH_PATIENCE: Duration = Duration::from_secs(1);

const _: () = assert!(MAX_KEY_BYTES + MAX_VALUE_BYTES < MAX_STORE_BYTES);
