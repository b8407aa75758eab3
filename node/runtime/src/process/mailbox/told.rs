//! What is told about a process.

use rookery_protocol::{Destination, Pid};

use crate::{
    message::Message,
    process::{
        info::{CallInfo, Callee, ProcessInfo, ProcessState},
        mailbox::{Phase, Process, State, item::Item},
    },
};

impl<M: Message> Process<M> {
    pub(super) fn info_of(&self, state: &State<M>) -> ProcessInfo {
        let relations = state.relations.as_deref();
        let count = |count: Option<usize>| count.unwrap_or(0) as u64;
        let now_us = self.runtime.uptime_us();
        let call = self.vitals.call(relations.and_then(|relations| relations.called.as_ref()));
        let call = call.map(|(to, since_us)| CallInfo {
            to: match to {
                Callee::Own(serial) => Pid::new(self.pid.node().clone(), serial).to_string(),
                Callee::Other(to) => to.to_string(),
            },
            for_ms: now_us.saturating_sub(since_us) / 1_000,
        });
        ProcessInfo {
            pid: self.pid.clone(),
            names: relations.map(|relations| relations.names.clone()).unwrap_or_default(),
            // The directory knows them.
            cluster_names: Vec::new(),
            behaviour: self.label.to_owned(),
            state: match state.phase {
                Phase::Running if self.vitals.is_running() => ProcessState::Running,
                Phase::Running if self.is_suspended() => ProcessState::Suspended,
                Phase::Running => ProcessState::Waiting,
                Phase::Ending | Phase::Leaving | Phase::Ended => ProcessState::Stopping,
            },
            mailbox: (state.queue.len() + self.vitals.unreceived()) as u64,
            handled: self.vitals.handled(),
            steps: self.vitals.steps(),
            memory_bytes: self.bytes(state) as u64,
            age_ms: self.vitals.age_us(now_us) / 1_000,
            parent: relations.and_then(|own| own.adopted_by.clone()).or_else(|| self.parent.clone()),
            call,
            links: count(relations.map(|relations| relations.linked().count())),
            monitors: count(relations.map(|relations| relations.monitors.len())),
            watchers: count(relations.map(|relations| relations.watchers.len())),
            traps_exits: state.traps_exits,
        }
    }

    pub(super) fn bytes(&self, state: &State<M>) -> usize {
        let items = state.queue.capacity() + self.vitals.unreceived();
        let relations = state.relations.as_ref().map_or(0, |relations| relations.bytes());
        size_of::<Self>() + self.vitals.task_bytes() + items * size_of::<Item<M>>() + relations
    }
}

pub(super) fn to_text(to: &Destination) -> String {
    to.to_string()
}
