//! A child as the strategy's state machine sees it. Plain data.
//!
//! Only the state machine changes it (`strategy.rs`, `order.rs`, `commands.rs`). How a child is started is known to the
//! supervisor's process; this knows where it stands between stopped and running.

use std::time::{Duration, Instant};

use rookery_runtime::Pid;

use crate::supervise::{
    effect::{Attempt, ChildPlan, CommandId, TimerToken},
    policy::ChildId,
};

/// A child.
#[derive(Debug)]
pub(super) struct Child {
    /// What it is and how it is treated.
    pub(super) plan: ChildPlan,
    /// What it does now; changed by [`Family::set`](super::family::Family::set) alone.
    state: ChildState,
    /// It is being stopped here to be started on another node.
    pub(super) moving: bool,
    /// When a successor of the process that it runs as was given up, which that one may have handed over to.
    pub(super) half_moved: Option<Instant>,
    /// How often it has been started after its first start.
    pub(super) restarts: u64,
    /// Restarts in a row, for the backoff.
    pub(super) failures: u32,
    /// Searches in a row for a node to live on.
    pub(super) searches: u32,
    /// How long its next start waits.
    pub(super) delay: Duration,
    /// When it last began to run.
    pub(super) running_since: Option<Instant>,
    /// Why its last life ended, or its last start failed.
    pub(super) last_end: Option<String>,
    /// Who is told when it is stopped.
    pub(super) awaiting_stop: Vec<CommandId>,
}

/// What a child does.
#[derive(Debug, Clone)]
pub(super) enum ChildState {
    /// Nothing.
    Stopped,
    /// Waits before its start: for the backoff, or, with `for_place`, for a node.
    Waiting { timer: TimerToken, for_place: bool },
    /// Is being started; for `command`, if somebody asked for it.
    Starting { attempt: Attempt, command: Option<StartCommand> },
    /// Was to be stopped while it is being started: it is stopped once that is done, or given up when the timer fires.
    Cancelling { attempt: Attempt, timer: Option<TimerToken>, command: Option<StartCommand> },
    /// Runs.
    Running { pid: Pid },
    /// Runs, and is to be succeeded on another node, where that is being started.
    Moving { pid: Pid, attempt: Attempt },
    /// Was told to end; the timer is the limit after which it is killed.
    Stopping { pid: Pid, timer: Option<TimerToken> },
}

/// Somebody asked for a start.
#[derive(Debug, Clone, Copy)]
pub(super) struct StartCommand {
    /// Who is told.
    pub(super) id: CommandId,
    /// The child was added for it, and goes if it cannot be started.
    pub(super) added: bool,
}

impl Child {
    pub(super) fn new(plan: ChildPlan) -> Self {
        Self {
            plan,
            state: ChildState::Stopped,
            moving: false,
            restarts: 0,
            failures: 0,
            searches: 0,
            delay: Duration::ZERO,
            running_since: None,
            half_moved: None,
            last_end: None,
            awaiting_stop: Vec::new(),
        }
    }

    pub(super) fn id(&self) -> &ChildId {
        &self.plan.id
    }

    pub(super) fn state(&self) -> &ChildState {
        &self.state
    }

    /// For the family, which keeps indexes of it.
    pub(super) fn replace_state(&mut self, state: ChildState) -> ChildState {
        std::mem::replace(&mut self.state, state)
    }

    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.state, ChildState::Stopped)
    }
}

impl ChildState {
    /// Its process, while it has one.
    pub(super) fn pid(&self) -> Option<&Pid> {
        match self {
            Self::Running { pid } | Self::Moving { pid, .. } | Self::Stopping { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// The start that is under way.
    pub(super) fn attempt(&self) -> Option<Attempt> {
        match self {
            Self::Starting { attempt, .. } | Self::Moving { attempt, .. } | Self::Cancelling { attempt, .. } => {
                Some(*attempt)
            }
            _ => None,
        }
    }

    /// The timer that it waits for.
    pub(super) fn timer(&self) -> Option<TimerToken> {
        match self {
            Self::Waiting { timer, .. } => Some(*timer),
            Self::Cancelling { timer, .. } | Self::Stopping { timer, .. } => *timer,
            _ => None,
        }
    }
}
