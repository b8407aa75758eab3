//! Children that have to go from nodes that are about to leave: which is handed over next, and what is done when one is not.
//! Pure; `moving.rs` does it.
//!
//! **Invariant:** a child is in one place: waiting for its turn, under way, to be tried again, or done with.

use std::collections::{HashMap, HashSet, VecDeque};

use rookery_runtime::{NodeId, RequestError};

use crate::supervise::{
    effect::StartFailure,
    limits::{HAND_OVER_AT_ONCE, HAND_OVER_TRIES},
    policy::ChildId,
};

/// What is done about a child that was not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is tried again soon.
    Again,
    /// It is stopped there and started elsewhere, without its state.
    WithoutState,
    /// It stays: there is nowhere to go.
    Stays,
}

#[derive(Debug, Default)]
pub(super) struct Evacuation {
    leaving: HashSet<NodeId>,
    waiting: VecDeque<ChildId>,
    under_way: HashSet<ChildId>,
    again: Vec<ChildId>,
    tries: HashMap<ChildId, u32>,
}

impl Evacuation {
    /// `node` is about to leave, and these live there.
    pub(super) fn begin(&mut self, node: NodeId, children: impl IntoIterator<Item = ChildId>) {
        self.leaving.insert(node);
        for child in children {
            if !self.under_way.contains(&child) && !self.again.contains(&child) && !self.waiting.contains(&child) {
                self.waiting.push_back(child);
            }
        }
    }

    pub(super) fn is_leaving(&self, node: &NodeId) -> bool {
        self.leaving.contains(node)
    }

    /// The node is gone.
    pub(super) fn gone(&mut self, node: &NodeId) {
        self.leaving.remove(node);
    }

    /// The child that is handed over next, if one may be now.
    pub(super) fn next(&mut self) -> Option<ChildId> {
        if self.under_way.len() >= HAND_OVER_AT_ONCE {
            return None;
        }
        let child = self.waiting.pop_front()?;
        self.under_way.insert(child.clone());
        Some(child)
    }

    /// Those that are under way and need no more: they live on no node that leaves.
    pub(super) fn settle(&mut self, still_there: impl Fn(&ChildId) -> bool) {
        let Self { under_way, tries, .. } = self;
        under_way.retain(|child| {
            let there = still_there(child);
            if !there {
                tries.remove(child);
            }
            there
        });
    }

    /// A child cannot be handed over just now: it is looked at again soon, some times.
    pub(super) fn later(&mut self, child: ChildId) {
        self.under_way.remove(&child);
        let tries = self.tries.entry(child.clone()).or_default();
        *tries += 1;
        if *tries < HAND_OVER_TRIES {
            self.again.push(child);
        }
    }

    /// A child was not handed over.
    pub(super) fn failed(&mut self, child: &ChildId, failure: &StartFailure) -> Verdict {
        let tries = self.tries.entry(child.clone()).or_default();
        *tries += 1;
        let more = *tries < HAND_OVER_TRIES;
        let verdict = match failure {
            StartFailure::NoPlace(_) if more => Verdict::Again,
            StartFailure::NoPlace(_) => Verdict::Stays,
            StartFailure::Failed(RequestError::Timeout | RequestError::TooManyProcesses) if more => Verdict::Again,
            StartFailure::Failed(_) => Verdict::WithoutState,
        };
        match verdict {
            // It is under way until it lives elsewhere.
            Verdict::WithoutState => {}
            Verdict::Again => {
                self.under_way.remove(child);
                self.again.push(child.clone());
            }
            Verdict::Stays => {
                self.under_way.remove(child);
            }
        }
        verdict
    }

    /// The time has come for those that are tried again.
    pub(super) fn try_again(&mut self) {
        self.waiting.extend(self.again.drain(..));
    }

    /// Whether nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty() && self.again.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn d6_those_that_cannot_go_hold_up_nobody() {
        let mut evacuation = Evacuation::default();
        let id = |number: usize| ChildId::new(format!("c{number}")).unwrap();
        evacuation.begin("a.1".parse().unwrap(), (0..2 * HAND_OVER_AT_ONCE).map(id));
        let mut looked_at = 0;
        while !evacuation.is_done() {
            evacuation.try_again();
            while let Some(child) = evacuation.next() {
                looked_at += 1;
                evacuation.later(child);
            }
        }
        assert_eq!(looked_at, 2 * HAND_OVER_AT_ONCE * HAND_OVER_TRIES as usize);
    }

    fn id(number: usize) -> ChildId {
        ChildId::new(format!("c{number}")).unwrap()
    }

    fn node() -> NodeId {
        "a.1".parse().unwrap()
    }

    proptest! {
        /// Whatever fails how often: each child is done with in the end, never more than allowed are under way, none twice.
        #[test]
        fn d6_every_child_is_done_with(count in 0_usize..100, outcomes in prop::collection::vec(0_u8..5, 1..40)) {
            let mut evacuation = Evacuation::default();
            evacuation.begin(node(), (0..count).map(id));
            evacuation.begin(node(), (0..count).map(id));
            let mut outcomes = outcomes.into_iter().cycle();
            let (mut there, mut stay): (HashSet<ChildId>, usize) = ((0..count).map(id).collect(), 0);
            for _ in 0..count * 20 {
                let mut under_way = Vec::new();
                while let Some(child) = evacuation.next() {
                    prop_assert!(!under_way.contains(&child));
                    under_way.push(child);
                }
                prop_assert!(under_way.len() <= HAND_OVER_AT_ONCE);
                for child in under_way {
                    let failure = match outcomes.next().unwrap() {
                        0 => StartFailure::NoPlace(String::new()),
                        1 => StartFailure::Failed(RequestError::Timeout),
                        2 => StartFailure::Failed(RequestError::Unsupported),
                        _ => {
                            there.remove(&child);
                            continue;
                        }
                    };
                    match evacuation.failed(&child, &failure) {
                        Verdict::Again => {}
                        Verdict::WithoutState => drop(there.remove(&child)),
                        Verdict::Stays => stay += 1,
                    }
                }
                evacuation.settle(|child| there.contains(child));
                evacuation.try_again();
                if evacuation.is_done() {
                    break;
                }
            }
            prop_assert!(evacuation.is_done(), "{:?}", evacuation);
            prop_assert_eq!(there.len(), stay);
        }
    }

    #[test]
    fn d6_who_cannot_hand_over_in_time_goes_without_state() {
        let mut evacuation = Evacuation::default();
        evacuation.begin(node(), [id(1), id(2)]);
        let slow = StartFailure::Failed(RequestError::Timeout);
        for verdict in [Verdict::Again, Verdict::Again, Verdict::WithoutState] {
            evacuation.try_again();
            while evacuation.next().is_some() {}
            assert_eq!(evacuation.failed(&id(1), &slow), verdict);
        }
        let older = StartFailure::Failed(RequestError::Unsupported);
        assert_eq!(evacuation.failed(&id(2), &older), Verdict::WithoutState, "it would not the next time either");
        assert!(!evacuation.is_done());
        evacuation.settle(|_| false);
        assert!(evacuation.is_done());
    }
}
