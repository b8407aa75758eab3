//! Who is told of changes in which group (G3): processes of this node and of its clients. Plain data.

use std::collections::{HashMap, HashSet};

use rookery_protocol::{Group, Pid};

#[derive(Debug, Default)]
pub(crate) struct Watchers {
    by_group: HashMap<Group, HashSet<Pid>>,
    /// The same by process, for when it ends.
    by_pid: HashMap<Pid, HashSet<Group>>,
}

impl Watchers {
    /// Adds a watcher; false if it is one already.
    pub(crate) fn add(&mut self, group: &Group, pid: &Pid) -> bool {
        self.by_pid.entry(pid.clone()).or_default().insert(group.clone());
        self.by_group.entry(group.clone()).or_default().insert(pid.clone())
    }

    /// Removes it.
    pub(crate) fn remove(&mut self, group: &Group, pid: &Pid) {
        if let Some(groups) = self.by_pid.get_mut(pid) {
            groups.remove(group);
            if groups.is_empty() {
                self.by_pid.remove(pid);
            }
        }
        self.remove_from(group, pid);
    }

    /// A process has ended.
    pub(crate) fn gone(&mut self, pid: &Pid) {
        for group in self.by_pid.remove(pid).unwrap_or_default() {
            self.remove_from(&group, pid);
        }
    }

    /// Who watches the group.
    pub(crate) fn of(&self, group: &Group) -> impl Iterator<Item = &Pid> {
        self.by_group.get(group).into_iter().flatten()
    }

    /// How many groups `pid` watches.
    pub(crate) fn count(&self, pid: &Pid) -> usize {
        self.by_pid.get(pid).map_or(0, HashSet::len)
    }

    fn remove_from(&mut self, group: &Group, pid: &Pid) {
        if let Some(watchers) = self.by_group.get_mut(group) {
            watchers.remove(pid);
            if watchers.is_empty() {
                self.by_group.remove(group);
            }
        }
    }
}
