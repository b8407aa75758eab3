//! The order in which the strategy's state machine starts and stops children, and what a restart does to the others.
//!
//! One rule moves everything: [`StrategyMachine::advance`] takes the next step that is possible, until what comes next
//! has to wait for a child. While ending, the last child that is not stopped is stopped. In a group, the same with its
//! members; then its first member that does not run is started.

use std::time::{Duration, Instant};

use rookery_runtime::ExitReason;

use crate::supervise::{
    child::{Child, ChildState, StartCommand},
    effect::{Attempt, Cause, CommandError, Effect, Report, TimerToken},
    family::Place,
    policy::{AutoShutdown, Restart, Shutdown, Strategy},
    strategy::{Phase, Stage, StrategyMachine},
};

/// What became of one step.
enum Step {
    /// Something was done; there may be more to do.
    Again,
    /// A child has to do something first.
    Wait,
    /// There is nothing to do any more.
    Done,
}

impl StrategyMachine {
    /// Does what can be done now.
    pub(super) fn advance(&mut self) {
        loop {
            let step = match (&self.phase, self.group) {
                (Phase::Ended, _) => Step::Wait,
                (Phase::Ending(reason), _) => {
                    let reason = reason.clone();
                    let step = self.step_stop(false);
                    if matches!(step, Step::Done) {
                        self.phase = Phase::Ended;
                        self.effects.push_back(Effect::Ended(reason));
                    }
                    step
                }
                (_, None) => Step::Wait,
                (_, Some(Stage::Stopping)) => {
                    let step = self.step_stop(true);
                    if matches!(step, Step::Done) {
                        self.group = Some(Stage::Starting);
                    }
                    step
                }
                (_, Some(Stage::Starting)) => {
                    let step = self.step_start();
                    if matches!(step, Step::Done) {
                        self.group = None;
                        if self.phase == Phase::Starting {
                            self.phase = Phase::Up;
                            self.effects.push_back(Effect::Up);
                        }
                    }
                    step
                }
            };
            if matches!(step, Step::Wait) {
                return;
            }
        }
    }

    /// Stops the last child that is not stopped; of the group only, or of all.
    fn step_stop(&mut self, group_only: bool) -> Step {
        let last = self.family.alive().rev().find(|&at| !group_only || self.family.in_group(at));
        let Some(at) = last else { return Step::Done };
        match self.family[at].state() {
            ChildState::Stopping { .. } | ChildState::Cancelling { .. } => Step::Wait,
            _ => {
                self.begin_stop(at);
                Step::Again
            }
        }
    }

    /// Starts the first child of the group that does not run.
    fn step_start(&mut self) -> Step {
        let Some(at) = self.family.first_in_group() else { return Step::Done };
        match self.family[at].state() {
            ChildState::Stopped => {
                self.launch(at);
                Step::Again
            }
            ChildState::Waiting { .. } | ChildState::Starting { .. } => Step::Wait,
            // Running: done with. Being stopped: somebody asked for that, which takes it out of the group.
            ChildState::Running { .. }
            | ChildState::Moving { .. }
            | ChildState::Stopping { .. }
            | ChildState::Cancelling { .. } => {
                self.family.ungroup(at);
                Step::Again
            }
        }
    }

    /// Restarts the child at `at`, which is stopped, and those that go with it; unless that is one too many (V3).
    pub(super) fn restart(&mut self, at: Place, cause: Cause, now: Instant) {
        let id = self.family[at].id().clone();
        let counted = match &cause {
            Cause::Lost { pid } if self.counted_loss.as_ref() == Some(pid.node()) => Ok(self.intensity.count(now)),
            _ => self.intensity.add(now),
        };
        let Ok(restarts) = counted else {
            self.effects.push_back(Effect::Report(Report::IntensityReached { child: id, cause }));
            return self.begin_end(ExitReason::Shutdown);
        };
        if let Cause::Lost { pid } = &cause {
            self.counted_loss = Some(pid.node().clone());
        }
        let delay = self.next_delay(at, now);
        self.effects.push_back(Effect::Report(Report::Restarting { child: id, cause, restarts, delay }));
        self.family[at].delay = delay;
        self.family[at].restarts += 1;
        let from = match self.strategy {
            Strategy::OneForOne | Strategy::SimpleOneForOne => return self.launch(at),
            Strategy::OneForAll => None,
            Strategy::RestForOne => Some(at),
        };
        self.family.group_from(from);
        self.group = Some(Stage::Stopping);
    }

    fn next_delay(&mut self, at: Place, now: Instant) -> Duration {
        let Some(backoff) = self.backoff else { return Duration::ZERO };
        let child = &mut self.family[at];
        // Taken: a start that fails after this one is one more in a row.
        let ran = child.running_since.take().map(|since| now.saturating_duration_since(since));
        if ran.is_some_and(|ran| ran >= backoff.max) {
            child.failures = 0;
        }
        let delay = backoff.delay(child.failures);
        child.failures = child.failures.saturating_add(1);
        delay
    }

    /// Starts the child at `at`, after the delay that it was given.
    pub(super) fn launch(&mut self, at: Place) {
        match std::mem::take(&mut self.family[at].delay) {
            Duration::ZERO => self.launch_now(at, None),
            delay => self.wait(at, delay, false),
        }
    }

    pub(super) fn launch_now(&mut self, at: Place, command: Option<StartCommand>) {
        let attempt = Attempt(self.number());
        self.family.set(at, ChildState::Starting { attempt, command });
        self.effects.push_back(Effect::Start { child: self.family[at].id().clone(), attempt });
    }

    /// Begins to stop the child at `at`, if it is not stopped or being stopped.
    pub(super) fn begin_stop(&mut self, at: Place) {
        let shutdown = self.family[at].plan.shutdown;
        match self.family[at].state().clone() {
            ChildState::Stopped | ChildState::Waiting { .. } => self.stopped(at),
            // A successor that is being started is nobody's then, and is killed when it has started.
            ChildState::Running { pid } | ChildState::Moving { pid, .. } => {
                self.effects.push_back(match shutdown {
                    Shutdown::Kill => Effect::Kill(pid.clone()),
                    Shutdown::Within(_) | Shutdown::Forever => Effect::Shutdown(pid.clone()),
                });
                let timer = self.stop_timer(shutdown);
                self.family.set(at, ChildState::Stopping { pid, timer });
            }
            ChildState::Starting { attempt, command } => {
                let timer = self.stop_timer(shutdown);
                self.family.set(at, ChildState::Cancelling { attempt, timer, command });
                if shutdown == Shutdown::Kill {
                    self.abandon_start(at);
                }
            }
            ChildState::Stopping { .. } | ChildState::Cancelling { .. } => {}
        }
    }

    fn stop_timer(&mut self, shutdown: Shutdown) -> Option<TimerToken> {
        match shutdown {
            Shutdown::Within(limit) => Some(self.set_timer(limit)),
            Shutdown::Kill | Shutdown::Forever => None,
        }
    }

    /// Waits no longer for a start that was to be cancelled; should it succeed, its process is killed.
    pub(super) fn abandon_start(&mut self, at: Place) {
        if let ChildState::Cancelling { command: Some(command), .. } = self.family[at].state() {
            let (command, outcome) = (*command, Err(CommandError::Stopped(self.family[at].id().clone())));
            self.effects.push_back(Effect::Answer { command: command.id, outcome });
        }
        self.stopped(at);
    }

    /// The child at `at`, which ran, has ended by itself and is not started again; a significant one may have been what the
    /// supervisor was for (V5).
    pub(super) fn ended_for_good(&mut self, at: Place, reason: ExitReason) {
        let id = self.family[at].id().clone();
        let significant = self.family[at].plan.significant;
        self.effects.push_back(Effect::Report(Report::Ended { child: id.clone(), reason }));
        self.stopped(at);
        let left =
            |place, child: &Child| child.plan.significant && (!child.is_stopped() || self.family.in_group(place));
        let over = match self.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => !self.family.iter().any(|(place, child)| left(place, child)),
        };
        if significant && over {
            self.effects.push_back(Effect::Report(Report::AutoShutdown(id)));
            self.begin_end(ExitReason::Shutdown);
        }
    }

    /// The child at `at` does nothing any more.
    pub(super) fn stopped(&mut self, at: Place) {
        self.family.set(at, ChildState::Stopped);
        let child = &mut self.family[at];
        let moves = std::mem::take(&mut child.moving);
        for command in std::mem::take(&mut child.awaiting_stop) {
            self.effects.push_back(Effect::Answer { command, outcome: Ok(None) });
        }
        if moves && self.phase == Phase::Up && !self.family.in_group(at) {
            self.launch_now(at, None);
        } else if self.strategy == Strategy::SimpleOneForOne || self.family[at].plan.restart == Restart::Temporary {
            self.remove(at);
        }
    }

    pub(super) fn remove(&mut self, at: Place) {
        if let Some(child) = self.family.remove(at) {
            self.effects.push_back(Effect::Forget(child.plan.id));
        }
    }

    /// From now on all children are stopped. The first reason counts.
    pub(super) fn begin_end(&mut self, reason: ExitReason) {
        if !matches!(self.phase, Phase::Ending(_) | Phase::Ended) {
            self.phase = Phase::Ending(reason);
            self.group = None;
            self.family.ungroup_all();
            // Dynamic children have no order: they are told all at once.
            if self.strategy == Strategy::SimpleOneForOne {
                self.family.alive().collect::<Vec<_>>().into_iter().for_each(|at| self.begin_stop(at));
            }
        }
    }
}
