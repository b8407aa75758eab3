//! Joiners: each is in a group for a while, and not for a while.

use std::{sync::Arc, time::Duration};

use rookery_node::{Context, Group, Pid, Runtime, SpawnError};
use tokio::time::sleep;

use crate::load::{Life, Phase, Shared, pairs::runtime_pid};

/// The group.
pub(crate) const CROWD: &str = "crowd";

/// Between two changes, in milliseconds.
const PAUSE_MS: (u64, u64) = (200, 1_500);

const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Starts one.
pub(super) fn joiner(shared: &Arc<Shared>, runtime: &Runtime, _: usize) -> Result<Pid, SpawnError> {
    let shared = shared.clone();
    let address = runtime.spawn(async move |mut context: Context<()>| {
        let life = Life::new(&shared, context.pid());
        let Ok(group) = Group::new(CROWD) else { return };
        let mut chance = shared.chance();
        let mut inside = false;
        loop {
            sleep(Duration::from_millis(chance.between(PAUSE_MS))).await;
            while shared.phase() != Phase::Work {
                sleep(LOOK_AGAIN).await;
            }
            // Believed from before it is asked for until after it is given up: nobody looks while it changes.
            let changed = if inside { context.leave(&group).await } else { context.join(&group).await };
            if changed.is_err() {
                // It may be inside or not. Its end takes it out for sure.
                return;
            }
            inside = !inside;
            let mut known = shared.known();
            let members = known.members.entry(CROWD.to_owned()).or_default();
            if inside {
                members.insert(life.pid.clone())
            } else {
                members.remove(&life.pid)
            };
        }
    });
    address.map(|address| runtime_pid(runtime, &address))
}
