//! Senders and receivers: each sender numbers what it sends to each receiver, casts, calls and now and then a body that travels on
//! a stream of its own, and monitors the receiver. The receiver enters what it gets.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use rookery_node::{Context, Event, Group, Pid, Received, Ref, ReplyTo, Runtime, SpawnError};
use serde::{Deserialize, Serialize};

use crate::{
    history::{Outcome, What},
    load::{CALL_LIMIT, Life, Phase, Shared, address, outcome_of},
    recorder::unanswered,
};

/// The group of all receivers.
pub(crate) const RECEIVERS: &str = "receivers";

/// How often a sender sends something to somebody.
const EVERY: Duration = Duration::from_millis(120);

/// Casts that go together at most.
const BURST: u64 = 4;

/// Of so many bursts one is a call, and of so many one has a large body.
const CALL_EVERY: u64 = 3;
const LARGE_EVERY: u64 = 25;
const LARGE_BYTES: usize = 96 * 1024;

/// How often a sender looks who the receivers are, in bursts.
const LOOK_EVERY: u64 = 8;

#[derive(Debug, Serialize, Deserialize)]
enum Numbered {
    Cast { from: Pid, number: u64, body: Vec<u8> },
    Call { from: Pid, number: u64, reply: ReplyTo<u64> },
}

/// Starts a receiver.
pub(super) fn receiver(shared: &Arc<Shared>, runtime: &Runtime, _: usize) -> Result<Pid, SpawnError> {
    let shared = shared.clone();
    let address = runtime.spawn(async move |mut context: Context<Numbered>| {
        let life = Life::new(&shared, context.pid());
        let by = context.pid().to_string();
        let Ok(group) = Group::new(RECEIVERS) else { return };
        if context.join(&group).await.is_err() {
            return;
        }
        shared.known().members.entry(RECEIVERS.to_owned()).or_default().insert(life.pid.clone());
        loop {
            let Received::Message(message) = context.receive().await else { continue };
            let (from, number, reply) = match message {
                Numbered::Cast { from, number, .. } => (from, number, None),
                Numbered::Call { from, number, reply } => (from, number, Some(reply)),
            };
            shared.recorder.note(What::Received { by: by.clone(), from: from.to_string(), number });
            if let Some(reply) = reply {
                reply.answer(number);
            }
        }
    });
    address.map(|address| runtime_pid(runtime, &address))
}

/// Starts a sender.
pub(super) fn sender(shared: &Arc<Shared>, runtime: &Runtime, _: usize) -> Result<Pid, SpawnError> {
    let shared = shared.clone();
    let address = runtime.spawn(async move |mut context: Context<()>| {
        let _life = Life::new(&shared, context.pid());
        let mut sender = Sender { monitors: BTreeMap::new(), numbers: BTreeMap::new(), bursts: 0, next: 0 };
        loop {
            match context.receive_timeout(EVERY).await {
                Some(Received::Event(Event::Down(down))) => {
                    let by = context.pid().to_string();
                    let (monitor, reason) = (down.monitor.0, down.reason.to_string());
                    shared.recorder.note(What::Down { by, monitor, reason });
                    sender.monitors.retain(|_, monitor| *monitor != down.monitor);
                }
                Some(_) => {}
                None if shared.phase() == Phase::Finish => {}
                None => sender.burst(&shared, &mut context).await,
            }
        }
    });
    address.map(|address| runtime_pid(runtime, &address))
}

struct Sender {
    /// Receivers that are up, for all that is known.
    monitors: BTreeMap<Pid, Ref>,
    /// What was sent last to each.
    numbers: BTreeMap<Pid, u64>,
    bursts: u64,
    /// Whose turn it is.
    next: usize,
}

impl Sender {
    async fn burst(&mut self, shared: &Shared, context: &mut Context<()>) {
        if self.bursts.is_multiple_of(LOOK_EVERY) {
            self.look(shared, context).await;
        }
        self.bursts += 1;
        self.next = self.next.wrapping_add(1);
        let Some((to, monitor)) = self.monitors.iter().nth(self.next % self.monitors.len().max(1)) else { return };
        let (to, monitor) = (to.clone(), monitor.0);
        let there = address::<Numbered>(context.runtime(), &to);
        let (from, own) = (context.pid().to_string(), context.pid().clone());
        let last = self.numbers.entry(to.clone()).or_default();
        if self.bursts.is_multiple_of(CALL_EVERY) {
            *last += 1;
            let number = *last;
            let what = What::Call { from, to: to.to_string(), monitor, number, outcome: unanswered() };
            let pending = shared.recorder.begin(what);
            let called = there.call_within(CALL_LIMIT, |reply| Numbered::Call { from: own, number, reply }).await;
            pending.end(outcome_of(&called));
            return;
        }
        let large = self.bursts.is_multiple_of(LARGE_EVERY);
        for turn in 0..BURST {
            *last += 1;
            let number = *last;
            let body = vec![0; if large && turn == 0 { LARGE_BYTES } else { 0 }];
            let what = What::Send { from: from.clone(), to: to.to_string(), monitor, number, outcome: unanswered() };
            let pending = shared.recorder.begin(what);
            match there.send(Numbered::Cast { from: own.clone(), number, body }).await {
                Ok(()) => pending.end(Outcome::Ok),
                Err(error) => pending.end(Outcome::Fail(error.to_string())),
            }
        }
    }

    /// Monitors receivers that it does not know yet.
    async fn look(&mut self, shared: &Shared, context: &mut Context<()>) {
        let Ok(group) = Group::new(RECEIVERS) else { return };
        for pid in context.runtime().members(&group).await.unwrap_or_default() {
            if let Entry::Vacant(unknown) = self.monitors.entry(pid) {
                let monitor = context.monitor(unknown.key());
                let (by, target) = (context.pid().to_string(), unknown.key().to_string());
                shared.recorder.note(What::Monitor { by, target, monitor: monitor.0 });
                unknown.insert(monitor);
            }
        }
    }
}

/// The pid of a process that was just started.
pub(super) fn runtime_pid<M: rookery_node::Message>(runtime: &Runtime, address: &rookery_node::Address<M>) -> Pid {
    address.pid().unwrap_or_else(|| runtime.own_pid())
}
