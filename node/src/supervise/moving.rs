//! How a supervisor's process moves children to other nodes: those that spread, to a node that has fewer; and all that can go,
//! from a node that is about to leave (`Evacuate`).
//!
//! ```text
//! Evacuate(node) ─▶ evacuation (pure): whose turn is it ─▶ StrategyMachine::handle_hand_over
//!                        ▲                                    │ Succeed
//!                        └── moved, not moved ◀── start, as successor, on the node that the placement chooses
//! ```

use rookery_runtime::{NodeId, Pid, ReplyTo, RequestError};

use crate::{
    status::NodeStatus,
    supervise::{
        driver::{Driver, now},
        effect::{Attempt, StartFailure},
        evacuation::Verdict,
        limits::{HAND_OVER_RETRY, MOVE_AGAIN},
        message::SupervisorMessage,
        placement::Placement,
        policy::{ChildId, Restart},
        requesters::MEMBERS_ALONE,
        start::ChildStart,
    },
};

impl Driver {
    /// A node is about to leave: what can go from there goes. `reply` is answered when nothing more can be done.
    pub(super) fn evacuate(&mut self, node: NodeId, reply: ReplyTo<u64>) {
        if !reply.asked_by_member() {
            return reply.refuse(MEMBERS_ALONE);
        }
        let there = |pid: Option<&Pid>| pid.is_some_and(|pid| *pid.node() == node);
        let children: Vec<ChildId> =
            self.machine.children().filter(|child| there(child.pid)).map(|child| child.id.clone()).collect();
        let (go, stay): (Vec<ChildId>, Vec<ChildId>) =
            children.into_iter().partition(|child| self.may_live_elsewhere(child, &node));
        tracing::info!(supervisor = self.name, %node, children = go.len(), staying = stay.len(), "a node leaves; its children are handed over");
        self.evacuation.begin(node.clone(), go);
        self.evacuating.push((node, reply));
        self.context.send_after(HAND_OVER_RETRY, SupervisorMessage::Evacuating);
        self.go_on_evacuating();
    }

    fn may_live_elsewhere(&self, child: &ChildId, node: &NodeId) -> bool {
        if self.specs.get(child).is_some_and(|spec| spec.restart == Restart::Temporary) {
            return false;
        }
        match self.specs.get(child).map(|spec| &spec.start) {
            Some(ChildStart::Behaviour { placement: Placement::Here, .. }) => self.context.pid().node() != node,
            Some(ChildStart::Behaviour { placement: Placement::Node(name), .. }) => name != node.name(),
            Some(ChildStart::Behaviour { .. }) => true,
            Some(ChildStart::Local(_)) | None => false,
        }
    }

    /// The time for further tries has come.
    pub(super) fn evacuating(&mut self) {
        self.evacuation.try_again();
        self.go_on_evacuating();
        if !self.evacuating.is_empty() {
            self.context.send_after(HAND_OVER_RETRY, SupervisorMessage::Evacuating);
        }
    }

    /// Hands over whose turn it is; answers when all is done.
    pub(super) fn go_on_evacuating(&mut self) {
        if self.evacuating.is_empty() {
            return;
        }
        let (machine, evacuation) = (&mut self.machine, &mut self.evacuation);
        loop {
            // First: it makes room.
            let on_one_that_leaves = |child: &ChildId, leaving: &dyn Fn(&NodeId) -> bool| {
                machine.pid_of(child).is_some_and(|pid| leaving(pid.node()))
            };
            let leaving: Vec<NodeId> = self.evacuating.iter().map(|(node, _)| node.clone()).collect();
            evacuation.settle(|child| on_one_that_leaves(child, &|node| leaving.contains(node)));
            let Some(child) = evacuation.next() else { break };
            if on_one_that_leaves(&child, &|node| leaving.contains(node)) {
                match machine.may_move(&child) {
                    true => machine.handle_hand_over(&child),
                    false => evacuation.later(child),
                }
            }
        }
        if evacuation.is_done() {
            for (node, reply) in std::mem::take(&mut self.evacuating) {
                let left = machine.children().filter(|child| child.pid.is_some_and(|pid| *pid.node() == node)).count();
                reply.answer(left as u64);
            }
        }
    }

    /// Starts a child's successor, where its placement allows.
    pub(super) fn succeed(&mut self, child: ChildId, attempt: Attempt, pid: Pid) {
        if self.evacuation.is_leaving(pid.node()) {
            // Elsewhere than there.
            self.homes.left(&child, pid.node().name(), true);
        }
        self.succeeding.insert(attempt, pid);
        self.start(child, attempt);
    }

    /// What is known of the nodes, and that those that leave take no children, whether they have told it or not.
    pub(super) fn without_leaving(&self, up: &[NodeStatus]) -> Vec<NodeStatus> {
        let told = |status: &NodeStatus| {
            let draining = status.draining || self.evacuation.is_leaving(&status.node);
            NodeStatus { draining, ..status.clone() }
        };
        up.iter().map(told).collect()
    }

    /// A child was not handed over, and runs on where it is.
    pub(super) fn not_moved(&mut self, child: &ChildId, failure: &StartFailure) {
        let Some(pid) = self.machine.movable_pid(child).cloned() else { return };
        if self.evacuation.is_leaving(pid.node()) {
            match self.evacuation.failed(child, failure) {
                Verdict::WithoutState => {
                    tracing::warn!(supervisor = self.name, %child, %pid, "child cannot hand over its state; it is started elsewhere without");
                    self.machine.handle_move(child);
                }
                Verdict::Again | Verdict::Stays => {}
            }
            return;
        }
        // The other node, or this one, is of a release that knows nothing of handing over, or no node takes that from a client.
        let in_a_client = self.context.pid().serial().session().is_some();
        if let StartFailure::Failed(error) = failure
            && match error {
                RequestError::BadArguments { .. } | RequestError::Unsupported | RequestError::NameTaken { .. } => true,
                RequestError::Refused(_) => in_a_client,
                _ => false,
            }
        {
            // The place is right, only not as a successor.
            if let Some(ChildStart::Behaviour { placement, .. }) = self.specs.get(child).map(|spec| &spec.start)
                && let Some(elsewhere) = self.homes.last(child).map(|last| last.node.clone())
            {
                self.homes.chosen(child, &elsewhere, placement);
            }
            return self.machine.handle_move(child);
        }
        if let Some(ChildStart::Behaviour { placement, .. }) = self.specs.get(child).map(|spec| &spec.start) {
            if let Some(elsewhere) = self.homes.last(child).map(|last| last.node.clone()) {
                let shun = matches!(failure, StartFailure::Failed(RequestError::UnknownBehaviour { .. }));
                self.homes.start_failed(child, &elsewhere, shun);
                // The child was busy, or it is that node where it does not work: others may do better there, or it elsewhere. Either
                // would be tried ten times a second.
                let until = now() + MOVE_AGAIN;
                if matches!(failure, StartFailure::Failed(RequestError::Timeout)) {
                    self.stays_until.insert(child.clone(), until);
                } else {
                    self.not_to_until.insert(elsewhere, until);
                }
            }
            self.homes.chosen(child, pid.node().name(), placement);
            self.context.send_after(MOVE_AGAIN, SupervisorMessage::Rebalance);
        }
    }
}
