//! The mesh: one connection with each other node, made by whoever dials first and settled by rule when both do.
//!
//! ```text
//! discovery ─▶ DialBook ─▶ dial ─┐                       ┌─▶ Arbiter: keep, refuse, replace?
//!                      accept ───┴─▶ TLS ─▶ handshake ───┤
//!                                                        └─▶ established: Peer ─▶ lanes, control
//! ```
//! All of it runs on the thread that drives the node's I/O just then, so that what happens to one peer happens in one order: its signals come after
//! its `NodeUp` and before its `NodeDown` (M5).

pub(crate) mod arbiter;
#[cfg(test)]
mod arbiter_properties;
pub(crate) mod counts;
pub(crate) mod credentials;
pub(crate) mod dialler;
pub(crate) mod driver;
pub(crate) mod gossip;
pub(crate) mod handshakes;
mod inbox;
mod life;
pub(crate) mod lives;
pub(crate) mod outlived;
pub(crate) mod peers;
pub(crate) mod renewal;
pub(crate) mod renewing;
mod served;
pub(crate) mod settling;
mod troubles;

pub use outlived::Outlived;
pub use peers::PeerInfo;
