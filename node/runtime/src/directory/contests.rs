//! Who seems to lose a cluster name to an older holder: that one's node is asked first, since it may have given the name up, and its word
//! of that be on its way still (N2).
//!
//! ```text
//! a peer's process has our process's name, and is older ─▶ its node is asked ─┬▶ it has it: ours has lost the name
//!                  ▲                                                          └▶ it has not: that will be heard
//!                  └──────────────── not heard yet ◀───────────────────────────────┘
//! ```
//! An arbiter grants a name as soon as *it* has heard that the former holder gave it up, and the next one's node may hear of that holder
//! only then: nothing orders what comes over different connections.
//!
//! **Invariant:** a contest ends when its process has lost the name, or the other one is not before it any more.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use rookery_protocol::{
    DirectoryUpdate, NodeId, Signal, SignalBody,
    limits::MAX_NAMES_PER_LOOKUP,
    request::{RequestBody, RequestError, ResponseBody},
};
use tokio::task::JoinSet;

use super::{
    State,
    names::{Contest, NameTable},
};
use crate::{
    requests::Ties,
    runtime::Runtime,
    sync::{read, write},
};

/// How soon a node is asked again that has said that its process does not have the name, while ours still sees it before itself.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// Questions to one node at a time, each of so many names as fit: two parts that meet may hold thousands alike.
const QUESTIONS: usize = 64;

/// What a node is to be asked. Of one that is here a task asks.
#[derive(Debug, Default)]
pub(super) struct Contests(HashMap<NodeId, HashSet<Contest>>);

impl Contests {
    /// Notes one. Whether a task has to begin to ask.
    fn add(&mut self, contest: Contest) -> bool {
        let begins = !self.0.contains_key(contest.holder.node());
        self.0.entry(contest.holder.node().clone()).or_default().insert(contest);
        begins
    }

    /// What `node` is to be asked next, beside what it is asked again. When that is nothing, the task that asks has to end.
    fn next(&mut self, node: &NodeId, names: &NameTable, asked: &mut Vec<Contest>) {
        asked.retain(|contest| names.stands(contest));
        let room = (QUESTIONS * MAX_NAMES_PER_LOOKUP).saturating_sub(asked.len());
        if let Some(waiting) = self.0.get_mut(node) {
            asked.extend(waiting.extract_if(|_| true).filter(|contest| names.stands(contest)).take(room));
        }
        if asked.is_empty() {
            self.0.remove(node);
        }
    }
}

impl Runtime {
    /// Has the node of the older holder asked.
    pub(super) fn contest(&self, contests: &mut Contests, contest: Contest) {
        let node = contest.holder.node().clone();
        if contests.add(contest) {
            // Ends when all is settled, or with the connection to that node. Among the I/O, which nobody's program holds up.
            self.executor().io().spawn(settle(self.clone(), node));
        }
    }

    /// The older one has the name: ours has lost it, and everybody is told.
    fn lose(&self, contest: Contest) {
        {
            let mut state = write(&self.directory().0);
            if !state.names.stands(&contest) {
                return;
            }
            state.names.release(&contest.name, &contest.loser);
            state.tell(&contest.loser, &DirectoryUpdate::Release { name: contest.name.clone() });
        }
        let Contest { name, loser, holder, .. } = contest;
        tracing::warn!(%name, %loser, %holder, "two processes held one cluster name; the older one keeps it");
        match self.process(&loser) {
            Some(process) => process.name_conflict(name, holder),
            None => {
                let body = SignalBody::NameConflict { name, holder };
                self.signal(Signal { from: self.own_pid(), to: loser.into(), body });
            }
        }
    }
}

/// Asks `node` until nothing is contested with its processes.
async fn settle(runtime: Runtime, node: NodeId) {
    let mut asked = Vec::new();
    loop {
        {
            let State { contests, names, .. } = &mut *write(&runtime.directory().0);
            contests.next(&node, names, &mut asked);
        }
        if asked.is_empty() || runtime.is_closed() {
            return;
        }
        let mut questions = JoinSet::new();
        for part in asked.chunks(MAX_NAMES_PER_LOOKUP) {
            questions.spawn(ask(runtime.clone(), node.clone(), part.to_vec()));
        }
        while questions.join_next().await.is_some() {}
        let stands = {
            let state = read(&runtime.directory().0);
            asked.iter().any(|contest| state.names.stands(contest))
        };
        if stands {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}

/// Asks once, and takes the names away that are lost.
async fn ask(runtime: Runtime, node: NodeId, contests: Vec<Contest>) {
    let names = contests.iter().map(|contest| contest.name.clone()).collect();
    let answer =
        runtime.request_as(&runtime.own_pid(), &node, RequestBody::WhereInCluster { names }, Ties::default()).await;
    let holders = match answer {
        Ok(ResponseBody::Holders(holders)) if holders.len() == contests.len() => holders,
        // What its processes have goes with the connection, and is told anew on the next.
        Err(RequestError::NoConnection) => return,
        // The rule stands where nobody says otherwise.
        _ => contests.iter().map(|contest| Some(contest.holder.clone())).collect(),
    };
    for (contest, holder) in contests.into_iter().zip(holders) {
        if holder.as_ref() == Some(&contest.holder) {
            runtime.lose(contest);
        }
    }
}
