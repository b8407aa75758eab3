//! What can be told about a process without asking it: for people and tools, true of one moment. Source: Erlang's
//! `process_info/2`.
//!
//! ```text
//! the process's own thread ─▶ Vitals (plain stores) ─┐
//! its state, under its lock ─────────────────────────┴─▶ ProcessInfo, ProcessDetails
//! ```
//! Whoever looks takes the process's lock as a sender does, and never waits for its code.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use rookery_protocol::{Destination, Group, Pid, ProcessName, Serial};
use serde::{Deserialize, Serialize};

/// How many links, monitors and watchers of a process are told one by one; more are counted only. What holds a million
/// monitors shall still be looked at in one answer.
pub const MAX_TIES_TOLD: usize = 1_000;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    /// Its code runs on a thread at this moment.
    Running,
    /// Its code waits: for a message, an answer, a timer.
    Waiting,
    /// It is a server that was suspended, and waits to be resumed.
    Suspended,
    /// It was told to end, and its code has not come to an `.await` since.
    Stopping,
}

impl ProcessState {
    /// As it is told in JSON, too.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Suspended => "suspended",
            Self::Stopping => "stopping",
        }
    }
}

/// A call that has no answer yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallInfo {
    /// Who was called: `<orders-0.1f3a.42>`, or `counter@orders-0` if it was called by name.
    pub to: String,
    /// For how long the caller has waited, in milliseconds.
    pub for_ms: u64,
}

/// What can be told about a process without asking it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its pid.
    pub pid: Pid,
    /// Its names on its node.
    pub names: Vec<ProcessName>,
    /// The names that it holds in the cluster.
    pub cluster_names: Vec<ProcessName>,
    /// Which behaviour or function it runs.
    pub behaviour: String,
    /// What it does.
    pub state: ProcessState,
    /// Messages and events that it has not received.
    pub mailbox: u64,
    /// Messages and events that it has received so far.
    pub handled: u64,
    /// How often its code was run up to an `.await`: what Erlang's reductions are good for, in larger pieces.
    pub steps: u64,
    /// Bytes that are known to be its: its state in the runtime, its future (all that its code keeps across an
    /// `.await`), room in its mailbox, its ties. Not what its values and messages hold on the heap.
    pub memory_bytes: u64,
    /// For how long it has lived, in milliseconds.
    pub age_ms: u64,
    /// Who started it, if a process did; perhaps not alive any more.
    pub parent: Option<Pid>,
    /// Whom it waits for; of several at once the first that it began to wait for.
    pub call: Option<CallInfo>,
    /// Its links.
    pub links: u64,
    /// The monitors that it has on others.
    pub monitors: u64,
    /// The monitors that others have on it.
    pub watchers: u64,
    /// Whether it traps exits.
    pub traps_exits: bool,
}

/// Everything that can be told about one process. The lists have [`MAX_TIES_TOLD`] entries at most, in order; how many
/// there are stands in [`info`](Self::info).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessDetails {
    /// What a list of processes tells as well.
    pub info: ProcessInfo,
    /// The tag of the messages that it understands.
    pub message: String,
    /// How many messages of local senders may wait before they are held back; 0 is no limit.
    pub mailbox_limit: u32,
    /// Whether clients are refused.
    pub members_only: bool,
    /// The groups that it is in.
    pub groups: Vec<Group>,
    /// The other ends of its links.
    pub linked: Vec<Pid>,
    /// What it monitors: pids, or `name@node`.
    pub monitored: Vec<String>,
    /// Who monitors it; as often as they do.
    pub watched_by: Vec<Pid>,
}

/// As many as may be told, in order.
pub(crate) fn some<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut some: Vec<T> = all.take(MAX_TIES_TOLD).collect();
    some.sort_unstable();
    some
}

/// What a process notes of itself as it runs. Its own thread alone writes, so a load and a store are enough.
#[derive(Debug)]
pub(crate) struct Vitals {
    /// Twice the number of steps; odd while one is under way.
    steps: AtomicU64,
    /// Messages and events that were received.
    handled: AtomicU64,
    /// Taken from the queue and not received yet.
    unreceived: AtomicU32,
    /// The size of its task; written once.
    task_bytes: AtomicU32,
    /// Whom it waits for: 0 for nobody, a process of its own runtime by its serial, [`ELSEWHERE`] for any other, who then
    /// stands in its relations.
    call: AtomicU64,
    /// Since when it does, in microseconds from the runtime's start.
    call_since_us: AtomicU64,
    /// When it was made, in microseconds from the runtime's start.
    born_us: u64,
}

/// Who is called, as the caller knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Callee<'a> {
    /// A process of the caller's own runtime.
    Own(Serial),
    /// Any other, or one by its name.
    Other(&'a Destination),
}

/// No serial: tables stay far below it.
const ELSEWHERE: u64 = u64::MAX;

impl Vitals {
    pub(crate) fn new(born_us: u64) -> Self {
        Self {
            steps: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            unreceived: AtomicU32::new(0),
            task_bytes: AtomicU32::new(0),
            call: AtomicU64::new(0),
            call_since_us: AtomicU64::new(0),
            born_us,
        }
    }

    /// A step begins, or has ended.
    pub(crate) fn step(&self) {
        self.steps.store(self.steps.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Something was received; so much of what was taken was not.
    pub(crate) fn received(&self, unreceived: usize) {
        self.handled.store(self.handled.load(Relaxed).wrapping_add(1), Relaxed);
        self.left(unreceived);
    }

    /// So much of what was taken from the queue was not received yet.
    pub(crate) fn left(&self, unreceived: usize) {
        self.unreceived.store(u32::try_from(unreceived).unwrap_or(u32::MAX), Relaxed);
    }

    /// It begins to wait for an answer.
    pub(crate) fn begin_call(&self, to: Callee<'_>, since_us: u64) {
        self.call_since_us.store(since_us, Relaxed);
        let to = match to {
            Callee::Own(serial) => serial.0,
            Callee::Other(_) => ELSEWHERE,
        };
        self.call.store(to, Relaxed);
    }

    pub(crate) fn end_call(&self) {
        self.call.store(0, Relaxed);
    }

    pub(crate) fn is_calling(&self) -> bool {
        self.call.load(Relaxed) != 0
    }

    /// Whom it waits for, and since when; `elsewhere` is who it is if not a process of its own runtime.
    pub(crate) fn call<'a>(&self, elsewhere: Option<&'a Destination>) -> Option<(Callee<'a>, u64)> {
        let to = match self.call.load(Relaxed) {
            0 => return None,
            ELSEWHERE => Callee::Other(elsewhere?),
            serial => Callee::Own(Serial(serial)),
        };
        Some((to, self.call_since_us.load(Relaxed)))
    }

    pub(crate) fn set_task_bytes(&self, bytes: usize) {
        self.task_bytes.store(u32::try_from(bytes).unwrap_or(u32::MAX), Relaxed);
    }

    pub(crate) fn is_running(&self) -> bool {
        self.steps.load(Relaxed) % 2 == 1
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Relaxed).div_ceil(2)
    }

    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Relaxed)
    }

    pub(crate) fn unreceived(&self) -> usize {
        self.unreceived.load(Relaxed) as usize
    }

    pub(crate) fn task_bytes(&self) -> usize {
        self.task_bytes.load(Relaxed) as usize
    }

    pub(crate) fn age_us(&self, now_us: u64) -> u64 {
        now_us.saturating_sub(self.born_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_counts_from_its_beginning_and_runs_until_its_end() {
        let vitals = Vitals::new(5);
        assert_eq!((vitals.steps(), vitals.is_running()), (0, false));
        vitals.step();
        assert_eq!((vitals.steps(), vitals.is_running()), (1, true));
        vitals.step();
        assert_eq!((vitals.steps(), vitals.is_running()), (1, false));
        assert_eq!((vitals.age_us(9), vitals.age_us(2)), (4, 0));
    }
}
