//! Connections: what a mesh of nodes and a client have in common on the wire.
//!
//! ```text
//! senders ─▶ Outbound (lanes, bulk, budgets) ─▶ write ─▶ QUIC ─▶ read ─▶ Inbox
//!            control: handshake, addresses, goodbye ─▶ QUIC ─▶ control
//! ```
//! Everything but the filling of `Outbound` runs on the thread that drives the I/O just then. Who is dialled, and which connection is kept, is
//! decided elsewhere.

pub(crate) mod arriving;
pub mod bulk;
mod congestion;
pub mod control;
pub(crate) mod credit;
pub mod io_thread;
pub mod lanes;
pub mod legs;
pub mod outbound;
pub mod settings;
pub mod socket;
