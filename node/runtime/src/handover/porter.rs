//! `rookery:handover` on every node: passes on what successors ask the node's processes, and tells these when a successor
//! is gone.
//!
//! A process that is no server offers nothing, and cannot be held: it hands over its names, and is shut down.

use std::{collections::HashMap, time::Duration};

use rookery_protocol::{CallFailure, Destination, ExitReason, NodeId, Pid, ProcessName, Ref, request::RequestError};

use super::{
    limits::RELAY_PATIENCE,
    wire::{Adoption, Asked, Offer, Relayed},
};
use crate::{
    behaviour::system::SystemRequest,
    process::{
        context::Context,
        event::{Event, Received},
    },
    reply::{ReplyTo, dropping},
    runtime::Runtime,
    spawn::SpawnOptions,
};

/// The name of the process on every node.
pub(crate) const PORTER_NAME: &str = "rookery:handover";

/// How long a process that is no server, and has a successor, has to end.
const PLAIN_ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Where the porter of a node is asked.
pub(crate) fn porter_of(node: &NodeId) -> Result<Destination, RequestError> {
    let name = ProcessName::new(PORTER_NAME).map_err(|error| RequestError::Refused(error.to_string()))?;
    Ok(Destination::name(node.clone(), name))
}

impl Runtime {
    /// Starts the process by which this node's processes hand over to others. A node has one.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_handover(&self) -> Result<(), RequestError> {
        let name = ProcessName::new(PORTER_NAME).map_err(|error| RequestError::Refused(error.to_string()))?;
        let options = SpawnOptions::new().name(name).label(PORTER_NAME).members_only().vital();
        self.spawn_with(options, |context: Context<Asked>| Porter { context, successors: HashMap::new() }.run())?;
        Ok(())
    }

    /// `child`, wherever it lives, obeys `parent` from now on, as if that had started it. Does not wait. `parent` links to it
    /// itself.
    pub fn adopt(&self, child: &Pid, parent: &Pid) {
        let adoption = Adoption { child: child.clone(), parent: parent.clone() };
        if child.node() == self.node() {
            return self.adopt_here(adoption);
        }
        if let Ok(porter) = porter_of(child.node())
            && let Err(error) = self.address::<Asked>(porter).try_send(Asked::Adopt(adoption))
        {
            tracing::warn!(%child, %error, "a process is not told of its new supervisor; it still obeys the former one");
        }
    }

    /// Waits until all that this node has been told so far of processes that obey another one has been done, at most so long.
    pub async fn adoptions_are_done(&self, patience: Duration) {
        let Ok(porter) = porter_of(self.node()) else { return };
        let nobody = self.own_pid();
        // What is asked about nobody is answered behind all that came before, and changes nothing.
        let asked = |reply| Asked::Part(nobody.clone(), nobody, 0, reply);
        drop(self.address::<Asked>(porter).call_within(patience, asked).await);
    }

    fn adopt_here(&self, Adoption { child, parent }: Adoption) {
        if let Some(process) = self.process(&child) {
            process.adopt(parent);
        }
    }
}

/// Tells whoever asks that the process has ended; `NoProc` would say that there is no porter.
fn gone<T>(question: T) {
    dropping::within(dropping::Mode::Fail(CallFailure::Exited(ExitReason::NoProc)), question);
}

struct Porter {
    context: Context<Asked>,
    /// Who hands over to whom, by the monitor on the latter.
    successors: HashMap<Ref, (Pid, Pid)>,
}

impl Porter {
    async fn run(mut self) {
        while !self.context.runtime().is_closed() {
            match self.context.receive().await {
                Received::Message(asked) => self.asked(asked),
                Received::Event(Event::Down(down)) => {
                    if let Some((old, new)) = self.successors.remove(&down.monitor) {
                        self.pass(&old, SystemRequest::Abandon(new));
                    }
                }
                Received::Event(_) => {}
            }
        }
    }

    fn asked(&mut self, asked: Asked) {
        match asked {
            Asked::Offer(old, new, reply) => {
                match self.context.runtime().process(&old) {
                    None => return gone(reply),
                    Some(process) if !process.serves() => return drop(reply.send(Offer::Nothing)),
                    Some(_) => {}
                }
                // Before it is asked: what ends at once is told of all the same.
                let monitor = self.context.monitor(&new);
                self.successors.insert(monitor, (old.clone(), new.clone()));
                self.pass(&old, SystemRequest::HandOver(new, reply));
            }
            Asked::Part(old, new, offset, reply) => self.pass(&old, SystemRequest::Part(new, offset, reply)),
            Asked::Commit(old, new, reply) => {
                let watched: Vec<Ref> = self
                    .successors
                    .iter()
                    .filter(|(_, it)| (&it.0, &it.1) == (&old, &new))
                    .map(|(at, _)| *at)
                    .collect();
                for monitor in watched {
                    self.successors.remove(&monitor);
                    self.context.demonitor(monitor);
                }
                match self.context.runtime().process(&old) {
                    Some(process) if !process.serves() => {
                        self.context.runtime().leave_names(&old);
                        self.end_plain(old);
                        drop(reply.send(()));
                    }
                    Some(_) => self.pass(&old, SystemRequest::Commit(new, reply)),
                    None => gone(reply),
                }
            }
            Asked::Adopt(adoption) => self.context.runtime().adopt_here(adoption),
            Asked::Relay(old, new, reply) => self.relay(old, new, reply),
        }
    }

    fn pass(&self, old: &Pid, request: SystemRequest) {
        match self.context.runtime().process(old) {
            Some(process) => drop(process.system_request(request)),
            None => gone(request),
        }
    }

    /// Asks in place of a successor that does not reach its predecessor itself.
    fn relay(&self, old: Pid, new: Pid, reply: ReplyTo<Relayed>) {
        let relaying = async move |context: Context<()>| {
            let Ok(porter) = porter_of(old.node()) else { return };
            let porter = context.runtime().address::<Asked>(porter);
            let answer = porter.call_within(RELAY_PATIENCE, |reply| Asked::Commit(old, new, reply)).await;
            drop(reply.send(Relayed::of(answer)));
        };
        drop(self.context.runtime().spawn(relaying));
    }

    /// Shuts a process down that has a successor.
    fn end_plain(&self, old: Pid) {
        let ending = async move |mut context: Context<()>| {
            let monitor = context.monitor(&old);
            context.exit(&old, ExitReason::Shutdown);
            let ended = async {
                loop {
                    if let Received::Event(Event::Down(down)) = context.receive().await
                        && down.monitor == monitor
                    {
                        return;
                    }
                }
            };
            if tokio::time::timeout(PLAIN_ENDS_WITHIN, ended).await.is_err() {
                context.exit(&old, ExitReason::Kill);
            }
        };
        drop(self.context.runtime().spawn(ending));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use std::collections::BTreeSet;

    use rookery_protocol::Serial;

    use super::*;
    use crate::RuntimeConfig;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn d6_whoever_has_become_a_childs_supervisor_is_known_before_a_node_that_leaves_asks() {
        let runtime = Runtime::new(RuntimeConfig::new("a.1".parse().unwrap())).unwrap();
        runtime.start_handover().unwrap();
        let child = runtime.spawn(async |_: Context<()>| std::future::pending::<()>().await);
        let child = child.unwrap().pid().unwrap();
        let porter = runtime.address::<Asked>(porter_of(runtime.node()).unwrap());
        for number in 1..=1_000 {
            let parent = Pid::new("b.1".parse().unwrap(), Serial(number));
            // As another node says it.
            let adoption = Adoption { child: child.clone(), parent: parent.clone() };
            porter.try_send(Asked::Adopt(adoption)).unwrap();
            if number % 100 == 0 {
                runtime.adoptions_are_done(DEADLINE).await;
                assert_eq!(runtime.supervisors_elsewhere(), BTreeSet::from([parent]));
            }
        }
    }
}
