//! What was counted up to one moment.

use std::time::Duration;

use super::{CALL_BOUNDS, FAILURES, Kind, Route};

/// What a runtime has counted since it was made. Figures only grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// What was sent and received, for each route and kind.
    pub messages: Vec<(Route, Kind, u64)>,
    /// Calls without an answer, by why.
    pub call_failures: Vec<(&'static str, u64)>,
    /// How long calls within the runtime took: one of sixteen of each thread.
    pub local_calls: Durations,
    /// How long calls to elsewhere took.
    pub remote_calls: Durations,
    /// Children that were started again, by their supervisor's name; `(unnamed)` and `(more)` for those without.
    pub restarts: Vec<(String, u64)>,
    /// The most that waited in one mailbox at once, as receivers found it when they took what was there.
    pub deepest_mailbox: u64,
}

impl Default for Tally {
    fn default() -> Self {
        let messages = Route::ALL.into_iter().flat_map(|route| Kind::ALL.into_iter().map(move |kind| (route, kind, 0)));
        Self {
            messages: messages.collect(),
            call_failures: FAILURES.map(|why| (why, 0)).to_vec(),
            local_calls: Durations::default(),
            remote_calls: Durations::default(),
            restarts: Vec::new(),
            deepest_mailbox: 0,
        }
    }
}

/// How long something took, so many times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durations {
    /// How many in each class of [`CALL_BOUNDS`](super::CALL_BOUNDS), not added up; the last is above all bounds.
    pub counts: Vec<u64>,
    /// All of it together.
    pub sum: Duration,
}

impl Default for Durations {
    fn default() -> Self {
        Self { counts: vec![0; CALL_BOUNDS.len() + 1], sum: Duration::ZERO }
    }
}
