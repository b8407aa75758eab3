//! Every limit of handing over, with its reason.

use std::time::Duration;

/// A state that is handed over, in bytes: twice what the largest stock process keeps. It is in memory three times for a
/// moment: as it is, encoded, and at the other end.
pub(crate) const MAX_STATE_BYTES: usize = 128 * 1024 * 1024;

/// What one answer carries of it, at most; less where a node takes smaller messages. Goes apart from the lanes.
pub(crate) const PART_BYTES: usize = 1024 * 1024;

/// What an answer has beside the bytes that it carries.
pub(crate) const PART_OVERHEAD_BYTES: usize = 256;

/// How long a process may take until it offers its state. It has messages before that one, and may be in the middle of
/// something; whoever is slower is not waited for, since callers wait.
pub(crate) const OFFER_PATIENCE: Duration = Duration::from_secs(2);

/// How long one further question may take.
pub(crate) const ASK_PATIENCE: Duration = Duration::from_secs(2);

/// How long whoever asks in place of a successor waits: below what that one waits for it.
pub(crate) const RELAY_PATIENCE: Duration = Duration::from_secs(1);

/// From the offer to the commit, at most: below what who asks for the start waits ([`REQUEST_TIMEOUT`](crate::REQUEST_TIMEOUT)).
pub(crate) const PARTING_PATIENCE: Duration = Duration::from_secs(6);

/// How long the new holder of a name waits until all nodes know of it. One that does not answer in that time may find no
/// holder for a moment.
pub(crate) const KNOWN_PATIENCE: Duration = Duration::from_millis(500);

/// How long a process that has handed over passes on what still comes: longer than any node sends to a former holder.
pub(crate) const FORWARDS_FOR: Duration = Duration::from_secs(10);

/// How long it passes on what waits, at most, before its `terminate` runs; the rest comes after that.
pub(crate) const WAITING_PASSED_WITHIN: Duration = Duration::from_secs(1);

/// How long its groups keep it, as one that passes on: until all know its successor to be a member.
pub(crate) const GROUPS_KEEP: Duration = Duration::from_millis(200);

const _: () = assert!(OFFER_PATIENCE.as_millis() + PARTING_PATIENCE.as_millis() < crate::REQUEST_TIMEOUT.as_millis());
const _: () = assert!(RELAY_PATIENCE.as_millis() < ASK_PATIENCE.as_millis());
