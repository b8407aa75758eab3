//! The checker: judges a history by what the contract promises, in the spirit of Jepsen. Sans-IO: entries go in, violations come
//! out, and nothing is asked of anybody. It knows only what clients saw and what was done to the nodes.
//!
//! A promise about time is judged leniently and a promise about what may never happen is not: where two things may have happened
//! in either order, the order is taken that keeps the promise.

mod calls;
mod evidence;
mod faults;
mod healing;
mod monitors;
mod names;
mod order;
mod store;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::history::{Entry, What};

pub(crate) use calls::CALL_LIMIT_MS;
pub(crate) use faults::{Window, windows};

/// Within so long after the end of a fault everything is whole again: each node sees all others, each name has one holder that all
/// know, all groups are the same everywhere, each client is connected and gets answers from each node.
pub(crate) const HEAL_LIMIT_MS: u64 = 15_000;

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The row of the contract.
    pub(crate) row: &'static str,
    /// When, in milliseconds since the beginning.
    pub(crate) at: u64,
    /// What happened.
    pub(crate) text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:.1} s: {}", self.row, self.at as f64 / 1_000.0, self.text)
    }
}

/// Everything in this history that must not be, the earliest first. Entries are in the order of their beginnings.
pub(crate) fn check(history: &[Entry]) -> Vec<Violation> {
    let windows = windows(history);
    let mut found = Vec::new();
    order::check(history, &windows, &mut found);
    calls::check(history, &mut found);
    names::check(history, &windows, &mut found);
    monitors::check(history, &mut found);
    store::check(history, &mut found);
    healing::check(history, &windows, &mut found);
    evidence::check(history, &windows, &mut found);
    found.sort_by_key(|violation| violation.at);
    found
}

/// Whether the load had its end: only then is what did not arrive lost.
fn is_settled(history: &[Entry]) -> bool {
    history.iter().any(|entry| entry.what == What::Settled)
}
