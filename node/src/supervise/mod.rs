//! Supervision: processes that start others, notice their end wherever they live, and start them again.
//!
//! ```text
//! SupervisorSpec ─▶ Supervisor (process) ─▶ StrategyMachine (pure): policy, order, intensity, commands
//!                       │        ▲                │ effects
//!                       ▼        └────────────────┘
//!                    children, linked and monitored, here or on other nodes (placement, pure)
//! ```
//!
//! When a node leaves, its children are handed over to successors elsewhere: `evacuation.rs` (pure) and `moving.rs`; a
//! supervisor of the cluster hands over its children themselves: `bequest.rs`.
//!
//! A [`ClusterSupervisor`] is one that some node runs: `keeper.rs` tells each node of it, `contender.rs` sees to it there.
//!
//! It follows OTP's supervisor manual; where it goes beyond, the contract's rows V6 and V7 say so.
//!
//! **Invariant:** nothing that a child, its start, its stop or its node does keeps a supervisor from answering.

pub mod limits;

mod bequest;
mod child;
mod commands;
mod contender;
mod driver;
mod effect;
mod evacuation;
mod family;
mod forest;
mod homes;
mod intensity;
pub(crate) mod keeper;
mod message;
mod moving;
mod order;
mod pending;
mod placement;
mod policy;
mod report;
mod requesters;
mod spec;
mod start;
mod strategy;
#[cfg(test)]
mod strategy_model;
#[cfg(test)]
mod strategy_properties;
#[cfg(test)]
mod strategy_tests;
pub(crate) mod supervisor;
#[cfg(test)]
mod tests;

pub use bequest::{Estate, Heirloom};
pub use commands::ChildView;
pub use effect::{
    Attempt, Cause, ChildPlan, CommandError, CommandId, Effect, Insignificant, Report, StartFailure, TimerToken,
};
pub use intensity::{Intensity, TooMany};
pub use keeper::ClusterSupervisor;
pub use message::{ChildCount, ChildInfo, ChildSpecData, ChildSpecInfo, ChildStatus, SupervisorMessage};
pub use placement::{LastPlace, Placement};
pub use policy::{AutoShutdown, Backoff, BadChildId, ChildId, ChildType, Restart, Shutdown, Strategy};
pub use spec::{ChildSpec, SupervisorError, SupervisorSpec};
pub use start::{ChildStart, LocalStart};
pub use strategy::StrategyMachine;
pub use supervisor::{Supervisor, SupervisorData};
