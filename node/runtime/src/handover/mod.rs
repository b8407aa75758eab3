//! A process moves to another node, with its state: what hands over ([`parting`]), what takes over ([`heir`]), and what
//! carries between them ([`porter`], `rookery:handover` on every node).
//!
//! ```text
//! supervisor ── start, as successor of old ──▶ new (its node)
//!                 new ── Offer ──▶ porter ─▶ old: handles nothing from now on; its state, by Server::hand_over
//!                 new ── Part … ─▶            the rest of the state, piece by piece
//!                 new: Server::take_over; claims old's cluster name behind old, and waits until all nodes know it
//!                 new ── Commit ─▶            old: its names and groups go; what it has and gets goes on to new
//!                 new: joins its groups, has started, handles
//! ```
//! The old process decides, alone: it keeps its state until `Commit`, and goes on as if nothing had been when the new one
//! ends first, refuses, or takes too long. After `Commit` it only passes on.
//!
//! **Invariant:** old handles nothing from its offer on, new handles nothing before the commit. When their connection is lost at the
//! commit, new asks by way of their supervisor's node ([`succeeding`]): so two serve at most as long as old's node takes to notice that it
//! has lost the supervisor. A successor without a supervisor takes old for lost.
//!
//! **Invariant:** of a name that moves, each node knows a holder at each moment: first old, which passes on, then new.

pub(crate) mod heir;
pub(crate) mod limits;
pub(crate) mod parting;
pub(crate) mod porter;
#[cfg(test)]
mod simulation;
mod state;
mod succeeding;
mod wire;

pub use state::Handover;
pub(crate) use wire::{Offer, Part, Succession};
