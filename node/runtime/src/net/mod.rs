//! Connections: what a mesh of nodes and a client have in common on the wire.

pub mod outbound;
