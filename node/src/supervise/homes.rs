//! Where the children of one supervisor are and were, as far as the choice of their next node needs it, and which child
//! moves next so that those that spread are spread evenly. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet},
};

use rookery_runtime::NodeName;

use crate::{
    status::NodeStatus,
    supervise::{
        placement::{LastPlace, Placement},
        policy::ChildId,
    },
};

/// A node takes a child of the fullest one when it has at least so many fewer: with one fewer, a move would only swap them.
const WORTH_A_MOVE: usize = 2;

/// The homes of one supervisor's children.
#[derive(Debug, Default)]
pub(super) struct Homes {
    last: HashMap<ChildId, LastPlace>,
    /// The children that spread, by the node that they live on or are on their way to.
    spread: HashMap<NodeName, BTreeSet<ChildId>>,
    /// How many were started on a node since it told its load: by what it told it with.
    since_told: HashMap<NodeName, (u64, u64)>,
    /// Nodes that lacked a behaviour, since they have come up.
    shunned: HashSet<NodeName>,
    /// Counts the choices, so that children take nodes in turn.
    turn: usize,
}

impl Homes {
    pub(super) fn last(&self, child: &ChildId) -> Option<&LastPlace> {
        self.last.get(child)
    }

    pub(super) fn turn(&self) -> usize {
        self.turn
    }

    pub(super) fn is_shunned(&self, node: &NodeName) -> bool {
        self.shunned.contains(node)
    }

    /// How many of the children that spread are on this node.
    pub(super) fn spread_on(&self, node: &NodeName) -> usize {
        self.spread.get(node).map_or(0, BTreeSet::len)
    }

    pub(super) fn load_of(&self, status: &NodeStatus) -> u64 {
        let since = self.since_told.get(status.node.name()).filter(|(told, _)| *told == status.told);
        status.processes.saturating_add(since.map_or(0, |(_, started)| *started))
    }

    /// A child is being started there.
    pub(super) fn chosen(&mut self, child: &ChildId, node: &NodeName, placement: &Placement) {
        self.turn = self.turn.wrapping_add(1);
        self.unspread(child);
        self.last.insert(child.clone(), LastPlace { node: node.clone(), failed: false });
        if *placement == Placement::Spread {
            self.spread.entry(node.clone()).or_default().insert(child.clone());
        }
    }

    /// A child is being started on a node that told this of itself.
    pub(super) fn started_on(&mut self, status: &NodeStatus) {
        let since = self.since_told.entry(status.node.name().clone()).or_default();
        if since.0 != status.told {
            *since = (status.told, 0);
        }
        since.1 += 1;
    }

    /// A child has ended there; `failed` if its node was lost.
    pub(super) fn left(&mut self, child: &ChildId, node: &NodeName, failed: bool) {
        self.unspread(child);
        let last = self.last.entry(child.clone()).or_insert_with(|| LastPlace { node: node.clone(), failed });
        // One that moves has its next home already.
        if last.node == *node {
            last.failed = failed;
        }
    }

    /// A child could not be started there; `shun` if no other child would do better.
    pub(super) fn start_failed(&mut self, child: &ChildId, node: &NodeName, shun: bool) {
        self.left(child, node, true);
        if shun {
            self.shunned.insert(node.clone());
        }
    }

    pub(super) fn forget(&mut self, child: &ChildId) {
        self.unspread(child);
        self.last.remove(child);
    }

    pub(super) fn node_up(&mut self, node: &NodeName) {
        self.shunned.remove(node);
    }

    /// Whether any child spreads.
    pub(super) fn any_spread(&self) -> bool {
        !self.spread.is_empty()
    }

    /// The child that moves next, if the children that spread are not spread evenly: from the fullest node to the emptiest.
    /// From now on it counts as being there.
    pub(super) fn next_move(
        &mut self,
        up: &[NodeStatus],
        may_move: impl Fn(&ChildId) -> bool,
        may_take: impl Fn(&NodeName) -> bool,
    ) -> Option<ChildId> {
        let takes = |status: &&NodeStatus| {
            let name = status.node.name();
            !status.draining && !self.is_shunned(name) && may_take(name)
        };
        let emptiest =
            up.iter().filter(takes).map(|status| status.node.name()).min_by_key(|node| self.spread_on(node))?;
        let fullest = up.iter().map(|status| status.node.name()).min_by_key(|node| Reverse(self.spread_on(node)))?;
        if self.spread_on(fullest) < self.spread_on(emptiest) + WORTH_A_MOVE {
            return None;
        }
        let child = self.spread.get(fullest)?.iter().rev().find(|child| may_move(child))?.clone();
        let to = emptiest.clone();
        self.chosen(&child, &to, &Placement::Spread);
        Some(child)
    }

    fn unspread(&mut self, child: &ChildId) {
        let Some(last) = self.last.get(child) else { return };
        if let Some(children) = self.spread.get_mut(&last.node) {
            children.remove(child);
            if children.is_empty() {
                self.spread.remove(&last.node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rookery_runtime::NodeId;

    use super::*;

    fn id(number: usize) -> ChildId {
        ChildId::new(format!("{number:04}")).unwrap()
    }

    fn nodes(count: usize) -> Vec<NodeStatus> {
        (0..count).map(|number| NodeStatus::unknown(format!("n{number}.1").parse().unwrap())).collect()
    }

    fn start(homes: &mut Homes, child: &ChildId, up: &[NodeStatus]) -> NodeName {
        let here: NodeId = "n0.1".parse().unwrap();
        let node = Placement::Spread.choose(child, &here, up, homes).unwrap().name().clone();
        homes.chosen(child, &node, &Placement::Spread);
        node
    }

    proptest! {
        /// However nodes come and go: once nothing moves any more, no node has two more than another; and nothing moves twice
        /// for one change.
        #[test]
        fn v7_spread_is_even_in_the_end(children in 0_usize..60, counts in prop::collection::vec(1_usize..8, 1..6)) {
            let mut homes = Homes::default();
            let mut lives: BTreeMap<ChildId, NodeName> = BTreeMap::new();
            for number in 0..children {
                lives.insert(id(number), start(&mut homes, &id(number), &nodes(counts[0])));
            }
            for count in counts {
                let up = nodes(count);
                for (child, node) in &mut lives {
                    if !up.iter().any(|status| status.node.name() == node) {
                        homes.left(child, node, true);
                        *node = start(&mut homes, child, &up);
                    }
                }
                let mut moved = HashSet::new();
                while let Some(child) = homes.next_move(&up, |_| true, |_| true) {
                    prop_assert!(moved.insert(child.clone()), "{child} moves twice");
                    homes.left(&child, &lives[&child], false);
                    lives.insert(child.clone(), start(&mut homes, &child, &up));
                }
                let on = |status: &NodeStatus| lives.values().filter(|node| *node == status.node.name()).count();
                let counts: Vec<usize> = up.iter().map(on).collect();
                prop_assert_eq!(counts.iter().sum::<usize>(), children);
                prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() < WORTH_A_MOVE, "{:?}", counts);
            }
        }
    }

    #[test]
    fn v7_what_is_under_way_counts_where_it_goes() {
        let mut homes = Homes::default();
        for number in 0..10 {
            start(&mut homes, &id(number), &nodes(1));
        }
        let moves = std::iter::from_fn(|| homes.next_move(&nodes(2), |_| true, |_| true)).count();
        assert_eq!(moves, 5, "none of them has arrived yet");
    }

    #[test]
    fn v7_children_go_past_a_node_that_takes_none_just_now() {
        let mut homes = Homes::default();
        for number in 0..10 {
            start(&mut homes, &id(number), &nodes(1));
        }
        let child = homes.next_move(&nodes(3), |_| true, |node| node.as_str() != "n1").unwrap();
        assert_eq!(homes.last(&child).unwrap().node.as_str(), "n2");
    }

    #[test]
    fn v7_a_node_that_cannot_start_children_is_left_alone_until_its_next_life() {
        let mut homes = Homes::default();
        for number in 0..4 {
            start(&mut homes, &id(number), &nodes(1));
        }
        let child = homes.next_move(&nodes(2), |_| true, |_| true).unwrap();
        homes.left(&child, nodes(2)[0].node.name(), false);
        homes.start_failed(&child, nodes(2)[1].node.name(), true);
        assert_eq!(start(&mut homes, &child, &nodes(2)).as_str(), "n0");
        assert_eq!(homes.next_move(&nodes(2), |_| true, |_| true), None);
        homes.node_up(nodes(2)[1].node.name());
        assert!(homes.next_move(&nodes(2), |_| true, |_| true).is_some());
    }
}
