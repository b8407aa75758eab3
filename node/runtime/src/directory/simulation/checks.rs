//! What the simulation demands: of each moment, and when all is quiet.

use std::collections::BTreeSet;

use rookery_protocol::Pid;

use super::{NODES, QUIET_WITHIN, World, pairs};
use crate::directory::groups::Members;

impl World {
    /// What holds at any moment.
    pub(super) fn check_now(&self) {
        for node in &self.nodes {
            for (name, holder) in node.names.all() {
                let known = *holder.node() == node.id || node.links.contains_key(holder.node());
                assert!(known, "N3: {} looks `{name}` up as {holder}, whose node it knows to be lost", node.id);
                if *holder.node() == node.id {
                    assert!(node.alive.contains(holder), "P5: {holder} has ended and holds `{name}`");
                }
            }
            for (group, members) in node.groups.all() {
                for pid in members.iter() {
                    let known = *pid.node() == node.id || node.links.contains_key(pid.node());
                    assert!(known, "G1: {} lists {pid} in {group}, whose node it knows to be lost", node.id);
                }
            }
        }
        if self.calm {
            for name in &self.names {
                // Whoever waits for its predecessor to give it up is none yet.
                let seen = self.nodes.iter().map(|node| (&node.id, node.names.holder(name)));
                let holders: Vec<&Pid> =
                    seen.filter_map(|(own, holder)| holder.filter(|pid| pid.node() == own)).collect();
                assert!(holders.len() <= 1, "N2: {holders:?} hold `{name}`, though no connection was ever lost");
            }
        }
    }

    /// All connections are made, and all that is under way arrives; then every replica is the truth.
    pub(super) fn check_quiet(&mut self) {
        for (one, other) in pairs() {
            let (a, b) = (self.nodes[one].id.clone(), self.nodes[other].id.clone());
            if self.nodes[one].links.get(&b) != self.nodes[other].links.get(&a) {
                self.notice(one, &b);
                self.notice(other, &a);
            }
            self.connect(one, other);
        }
        let mut left = QUIET_WITHIN;
        loop {
            left = left.checked_sub(1).expect("N2: all is connected and nothing changes, and yet they talk for ever");
            let under_way = self.wires.values().any(|queue| !queue.is_empty());
            if !under_way && self.handed.is_empty() {
                break;
            }
            // Two successors of one process ask about each other until one has its place.
            if self.random.below(4) == 0 { self.go_on_with_hand_over() } else { self.deliver() }
        }
        for name in &self.names {
            let holders: Vec<Option<&Pid>> = self.nodes.iter().map(|node| node.names.holder(name)).collect();
            assert!(holders.windows(2).all(|pair| pair[0] == pair[1]), "N2: `{name}` is seen as {holders:?}");
            let own = self.nodes.iter().flat_map(|node| node.names.own()).filter(|(_, held, _)| *held == name).count();
            assert_eq!(own, holders.iter().flatten().count().min(1), "N2: `{name}` is held {own} times");
        }
        for group in &self.groups {
            let truth: BTreeSet<&Pid> = self
                .joined
                .iter()
                .filter(|((_, joined), count)| joined == group && **count > 0)
                .map(|((pid, _), _)| pid)
                .collect();
            for node in &self.nodes {
                let seen: BTreeSet<&Pid> = node.groups.members(group).into_iter().flat_map(Members::iter).collect();
                assert_eq!(seen, truth, "G2: {group} as {} sees it", node.id);
            }
        }
        // Nothing that was granted is kept for somebody who does not take it.
        for name in self.names.clone() {
            for at in 0..NODES {
                self.spawn(at);
                let pid = self.nodes[at].alive.last().unwrap().clone();
                let arbiter = self.random.below(NODES);
                if self.nodes[arbiter].names.holder(&name).is_none() {
                    let granted = self.nodes[arbiter].names.grant(&name, &pid);
                    assert_eq!(granted, Ok(()), "N4: `{name}` is kept for nobody");
                    self.nodes[arbiter].names.release(&name, &pid);
                }
            }
        }
    }
}
