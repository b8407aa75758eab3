//! A node leaves: what it hands over before its processes are told to end (D6).
//!
//! ```text
//! takes no new processes, others know ─▶ trees of the cluster go to other nodes, as they run
//!     ─▶ supervisors elsewhere hand over their children here to successors ─▶ what is on its way gets there
//! beside it: clients look for another node, and go when their calls are answered
//! ```
//! Each step has what is left of the time; what is not done then ends with the node, and is started elsewhere without its state.

use std::time::{Duration, Instant};

use rookery_runtime::{CallError, Pid, Runtime};

use crate::{
    ask::Ask,
    mesh::{driver::Mesh, peers::Peers},
    status,
    supervise::{SupervisorMessage, keeper},
};

/// How long the node stays for those that it has passed calls on for: until their answers have come, which go another way.
const LINGER: Duration = Duration::from_millis(250);

/// How often it is looked whether the clients have gone.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Drains for `reason`: hands over what can be handed over and lets clients go, within `limit`.
pub(crate) async fn drain(mesh: &Mesh, reason: &str, limit: Duration) {
    let begin = Instant::now();
    mesh.runtime.drain();
    mesh.draining.send_replace(Some(reason.to_owned()));
    hand_over(&mesh.runtime, limit).await;
    if mesh.runtime.nodes().len() > 1 {
        clients_go(&mesh.peers, begin, limit).await;
    }
}

/// Waits for clients that go, at most until `limit` after `begin`.
async fn clients_go(peers: &Peers, begin: Instant, limit: Duration) {
    let awaited = || {
        let drained_for = begin.elapsed();
        drained_for < limit && peers.clients().iter().any(|client| client.departure.is_awaited(drained_for))
    };
    while awaited() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let left = peers.client_count();
    if left > 0 {
        tracing::info!(left, "clients that have not gone to another node lose their sessions");
    }
}

/// Hands over what can be handed over, within `limit`.
async fn hand_over(runtime: &Runtime, limit: Duration) {
    let until = Instant::now() + limit;
    let left = || until.saturating_duration_since(Instant::now());
    if runtime.nodes().len() < 2 {
        return;
    }
    status::tell_now(runtime);
    // A tree that is slow to go must not use up the others' time.
    keeper::leave(runtime, left() / 2).await;
    // Children of such a tree are asked for below by whom they obey now.
    runtime.adoptions_are_done(left()).await;
    let supervisors = runtime.supervisors_elsewhere();
    if supervisors.is_empty() {
        return;
    }
    let asked: Vec<_> =
        supervisors.into_iter().map(|supervisor| tokio::spawn(evacuate(runtime.clone(), supervisor, left()))).collect();
    for one in asked {
        drop(one.await);
    }
    tokio::time::sleep(LINGER.min(left())).await;
}

/// Asks one supervisor to hand over its children here. One that is no supervisor, or of an older release, does not understand.
async fn evacuate(runtime: Runtime, supervisor: Pid, patience: Duration) {
    let address = runtime.address::<SupervisorMessage>(&supervisor);
    let own = runtime.node().clone();
    match address.call_within(patience, |reply| SupervisorMessage::Evacuate(Ask::new(own, reply))).await {
        Ok(0) => tracing::info!(%supervisor, "all children of a supervisor have gone to other nodes"),
        Ok(left) => tracing::warn!(%supervisor, left, "children that could not go to other nodes end with this one"),
        Err(error @ CallError::Unsupported { .. }) => tracing::debug!(%supervisor, %error, "it hands nothing over"),
        Err(error) => tracing::warn!(%supervisor, %error, "the children of a supervisor were not handed over"),
    }
}
