//! The children of a supervisor in the order of their start, with an index for each way in which one is looked up: by id,
//! process, start and timer. So nothing that happens to one child costs more because it has many siblings.
//!
//! **Invariant:** the indexes say what the children's states say; so a state is changed by [`Family::set`] alone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::{Index, IndexMut},
};

use rookery_runtime::Pid;

use crate::supervise::{
    child::{Child, ChildState},
    effect::{Attempt, ChildPlan, TimerToken},
    policy::ChildId,
};

/// A child's place in the order of start. Never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u64);

/// The children.
#[derive(Debug, Default)]
pub(super) struct Family {
    children: BTreeMap<Place, Child>,
    /// The next child's place.
    next: u64,
    ids: HashMap<ChildId, Place>,
    /// Those that have a process.
    pids: HashMap<Pid, Place>,
    /// Those whose start is under way.
    attempts: HashMap<Attempt, Place>,
    /// Those that wait for a timer.
    timers: HashMap<TimerToken, Place>,
    /// Those that are not stopped.
    alive: BTreeSet<Place>,
    /// Those that are being stopped and started again together.
    group: BTreeSet<Place>,
}

impl Family {
    /// Adds a child after the others. Its id must be new.
    pub(super) fn add(&mut self, plan: ChildPlan) -> Place {
        let place = Place(self.next);
        self.next += 1;
        self.ids.insert(plan.id.clone(), place);
        self.children.insert(place, Child::new(plan));
        place
    }

    /// Removes a child, which must be stopped.
    pub(super) fn remove(&mut self, at: Place) -> Option<Child> {
        let child = self.children.remove(&at)?;
        self.ids.remove(child.id());
        self.group.remove(&at);
        Some(child)
    }

    /// Changes a child's state; gives the former one.
    pub(super) fn set(&mut self, at: Place, state: ChildState) -> ChildState {
        if let Some(pid) = state.pid() {
            self.pids.insert(pid.clone(), at);
        }
        if let Some(attempt) = state.attempt() {
            self.attempts.insert(attempt, at);
        }
        if let Some(timer) = state.timer() {
            self.timers.insert(timer, at);
        }
        if matches!(state, ChildState::Stopped) {
            self.alive.remove(&at);
        } else {
            self.alive.insert(at);
        }
        let former = self[at].replace_state(state);
        let state = self[at].state();
        let (pid, attempt, timer) = (state.pid().cloned(), state.attempt(), state.timer());
        if let Some(gone) = former.pid().filter(|former| Some(*former) != pid.as_ref()) {
            self.pids.remove(gone);
        }
        if let Some(gone) = former.attempt().filter(|former| Some(*former) != attempt) {
            self.attempts.remove(&gone);
        }
        if let Some(gone) = former.timer().filter(|former| Some(*former) != timer) {
            self.timers.remove(&gone);
        }
        former
    }

    pub(super) fn len(&self) -> usize {
        self.children.len()
    }

    /// In the order of their start.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (Place, &Child)> {
        self.children.iter().map(|(&place, child)| (place, child))
    }

    pub(super) fn by_id(&self, id: &ChildId) -> Option<Place> {
        self.ids.get(id).copied()
    }

    pub(super) fn by_pid(&self, pid: &Pid) -> Option<Place> {
        self.pids.get(pid).copied()
    }

    pub(super) fn by_attempt(&self, attempt: Attempt) -> Option<Place> {
        self.attempts.get(&attempt).copied()
    }

    pub(super) fn by_timer(&self, timer: TimerToken) -> Option<Place> {
        self.timers.get(&timer).copied()
    }

    /// Those that are not stopped, in the order of their start.
    pub(super) fn alive(&self) -> impl DoubleEndedIterator<Item = Place> + '_ {
        self.alive.iter().copied()
    }

    /// Makes a group of the children from `from` on; of all without.
    pub(super) fn group_from(&mut self, from: Option<Place>) {
        self.group.extend(self.children.keys().filter(|&&place| from.is_none_or(|from| place >= from)));
    }

    pub(super) fn ungroup(&mut self, at: Place) {
        self.group.remove(&at);
    }

    pub(super) fn ungroup_all(&mut self) {
        self.group.clear();
    }

    pub(super) fn in_group(&self, at: Place) -> bool {
        self.group.contains(&at)
    }

    /// The first of the group.
    pub(super) fn first_in_group(&self) -> Option<Place> {
        self.group.first().copied()
    }
}

impl Index<Place> for Family {
    type Output = Child;

    fn index(&self, at: Place) -> &Child {
        &self.children[&at]
    }
}

impl IndexMut<Place> for Family {
    fn index_mut(&mut self, at: Place) -> &mut Child {
        match self.children.get_mut(&at) {
            Some(child) => child,
            None => unreachable!("a place is let go of with its child"),
        }
    }
}
