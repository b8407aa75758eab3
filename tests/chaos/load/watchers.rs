//! Watchers: each starts processes on all nodes, monitors them, some twice, and ends them after a while. What they are told is entered.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use rookery_node::{Context, Event, ExitReason, Pid, Received, Runtime, SpawnError, Start};

use crate::{
    chance::Chance,
    history::{Outcome, What},
    load::{Life, Phase, Shared, outcome_of_request, pairs::runtime_pid},
    recorder::unanswered,
};

/// How often one starts another process.
const EVERY: Duration = Duration::from_millis(700);

/// How many it keeps.
const KEPT: usize = 8;

/// Of so many monitors one is doubled.
const TWICE_EVERY: u64 = 4;

/// Starts one.
pub(super) fn watcher(shared: &Arc<Shared>, runtime: &Runtime, _: usize) -> Result<Pid, SpawnError> {
    let shared = shared.clone();
    let address = runtime.spawn(async move |mut context: Context<()>| {
        let _life = Life::new(&shared, context.pid());
        let mut watcher = Watcher {
            by: context.pid().to_string(),
            chance: shared.chance(),
            monitors: BTreeMap::new(),
            living: VecDeque::new(),
            counted: Counted { shared: shared.clone(), open: 0 },
        };
        loop {
            match context.receive_timeout(EVERY).await {
                Some(Received::Event(Event::Down(down))) => {
                    let (by, monitor) = (watcher.by.clone(), down.monitor.0);
                    shared.recorder.note(What::Down { by, monitor, reason: down.reason.to_string() });
                    if watcher.monitors.remove(&monitor).is_some() {
                        watcher.counted.add(-1);
                    }
                }
                Some(_) => {}
                None if shared.phase() == Phase::Finish => watcher.end_all(&shared, &context),
                None => watcher.start(&shared, &mut context).await,
            }
        }
    });
    address.map(|address| runtime_pid(runtime, &address))
}

struct Watcher {
    by: String,
    chance: Chance,
    /// Those that have not fired, with whom they are on.
    monitors: BTreeMap<u64, Pid>,
    /// What it has started and not ended.
    living: VecDeque<Pid>,
    counted: Counted,
}

impl Watcher {
    async fn start(&mut self, shared: &Shared, context: &mut Context<()>) {
        let nodes = shared.nodes();
        let Some(node) = self.chance.one_of(&nodes) else { return };
        let Ok(behaviour) = "counter".parse() else { return };
        let what = What::Start { by: self.by.clone(), on: node.to_string(), outcome: unanswered() };
        let pending = shared.recorder.begin(what);
        let started = context.runtime().start_on(node, Start::json(behaviour, "null")).await;
        let outcome = outcome_of_request(&started);
        pending.end(outcome.clone());
        if let (Ok(started), Outcome::Ok) = (started, outcome) {
            for _ in 0..if self.chance.below(TWICE_EVERY) == 0 { 2 } else { 1 } {
                let monitor = context.monitor(&started.pid).0;
                let (by, target) = (self.by.clone(), started.pid.to_string());
                shared.recorder.note(What::Monitor { by, target, monitor });
                self.monitors.insert(monitor, started.pid.clone());
                self.counted.add(1);
            }
            self.living.push_back(started.pid);
        }
        if self.living.len() > KEPT
            && let Some(oldest) = self.living.pop_front()
        {
            shared.recorder.note(What::Exit { target: oldest.to_string() });
            context.exit(&oldest, ExitReason::Shutdown);
        }
    }

    /// Ends everything that may still live; again if it is asked again.
    fn end_all(&mut self, shared: &Shared, context: &Context<()>) {
        let unfired: Vec<Pid> = self.monitors.values().cloned().collect();
        for pid in self.living.drain(..).chain(unfired) {
            shared.recorder.note(What::Exit { target: pid.to_string() });
            context.exit(&pid, ExitReason::Shutdown);
        }
    }
}

/// How many of its monitors have not fired, as all can see. They go with the watcher.
struct Counted {
    shared: Arc<Shared>,
    open: usize,
}

impl Counted {
    fn add(&mut self, change: isize) {
        self.open = self.open.saturating_add_signed(change);
        let mut known = self.shared.known();
        known.watching = known.watching.saturating_add_signed(change);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut known = self.shared.known();
        known.watching = known.watching.saturating_sub(self.open);
    }
}
