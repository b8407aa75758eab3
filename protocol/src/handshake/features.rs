//! What two ends may have in common beyond the version of the protocol.

use serde::{Deserialize, Serialize};

/// Features beyond the protocol's version, one bit each; what both ends have is used (D5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Features(pub u64);

impl Features {
    /// The node takes part in the cluster's directory of names and groups: `Directory` frames, `Claim` requests.
    pub const DIRECTORY: Self = Self(1);

    /// Bodies above a size travel on streams of their own: `MessageTicket`, `ReplyTicket`, `BulkOpen`.
    pub const BULK: Self = Self(2);

    /// Credit for messages to bounded mailboxes: `Credit`, and the number of one in a message.
    pub const CREDIT: Self = Self(4);

    /// The node tells others whom it hears: `HaveYouHeard`, `Heard`.
    pub const MEMBERSHIP: Self = Self(8);

    /// The most frequent messages name their type by a number: `TypeDef`, `Brief`.
    pub const TYPES: Self = Self(16);

    /// A message says which trace it belongs to, if that is recorded.
    pub const TRACE: Self = Self(32);

    /// Messages with numbered types share a frame where one process sends several to another: `Run`. Not without
    /// [`TYPES`](Self::TYPES).
    pub const RUNS: Self = Self(64);

    /// A connection of two nodes goes on as another one, without a loss; see [`RENEW`](super::RENEW).
    pub const RENEW: Self = Self(128);

    /// A client's session goes on over another connection, without a loss; see [`RENEW_SESSION`](super::RENEW_SESSION). The node asks
    /// for it by `Renew`.
    pub const RENEW_SESSION: Self = Self(256);

    /// Who leaves says so before it goes: `Leaving`.
    pub const LEAVING: Self = Self(512);

    /// What this code can do beyond what every speaker of version 1 can.
    pub const OURS: Self = Self(
        Self::DIRECTORY.0
            | Self::BULK.0
            | Self::CREDIT.0
            | Self::MEMBERSHIP.0
            | Self::TYPES.0
            | Self::TRACE.0
            | Self::RUNS.0
            | Self::RENEW.0
            | Self::RENEW_SESSION.0
            | Self::LEAVING.0,
    );

    /// Whether all of `other` are among these.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What both have.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}
