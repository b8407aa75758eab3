//! Names that are handed over in the simulation: a process of another node, or the same, takes a name behind its holder; when all know,
//! that one gives it up.

use rookery_protocol::{DirectoryUpdate, Pid, ProcessName};

use super::{Bug, NODES, Packet, World};

impl World {
    /// A process of this node lets one of this or another node take its place.
    pub(super) fn hand_over(&mut self, at: usize) {
        let Some((of, name)) = self.some_name(at) else { return };
        let to = self.random.below(NODES);
        if to == at {
            self.nodes[at].handing.insert((of.clone(), name.clone()));
            self.spawn(at);
            let new = self.nodes[at].alive.last().unwrap().clone();
            return self.succeed(at, &new, of, name);
        }
        let to = self.nodes[to].id.clone();
        if self.nodes[at].links.contains_key(&to) {
            self.nodes[at].handing.insert((of.clone(), name.clone()));
            self.push(at, &to, Packet::HandOver(of, name));
        }
    }

    pub(super) fn succeed(&mut self, at: usize, new: &Pid, of: Pid, name: ProcessName) {
        let Some((stamp, contests)) = self.nodes[at].names.succeed(&name, new, &of) else { return };
        self.tell(at, new, &DirectoryUpdate::Hold { name: name.clone(), stamp });
        if self.bug != Bug::SucceedsUncontested {
            contests.into_iter().for_each(|contest| self.contest(at, contest));
        }
        self.handed.push_back((new.clone(), of, name));
    }

    /// A successor that is known everywhere says so to whoever gives up the name.
    pub(super) fn go_on_with_hand_over(&mut self) {
        let Some((new, of, name)) = self.handed.pop_front() else { return };
        let Some(at) = self.nodes.iter().position(|node| node.id == *new.node()) else { return };
        if !self.nodes[at].names.has(&name, &new) {
            return;
        }
        let links = &self.nodes[at].links;
        if self.nodes.iter().any(|node| links.contains_key(&node.id) && !node.names.has(&name, &new)) {
            return self.handed.push_back((new, of, name));
        }
        if *of.node() == *new.node() {
            self.commit(at, &of, &name);
        } else {
            self.push(at, &of.node().clone(), Packet::Commit(of, name));
        }
    }

    /// The place is taken.
    pub(super) fn commit(&mut self, at: usize, of: &Pid, name: &ProcessName) {
        self.nodes[at].handing.remove(&(of.clone(), name.clone()));
        if self.nodes[at].names.has(name, of) {
            self.nodes[at].names.release(name, of);
            self.tell(at, of, &DirectoryUpdate::Release { name: name.clone() });
        }
    }
}
