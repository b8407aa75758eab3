//! Discovery: which addresses are worth a dial.
//!
//! ```text
//!  SRV, A, AAAA ─▶ resolver ─▶ watch ─▶ driver ──DiscoveryEvent──▶ DialBook ─▶ dials
//!                  (sockets)  (pure)   (tasks)                     (pure)
//! ```
//!
//! Discovery is a hint. It adds addresses; it never removes a member, never blocks a start, works
//! with no peer at all, and goes on for ever (contract row D1). An answer that is empty or failed
//! changes nothing but the log.
//!
//! **Invariant:** nothing in here closes a connection or knows what a member is.

pub mod limits;

mod dial;
mod driver;
mod jitter;
mod peer_address;
pub(crate) mod reconcile;
#[cfg(test)]
mod reconcile_properties;
mod resolver;
mod sources;
mod watch;

pub use dial::{DialStatus, NodeKey, Refusal};
pub use driver::{Discovery, DiscoveryError};
pub use jitter::Jitter;
pub use peer_address::{Host, PeerAddress, PeerAddressError};
pub use reconcile::DialBook;
#[cfg(test)]
pub(crate) use resolver::Outcome;
pub use sources::{DiscoveryConfig, DiscoveryEvent, Source, Trouble};
#[cfg(test)]
pub(crate) use watch::SourceWatch;
