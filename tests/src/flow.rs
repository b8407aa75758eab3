//! Messages that never pause, while something is done to what they travel over: each sender's numbers must come in order, each once.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rookery_runtime::{Address, Context, Event, ExitReason, Received, ReplyTo, Runtime};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::Note;

/// Above 64 KiB a body has a stream of its own.
const LARGE: usize = 100_000;

#[derive(Serialize, Deserialize)]
enum Numbered {
    Short(u64),
    Long(u64, Vec<u8>),
    Ask(u64, ReplyTo<u64>),
}

/// What receivers have seen go wrong, and how much has come.
#[derive(Default)]
pub struct Seen {
    /// What went wrong.
    pub wrong: Mutex<Vec<String>>,
    count: AtomicU64,
    /// Large bodies that have come.
    pub bodies: AtomicU64,
    /// Senders are to stop.
    pub stop: AtomicBool,
}

impl Seen {
    fn complain(&self, what: String) {
        self.wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(what);
    }

    /// How many messages have come.
    #[must_use]
    pub fn come(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// A process that is sent numbers by so many senders, `each` by each of them: the sender's number above, what it counts below. It tells
/// how many came of each, which is in order; one that comes after that ends it with an error.
///
/// # Panics
/// When no process can be started; it ends when numbers are not in order.
pub async fn collect(runtime: &Runtime, senders: usize, each: u64) -> (Address<Note>, oneshot::Receiver<Vec<u64>>) {
    let (tell, told) = oneshot::channel();
    let address = runtime
        .spawn(async move |mut context: Context<Note>| {
            let mut next = vec![0_u64; senders];
            for _ in 0..senders as u64 * each {
                let Received::Message(Note::Number(number)) = context.receive().await else { panic!("a number") };
                let sender = (number >> 32) as usize;
                assert_eq!(next[sender], number & 0xffff_ffff, "sender {sender} is out of order, or one is lost");
                next[sender] += 1;
            }
            tell.send(next).unwrap();
            // Whatever comes now came twice.
            ExitReason::Error(format!("one too many: {:?}", context.receive().await))
        })
        .unwrap();
    (address, told)
}

/// A process on `to`, and one on `from` that sends it numbers without a pause, in every way there is.
///
/// # Panics
/// When no process can be started.
pub fn stream(from: &Runtime, to: &Runtime, seen: &Arc<Seen>) {
    let (names, notes) = (format!("{} to {}", from.own_pid(), to.own_pid()), seen.clone());
    let receiver = to.spawn(async move |mut context: Context<Numbered>| {
        let mut expected = 0;
        while let Some(message) = context.message().await {
            let number = match message {
                Numbered::Short(number) => number,
                Numbered::Long(number, body) => {
                    if body.len() != LARGE {
                        notes.complain(format!("{names}: a body of {}", body.len()));
                    }
                    notes.bodies.fetch_add(1, Ordering::Relaxed);
                    number
                }
                Numbered::Ask(number, reply) => {
                    reply.answer(number);
                    number
                }
            };
            if number != expected {
                notes.complain(format!("{names}: {number} came where {expected} should"));
            }
            expected = number + 1;
            notes.count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let address: Address<Numbered> = from.address(receiver.unwrap().pid().unwrap());
    let notes = seen.clone();
    from.spawn(async move |_: Context<u8>| {
        for number in 0.. {
            if notes.stop.load(Ordering::Relaxed) {
                return;
            }
            let sent = match number % 97 {
                13 => address.send(Numbered::Long(number, vec![7; LARGE])).await.map_err(|error| error.to_string()),
                41 => match address.call(|reply| Numbered::Ask(number, reply)).await {
                    Ok(answer) if answer == number => Ok(()),
                    other => Err(format!("{other:?}")),
                },
                _ => address.send(Numbered::Short(number)).await.map_err(|error| error.to_string()),
            };
            if let Err(error) = sent {
                return notes.complain(format!("{number} was not sent: {error}"));
            }
            if number % 16 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    })
    .unwrap();
}

/// Complains when a node is up twice, or down, as `on` is told.
///
/// # Panics
/// When no process can be started.
pub fn watch(on: &Runtime, seen: &Arc<Seen>) {
    let (name, notes) = (on.own_pid(), seen.clone());
    let watching = on.spawn(async move |mut context: Context<u8>| {
        context.monitor_nodes(true);
        let mut up = std::collections::BTreeSet::new();
        loop {
            match context.receive().await {
                Received::Event(Event::NodeUp(node)) if !up.insert(node.clone()) => {
                    notes.complain(format!("{name}: {node} is up again"));
                }
                Received::Event(Event::NodeDown { node, reason, .. }) => {
                    notes.complain(format!("{name}: {node} is down: {reason}"));
                }
                _ => {}
            }
        }
    });
    watching.unwrap();
}
