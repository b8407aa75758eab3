//! What a runtime does when nodes and clients come and go: who is told, in the contract's order.

use std::collections::BTreeSet;

use rookery_protocol::{
    CallId, NodeId, Pid, Serial, SessionId,
    request::{RequestError, ResponseBody},
};

use super::Runtime;
use crate::{
    process::{event::Event, relations::Lost},
    sync::{lock, write},
};

/// Nodes that come and go (M5, L5, M4).
impl Runtime {
    pub(crate) fn monitor_nodes(&self, pid: &Pid, tell: bool) {
        let mut watch = lock(&self.0.node_watch);
        if !tell {
            watch.watchers.remove(&pid.serial());
        } else if let Some(process) = self.0.table.get(pid.serial())
            && process.watch_nodes()
            && watch.watchers.insert(pid.serial())
        {
            for node in &watch.up {
                process.event(Event::NodeUp(node.clone()));
            }
        }
    }

    /// A node is connected: tells the processes that asked for it. Before any of its signals is handed to
    /// [`receive`](Self::receive).
    pub fn node_up(&self, node: &NodeId) {
        let mut watch = lock(&self.0.node_watch);
        if watch.up.insert(node.clone()) {
            self.tell(&watch.watchers, &Event::NodeUp(node.clone()));
        }
    }

    /// A node is lost: breaks the links, fires the monitors and fails the calls of `tied` processes to there, then tells
    /// the processes that asked for it. After the last of its signals was handed to [`receive`](Self::receive).
    pub fn node_lost(&self, node: &NodeId, tied: impl IntoIterator<Item = Serial>, reason: &str) {
        self.node_gone_from_directory(node);
        self.lost(&Lost::Node(node.clone()), tied);
        self.fail_requests(Some(node));
        let mut watch = lock(&self.0.node_watch);
        if watch.up.remove(node) {
            self.tell(&watch.watchers, &Event::NodeDown { node: node.clone(), reason: reason.to_owned() });
        }
    }

    /// A client of this node is lost: frees its names, and tells the `tied` processes of this node.
    pub fn client_lost(&self, session: SessionId, tied: impl IntoIterator<Item = Serial>) {
        write(&self.0.names).retain(|_, pid| pid.serial().session() != Some(session));
        self.session_gone_from_directory(session);
        self.lost(&Lost::Session(self.node().clone(), session), tied);
    }

    fn lost(&self, lost: &Lost, tied: impl IntoIterator<Item = Serial>) {
        for serial in tied {
            if let Some(process) = self.0.table.get(serial) {
                process.lost(lost);
            }
        }
        self.0.calls.fail_from(Some(lost));
        self.0.credits.lost(|to| lost.reaches(to));
    }

    fn tell(&self, watchers: &BTreeSet<Serial>, event: &Event) {
        for &serial in watchers {
            if let Some(process) = self.0.table.get(serial) {
                process.event(event.clone());
            }
        }
    }

    pub(crate) fn fail_requests(&self, node: Option<&NodeId>) {
        let mut requests = lock(&self.0.requests);
        let lost: Vec<CallId> = requests
            .iter()
            .filter(|(_, request)| node.is_none_or(|node| request.node == *node))
            .map(|(&id, _)| id)
            .collect();
        for id in lost {
            if let Some(request) = requests.remove(&id) {
                drop(request.answer.send(ResponseBody::Failed(RequestError::NoConnection)));
            }
        }
    }
}
