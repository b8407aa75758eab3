//! A node leaves: what it hands over before its processes are told to end (D6).
//!
//! ```text
//! takes no new processes, others know ─▶ trees of the cluster go to other nodes, as they run
//!     ─▶ supervisors elsewhere hand over their children here to successors ─▶ what is on its way gets there
//! ```
//! Each step has what is left of the time; what is not done then ends with the node, and is started elsewhere without its state.

use std::time::{Duration, Instant};

use rookery_runtime::{CallError, Pid, Runtime};

use crate::{
    ask::Ask,
    status,
    supervise::{SupervisorMessage, keeper},
};

/// How long the node stays for those that it has passed calls on for: until their answers have come, which go another way.
const LINGER: Duration = Duration::from_millis(250);

/// Hands over what can be handed over, within `limit`.
pub(crate) async fn hand_over(runtime: &Runtime, limit: Duration) {
    let until = Instant::now() + limit;
    let left = || until.saturating_duration_since(Instant::now());
    if runtime.nodes().len() < 2 {
        return;
    }
    status::tell_now(runtime);
    // A tree that is slow to go must not use up the others' time.
    keeper::leave(runtime, left() / 2).await;
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
