//! Where a child lives (V7): the choice of a node among those that are up. Pure.
//!
//! A child that merely ended stays where it was; one whose node was lost, or where its start failed, goes elsewhere.
//! The others are taken in turn, so that the children of one supervisor spread.

use std::fmt;

use rookery_runtime::{NodeId, NodeName};
use serde::{Deserialize, Serialize};

/// Where a child may live.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// On the supervisor's node.
    #[default]
    Here,
    /// On the node of this name. While it is not up the child waits for it.
    Node(NodeName),
    /// On any node that is up.
    Any,
    /// On one of these. While none is up the child waits for one.
    AnyOf(Vec<NodeName>),
}

/// Where a child was last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastPlace {
    /// The node.
    pub node: NodeName,
    /// It was lost, or the child could not be started there.
    pub failed: bool,
}

impl Placement {
    /// A node for the child, or `None` if none is up where it may live. `turn` counts the choices.
    #[must_use]
    pub fn choose(&self, here: &NodeId, up: &[NodeId], last: Option<&LastPlace>, turn: usize) -> Option<NodeId> {
        let candidates: Vec<&NodeId> = match self {
            Self::Here => return Some(here.clone()),
            Self::Node(name) => return up.iter().find(|node| node.name() == name).cloned(),
            Self::Any => up.iter().collect(),
            Self::AnyOf(names) => up.iter().filter(|node| names.contains(node.name())).collect(),
        };
        if let Some(last) = last
            && !last.failed
            && let Some(node) = candidates.iter().find(|node| *node.name() == last.node)
        {
            return Some((*node).clone());
        }
        let others: Vec<&NodeId> =
            candidates.iter().filter(|node| last.is_none_or(|last| *node.name() != last.node)).copied().collect();
        let from = if others.is_empty() { &candidates } else { &others };
        match from.len() {
            0 if *self == Self::Any => Some(here.clone()),
            0 => None,
            n => from.get(turn % n).map(|node| (*node).clone()),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("this node"),
            Self::Node(name) => write!(f, "node {name}"),
            Self::Any => f.write_str("any node"),
            Self::AnyOf(names) => {
                f.write_str("one of")?;
                names.iter().try_for_each(|name| write!(f, " {name}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;

    fn up(names: &[&str]) -> Vec<NodeId> {
        names.iter().map(|name| format!("{name}.1").parse().unwrap()).collect()
    }

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    fn chosen(placement: &Placement, nodes: &[&str], last: Option<(&str, bool)>, turn: usize) -> Option<String> {
        let last = last.map(|(node, failed)| LastPlace { node: name(node), failed });
        let here: NodeId = "here.1".parse().unwrap();
        placement.choose(&here, &up(nodes), last.as_ref(), turn).map(|node| node.name().to_string())
    }

    #[test]
    fn v7_any_avoids_the_node_that_was_lost() {
        for turn in 0..5 {
            assert_ne!(chosen(&Placement::Any, &["a", "b", "here"], Some(("a", true)), turn).unwrap(), "a");
        }
        assert_eq!(chosen(&Placement::Any, &["a"], Some(("a", true)), 0).unwrap(), "a", "there is no other");
        assert_eq!(chosen(&Placement::Any, &[], Some(("a", true)), 0).unwrap(), "here");
    }

    #[test]
    fn v7_a_child_that_only_ended_stays() {
        for turn in 0..5 {
            assert_eq!(chosen(&Placement::Any, &["a", "b", "here"], Some(("b", false)), turn).unwrap(), "b");
        }
    }

    #[test]
    fn v7_children_spread() {
        let chosen: Vec<_> = (0..3).filter_map(|turn| chosen(&Placement::Any, &["a", "b", "c"], None, turn)).collect();
        assert_eq!(chosen, ["a", "b", "c"]);
    }

    #[test]
    fn v7_named_nodes_are_the_only_ones() {
        let some = Placement::AnyOf(vec![name("b"), name("c")]);
        assert_eq!(chosen(&some, &["a", "here"], None, 0), None);
        assert_eq!(chosen(&some, &["a", "b", "c"], Some(("b", true)), 0).unwrap(), "c");
        assert_eq!(chosen(&Placement::Node(name("b")), &["a", "here"], None, 0), None);
        assert_eq!(chosen(&Placement::Node(name("b")), &["a", "b"], Some(("b", true)), 0).unwrap(), "b");
    }
}
