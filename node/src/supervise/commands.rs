//! What others may ask of the strategy's state machine about its children: add, stop, start again, delete, list. As
//! OTP's `start_child`, `terminate_child`, `restart_child`, `delete_child` and `which_children`.
//!
//! Each request is answered once by [`Effect::Answer`]: at once where it cannot be carried out, otherwise when the child
//! has started or stopped. None of them counts as a restart.

use rookery_runtime::Pid;

use crate::supervise::{
    child::{ChildState, StartCommand},
    effect::{Attempt, ChildPlan, CommandError, CommandId, Effect, Report},
    family::Place,
    limits::MAX_CHILDREN,
    message::{ChildCount, ChildStatus},
    policy::{ChildId, ChildType, Restart, Strategy},
    strategy::{Phase, StrategyMachine},
};

/// A child as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildView<'a> {
    /// Its name.
    pub id: &'a ChildId,
    /// Its process, while it has one.
    pub pid: Option<&'a Pid>,
    /// What it does.
    pub status: ChildStatus,
    /// What it is.
    pub kind: ChildType,
    /// Whether its end can end the supervisor.
    pub significant: bool,
    /// When it is started again.
    pub restart: Restart,
    /// How often it was.
    pub restarts: u64,
    /// Why its last life ended, or its last start failed.
    pub last_end: Option<&'a str>,
}

impl StrategyMachine {
    /// Adds a child after the others and starts it; answers with its pid. If it cannot be started it is not kept.
    pub fn handle_add(&mut self, command: CommandId, plan: ChildPlan) {
        if let Err(error) = self.may_add(&plan) {
            return self.refuse(command, error);
        }
        let at = self.family.add(plan);
        self.launch_now(at, Some(StartCommand { id: command, added: true }));
        self.advance();
    }

    /// Whether this child can be added.
    ///
    /// # Errors
    /// There is one of its id already, it cannot be significant, there are too many, or the supervisor is not up.
    pub fn may_add(&self, plan: &ChildPlan) -> Result<(), CommandError> {
        self.is_up()?;
        if self.find(&plan.id).is_ok() {
            return Err(CommandError::AlreadyPresent(plan.id.clone()));
        }
        plan.fits(self.auto_shutdown).map_err(|why| CommandError::Insignificant { child: plan.id.clone(), why })?;
        if self.family.len() >= MAX_CHILDREN {
            return Err(CommandError::TooManyChildren(MAX_CHILDREN));
        }
        Ok(())
    }

    /// Stops a child and keeps its spec, unless it is temporary or dynamic; answers when it has ended.
    pub fn handle_stop_child(&mut self, command: CommandId, id: &ChildId) {
        let found = self.find(id);
        self.stop_child(command, found);
    }

    /// As [`handle_stop_child`](Self::handle_stop_child), for the child that runs as this process.
    pub fn handle_stop_pid(&mut self, command: CommandId, pid: &Pid) {
        let found = self.family.by_pid(pid).ok_or_else(|| CommandError::NoSuchPid(pid.clone()));
        self.stop_child(command, found);
    }

    fn stop_child(&mut self, command: CommandId, found: Result<Place, CommandError>) {
        let at = match self.is_up().and(found) {
            Ok(at) => at,
            Err(error) => return self.refuse(command, error),
        };
        let child = &mut self.family[at];
        child.awaiting_stop.push(command);
        child.moving = false;
        self.family.ungroup(at);
        self.begin_stop(at);
        self.advance();
    }

    /// Starts a child that is stopped; answers with its pid.
    pub fn handle_restart_child(&mut self, command: CommandId, id: &ChildId) {
        let at = match self.is_up().and_then(|()| self.find_stopped(id)) {
            Ok(at) => at,
            Err(error) => return self.refuse(command, error),
        };
        self.family[at].delay = std::time::Duration::ZERO;
        self.launch_now(at, Some(StartCommand { id: command, added: false }));
        self.advance();
    }

    /// Removes a child that is stopped.
    pub fn handle_delete_child(&mut self, command: CommandId, id: &ChildId) {
        match self.is_up().and_then(|()| self.find_stopped(id)) {
            Ok(at) => {
                self.remove(at);
                self.effects.push_back(Effect::Answer { command, outcome: Ok(None) });
            }
            Err(error) => self.refuse(command, error),
        }
    }

    /// Moves a child: stops it where it runs, and starts it again, which then is elsewhere. No restart. Whoever is not
    /// running, is about to be stopped or is never started again stays.
    pub fn handle_move(&mut self, id: &ChildId) {
        if let Some((at, pid)) = self.movable(id) {
            self.effects.push_back(Effect::Report(Report::Moving { child: id.clone(), pid: pid.clone() }));
            self.family[at].moving = true;
            self.begin_stop(at);
        }
    }

    /// Moves a child: starts its successor elsewhere, to which it hands over; it is stopped when that runs, and goes on when
    /// that does not come to life. No restart, and nobody else is touched.
    pub fn handle_hand_over(&mut self, id: &ChildId) {
        if let Some((at, pid)) = self.movable(id) {
            let (pid, child) = (pid.clone(), id.clone());
            let attempt = Attempt(self.number());
            self.effects.push_back(Effect::Report(Report::Moving { child: child.clone(), pid: pid.clone() }));
            self.family.set(at, ChildState::Moving { pid: pid.clone(), attempt });
            self.effects.push_back(Effect::Succeed { child, attempt, pid });
        }
    }

    /// The process of a child, while it has one.
    #[must_use]
    pub fn pid_of(&self, id: &ChildId) -> Option<&Pid> {
        self.family.by_id(id).and_then(|at| self.family[at].state().pid())
    }

    /// The process of a child that can be moved now.
    #[must_use]
    pub fn movable_pid(&self, id: &ChildId) -> Option<&Pid> {
        self.movable(id).map(|(_, pid)| pid)
    }

    /// Whether a child can be moved now.
    #[must_use]
    pub fn may_move(&self, id: &ChildId) -> bool {
        self.movable(id).is_some()
    }

    fn movable(&self, id: &ChildId) -> Option<(Place, &Pid)> {
        let at = self.family.by_id(id).filter(|&at| self.phase == Phase::Up && !self.family.in_group(at))?;
        let child = &self.family[at];
        match child.state() {
            ChildState::Running { pid } if child.plan.restart != Restart::Temporary => Some((at, pid)),
            _ => None,
        }
    }

    /// The child that runs, or is being stopped, as this process.
    #[must_use]
    pub fn child_of(&self, pid: &Pid) -> Option<&ChildId> {
        self.family.by_pid(pid).map(|at| self.family[at].id())
    }

    /// How many children there are, as OTP's `count_children`.
    #[must_use]
    pub fn count(&self) -> ChildCount {
        let dynamic = self.strategy == Strategy::SimpleOneForOne;
        let specs = if dynamic { 1 } else { self.family.len() as u64 };
        self.family.iter().fold(ChildCount { specs, ..ChildCount::default() }, |count, (_, child)| {
            let supervisor = u64::from(child.plan.kind == ChildType::Supervisor);
            ChildCount {
                active: count.active + u64::from(child.state().pid().is_some()),
                supervisors: count.supervisors + supervisor,
                workers: count.workers + 1 - supervisor,
                ..count
            }
        })
    }

    /// The children, in the order of their start (V8).
    pub fn children(&self) -> impl Iterator<Item = ChildView<'_>> {
        self.family.iter().map(|(at, child)| ChildView {
            id: child.id(),
            pid: child.state().pid(),
            status: match child.state() {
                ChildState::Stopped if self.family.in_group(at) => ChildStatus::Restarting,
                ChildState::Stopped => ChildStatus::Stopped,
                ChildState::Waiting { .. } | ChildState::Starting { .. } if child.restarts > 0 => {
                    ChildStatus::Restarting
                }
                ChildState::Waiting { .. } | ChildState::Starting { .. } => ChildStatus::Starting,
                ChildState::Running { .. } | ChildState::Moving { .. } => ChildStatus::Running,
                ChildState::Stopping { .. } | ChildState::Cancelling { .. } => ChildStatus::Stopping,
            },
            kind: child.plan.kind,
            significant: child.plan.significant,
            restart: child.plan.restart,
            restarts: child.restarts,
            last_end: child.last_end.as_deref(),
        })
    }

    fn is_up(&self) -> Result<(), CommandError> {
        match self.phase {
            Phase::Up => Ok(()),
            Phase::New | Phase::Starting => Err(CommandError::NotUp("starting")),
            Phase::Ending(_) | Phase::Ended => Err(CommandError::NotUp("ending")),
        }
    }

    fn find(&self, id: &ChildId) -> Result<Place, CommandError> {
        self.family.by_id(id).ok_or_else(|| CommandError::NoSuchChild(id.clone()))
    }

    /// A child that is stopped, and not about to be started with its group.
    fn find_stopped(&self, id: &ChildId) -> Result<Place, CommandError> {
        let at = self.find(id)?;
        if !self.family[at].is_stopped() || self.family.in_group(at) {
            return Err(CommandError::NotStopped(id.clone()));
        }
        Ok(at)
    }

    fn refuse(&mut self, command: CommandId, error: CommandError) {
        self.effects.push_back(Effect::Answer { command, outcome: Err(error) });
    }
}
