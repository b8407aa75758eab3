//! A cluster in one seeded world, in one thread and in virtual time. Each node is made of the machines that a real one is made
//! of; what the thin drivers around them do is played as they do it, and QUIC as far as it matters.
//!
//! ```text
//! story ──faults──▶ world ◀──events── schedule
//!                     │
//!   host: clock ── node: watch ─▶ book ─▶ dial ─▶ handshake ─▶ arbiter ─▶ peer ─▶ detector
//!                     │                                                    │
//!   network: loss, delay, order, doubling, cuts     lanes, reassembly, credit ◀─▶ processes
//!                     │
//!                 contract: what nodes are told, held against its rows after each step
//! ```
//! `ROOKERY_SEEDS=n` plays so many seeds, `ROOKERY_SEED=s` one; a seed that fails is printed with the command that plays it
//! again. `contract.rs` knows nothing of the machines. The mistakes of `planted.rs` have to be found.

// A test says what it expects by failing. Numbers are small here.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

pub(crate) mod chance;
mod connection;
mod contract;
mod dns;
mod faults;
mod handshakes;
mod host;
mod lanes;
mod life;
mod liveness;
mod network;
mod planted;
mod play;
mod processes;
mod scale;
mod schedule;
mod story;
mod tally;
mod tests;
mod world;
