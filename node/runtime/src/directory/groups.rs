//! Process groups as one node sees them (G1, G2): a replica. Pure.
//!
//! A node is the authority for the memberships of its own processes and tells the others; the loss of a node takes its
//! members away. There is nothing to agree on, so nothing can conflict. As Erlang's `pg`.

use std::collections::{HashMap, hash_map::Entry};

use rookery_protocol::{Group, GroupChange, NodeId, NodeName, Pid};

/// The groups of the cluster.
#[derive(Debug)]
pub(crate) struct GroupTable {
    /// This node: the authority for its own processes, its clients' among them.
    own: NodeId,
    /// Groups that have members.
    groups: HashMap<Group, Members>,
    /// How often each process is in which groups, by node: for when these go.
    by_node: HashMap<NodeId, HashMap<Pid, HashMap<Group, u32>>>,
}

/// The members of one group, each once.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// Those of this node.
    pub(crate) local: PidList,
    /// Those of other nodes.
    pub(crate) remote: PidList,
    /// How many there are on each other node. Never 0.
    nodes: HashMap<NodeId, u32>,
}

impl Members {
    /// The other nodes that have members.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.keys()
    }

    /// How many there are on each node; `own` is this one.
    pub(crate) fn by_node(&self, own: &NodeId) -> Vec<(NodeName, u64)> {
        let local = (own.name().clone(), self.local.len() as u64);
        let remote = self.nodes.iter().map(|(node, &count)| (node.name().clone(), u64::from(count)));
        let mut counts: Vec<_> = remote.chain((local.1 > 0).then_some(local)).collect();
        counts.sort_unstable();
        counts
    }

    /// How many members there are.
    pub(crate) fn len(&self) -> usize {
        self.local.len() + self.remote.len()
    }

    /// One of them, of this node first; `at` below [`len`](Self::len).
    pub(crate) fn get(&self, at: usize) -> Option<&Pid> {
        self.local.pids.get(at).or_else(|| self.remote.pids.get(at.checked_sub(self.local.len())?))
    }

    /// All of them, those of this node first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pid> {
        self.local.pids.iter().chain(&self.remote.pids)
    }
}

/// Processes, each once, any of which is found, added and removed at once.
#[derive(Debug, Default)]
pub(crate) struct PidList {
    pids: Vec<Pid>,
    places: HashMap<Pid, usize>,
}

impl PidList {
    fn add(&mut self, pid: &Pid) {
        if let Entry::Vacant(place) = self.places.entry(pid.clone()) {
            place.insert(self.pids.len());
            self.pids.push(pid.clone());
        }
    }

    fn remove(&mut self, pid: &Pid) {
        let Some(at) = self.places.remove(pid) else { return };
        self.pids.swap_remove(at);
        if let Some(moved) = self.pids.get(at) {
            self.places.insert(moved.clone(), at);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.pids.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pid> {
        self.pids.iter()
    }
}

impl GroupTable {
    pub(crate) fn new(own: NodeId) -> Self {
        Self { own, groups: HashMap::new(), by_node: HashMap::new() }
    }

    /// The members of a group that has some.
    pub(crate) fn members(&self, group: &Group) -> Option<&Members> {
        self.groups.get(group)
    }

    /// Every group that has members.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Group, &Members)> {
        self.groups.iter()
    }

    /// `pid` joins so many times.
    pub(crate) fn join(&mut self, group: &Group, pid: &Pid, times: u32) -> Option<GroupChange> {
        if times == 0 {
            return None;
        }
        let memberships = self.by_node.entry(pid.node().clone()).or_default().entry(pid.clone()).or_default();
        let before = memberships.entry(group.clone()).or_default();
        let first = *before == 0;
        let joined = times.min(u32::MAX - *before);
        *before += joined;
        if first {
            let members = self.groups.entry(group.clone()).or_default();
            if *pid.node() == self.own {
                members.local.add(pid);
            } else {
                members.remote.add(pid);
                *members.nodes.entry(pid.node().clone()).or_default() += 1;
            }
        }
        Some(GroupChange { group: group.clone(), joined: repeated(pid, joined), left: Vec::new() })
    }

    /// `pid` leaves, so many times at most. `None` if it is no member.
    pub(crate) fn leave(&mut self, group: &Group, pid: &Pid, times: u32) -> Option<GroupChange> {
        let processes = self.by_node.get_mut(pid.node())?;
        let memberships = processes.get_mut(pid)?;
        let count = memberships.get_mut(group)?;
        let left = times.min(*count);
        *count -= left;
        if *count == 0 {
            memberships.remove(group);
            if memberships.is_empty() {
                processes.remove(pid);
            }
            self.remove(group, pid);
        }
        (left > 0).then(|| GroupChange { group: group.clone(), joined: Vec::new(), left: repeated(pid, left) })
    }

    /// `pid` has ended. Gives what has changed: nothing, if it was in no group.
    pub(crate) fn gone(&mut self, pid: &Pid) -> Vec<GroupChange> {
        let memberships = self.by_node.get_mut(pid.node()).and_then(|processes| processes.remove(pid));
        memberships
            .into_iter()
            .flatten()
            .map(|(group, times)| {
                self.remove(&group, pid);
                GroupChange { group, joined: Vec::new(), left: repeated(pid, times) }
            })
            .collect()
    }

    /// A node is lost, and all its members with it. Gives one change for each group.
    pub(crate) fn node_lost(&mut self, node: &NodeId) -> Vec<GroupChange> {
        let mut left: HashMap<Group, Vec<Pid>> = HashMap::new();
        for (pid, memberships) in self.by_node.remove(node).unwrap_or_default() {
            for (group, times) in memberships {
                self.remove(&group, &pid);
                left.entry(group).or_default().extend(repeated(&pid, times));
            }
        }
        left.into_iter().map(|(group, left)| GroupChange { group, joined: Vec::new(), left }).collect()
    }

    /// How many groups have members.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// The groups that `pid` is in, in no order.
    pub(crate) fn of(&self, pid: &Pid) -> impl Iterator<Item = &Group> {
        self.by_node.get(pid.node()).and_then(|node| node.get(pid)).into_iter().flat_map(HashMap::keys)
    }

    /// In how many groups `pid` is.
    pub(crate) fn count(&self, pid: &Pid) -> usize {
        self.by_node.get(pid.node()).and_then(|node| node.get(pid)).map_or(0, HashMap::len)
    }

    /// What a new peer is told: the memberships of the processes of this node.
    pub(crate) fn own(&self) -> impl Iterator<Item = (&Pid, &Group, u32)> {
        let own = self.by_node.get(&self.own).into_iter().flatten();
        own.flat_map(|(pid, groups)| groups.iter().map(move |(group, &times)| (pid, group, times)))
    }

    /// Takes a process off the members of a group.
    fn remove(&mut self, group: &Group, pid: &Pid) {
        let Some(members) = self.groups.get_mut(group) else { return };
        if *pid.node() == self.own {
            members.local.remove(pid);
        } else {
            members.remote.remove(pid);
            if let Entry::Occupied(mut count) = members.nodes.entry(pid.node().clone()) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        if members.len() == 0 {
            self.groups.remove(group);
        }
    }
}

/// A membership is told as often as it was made, up to a bound that no watcher has to wade through.
const MAX_REPEATED: u32 = 64;

fn repeated(pid: &Pid, times: u32) -> Vec<Pid> {
    vec![pid.clone(); times.min(MAX_REPEATED) as usize]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;

    fn group(text: &str) -> Group {
        text.parse().unwrap()
    }

    fn pid(text: &str) -> Pid {
        text.parse().unwrap()
    }

    fn members(table: &GroupTable, name: &str) -> Vec<String> {
        let mut members: Vec<String> =
            table.members(&group(name)).into_iter().flat_map(Members::iter).map(ToString::to_string).collect();
        members.sort();
        members
    }

    #[test]
    fn g1_a_process_joins_several_times_and_leaves_as_often() {
        let mut table = GroupTable::new("a.1".parse().unwrap());
        let member = pid("<a.1.1>");
        assert_eq!(table.join(&group("g"), &member, 1).unwrap().joined.len(), 1);
        assert_eq!(table.join(&group("g"), &member, 2).unwrap().joined.len(), 2);
        assert_eq!(members(&table, "g"), ["<a.1.1>"], "a member is listed once");
        assert_eq!(table.leave(&group("g"), &member, 2).unwrap().left.len(), 2);
        assert_eq!(members(&table, "g"), ["<a.1.1>"]);
        assert_eq!(table.leave(&group("g"), &member, 5).unwrap().left.len(), 1);
        assert_eq!(table.leave(&group("g"), &member, 1), None);
        assert!(members(&table, "g").is_empty() && table.all().count() == 0 && table.own().count() == 0);
    }

    #[test]
    fn g1_local_and_remote_are_apart_and_a_lost_node_takes_its_members() {
        let mut table = GroupTable::new("a.1".parse().unwrap());
        for (name, member) in
            [("g", "<a.1.1>"), ("g", "<b.1.1>"), ("g", "<b.1.2>"), ("g", "<c.1.1>"), ("s#g", "<b.1.1>")]
        {
            table.join(&group(name), &pid(member), 1);
        }
        let found = table.members(&group("g")).unwrap();
        assert_eq!((found.local.len(), found.remote.len(), found.nodes().count()), (1, 3, 2));
        assert!((0..4).all(|at| found.get(at).is_some()) && found.get(4).is_none());
        let mut changes = table.node_lost(&"b.1".parse().unwrap());
        changes.sort_by_key(|change| change.group.clone());
        assert_eq!(changes.iter().map(|change| change.left.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(members(&table, "g"), ["<a.1.1>", "<c.1.1>"]);
        assert_eq!(table.members(&group("g")).unwrap().nodes().count(), 1);
    }

    #[test]
    fn g2_scopes_are_independent() {
        let mut table = GroupTable::new("a.1".parse().unwrap());
        table.join(&group("one#g"), &pid("<a.1.1>"), 1);
        table.join(&group("two#g"), &pid("<a.1.2>"), 1);
        assert_eq!((members(&table, "one#g"), members(&table, "g")), (vec!["<a.1.1>".to_owned()], Vec::new()));
        assert_eq!(table.gone(&pid("<a.1.1>")).len(), 1);
        assert_eq!(members(&table, "two#g"), ["<a.1.2>"]);
    }
}
