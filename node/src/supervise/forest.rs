//! The trees that the cluster is to run, as one node knows them: names, and what was last said of each. A replica that
//! needs no order and no majority: the last word counts, by a Lamport clock, and all that have heard the same words know
//! the same. Pure.

use std::collections::{BTreeMap, btree_map::Entry};

use rookery_runtime::{NodeName, ProcessName};
use serde::{Deserialize, Serialize};

use crate::supervise::{limits::MAX_TREES, supervisor::SupervisorData};

/// When a word was said: later than all that its node had heard before. The node decides between two at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Stamp {
    time: u64,
    node: NodeName,
}

/// What was last said of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Word {
    stamp: Stamp,
    /// What is to run; `None` when the tree was removed, which is kept so that no node that was away brings it back.
    pub(super) tree: Option<SupervisorData>,
}

/// There are as many trees as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

/// What one node knows.
#[derive(Debug)]
pub(super) struct Forest {
    own: NodeName,
    /// The latest time of any word that was heard.
    clock: u64,
    words: BTreeMap<ProcessName, Word>,
}

impl Forest {
    pub(super) fn new(own: NodeName) -> Self {
        Self { own, clock: 0, words: BTreeMap::new() }
    }

    /// Says what is to run under `name`. Gives the word for the others, unless that is what was said last.
    pub(super) fn say(&mut self, name: ProcessName, tree: Option<SupervisorData>) -> Result<Option<Word>, TooMany> {
        let known = self.words.get(&name);
        if known.map_or(tree.is_none(), |word| word.tree == tree) {
            return Ok(None);
        }
        let time = self.clock.saturating_add(1);
        let word = Word { stamp: Stamp { time, node: self.own.clone() }, tree };
        if self.full() && known.is_none() {
            return Err(TooMany);
        }
        self.hear(name, word.clone());
        Ok(Some(word))
    }

    /// Hears a word; whether it changes what is to run.
    pub(super) fn hear(&mut self, name: ProcessName, word: Word) -> bool {
        self.clock = self.clock.max(word.stamp.time);
        let full = self.full();
        match self.words.entry(name) {
            Entry::Vacant(new) if !full => new.insert(word).tree.is_some(),
            Entry::Occupied(mut known) if known.get().stamp < word.stamp => {
                let former = known.insert(word);
                former.tree != known.get().tree
            }
            _ => false,
        }
    }

    /// What is to run under `name`.
    pub(super) fn tree(&self, name: &ProcessName) -> Option<&SupervisorData> {
        self.words.get(name)?.tree.as_ref()
    }

    /// All that was said.
    pub(super) fn words(&self) -> impl Iterator<Item = (&ProcessName, &Word)> {
        self.words.iter()
    }

    fn full(&self) -> bool {
        self.words.len() >= MAX_TREES
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use proptest::prelude::*;

    use super::*;

    fn name(number: usize) -> ProcessName {
        format!("tree-{number}").parse().unwrap()
    }

    fn tree(intensity: u32) -> SupervisorData {
        SupervisorData { intensity: Some(intensity), ..SupervisorData::default() }
    }

    fn forest(node: usize) -> Forest {
        Forest::new(format!("n-{node}").parse().unwrap())
    }

    fn said(forest: &Forest) -> Vec<(ProcessName, Word)> {
        forest.words().map(|(name, word)| (name.clone(), word.clone())).collect()
    }

    proptest! {
        /// Whatever is said where, heard in whatever order, twice or late: who has heard all knows the same.
        #[test]
        fn all_that_have_heard_the_same_know_the_same(
            steps in prop::collection::vec((0_usize..3, 0_usize..3, prop::option::of(0_u32..4), any::<prop::sample::Index>()), 1..60),
        ) {
            let mut forests = [0, 1, 2].map(forest);
            let mut words: Vec<(ProcessName, Word)> = Vec::new();
            for (node, number, intensity, index) in steps {
                if let Some(word) = forests[node].say(name(number), intensity.map(tree)).unwrap() {
                    words.push((name(number), word));
                }
                // Somebody hears something.
                if !words.is_empty() {
                    let (name, word) = words[index.index(words.len())].clone();
                    forests[(node + 1) % 3].hear(name, word);
                }
            }
            for forest in &mut forests {
                for (name, word) in &words {
                    forest.hear(name.clone(), word.clone());
                }
            }
            prop_assert_eq!(said(&forests[0]), said(&forests[1]));
            prop_assert_eq!(said(&forests[0]), said(&forests[2]));
        }
    }

    #[test]
    fn the_last_word_counts_and_the_same_again_is_no_word() {
        let (mut a, mut b) = (forest(0), forest(1));
        let first = a.say(name(0), Some(tree(1))).unwrap().unwrap();
        assert!(b.hear(name(0), first.clone()) && !b.hear(name(0), first.clone()));
        assert_eq!(b.say(name(0), Some(tree(1))), Ok(None));
        let second = b.say(name(0), None).unwrap().unwrap();
        assert!(a.hear(name(0), second) && a.tree(&name(0)).is_none());
        assert!(!a.hear(name(0), first), "nobody who was away brings it back");
        assert_eq!(a.say(name(1), None), Ok(None), "there is nothing to remove");
    }

    #[test]
    fn there_are_no_more_than_there_may_be() {
        let mut forest = forest(0);
        for number in 0..MAX_TREES {
            forest.say(name(number), Some(tree(1))).unwrap();
        }
        assert_eq!(forest.say(name(MAX_TREES), Some(tree(1))), Err(TooMany));
        assert!(forest.say(name(0), Some(tree(2))).unwrap().is_some(), "what is there can change");
    }
}
