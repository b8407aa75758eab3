//! What ties one process to others: links, monitors in both directions, names, whom it calls. Plain data;
//! most processes have none, so it is allocated when the first tie is made.
//!
//! A link is removed with an acknowledgement (L4): until it has come, exit signals of the old link are dropped, and a
//! new link may already stand. Erlang's distribution protocol does the same ("link protocol", OTP 23.3 and later).

use std::collections::{HashMap, HashSet};

use rookery_protocol::{Destination, NodeId, Pid, ProcessName, Recipient, Ref, SessionId, UnlinkId};

use crate::trace::ActiveSpan;

#[derive(Debug, Default)]
pub(crate) struct Relations {
    /// The other ends of links. An entry is linked, or being unlinked, or both when it was linked anew.
    pub(crate) links: HashMap<Pid, Link>,
    /// What this process monitors.
    pub(crate) monitors: HashMap<Ref, Destination>,
    /// Who monitors this process.
    pub(crate) watchers: HashSet<(Pid, Ref)>,
    /// Its names.
    pub(crate) names: Vec<ProcessName>,
    /// Whom it has called last, other than processes of its own runtime by their pids; whether it waits still stands in
    /// its vitals.
    pub(crate) called: Option<Destination>,
    /// Who has taken the place of whoever started it, as its supervisor.
    pub(crate) adopted_by: Option<Pid>,
    /// Whether a connection knows that this process has ties over it.
    pub(crate) tied_over_connection: bool,
    /// Whether the cluster's directory knows this process.
    pub(crate) in_directory: bool,
    /// Whether it is told of nodes that come and go.
    pub(crate) watches_nodes: bool,
    /// The span of the message that it works on, if that is of a trace.
    pub(crate) handling: Option<ActiveSpan>,
}

/// What a process leaves when it ends.
pub(crate) enum End {
    /// Whom it was tied to, if it ever was.
    Now(Option<Box<Relations>>),
    /// It had ended already.
    Before,
}

#[derive(Debug, Default)]
pub(crate) struct Link {
    /// The link stands.
    linked: bool,
    /// An unlink that is not acknowledged yet. Exits that come before its acknowledgement are of the old link.
    unlinking: Option<UnlinkId>,
}

impl Relations {
    /// Links to `to`; false if that link stands already.
    pub(crate) fn link(&mut self, to: &Pid) -> bool {
        !std::mem::replace(&mut self.links.entry(to.clone()).or_default().linked, true)
    }

    /// Removes the link to `to`, to be acknowledged by `id`; false if there is none.
    pub(crate) fn unlink(&mut self, to: &Pid, id: UnlinkId) -> bool {
        match self.links.get_mut(to) {
            Some(link) if link.linked => {
                *link = Link { linked: false, unlinking: Some(id) };
                true
            }
            _ => false,
        }
    }

    /// The other end has removed the link.
    pub(crate) fn unlinked_by(&mut self, from: &Pid) {
        if let Some(link) = self.links.get_mut(from) {
            link.linked = false;
            if link.unlinking.is_none() {
                self.links.remove(from);
            }
        }
    }

    /// The other end has seen unlink `id`.
    pub(crate) fn unlink_ack(&mut self, from: &Pid, id: UnlinkId) {
        if let Some(link) = self.links.get_mut(from)
            && link.unlinking == Some(id)
        {
            link.unlinking = None;
            if !link.linked {
                self.links.remove(from);
            }
        }
    }

    /// An exit signal came over the link from `from`: whether it counts. A link breaks once.
    pub(crate) fn break_link(&mut self, from: &Pid) -> bool {
        match self.links.get(from) {
            Some(Link { linked: true, unlinking: None }) => self.links.remove(from).is_some(),
            _ => false,
        }
    }

    /// Whether there are names to be freed when the process ends.
    pub(crate) fn is_named(&self) -> bool {
        self.in_directory || !self.names.is_empty()
    }

    /// What it takes in memory, in bytes; near enough.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.links.capacity() * size_of::<(Pid, Link)>()
            + self.monitors.capacity() * size_of::<(Ref, Destination)>()
            + self.watchers.capacity() * size_of::<(Pid, Ref)>()
            + self.names.capacity() * size_of::<ProcessName>()
    }

    /// The other ends of links that stand.
    pub(crate) fn linked(&self) -> impl Iterator<Item = &Pid> {
        self.links.iter().filter(|(_, link)| link.linked).map(|(pid, _)| pid)
    }

    /// Forgets who is lost and tied itself to this process, and gives what fires: links and monitors.
    pub(crate) fn lost(&mut self, lost: &Lost) -> (Vec<Pid>, Vec<Ref>) {
        let links: Vec<Pid> = self.linked().filter(|pid| lost.has(pid)).cloned().collect();
        // An acknowledgement from there will not come; what fires is an exit like any other, and goes by `break_link`.
        self.links.retain(|pid, link| !lost.has(pid) || std::mem::take(&mut link.unlinking).is_none() || link.linked);
        self.watchers.retain(|(watcher, _)| !lost.has(watcher));
        let monitors = self.monitors.iter().filter(|(_, target)| lost.reaches(target)).map(|(&monitor, _)| monitor);
        (links, monitors.collect())
    }
}

/// Whose processes are lost with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lost {
    /// A node's, its clients' included.
    Node(NodeId),
    /// Those of a client of that node, which is this one. Other nodes number their clients' sessions alike.
    Session(NodeId, SessionId),
}

impl Lost {
    pub(crate) fn has(&self, pid: &Pid) -> bool {
        match self {
            Self::Node(node) => pid.node() == node,
            Self::Session(node, session) => pid.serial().session() == Some(*session) && pid.node() == node,
        }
    }

    pub(crate) fn reaches(&self, target: &Destination) -> bool {
        match (self, &target.to) {
            (Self::Node(node), _) => target.node == *node,
            (Self::Session(node, session), Recipient::Serial(serial)) => {
                serial.session() == Some(*session) && target.node == *node
            }
            (Self::Session(..), _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use rookery_protocol::Serial;

    use super::*;

    fn pid() -> Pid {
        "<a.1.7>".parse().unwrap()
    }

    #[test]
    fn an_exit_before_the_acknowledgement_is_of_the_old_link() {
        let mut relations = Relations::default();
        assert!(relations.link(&pid()));
        assert!(!relations.link(&pid()), "linking twice is one link");
        assert!(relations.unlink(&pid(), UnlinkId(1)));
        assert!(relations.link(&pid()), "linked anew before the acknowledgement");
        assert!(!relations.break_link(&pid()), "this exit was sent before the new link was known");
        relations.unlink_ack(&pid(), UnlinkId(1));
        assert!(relations.break_link(&pid()));
        assert!(!relations.break_link(&pid()), "a link breaks once");
    }

    #[test]
    fn a_late_acknowledgement_of_another_unlink_changes_nothing() {
        let mut relations = Relations::default();
        relations.link(&pid());
        relations.unlink(&pid(), UnlinkId(1));
        relations.link(&pid());
        relations.unlink(&pid(), UnlinkId(2));
        relations.unlink_ack(&pid(), UnlinkId(1));
        assert_eq!(relations.links.len(), 1);
        relations.unlink_ack(&pid(), UnlinkId(2));
        assert!(relations.links.is_empty());
    }

    #[test]
    fn the_loss_of_a_client_leaves_ties_to_clients_of_other_nodes() {
        let session = SessionId::new(1).unwrap();
        let client = |node: &str| Pid::new(node.parse().unwrap(), Serial::of_client(session, 7));
        let mut relations = Relations::default();
        for (number, node) in ["a.1", "b.1"].into_iter().enumerate() {
            relations.link(&client(node));
            relations.monitors.insert(Ref(number as u64), client(node).into());
        }
        let (links, monitors) = relations.lost(&Lost::Session("a.1".parse().unwrap(), session));
        assert_eq!((links, monitors), (vec![client("a.1")], vec![Ref(0)]));
    }

    #[test]
    fn the_loss_of_a_node_leaves_ties_to_others() {
        let other: Pid = "<b.1.7>".parse().unwrap();
        let mut relations = Relations::default();
        relations.link(&pid());
        relations.link(&other);
        relations.watchers.insert((pid(), Ref(1)));
        relations.monitors.insert(Ref(2), pid().into());
        relations.monitors.insert(Ref(3), other.clone().into());
        let (links, monitors) = relations.lost(&Lost::Node(pid().node().clone()));
        assert_eq!((links, monitors), (vec![pid()], vec![Ref(2)]));
        assert!(relations.watchers.is_empty() && relations.break_link(&other));
    }
}
