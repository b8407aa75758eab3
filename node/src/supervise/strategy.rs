//! What a supervisor does about its children: a state machine without clock, process or socket. What happened goes in by
//! `handle_*`, with the monotonic time; what is to be done comes out of `poll_effect`, in order.
//!
//! ```text
//! child ended, start done ──▶ handle_* ──▶ children in order, phase, group ──▶ effects ──▶ the supervisor's process
//! ```
//!
//! It promises what OTP's supervisor manual says: started in order, one after the other; stopped in reverse, one after
//! the other; intensity (V3). Beyond it, nothing here waits: a start or a stop that takes its time holds up only what
//! must come after it (V6). Phases: `New` → `Starting` → `Up` → `Ending` → `Ended`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rookery_runtime::{ExitReason, NodeId, Pid};

use crate::supervise::{
    child::ChildState,
    effect::{Attempt, Cause, ChildPlan, CommandError, Effect, Report, StartFailure, TimerToken},
    family::{Family, Place},
    intensity::Intensity,
    limits::{PLACE_WAIT_MAX, PLACE_WAIT_MIN},
    policy::{AutoShutdown, Backoff, Strategy},
};

/// How long a process passes on after it has handed over, at most, and a while: it ends by then.
const HALF_MOVED: Duration = Duration::from_secs(20);

/// The decisions of one supervisor.
#[derive(Debug)]
pub struct StrategyMachine {
    /// Which children go with one that has to be restarted.
    pub(super) strategy: Strategy,
    /// Whether the end of significant children ends the supervisor.
    pub(super) auto_shutdown: AutoShutdown,
    /// How long restarts wait.
    pub(super) backoff: Option<Backoff>,
    /// The restarts of the last period.
    pub(super) intensity: Intensity,
    pub(super) family: Family,
    pub(super) phase: Phase,
    /// What is done with the family's group; `None` when there is none.
    pub(super) group: Option<Stage>,
    /// The node whose loss was counted last.
    pub(super) counted_loss: Option<NodeId>,
    /// What is to be done and was not taken yet.
    pub(super) effects: VecDeque<Effect>,
    /// The next attempt's or timer's number.
    pub(super) next_number: u64,
}

/// Where the supervisor is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing has been started.
    New,
    /// The first start of the children it began with.
    Starting,
    Up,
    /// Stops its children, to end with this reason.
    Ending(ExitReason),
    Ended,
}

/// What is done with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Stopped in reverse order.
    Stopping,
    /// Started in order.
    Starting,
}

impl StrategyMachine {
    /// A supervisor that has not started its children. Their ids must be unique.
    #[must_use]
    pub fn new(strategy: Strategy, intensity: Intensity, backoff: Option<Backoff>, children: Vec<ChildPlan>) -> Self {
        let mut family = Family::default();
        for plan in children {
            family.add(plan);
        }
        Self {
            strategy,
            auto_shutdown: AutoShutdown::Never,
            backoff,
            intensity,
            family,
            phase: Phase::New,
            group: None,
            counted_loss: None,
            effects: VecDeque::new(),
            next_number: 0,
        }
    }

    /// Shuts down by itself when significant children have ended (V5).
    #[must_use]
    pub fn auto_shutdown(mut self, auto_shutdown: AutoShutdown) -> Self {
        self.auto_shutdown = auto_shutdown;
        self
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Starts the children in order. [`Effect::Up`] tells that all run.
    pub fn handle_start(&mut self) {
        if self.phase == Phase::New {
            self.phase = Phase::Starting;
            self.group = Some(Stage::Starting);
            self.family.group_from(None);
            self.advance();
        }
    }

    /// Takes over children of another supervisor instead of starting its own: as they run, in their order. One that is not
    /// stopped and has no process is started.
    pub fn handle_inherit(&mut self, children: Vec<(ChildPlan, Option<Pid>, bool, u64)>) {
        if self.phase != Phase::New {
            return;
        }
        self.family = Family::default();
        self.phase = Phase::Up;
        for (plan, pid, stopped, restarts) in children {
            let at = self.family.add(plan);
            self.family[at].restarts = restarts;
            match pid {
                Some(pid) => drop(self.family.set(at, ChildState::Running { pid })),
                None if stopped => {}
                None => self.launch_now(at, None),
            }
        }
        self.effects.push_back(Effect::Up);
    }

    /// Whether nothing is under way: no child is being started, stopped or moved.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let quiet = |state: &ChildState| {
            matches!(state, ChildState::Stopped | ChildState::Waiting { .. } | ChildState::Running { .. })
        };
        self.phase == Phase::Up && self.group.is_none() && self.family.iter().all(|(_, child)| quiet(child.state()))
    }

    /// A start is done: the child runs as `pid`.
    pub fn handle_started(&mut self, attempt: Attempt, pid: Pid, now: Instant) {
        let Some(at) = self.family.by_attempt(attempt) else {
            // It was given up: nobody knows this process, so nobody may depend on it. It may have the state of a child that was stopped
            // while it moved, and ends in order.
            return self.effects.push_back(Effect::Dismiss(pid));
        };
        let former = self.family.set(at, ChildState::Running { pid: pid.clone() });
        let child = &mut self.family[at];
        child.half_moved = None;
        child.running_since = Some(now);
        child.searches = 0;
        match former {
            ChildState::Cancelling { command, .. } => {
                let stopped = CommandError::Stopped(child.id().clone());
                if let Some(command) = command {
                    self.effects.push_back(Effect::Answer { command: command.id, outcome: Err(stopped) });
                }
                self.begin_stop(at);
            }
            ChildState::Moving { pid: former, .. } => {
                let moved = Report::Moved { child: child.id().clone(), pid };
                self.effects.extend([Effect::Retire(former), Effect::Report(moved)]);
            }
            ChildState::Starting { command, .. } => {
                let started = Report::Started { child: child.id().clone(), pid: pid.clone() };
                self.effects.push_back(Effect::Report(started));
                if let Some(command) = command {
                    self.effects.push_back(Effect::Answer { command: command.id, outcome: Ok(Some(pid)) });
                }
            }
            _ => {}
        }
        self.advance();
    }

    /// A start has failed.
    pub fn handle_start_failed(&mut self, attempt: Attempt, failure: StartFailure, now: Instant) {
        let Some(at) = self.family.by_attempt(attempt) else { return };
        if let ChildState::Moving { pid, .. } = self.family[at].state().clone() {
            let child = self.family[at].id().clone();
            self.family.set(at, ChildState::Running { pid });
            self.family[at].half_moved = Some(now);
            return self.effects.push_back(Effect::Report(Report::NotMoved { child, failure }));
        }
        let former = self.family.set(at, ChildState::Stopped);
        let child = &mut self.family[at];
        child.last_end = Some(failure.to_string());
        match former {
            ChildState::Starting { command: Some(command), .. } => {
                let error = CommandError::StartFailed { child: child.id().clone(), failure };
                self.effects.push_back(Effect::Answer { command: command.id, outcome: Err(error) });
                if command.added {
                    self.remove(at);
                }
            }
            ChildState::Cancelling { command, .. } => {
                if let Some(command) = command {
                    let error = CommandError::StartFailed { child: child.id().clone(), failure };
                    self.effects.push_back(Effect::Answer { command: command.id, outcome: Err(error) });
                }
                self.stopped(at);
            }
            _ if self.is_to_be_stopped(at) => self.stopped(at),
            _ if matches!(failure, StartFailure::NoPlace(_)) => {
                // Who goes with no other holds up no other.
                if !self.strategy.is_ordered() {
                    self.family.ungroup(at);
                }
                self.wait_for_place(at, failure.to_string());
            }
            _ if self.phase == Phase::Starting => {
                let id = self.family[at].id().clone();
                let text = format!("child `{id}` was not started: {failure}");
                let cause = Cause::Start(failure);
                self.effects.push_back(Effect::Report(Report::StartFailed { child: id, cause }));
                self.begin_end(ExitReason::ShutdownWith(text));
            }
            _ => self.restart(at, Cause::Start(failure), now),
        }
        self.advance();
    }

    /// A process has ended. One that is no child's is ignored, as one that is told of twice.
    pub fn handle_down(&mut self, pid: &Pid, reason: ExitReason, now: Instant) {
        self.down(pid, reason, |reason| Cause::Exit { pid: pid.clone(), reason }, now);
    }

    /// The node of a process is lost, and the process with it. However many children that is, it is one restart for the
    /// intensity: they have not failed, but who brings down node after node shall come to an end.
    pub fn handle_lost(&mut self, pid: &Pid, now: Instant) {
        self.down(pid, ExitReason::NoConnection, |_| Cause::Lost { pid: pid.clone() }, now);
    }

    fn down(&mut self, pid: &Pid, reason: ExitReason, cause: impl FnOnce(ExitReason) -> Cause, now: Instant) {
        let Some(at) = self.family.by_pid(pid) else { return };
        let child = &mut self.family[at];
        let was_running = matches!(child.state(), ChildState::Running { .. } | ChildState::Moving { .. });
        // What is no server is shut down by its successor, which may be told of first.
        let shut_down = reason == ExitReason::Shutdown;
        let successor = match child.state() {
            ChildState::Moving { attempt, .. } if shut_down || !self.strategy.is_ordered() => Some(*attempt),
            _ => None,
        };
        child.last_end = Some(reason.to_string());
        let half_moved = child.half_moved.take().is_some_and(|at| now.saturating_duration_since(at) < HALF_MOVED);
        // One that has handed over to nobody any more says that it was shut down.
        let restarts = child.plan.restart.applies_to(&reason) || shut_down && half_moved;
        if !was_running || self.is_to_be_stopped(at) {
            self.stopped(at);
        } else if let Some(attempt) = successor.filter(|_| restarts || shut_down) {
            // It may have handed over already: what is being started takes its place, or is started again.
            self.family.set(at, ChildState::Starting { attempt, command: None });
        } else if restarts {
            self.family.set(at, ChildState::Stopped);
            self.restart(at, cause(reason), now);
        } else {
            self.ended_for_good(at, reason);
        }
        self.advance();
    }

    /// A timer has fired. One that is not waited for any more is ignored.
    pub fn handle_timer(&mut self, token: TimerToken) {
        let Some(at) = self.family.by_timer(token) else { return };
        let too_slow = Effect::Report(Report::TooSlow(self.family[at].id().clone()));
        match self.family[at].state().clone() {
            ChildState::Waiting { .. } => self.launch(at),
            ChildState::Stopping { pid, .. } => {
                self.effects.extend([too_slow, Effect::Kill(pid.clone())]);
                self.family.set(at, ChildState::Stopping { pid, timer: None });
            }
            ChildState::Cancelling { .. } => {
                self.effects.push_back(too_slow);
                self.abandon_start(at);
            }
            _ => {}
        }
        self.advance();
    }

    /// A node has come up: children that wait for a place look again.
    pub fn handle_node_up(&mut self, node: &NodeId) {
        self.counted_loss.take_if(|lost| lost.name() == node.name());
        for at in self.family.alive().collect::<Vec<_>>() {
            if matches!(self.family[at].state(), ChildState::Waiting { for_place: true, .. }) {
                self.launch(at);
            }
        }
        self.advance();
    }

    /// The supervisor has to end: its children are stopped in reverse order, then [`Effect::Ended`] comes.
    pub fn handle_stop(&mut self, reason: ExitReason) {
        self.begin_end(reason);
        self.advance();
    }

    /// Whether the child at `at` is about to be stopped, so that its own end changes nothing.
    fn is_to_be_stopped(&self, at: Place) -> bool {
        matches!(self.phase, Phase::Ending(_)) || (self.group == Some(Stage::Stopping) && self.family.in_group(at))
    }

    fn wait_for_place(&mut self, at: Place, detail: String) {
        let delay = Backoff { min: PLACE_WAIT_MIN, max: PLACE_WAIT_MAX }.delay(self.family[at].searches);
        self.family[at].searches = self.family[at].searches.saturating_add(1);
        let report = Report::NoPlace { child: self.family[at].id().clone(), detail, delay };
        self.effects.push_back(Effect::Report(report));
        self.wait(at, delay, true);
    }

    pub(super) fn wait(&mut self, at: Place, delay: Duration, for_place: bool) {
        let timer = self.set_timer(delay);
        self.family.set(at, ChildState::Waiting { timer, for_place });
    }

    pub(super) fn set_timer(&mut self, after: Duration) -> TimerToken {
        let token = TimerToken(self.number());
        self.effects.push_back(Effect::SetTimer { token, after });
        token
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}
