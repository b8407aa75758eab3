//! Where a child lives (V7): the choice of a node among those that are up. Pure.
//!
//! A child that merely ended stays where it was; one whose node was lost, or where its start failed, goes elsewhere. What
//! is known of the nodes comes from `rookery:status` (`status.rs`), where a supervisor's children are from its
//! [`Homes`].

use std::{collections::BTreeMap, fmt};

use rookery_runtime::{NodeId, NodeName};
use serde::{Deserialize, Serialize};

use crate::{status::NodeStatus, supervise::homes::Homes, supervise::policy::ChildId};

/// Where a child may live. Nodes that are draining take none, unless they are named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// On the supervisor's node.
    #[default]
    Here,
    /// On the node of this name. While it is not up the child waits for it.
    Node(NodeName),
    /// On any node that is up, in turn.
    Any,
    /// On one of these, in turn. While none is up the child waits for one.
    AnyOf(Vec<NodeName>),
    /// On a node with all of these labels, in turn. While none is up the child waits for one.
    Label(BTreeMap<String, String>),
    /// Evenly over the nodes that are up: on the one that has the fewest of the supervisor's children that are placed so.
    /// When a node joins, children move there, a few a second.
    Spread,
    /// On the node with the fewest processes.
    LeastLoaded,
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
    /// Whether a choice needs to know the nodes that are up.
    #[must_use]
    pub(super) fn is_choice(&self) -> bool {
        !matches!(self, Self::Here | Self::Node(_))
    }

    /// A node for the child, or `None` if none is up where it may live.
    pub(super) fn choose(&self, child: &ChildId, here: &NodeId, up: &[NodeStatus], homes: &Homes) -> Option<NodeId> {
        let allowed = |status: &NodeStatus| match self {
            Self::Here => status.node == *here,
            Self::Node(name) => status.node.name() == name,
            Self::AnyOf(names) => !status.draining && names.contains(status.node.name()),
            Self::Label(labels) => {
                !status.draining && labels.iter().all(|(name, value)| status.labels.get(name) == Some(value))
            }
            Self::Any | Self::Spread | Self::LeastLoaded => !status.draining,
        };
        let candidates: Vec<&NodeStatus> = up.iter().filter(|status| allowed(status)).collect();
        let last = homes.last(child);
        let stays = last.filter(|last| !last.failed);
        if let Some(last) = stays
            && let Some(status) = candidates.iter().find(|status| *status.node.name() == last.node)
        {
            return Some(status.node.clone());
        }
        // Elsewhere than where it failed and than where others could not be started, as far as there is an elsewhere.
        let fit = |status: &&NodeStatus| {
            let name = status.node.name();
            last.is_none_or(|last| *name != last.node) && !homes.is_shunned(name)
        };
        let fits: Vec<&NodeStatus> = candidates.iter().copied().filter(fit).collect();
        let from = if fits.is_empty() { &candidates } else { &fits };
        let chosen = match self {
            Self::Spread => from.iter().min_by_key(|status| homes.spread_on(status.node.name())),
            Self::LeastLoaded => from.iter().min_by_key(|status| homes.load_of(status)),
            _ => from.get(homes.turn() % from.len().max(1)),
        };
        match chosen {
            Some(status) => Some(status.node.clone()),
            // A client, or a node without peers, that has not been told of itself.
            None if matches!(self, Self::Here | Self::Any | Self::Spread | Self::LeastLoaded) => Some(here.clone()),
            None => None,
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("this node"),
            Self::Node(name) => write!(f, "node {name}"),
            Self::Any | Self::Spread | Self::LeastLoaded => f.write_str("any node"),
            Self::AnyOf(names) => {
                f.write_str("one of")?;
                names.iter().try_for_each(|name| write!(f, " {name}"))
            }
            Self::Label(labels) => {
                f.write_str("a node with")?;
                labels.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;

    fn up(names: &[&str]) -> Vec<NodeStatus> {
        names.iter().map(|name| NodeStatus::unknown(format!("{name}.1").parse().unwrap())).collect()
    }

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    fn id(text: &str) -> ChildId {
        ChildId::new(text).unwrap()
    }

    /// Where the child `c` goes, that was last where `last` says, after `turns` others.
    fn chosen(placement: &Placement, nodes: &[NodeStatus], last: Option<(&str, bool)>, turns: usize) -> Option<String> {
        let mut homes = Homes::default();
        for turn in 0..turns {
            homes.chosen(&id(&format!("other-{turn}")), &name("elsewhere"), placement);
        }
        if let Some((node, failed)) = last {
            homes.chosen(&id("c"), &name(node), placement);
            homes.left(&id("c"), &name(node), failed);
        }
        placement.choose(&id("c"), &"here.1".parse().unwrap(), nodes, &homes).map(|node| node.name().to_string())
    }

    #[test]
    fn v7_any_avoids_the_node_that_was_lost() {
        for turn in 0..5 {
            let anywhere = up(&["a", "b", "here"]);
            assert_ne!(chosen(&Placement::Any, &anywhere, Some(("a", true)), turn).unwrap(), "a");
        }
        assert_eq!(chosen(&Placement::Any, &up(&["a"]), Some(("a", true)), 0).unwrap(), "a", "there is no other");
        assert_eq!(chosen(&Placement::Any, &[], Some(("a", true)), 0).unwrap(), "here");
    }

    #[test]
    fn v7_a_child_that_only_ended_stays() {
        for placement in [Placement::Any, Placement::Spread, Placement::LeastLoaded] {
            for turn in 0..5 {
                let nodes = up(&["a", "b", "here"]);
                assert_eq!(chosen(&placement, &nodes, Some(("b", false)), turn).unwrap(), "b", "{placement:?}");
            }
        }
    }

    #[test]
    fn v7_children_take_nodes_in_turn() {
        let chosen: Vec<_> =
            (0..3).filter_map(|turn| chosen(&Placement::Any, &up(&["a", "b", "c"]), None, turn)).collect();
        assert_eq!(chosen, ["a", "b", "c"]);
    }

    #[test]
    fn v7_named_nodes_are_the_only_ones() {
        let some = Placement::AnyOf(vec![name("b"), name("c")]);
        assert_eq!(chosen(&some, &up(&["a", "here"]), None, 0), None);
        assert_eq!(chosen(&some, &up(&["a", "b", "c"]), Some(("b", true)), 0).unwrap(), "c");
        assert_eq!(chosen(&Placement::Node(name("b")), &up(&["a", "here"]), None, 0), None);
        assert_eq!(chosen(&Placement::Node(name("b")), &up(&["a", "b"]), Some(("b", true)), 0).unwrap(), "b");
    }

    #[test]
    fn v7_a_label_is_a_node_that_has_it() {
        let mut nodes = up(&["a", "b", "c"]);
        nodes[1].labels.insert("zone".to_owned(), "west".to_owned());
        nodes[2].labels.insert("zone".to_owned(), "east".to_owned());
        let zone = |value: &str| Placement::Label(BTreeMap::from([("zone".to_owned(), value.to_owned())]));
        assert_eq!(chosen(&zone("west"), &nodes, None, 0).unwrap(), "b");
        assert_eq!(chosen(&zone("east"), &nodes, Some(("b", false)), 0).unwrap(), "c", "its label has changed");
        assert_eq!(chosen(&zone("south"), &nodes, None, 0), None);
        nodes[1].draining = true;
        assert_eq!(chosen(&zone("west"), &nodes, None, 0), None);
    }

    #[test]
    fn v7_the_least_loaded_node_counts_what_was_started_since_it_told() {
        let mut nodes = up(&["a", "b"]);
        (nodes[0].processes, nodes[1].processes) = (10, 12);
        let mut homes = Homes::default();
        let mut where_to = Vec::new();
        for number in 0..6 {
            let child = id(&number.to_string());
            let node = Placement::LeastLoaded.choose(&child, &"here.1".parse().unwrap(), &nodes, &homes).unwrap();
            homes.started_on(nodes.iter().find(|status| status.node == node).unwrap());
            where_to.push(node.name().to_string());
        }
        assert_eq!(where_to, ["a", "a", "a", "b", "a", "b"]);
        // Told anew, the node counts them itself.
        (nodes[0].processes, nodes[0].told) = (14, 1);
        let node = Placement::LeastLoaded.choose(&id("x"), &"here.1".parse().unwrap(), &nodes, &homes).unwrap();
        assert_eq!((node.name().as_str(), homes.load_of(&nodes[0]), homes.load_of(&nodes[1])), ("a", 14, 14));
    }
}
