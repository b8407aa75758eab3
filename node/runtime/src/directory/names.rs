//! Cluster names as one node sees them (N2, N3): a replica, and the decisions about it. Pure: what happens goes in with
//! the wall clock, what is to be told comes out.
//!
//! A node is the authority for the names of its own processes and tells the others; the loss of a node takes its names
//! away. To take a name a node asks the name's **arbiter**, a member that all who see the same members compute alike
//! ([`arbiter_of`](super::arbiter::arbiter_of)). It grants a name to one process at a time, so within a connected part two never get it. Where
//! views differed, two may hold a name all the same: the older one keeps it, which is decided alike everywhere.
//!
//! **Invariant:** the first of a name's holders is the same on all nodes that know the same holders.

use std::collections::{HashMap, HashSet};

use rookery_protocol::{NodeId, Pid, ProcessName, Stamp};

/// The names of the cluster.
#[derive(Debug)]
pub(crate) struct NameTable {
    /// This node: the authority for its own processes, its clients' among them.
    own: NodeId,
    /// Everybody who holds a name, the one who keeps it first. Never empty; more than one only until the others have
    /// been told.
    holders: HashMap<ProcessName, Vec<Holder>>,
    /// The same by node and process, for when these go.
    by_node: HashMap<NodeId, HashMap<Pid, HashSet<ProcessName>>>,
    /// What this node has granted as an arbiter, until it hears whether the name was taken.
    granted: HashMap<ProcessName, Pid>,
    /// The latest stamp that was given or seen.
    latest: Stamp,
}

/// One who holds a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Holder {
    // The order of the fields decides who keeps a name.
    stamp: Stamp,
    pid: Pid,
    /// Behind whom it waits, who is about to give it up.
    succeeds: Option<Pid>,
}

/// A name that two hold, as far as this node has heard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Contest {
    /// The name.
    pub(crate) name: ProcessName,
    /// A process of this node, that loses it if the other one has it.
    pub(crate) loser: Pid,
    /// The older one, elsewhere.
    pub(crate) holder: Pid,
    /// Since when they hold it, that one first. Either may have given it up and taken it again.
    since: (Stamp, Stamp),
}

impl Contest {
    fn of(name: &ProcessName, older: &Holder, own: &Holder) -> Self {
        let (loser, holder) = (own.pid.clone(), older.pid.clone());
        Self { name: name.clone(), loser, holder, since: (older.stamp, own.stamp) }
    }
}

impl NameTable {
    pub(crate) fn new(own: NodeId) -> Self {
        Self { own, holders: HashMap::new(), by_node: HashMap::new(), granted: HashMap::new(), latest: Stamp(0) }
    }

    /// Who has `name`: a process of this node, unless it waits for another one to give it up, until it has lost it; or else the oldest.
    pub(crate) fn holder(&self, name: &ProcessName) -> Option<&Pid> {
        self.first_of(self.holders.get(name)?)
    }

    fn first_of<'a>(&self, holders: &'a [Holder]) -> Option<&'a Pid> {
        let waits = |own: &Holder| own.succeeds.as_ref().is_some_and(|of| holders.iter().any(|other| other.pid == *of));
        let own = holders.iter().find(|holder| *holder.pid.node() == self.own && !waits(holder));
        own.or_else(|| holders.first()).map(|holder| &holder.pid)
    }

    /// Every name with its holder, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&ProcessName, &Pid)> {
        self.holders.iter().filter_map(|(name, holders)| Some((name, self.first_of(holders)?)))
    }

    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        self.holders.len()
    }

    /// As the name's arbiter: keeps `name` for `pid` until [`hold`](Self::hold), [`release`](Self::release) or the end of
    /// either process or node.
    ///
    /// # Errors
    /// Who has it, or is about to.
    pub(crate) fn grant(&mut self, name: &ProcessName, pid: &Pid) -> Result<(), Pid> {
        match self.holder(name).or_else(|| self.granted.get(name)) {
            Some(other) if other != pid => return Err(other.clone()),
            Some(_) => {}
            None => drop(self.granted.insert(name.clone(), pid.clone())),
        }
        Ok(())
    }

    /// `pid`, a process of this node, takes the name that it was granted. Gives the stamp to be told, or `None` if it has it
    /// already. `now` is the wall clock in microseconds.
    ///
    /// # Errors
    /// Who has it, unknown to the arbiter; the grant is to be given back.
    pub(crate) fn take(&mut self, name: &ProcessName, pid: &Pid, now: u64) -> Result<Option<Stamp>, Pid> {
        if self.has(name, pid) {
            return Ok(None);
        }
        if let Some(holder) = self.holder(name) {
            return Err(holder.clone());
        }
        let stamp = Stamp(now.max(self.latest.0.saturating_add(1)));
        self.enter(name, Holder { stamp, pid: pid.clone(), succeeds: None });
        Ok(Some(stamp))
    }

    /// `pid`, a process of this node, takes a name behind `of`, its holder, who is about to give it up. Gives the stamp to be
    /// told, and whoever else elsewhere seems to have it before `pid`: one who is not known yet to have given it up, or who takes the
    /// place of `of` as well. `None` if `of` does not hold it, or another process of this node does. Nobody is asked: it is the
    /// holder's to hand over.
    ///
    /// The stamp is the next after `of`'s: whoever took the name in the meantime beyond a partition is younger still.
    pub(crate) fn succeed(&mut self, name: &ProcessName, pid: &Pid, of: &Pid) -> Option<(Stamp, Vec<Contest>)> {
        let stamp = Stamp(self.stamp(name, of)?.0.saturating_add(1));
        let others = self.holders.get(name)?.iter().filter(|holder| ![pid, of].contains(&&holder.pid));
        if others.clone().any(|other| *other.pid.node() == self.own) {
            return None;
        }
        let new = Holder { stamp, pid: pid.clone(), succeeds: Some(of.clone()) };
        let contests = others.filter(|other| **other < new).map(|older| Contest::of(name, older, &new)).collect();
        self.enter(name, new);
        Some((stamp, contests))
    }

    /// `pid`, a process of another node, holds a name. Those of this node that hold it and are younger are to
    /// [`release`](Self::release) it, unless `pid` has done so meanwhile: its node knows.
    pub(crate) fn hold(&mut self, name: &ProcessName, pid: &Pid, stamp: Stamp) -> Vec<Contest> {
        let holder = Holder { stamp, pid: pid.clone(), succeeds: None };
        self.enter(name, holder.clone());
        let own = self.holders.get(name).into_iter().flatten().filter(|other| *other.pid.node() == self.own);
        own.filter(|own| **own > holder).map(|own| Contest::of(name, &holder, own)).collect()
    }

    /// Whether both still hold the name, as far as this node has heard.
    pub(crate) fn stands(&self, Contest { name, loser, holder, since }: &Contest) -> bool {
        (self.stamp(name, holder), self.stamp(name, loser)) == (Some(since.0), Some(since.1))
    }

    /// `pid` gives the name up, or does not take what it was granted. Tells whether it had it.
    pub(crate) fn release(&mut self, name: &ProcessName, pid: &Pid) -> bool {
        if self.granted.get(name) == Some(pid) {
            self.granted.remove(name);
        }
        let node = self.by_node.get_mut(pid.node());
        if let Some(names) = node.and_then(|node| node.get_mut(pid)) {
            names.remove(name);
        }
        self.remove(name, pid)
    }

    /// `pid` has ended. Tells whether it had a name.
    pub(crate) fn gone(&mut self, pid: &Pid) -> bool {
        self.granted.retain(|_, granted| granted != pid);
        let names = self.by_node.get_mut(pid.node()).and_then(|node| node.remove(pid)).unwrap_or_default();
        for name in &names {
            self.remove(name, pid);
        }
        !names.is_empty()
    }

    /// A node is lost, and all that its processes had.
    pub(crate) fn node_lost(&mut self, node: &NodeId) {
        self.granted.retain(|_, granted| granted.node() != node);
        for (pid, names) in self.by_node.remove(node).unwrap_or_default() {
            for name in names {
                self.remove(&name, &pid);
            }
        }
    }

    /// Whether `pid` has the name, be it behind an older one.
    pub(crate) fn has(&self, name: &ProcessName, pid: &Pid) -> bool {
        self.stamp(name, pid).is_some()
    }

    /// The names that `pid` has, in no order.
    pub(crate) fn of(&self, pid: &Pid) -> impl Iterator<Item = &ProcessName> {
        self.by_node.get(pid.node()).and_then(|node| node.get(pid)).into_iter().flatten()
    }

    /// How many names `pid` has.
    pub(crate) fn count(&self, pid: &Pid) -> usize {
        self.by_node.get(pid.node()).and_then(|node| node.get(pid)).map_or(0, HashSet::len)
    }

    /// What a new peer is told: what the processes of this node hold.
    pub(crate) fn own(&self) -> impl Iterator<Item = (&Pid, &ProcessName, Stamp)> {
        let own = self.by_node.get(&self.own).into_iter().flatten();
        own.flat_map(|(pid, names)| names.iter().map(move |name| (pid, name)))
            .filter_map(|(pid, name)| Some((pid, name, self.stamp(name, pid)?)))
    }

    fn stamp(&self, name: &ProcessName, pid: &Pid) -> Option<Stamp> {
        self.holders.get(name)?.iter().find(|holder| holder.pid == *pid).map(|holder| holder.stamp)
    }

    fn enter(&mut self, name: &ProcessName, holder: Holder) {
        self.latest = self.latest.max(holder.stamp);
        let pid = holder.pid.clone();
        if self.granted.get(name) == Some(&pid) {
            self.granted.remove(name);
        }
        let holders = self.holders.entry(name.clone()).or_default();
        holders.retain(|holder| holder.pid != pid);
        let at = holders.partition_point(|other| *other < holder);
        holders.insert(at, holder);
        self.by_node.entry(pid.node().clone()).or_default().entry(pid).or_default().insert(name.clone());
    }

    /// Takes one holder off a name.
    fn remove(&mut self, name: &ProcessName, pid: &Pid) -> bool {
        let Some(holders) = self.holders.get_mut(name) else { return false };
        let before = holders.len();
        holders.retain(|holder| holder.pid != *pid);
        let removed = holders.len() < before;
        if holders.is_empty() {
            self.holders.remove(name);
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;

    fn name(text: &str) -> ProcessName {
        text.parse().unwrap()
    }

    fn pid(text: &str) -> Pid {
        text.parse().unwrap()
    }

    fn table() -> NameTable {
        NameTable::new("a.1".parse().unwrap())
    }

    #[test]
    fn n2_an_arbiter_grants_a_name_once() {
        let mut table = table();
        let (first, second) = (pid("<b.1.1>"), pid("<c.1.1>"));
        assert_eq!(table.grant(&name("x"), &first), Ok(()));
        assert_eq!(table.grant(&name("x"), &first), Ok(()), "who asks again");
        assert_eq!(table.grant(&name("x"), &second), Err(first.clone()));
        table.hold(&name("x"), &first, Stamp(5));
        assert_eq!(table.grant(&name("x"), &second), Err(first.clone()));
        assert!(table.release(&name("x"), &first));
        assert_eq!(table.grant(&name("x"), &second), Ok(()));
    }

    #[test]
    fn n2_what_is_granted_and_not_taken_is_free_again() {
        let mut table = table();
        let (first, second) = (pid("<b.1.1>"), pid("<c.1.1>"));
        for end in ["release", "gone", "node_lost"] {
            assert_eq!(table.grant(&name("x"), &first), Ok(()));
            match end {
                "release" => drop(table.release(&name("x"), &first)),
                "gone" => drop(table.gone(&first)),
                _ => table.node_lost(first.node()),
            }
            assert_eq!(table.grant(&name("x"), &second), Ok(()), "{end}");
            table.release(&name("x"), &second);
        }
    }

    #[test]
    fn n2_the_older_holder_keeps_a_name() {
        let (mut here, mut there) = (table(), NameTable::new("b.1".parse().unwrap()));
        let (ours, theirs) = (pid("<a.1.1>"), pid("<b.1.1>"));
        let older = here.take(&name("x"), &ours, 10).unwrap().unwrap();
        let younger = there.take(&name("x"), &theirs, 20).unwrap().unwrap();
        assert_eq!(here.hold(&name("x"), &theirs, younger), []);
        let contest = there.hold(&name("x"), &ours, older).pop().unwrap();
        assert_eq!((&contest.loser, &contest.holder), (&theirs, &ours));
        assert!(there.stands(&contest));
        assert_eq!(there.holder(&name("x")), Some(&theirs), "until it has lost it");
        there.release(&name("x"), &theirs);
        assert!(!there.stands(&contest));
        here.release(&name("x"), &theirs);
        assert_eq!((here.holder(&name("x")), there.holder(&name("x"))), (Some(&ours), Some(&ours)));
        assert_eq!(there.own().count(), 0);
    }

    #[test]
    fn n2_a_former_holder_that_is_heard_of_late_takes_no_name_away() {
        let mut here = table();
        let (ours, former) = (pid("<a.1.1>"), pid("<b.1.1>"));
        here.take(&name("x"), &ours, 20).unwrap().unwrap();
        let contest = here.hold(&name("x"), &former, Stamp(10)).pop().unwrap();
        assert!(here.stands(&contest));
        assert_eq!(here.holder(&name("x")), Some(&ours));
        assert_eq!(here.take(&name("x"), &ours, 25), Ok(None), "it has it");
        assert!(here.release(&name("x"), &former));
        assert!(!here.stands(&contest));
        assert_eq!(here.holder(&name("x")), Some(&ours));
        assert_eq!(here.hold(&name("x"), &former, Stamp(30)), [], "which has it again, and is the younger now");
        here.release(&name("x"), &ours);
        here.take(&name("x"), &ours, 40).unwrap_err();
        here.release(&name("x"), &former);
        here.take(&name("x"), &ours, 40).unwrap().unwrap();
        let later = here.hold(&name("x"), &former, Stamp(35)).pop().unwrap();
        assert!(here.stands(&later) && !here.stands(&contest), "an answer about their first time says nothing now");
    }

    #[test]
    fn d6_a_name_that_is_handed_over_has_a_holder_at_each_moment_whatever_comes_first() {
        let (old, new) = (pid("<a.1.1>"), pid("<b.1.1>"));
        for told_first in [true, false] {
            let (mut a, mut b, mut c) =
                (table(), NameTable::new("b.1".parse().unwrap()), NameTable::new("c.1".parse().unwrap()));
            let first = a.take(&name("x"), &old, 10).unwrap().unwrap();
            b.hold(&name("x"), &old, first);
            c.hold(&name("x"), &old, first);
            assert_eq!(b.succeed(&name("x"), &new, &pid("<c.1.9>")), None, "only of its holder");
            let (second, contests) = b.succeed(&name("x"), &new, &old).unwrap();
            assert_eq!(contests, []);
            assert!(second > first, "however the clocks go");
            assert_eq!(b.holder(&name("x")), Some(&old), "until that one gives it up");
            assert_eq!(b.grant(&name("x"), &pid("<c.1.9>")), Err(old.clone()));
            // All are told of the new one before the old one gives up; a node that is slow hears the other way round.
            assert_eq!(a.hold(&name("x"), &new, second), [], "it is no conflict");
            if told_first {
                assert_eq!(c.hold(&name("x"), &new, second), []);
                assert!(c.release(&name("x"), &old));
            } else {
                c.release(&name("x"), &old);
                assert_eq!(c.hold(&name("x"), &new, second), []);
            }
            a.release(&name("x"), &old);
            b.release(&name("x"), &old);
            for table in [&a, &b, &c] {
                assert_eq!(table.holder(&name("x")), Some(&new));
            }
        }
    }

    #[test]
    fn d6_a_name_that_was_handed_over_is_as_old_as_before() {
        let (old, new, other) = (pid("<a.1.1>"), pid("<b.1.1>"), pid("<c.1.1>"));
        let mut b = NameTable::new("b.1".parse().unwrap());
        b.hold(&name("x"), &old, Stamp(10));
        assert!(b.succeed(&name("x"), &new, &old).unwrap().0 < Stamp(20));
        b.release(&name("x"), &old);
        // Beyond a partition somebody took it after `old` did.
        assert_eq!(b.hold(&name("x"), &other, Stamp(20)), []);
        assert_eq!(b.holder(&name("x")), Some(&new));
    }

    #[test]
    fn d6_a_name_moves_on_where_its_former_holder_is_not_known_yet_to_have_given_it_up() {
        let mut table = table();
        let (former, old, new) = (pid("<b.1.1>"), pid("<c.1.1>"), pid("<a.1.1>"));
        table.hold(&name("x"), &former, Stamp(10));
        table.hold(&name("x"), &old, Stamp(11));
        let (stamp, contests) = table.succeed(&name("x"), &new, &old).unwrap();
        assert_eq!(stamp, Stamp(12));
        // Unless that one has it still, and `old` is about to lose it.
        assert_eq!(
            contests.iter().map(|contest| (&contest.holder, &contest.loser)).collect::<Vec<_>>(),
            [(&former, &new)]
        );
        assert!(table.stands(&contests[0]));
        table.release(&name("x"), &former);
        assert!(!table.stands(&contests[0]));
        table.release(&name("x"), &old);
        assert_eq!(table.holder(&name("x")), Some(&new));
    }

    #[test]
    fn d6_of_two_that_take_one_place_one_contests_it() {
        let (of, one, other) = (pid("<a.1.1>"), pid("<b.1.1>"), pid("<c.1.1>"));
        let mut c = NameTable::new("c.1".parse().unwrap());
        c.hold(&name("x"), &of, Stamp(10));
        c.hold(&name("x"), &one, Stamp(11));
        let (stamp, contests) = c.succeed(&name("x"), &other, &of).unwrap();
        assert_eq!(
            contests.iter().map(|contest| (&contest.holder, &contest.loser)).collect::<Vec<_>>(),
            [(&one, &other)]
        );
        // Where they are told of the other way round it is the other one that finds itself younger, or nobody.
        let mut b = NameTable::new("b.1".parse().unwrap());
        b.hold(&name("x"), &of, Stamp(10));
        b.succeed(&name("x"), &one, &of).unwrap();
        assert_eq!(b.hold(&name("x"), &other, stamp), []);
        assert_eq!(b.succeed(&name("x"), &pid("<b.1.2>"), &other), None, "a node's own processes have it once");
    }

    #[test]
    fn n3_a_successor_is_the_holder_as_soon_as_its_place_is_free() {
        let mut table = table();
        let (former, of, new) = (pid("<b.1.1>"), pid("<c.1.1>"), pid("<a.1.1>"));
        table.hold(&name("x"), &of, Stamp(11));
        table.succeed(&name("x"), &new, &of).unwrap();
        assert_eq!(table.hold(&name("x"), &former, Stamp(10)).len(), 1);
        assert_eq!(table.holder(&name("x")), Some(&former), "while it waits the oldest is");
        table.release(&name("x"), &of);
        assert_eq!(table.holder(&name("x")), Some(&new), "whoever else is heard of late");
    }

    #[test]
    fn d6_a_successor_that_is_lost_leaves_the_name_where_it_was() {
        let mut table = table();
        let (old, new) = (pid("<b.1.1>"), pid("<a.1.1>"));
        table.hold(&name("x"), &old, Stamp(3));
        table.succeed(&name("x"), &new, &old).unwrap();
        assert!(table.gone(&new));
        assert_eq!(table.holder(&name("x")), Some(&old));
        table.succeed(&name("x"), &new, &old).unwrap();
        table.node_lost(old.node());
        assert_eq!(table.holder(&name("x")), Some(&new), "and takes it when the other is lost");
    }

    #[test]
    fn n2_an_older_holder_contests_a_name_with_a_successor_too() {
        let mut table = table();
        let (old, new, older) = (pid("<a.1.1>"), pid("<a.1.2>"), pid("<b.1.1>"));
        table.take(&name("x"), &old, 10).unwrap();
        table.succeed(&name("x"), &new, &old).unwrap();
        let contests = table.hold(&name("x"), &older, Stamp(5));
        assert_eq!(contests.iter().map(|contest| &contest.loser).collect::<Vec<_>>(), [&old, &new]);
    }

    #[test]
    fn n3_a_name_goes_with_its_process_and_its_node() {
        let mut table = table();
        table.take(&name("x"), &pid("<a.1.1>"), 1).unwrap();
        table.take(&name("y"), &pid("<a.1.1>"), 1).unwrap();
        assert_eq!(table.take(&name("y"), &pid("<a.1.2>"), 1), Err(pid("<a.1.1>")), "an arbiter that did not know");
        assert!(table.gone(&pid("<a.1.1>")) && !table.gone(&pid("<a.1.1>")));
        table.hold(&name("x"), &pid("<b.1.1>"), Stamp(1));
        table.hold(&name("y"), &pid("<b.2.1>"), Stamp(1));
        table.node_lost(&"b.1".parse().unwrap());
        assert_eq!(table.holder(&name("x")), None);
        assert_eq!(table.holder(&name("y")), Some(&pid("<b.2.1>")), "another life of the node");
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn stamps_only_grow_even_where_the_clock_goes_back() {
        let mut table = table();
        table.hold(&name("x"), &pid("<b.1.1>"), Stamp(1_000));
        assert_eq!(table.take(&name("y"), &pid("<a.1.1>"), 7), Ok(Some(Stamp(1_001))));
        assert_eq!(table.take(&name("z"), &pid("<a.1.1>"), 2_000), Ok(Some(Stamp(2_000))));
        assert_eq!(table.take(&name("z"), &pid("<a.1.1>"), 3_000), Ok(None), "it has it");
    }
}
