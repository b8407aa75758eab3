//! What is counted on the way of messages: by the thread that does it, for itself, with a plain load and store. So counting takes
//! no lock, and no line of memory goes from one core to another for it; whoever asks adds up what each thread has.
//!
//! ```text
//! send, receive, call ─▶ this thread's part ─┐
//! another thread's part ─────────────────────┼─▶ Tally (a sum of one moment)
//! what threads that have ended had ──────────┘
//! ```
//! A thread finds its part by the runtime that it counts for: one that serves several has a part of each.

mod parts;
mod snapshot;

use std::time::Duration;

use rookery_protocol::SignalBody;

use crate::{reply::CallError, runtime::Runtime};
pub(crate) use parts::Tallies;
pub use snapshot::{Durations, Tally};

/// What was sent or received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Kind {
    /// A message that nobody waits for an answer to.
    Message,
    /// A message whose sender waits for an answer.
    Call,
    /// An answer to a call from elsewhere. On one node answers are values that are moved, and not counted.
    Reply,
    /// A link made, removed, or its removal acknowledged.
    Link,
    /// An exit signal.
    Exit,
    /// A monitor made or removed.
    Monitor,
    /// That a monitored process has ended.
    Down,
    /// A start, a registration, a look-up, or the answer to one.
    Request,
    /// Credit for bounded mailboxes.
    Credit,
    /// What the nodes tell each other of names, groups and nodes.
    Other,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Message,
        Self::Call,
        Self::Reply,
        Self::Link,
        Self::Exit,
        Self::Monitor,
        Self::Down,
        Self::Request,
        Self::Credit,
        Self::Other,
    ];

    /// One word, for a metric's label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Call => "call",
            Self::Reply => "reply",
            Self::Link => "link",
            Self::Exit => "exit",
            Self::Monitor => "monitor",
            Self::Down => "down",
            Self::Request => "request",
            Self::Credit => "credit",
            Self::Other => "other",
        }
    }

    /// What a signal is.
    #[must_use]
    pub fn of(body: &SignalBody) -> Self {
        match body {
            SignalBody::Message { reply: None, .. } => Self::Message,
            SignalBody::Message { reply: Some(_), .. } => Self::Call,
            SignalBody::Reply { .. } => Self::Reply,
            SignalBody::Link | SignalBody::Unlink(_) | SignalBody::UnlinkAck(_) => Self::Link,
            SignalBody::Exit { .. } => Self::Exit,
            SignalBody::Monitor(_) | SignalBody::Demonitor(_) => Self::Monitor,
            SignalBody::Down { .. } => Self::Down,
            SignalBody::Request { .. } | SignalBody::Response { .. } => Self::Request,
            SignalBody::Credit { .. } => Self::Credit,
            SignalBody::NodeUp(_)
            | SignalBody::NodeDown { .. }
            | SignalBody::Refused { .. }
            | SignalBody::Directory(_)
            | SignalBody::GroupChange(_)
            | SignalBody::NameConflict { .. } => Self::Other,
        }
    }
}

/// Which way it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Route {
    /// From one process of this runtime to another.
    Local,
    /// To another node, or to a client.
    Sent,
    /// From another node, or from a client.
    Received,
}

impl Route {
    /// Every route.
    pub const ALL: [Self; 3] = [Self::Local, Self::Sent, Self::Received];

    /// One word, for a metric's label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Sent => "sent",
            Self::Received => "received",
        }
    }
}

/// Why a call had no answer.
const FAILURES: [&str; 6] = ["timeout", "no_process", "no_connection", "exited", "unsupported", "refused"];

fn failure(error: &CallError) -> usize {
    match error {
        CallError::Timeout => 0,
        CallError::NoProc => 1,
        CallError::NoConnection => 2,
        CallError::Exited(_) => 3,
        CallError::Unsupported { .. } => 4,
        CallError::Refused(_) => 5,
    }
}

/// The upper bounds of the classes in which calls are counted by how long they took, in seconds: from some microseconds within a
/// node to the default timeout and above.
pub const CALL_BOUNDS: [f64; 16] =
    [2.5e-6, 1e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 1e-1, 5e-1, 1.0, 5.0, 30.0];

/// Calls within a node take half a microsecond, of which looking at the clock would be a part: one of so many is timed, of each
/// thread.
const LOCAL_CALLS_PER_TIMED: u64 = 16;

/// Supervisors whose restarts are counted by name; those of more are counted together.
pub const MAX_COUNTED_SUPERVISORS: usize = 256;

impl Runtime {
    /// What was counted so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tallies().sum()
    }

    /// Counts that a supervisor of that name starts a child again.
    pub fn count_restart(&self, supervisor: Option<&str>) {
        self.tallies().count_restart(supervisor);
    }

    #[inline]
    pub(crate) fn count(&self, route: Route, kind: Kind) {
        Tallies::with(self.tallies(), |part| part.message(route, kind));
    }

    #[inline]
    pub(crate) fn count_many(&self, route: Route, kind: Kind, count: u64) {
        Tallies::with(self.tallies(), |part| part.messages(route, kind, count));
    }

    /// A receiver finds so much in its mailbox. One message alone is not looked at: it is what most find.
    #[inline]
    pub(crate) fn count_found(&self, waiting: usize) {
        if waiting > 1 {
            Tallies::with(self.tallies(), |part| part.found(waiting as u64));
        }
    }

    /// A call has come to its outcome, after `took`, which is looked at only if this one is timed.
    #[inline]
    pub(crate) fn count_call<T>(&self, local: bool, outcome: &Result<T, CallError>, took: impl FnOnce() -> Duration) {
        Tallies::with(self.tallies(), |part| {
            if let Err(error) = outcome {
                part.failure(failure(error));
            }
            if !local || part.is_timed() {
                part.call(local, took());
            }
        });
    }
}
