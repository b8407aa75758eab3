//! Namers: each takes one of a few names of the cluster, holds it for a while, and gives it up.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rookery_node::{Context, Event, Pid, ProcessName, Received, RegisterError, Runtime, SpawnError};

use crate::{
    history::{Outcome, What},
    load::{Life, Phase, Shared, outcome_of_request, pairs::runtime_pid},
    recorder::unanswered,
};

/// What they contend for: fewer than there are clients, so that each name is wanted by several.
pub(crate) const NAMES: [&str; 3] = ["name-a", "name-b", "name-c"];

/// How long a name is held, in milliseconds.
const HELD_MS: (u64, u64) = (100, 2_500);

/// Between two tries, in milliseconds.
const PAUSE_MS: (u64, u64) = (100, 600);

const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Starts one.
pub(super) fn namer(shared: &Arc<Shared>, runtime: &Runtime, at: usize) -> Result<Pid, SpawnError> {
    let shared = shared.clone();
    let address = runtime.spawn(async move |mut context: Context<()>| {
        let life = Life::new(&shared, context.pid());
        // So that it is told when it loses a name, and goes on.
        context.trap_exits(true);
        let mut chance = shared.chance();
        let mut namer = Namer { by: life.pid.to_string(), at, life: &life };
        loop {
            // Before the first as well: nodes that have not met yet may give one name to several.
            let (pause, hold) = (chance.between(PAUSE_MS), chance.between(HELD_MS));
            namer.wait(&mut context, None, Duration::from_millis(pause), &[Phase::Work]).await;
            let name = *chance.one_of(&NAMES).unwrap_or(&NAMES[0]);
            match namer.once(&mut context, name, Duration::from_millis(hold)).await {
                Done::Known => {}
                // It may have the name. Its end takes it away for sure.
                Done::Unknown => return,
            }
        }
    });
    address.map(|address| runtime_pid(runtime, &address))
}

enum Done {
    Known,
    Unknown,
}

struct Namer<'l> {
    by: String,
    /// The index of its node.
    at: usize,
    life: &'l Life,
}

impl Namer<'_> {
    async fn once(&mut self, context: &mut Context<()>, name: &'static str, hold: Duration) -> Done {
        let Ok(wanted) = ProcessName::new(name) else { return Done::Unknown };
        let (shared, by) = (self.life.shared.clone(), self.by.clone());
        let what = What::Register { by: by.clone(), at: self.at, name: name.to_owned(), outcome: unanswered() };
        let pending = shared.recorder.begin(what);
        let registered = context.register_in_cluster(&wanted).await.map_err(|RegisterError(error)| error);
        let outcome = outcome_of_request(&registered);
        pending.end(outcome.clone());
        match outcome {
            Outcome::Ok => {}
            Outcome::Fail(_) => return Done::Known,
            Outcome::Info(_) => return Done::Unknown,
        }
        shared.known().holders.entry(name.to_owned()).or_default().insert(self.life.pid.clone());
        let asked = shared.recorder.now();
        if let Ok(found) = context.runtime().whereis_in_cluster(&wanted).await {
            let found = found.map(|pid| pid.to_string());
            shared.recorder.found(asked, What::Find { by: by.clone(), at: self.at, name: name.to_owned(), found });
        }
        if self.wait(context, Some(name), hold, &[Phase::Work, Phase::Finish]).await {
            return Done::Known;
        }
        shared.known().holders.entry(name.to_owned()).or_default().remove(&self.life.pid);
        let pending = shared.recorder.begin(What::Unregister { by, name: name.to_owned(), outcome: unanswered() });
        let given_up = context.unregister_in_cluster(&wanted).await.map_err(|RegisterError(error)| error);
        let outcome = outcome_of_request(&given_up);
        pending.end(outcome.clone());
        if matches!(outcome, Outcome::Info(_)) { Done::Unknown } else { Done::Known }
    }

    /// Waits for so long, and then for one of these phases. True at once if the name is lost meanwhile.
    async fn wait(&self, context: &mut Context<()>, name: Option<&str>, time: Duration, phases: &[Phase]) -> bool {
        let (since, shared) = (Instant::now(), &self.life.shared);
        loop {
            if let Some(Received::Event(Event::NameConflict { name: lost, .. })) =
                context.receive_timeout(LOOK_AGAIN).await
            {
                let lost = lost.as_str();
                shared.recorder.note(What::Conflict { by: self.by.clone(), name: lost.to_owned() });
                shared.known().holders.entry(lost.to_owned()).or_default().remove(&self.life.pid);
                if name == Some(lost) {
                    return true;
                }
            }
            if since.elapsed() >= time && phases.contains(&shared.phase()) {
                return false;
            }
        }
    }
}
