//! Rookery's node: distributed Erlang's processes on Kubernetes, in Rust.
//!
//! A [`Node`] runs processes, finds other nodes by DNS, and forms a mesh with them over QUIC with mutual TLS. A process on
//! any node, or in a client, can send to, call, link, monitor and start processes on any other. See `ARCHITECTURE.md` for
//! the way of a message, and the crate `rookery-runtime` for processes themselves, which this crate re-exports.

pub mod admin;
pub mod ask;
pub mod devdns;
pub mod discovery;
mod insight;
pub mod json;
mod leaving;
mod membership;
mod mesh;
mod node;
mod operate;
pub mod session;
#[cfg(test)]
mod simulation;
pub mod status;
pub mod stock;
pub mod supervise;
pub mod system;
pub mod trees;
pub mod words;

pub use admin::AdminConfig;
pub use insight::Insight;
pub use membership::{BadDetectorSettings, DetectorSettings};
pub use mesh::{Outlived, PeerInfo};
pub use node::{
    DEFAULT_DRAIN_TIMEOUT, DEFAULT_PORT, DEFAULT_RENEW_WITHIN, MIN_WORKER_THREADS, Node, NodeConfig, StartError,
};
pub use rookery_runtime::{net::settings::ConnectionSettings, *};
