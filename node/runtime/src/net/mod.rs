//! Connections: what a mesh of nodes and a client have in common on the wire.

pub mod control;
pub mod io_thread;
pub mod lanes;
pub mod outbound;
pub mod settings;
