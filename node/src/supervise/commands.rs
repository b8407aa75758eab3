//! What others may ask of the strategy's state machine about its children: add, stop, start again, delete, list. As
//! OTP's `start_child`, `terminate_child`, `restart_child`, `delete_child` and `which_children`.
//!
//! Each request is answered once by [`Effect::Answer`]: at once where it cannot be carried out, otherwise when the child
//! has started or stopped. None of them counts as a restart.

use rookery_runtime::Pid;

use crate::supervise::{
    child::{ChildState, StartCommand},
    effect::{ChildPlan, CommandError, CommandId, Effect},
    family::Place,
    limits::MAX_CHILDREN,
    message::ChildStatus,
    policy::{ChildId, Restart},
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
        if let Err(error) = self.may_add(&plan.id) {
            return self.refuse(command, error);
        }
        let at = self.family.add(plan);
        self.launch_now(at, Some(StartCommand { id: command, added: true }));
        self.advance();
    }

    /// Whether a child of this id can be added.
    ///
    /// # Errors
    /// There is one already, there are too many, or the supervisor is not up.
    pub fn may_add(&self, id: &ChildId) -> Result<(), CommandError> {
        self.is_up()?;
        if self.find(id).is_ok() {
            return Err(CommandError::AlreadyPresent(id.clone()));
        }
        if self.family.len() >= MAX_CHILDREN {
            return Err(CommandError::TooManyChildren(MAX_CHILDREN));
        }
        Ok(())
    }

    /// Stops a child and keeps its spec, unless it is temporary; answers when it has ended.
    pub fn handle_stop_child(&mut self, command: CommandId, id: &ChildId) {
        let at = match self.is_up().and_then(|()| self.find(id)) {
            Ok(at) => at,
            Err(error) => return self.refuse(command, error),
        };
        self.family[at].awaiting_stop.push(command);
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

    /// The children, in the order of their start (V8).
    pub fn children(&self) -> impl Iterator<Item = ChildView<'_>> {
        self.family.iter().map(|(at, child)| ChildView {
            id: child.id(),
            pid: child.state().pid(),
            status: match child.state() {
                ChildState::Stopped if self.family.in_group(at) => ChildStatus::Restarting,
                ChildState::Stopped => ChildStatus::Stopped,
                ChildState::Waiting { .. } => ChildStatus::Restarting,
                ChildState::Starting { .. } if child.restarts > 0 => ChildStatus::Restarting,
                ChildState::Starting { .. } => ChildStatus::Starting,
                ChildState::Running { .. } => ChildStatus::Running,
                ChildState::Stopping { .. } | ChildState::Cancelling { .. } => ChildStatus::Stopping,
            },
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
