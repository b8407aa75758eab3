//! A successor that has the whole state: what it makes of the answers to its commit. Pure; `heir.rs` asks.
//!
//! ```text
//! ask the old process ──▶ done, or it is gone ──────────────────────────────────▶ serve
//!        │  └── no answer: again, longer than the old one waits        refused ──▶ fail: the old one goes on
//!        └── no connection to it: it may live, and go on. Ask by way of the supervisor's node:
//!                 done, or it is gone, or that node does not reach it either ───▶ serve
//!                 refused, or that node is lost too ────────────────────────────▶ fail
//! ```
//! Whom its supervisor does not reach has lost its link with it, and ends as soon as its own node notices (V7). So the two serve both for
//! no longer than that takes.

use std::time::Instant;

use crate::reply::CallError;

/// Whom it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The old process, on its node.
    Straight,
    /// The same, by way of its supervisor's node.
    BySupervisor,
}

/// What follows of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It asks, perhaps again.
    Ask(Way),
    /// It is the one from now on.
    Serve,
    /// It has not taken the place, and ends.
    Fail(CallError),
}

/// Stands from the whole state to the end of the commit.
#[derive(Debug)]
pub(crate) struct Succeeding {
    way: Way,
    /// Whether there is a supervisor on a third node, or the old one's.
    has_other_way: bool,
    /// Until when it asks again where no answer comes.
    until: Instant,
}

impl Succeeding {
    pub(crate) fn new(has_other_way: bool, until: Instant) -> Self {
        Self { way: Way::Straight, has_other_way, until }
    }

    /// What came of the question.
    pub(crate) fn answered(&mut self, answer: Result<(), CallError>, now: Instant) -> Step {
        match (answer, self.way) {
            (Ok(()), _) => Step::Serve,
            (Err(CallError::NoConnection), Way::Straight) if self.has_other_way => {
                self.way = Way::BySupervisor;
                Step::Ask(self.way)
            }
            // The old one has ended, or is taken for lost. Or it is of a release that does not answer this.
            (Err(CallError::NoProc | CallError::Exited(_)), _)
            | (Err(CallError::NoConnection | CallError::Unsupported { .. }), Way::Straight) => Step::Serve,
            (Err(CallError::Timeout), way) if now < self.until => Step::Ask(way),
            // It goes on, or may: the supervisor's node is of a release that asks for nobody. Or that is lost, and this one ends with its link.
            (Err(_), Way::BySupervisor) => Step::Fail(CallError::NoConnection),
            (Err(error), Way::Straight) => Step::Fail(error),
        }
    }
}
