//! Has clients renew connections that were made with another identity than the one that this node has now. The node cannot dial them: it
//! asks, each at a time of its own, so that not all come at once, and again if nothing came of it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rookery_protocol::{ControlFrame, SessionId, handshake::Features};
use tokio::time::{Instant, sleep};

use crate::{
    discovery::Jitter,
    mesh::{
        credentials::Version,
        driver::{Mesh, told},
    },
};

/// How often clients are looked at, at most, while some have old connections.
const TICK: Duration = Duration::from_millis(50);

/// How often if none has: one may have been made just while the identity changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// After so long a client that has not come is asked again, at the soonest: it tries by itself for longer than that.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Asks until the node leaves. Each is asked within `spread` after the identity has changed.
pub(crate) async fn run(mesh: Arc<Mesh>, spread: Duration, seed: u64) {
    let mut changes = mesh.credentials.changes();
    let mut leaving = mesh.leaving.subscribe();
    let mut jitter = Jitter::new(seed);
    let mut due: HashMap<SessionId, (Version, Instant)> = HashMap::new();
    loop {
        let (now, current) = (Instant::now(), *changes.borrow_and_update());
        let mut old = mesh.peers.clients();
        old.retain(|client| client.made_with != current && client.features.has(Features::RENEW_SESSION));
        let mut still = HashMap::with_capacity(old.len());
        for client in &old {
            let known = due.get(&client.session).filter(|(version, _)| *version == current).map(|(_, at)| *at);
            let mut at = known.unwrap_or_else(|| now + jitter.between(Duration::ZERO, spread));
            if at <= now {
                // What finds no room is asked again as well.
                drop(client.control.try_send(ControlFrame::Renew));
                at = now + jitter.between(ASK_AGAIN, 2 * ASK_AGAIN);
            }
            still.insert(client.session, (current, at));
        }
        due = still;
        let next = due.values().map(|(_, at)| at.saturating_duration_since(now)).min();
        let wait = next.unwrap_or(LOOK_EVERY).clamp(TICK, LOOK_EVERY);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(wait) => {}
            _ = told(&mut leaving) => return,
        }
    }
}
