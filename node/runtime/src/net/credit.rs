//! The asker's end of credit (S7): what this runtime may send to processes elsewhere. Counted for each way of addressing
//! one, as the pure [`SendCredit`] says.
//!
//! ```text
//! Address ─ keeps ─▶ Credit ◀─ by number ─ Credits ◀─ a Credit signal of the receiver
//! ```
//! An address finds its credit once and keeps it. Of a receiver without limit all that is left is a flag that is read at each
//! send.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use rookery_protocol::{
    CreditChange, CreditNumber, Destination, Pid, Recipient,
    credit::{SendCredit, Taken},
};
use tokio::sync::Notify;

use crate::sync::lock;

/// Parts of the table, so that addresses that are made at the same time do not wait for each other.
const SHARDS: usize = 16;

/// Credits in one part before those that no address keeps are looked for; from then on whenever they have doubled.
const SWEPT_FROM: usize = 256;

/// What may be sent to one receiver, as it is addressed.
#[derive(Debug)]
pub(crate) struct Credit {
    to: Destination,
    /// As `state` says; read without its lock.
    unlimited: AtomicBool,
    state: Mutex<SendCredit>,
    /// Who waits. Whoever finds room and leaves some wakes the next, and so does who finds some and cannot use it.
    room: Notify,
}

impl Credit {
    fn new(to: &Destination) -> Self {
        let by_name = !matches!(to.to, Recipient::Serial(_));
        Self {
            to: to.clone(),
            unlimited: AtomicBool::new(false),
            state: Mutex::new(SendCredit::new(by_name)),
            room: Notify::new(),
        }
    }

    /// Waits until a message may be sent.
    pub(crate) async fn room(&self) {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // Before looking, so that what happens in between is not missed.
            room.as_mut().enable();
            if self.unlimited.load(Ordering::Acquire) || lock(&self.state).has_room() {
                return;
            }
            room.await;
        }
    }

    /// Whether `from` may tell about it. A name's holder is any process of its node; one of the cluster's may live
    /// anywhere, but is known to clients alone, whose node vouches for it.
    fn is_told_by(&self, from: &Pid) -> bool {
        match &self.to.to {
            Recipient::Serial(serial) => from.serial() == *serial && *from.node() == self.to.node,
            Recipient::ClusterName(_) => true,
            Recipient::Name(_) | Recipient::Group(_) => *from.node() == self.to.node,
        }
    }
}

/// The credits of one runtime.
#[derive(Debug)]
pub(crate) struct Credits {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    /// Those that their receivers know, by number.
    known: Mutex<HashMap<CreditNumber, Arc<Credit>>>,
    next_number: AtomicU32,
}

#[derive(Debug)]
struct Shard {
    credits: HashMap<Destination, Arc<Credit>>,
    sweep_at: usize,
}

impl Default for Credits {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(Shard { credits: HashMap::new(), sweep_at: SWEPT_FROM })),
            hasher: RandomState::new(),
            known: Mutex::default(),
            next_number: AtomicU32::new(1),
        }
    }
}

impl Credits {
    /// The credit towards `to`.
    pub(crate) fn towards(&self, to: &Destination) -> Arc<Credit> {
        #[allow(clippy::cast_possible_truncation)] // Any bits do.
        let number = self.hasher.hash_one(to) as usize % SHARDS;
        let mut shard = lock(&self.shards[number]);
        if let Some(credit) = shard.credits.get(to) {
            return credit.clone();
        }
        if shard.credits.len() >= shard.sweep_at {
            // Those that their receivers count are kept by `known`: what was sent must not be forgotten before it is taken.
            shard.credits.retain(|_, credit| Arc::strong_count(credit) > 1);
            shard.sweep_at = SWEPT_FROM.max(2 * shard.credits.len());
        }
        let credit = Arc::new(Credit::new(to));
        shard.credits.insert(to.clone(), credit.clone());
        credit
    }

    /// A message is to be sent; `None`: there is no room.
    #[inline]
    pub(crate) fn take(&self, credit: &Arc<Credit>) -> Option<Taken> {
        if credit.unlimited.load(Ordering::Acquire) { Some(Taken::Nothing) } else { self.take_counted(credit) }
    }

    fn take_counted(&self, credit: &Arc<Credit>) -> Option<Taken> {
        let mut state = lock(&credit.state);
        let taken = state.take(|| {
            let number = CreditNumber(self.next_number.fetch_add(1, Ordering::Relaxed));
            lock(&self.known).insert(number, credit.clone());
            number
        })?;
        let more = state.has_room();
        drop(state);
        if more {
            credit.room.notify_one();
        }
        Some(taken)
    }

    /// The message was not sent after all.
    pub(crate) fn give_back(&self, credit: &Credit, taken: Taken) {
        if taken == Taken::Nothing {
            return;
        }
        let unknown = lock(&credit.state).give_back(taken);
        self.forget(unknown);
        credit.room.notify_one();
    }

    /// `from` tells about the credit `number`.
    pub(crate) fn change(&self, from: &Pid, number: CreditNumber, change: CreditChange) {
        let known = lock(&self.known).get(&number).cloned();
        let Some(credit) = known.filter(|credit| credit.is_told_by(from)) else {
            return tracing::trace!(%from, %number, "credit that nobody asked for");
        };
        let mut state = lock(&credit.state);
        let unknown = state.change(number, change);
        credit.unlimited.store(state.is_unlimited(), Ordering::Release);
        drop(state);
        self.forget(unknown);
        match change {
            CreditChange::Unlimited => credit.room.notify_waiters(),
            CreditChange::More(_) | CreditChange::Forget => credit.room.notify_one(),
        }
    }

    /// What is told about receivers of which this is true is lost, and so is what they know: whoever waits goes on.
    pub(crate) fn lost(&self, is_lost: impl Fn(&Destination) -> bool) {
        for shard in &self.shards {
            let lost: Vec<_> = lock(shard).credits.values().filter(|credit| is_lost(&credit.to)).cloned().collect();
            for credit in lost {
                let mut state = lock(&credit.state);
                let unknown = state.reset();
                credit.unlimited.store(false, Ordering::Release);
                drop(state);
                self.forget(unknown);
                credit.room.notify_waiters();
            }
        }
    }

    fn forget(&self, unknown: Option<CreditNumber>) {
        if let Some(number) = unknown {
            lock(&self.known).remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.

    use std::time::Duration;

    use rookery_protocol::{NodeId, Serial, limits::CREDIT_ON_TRUST};

    use super::*;

    fn to(node: &str, serial: u64) -> Destination {
        let node: NodeId = node.parse().unwrap();
        Pid::new(node, Serial(serial)).into()
    }

    fn pid(to: &Destination) -> Pid {
        let Recipient::Serial(serial) = to.to else { unreachable!() };
        Pid::new(to.node.clone(), serial)
    }

    /// Takes all that there is; gives how much that was, and the last number among it.
    fn drain(credits: &Credits, credit: &Arc<Credit>) -> (u32, Option<CreditNumber>) {
        let (mut count, mut number) = (0, None);
        while let Some(taken) = credits.take(credit) {
            count += 1;
            number = taken.number().or(number);
        }
        (count, number)
    }

    #[test]
    fn credits_that_nobody_keeps_go_and_those_that_are_counted_stay() {
        let credits = Credits::default();
        let counted = to("b.1", 1);
        let (_, number) = drain(&credits, &credits.towards(&counted));
        for serial in 2..50_000 {
            credits.towards(&to("b.1", serial));
        }
        let held: usize = credits.shards.iter().map(|shard| lock(shard).credits.len()).sum();
        assert!(held <= SHARDS * (SWEPT_FROM + 1), "{held} are held");
        assert_eq!(credits.take(&credits.towards(&counted)), None, "what was sent is not forgotten");
        credits.change(&pid(&counted), number.unwrap(), CreditChange::Unlimited);
        assert!(lock(&credits.known).is_empty());
    }

    #[test]
    fn nobody_else_tells_about_a_credit() {
        let credits = Credits::default();
        let receiver = to("b.1", 7);
        let credit = credits.towards(&receiver);
        let number = drain(&credits, &credit).1.unwrap();
        for other in [to("b.1", 8), to("c.1", 7), to("b.2", 7)] {
            credits.change(&pid(&other), number, CreditChange::More(5));
        }
        credits.change(&pid(&receiver), CreditNumber(number.0 + 1), CreditChange::More(5));
        assert_eq!(credits.take(&credit), None);
        credits.change(&pid(&receiver), number, CreditChange::More(5));
        assert_eq!(drain(&credits, &credit), (5, Some(number)));
    }

    /// As many senders as there is room for go on, also when one of them gives up between being woken and sending.
    #[tokio::test]
    async fn each_one_that_is_given_wakes_somebody() {
        let credits = Arc::new(Credits::default());
        let receiver = to("b.1", 7);
        let credit = credits.towards(&receiver);
        let number = drain(&credits, &credit).1.unwrap();
        let (done, mut is_done) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..40 {
            let (credits, credit, done) = (credits.clone(), credit.clone(), done.clone());
            tokio::spawn(async move {
                while credits.take(&credit).is_none() {
                    credit.room().await;
                }
                done.send(()).unwrap();
            });
        }
        // These wait as well, and never send.
        for _ in 0..10 {
            let credit = credit.clone();
            tokio::spawn(async move { tokio::time::timeout(Duration::from_millis(1), credit.room()).await });
        }
        tokio::task::yield_now().await;
        for _ in 0..4 {
            credits.change(&pid(&receiver), number, CreditChange::More(10));
        }
        for _ in 0..40 {
            tokio::time::timeout(Duration::from_secs(30), is_done.recv()).await.unwrap();
        }
        let waits = credit.room();
        credits.lost(|to| to.node.name().as_str() == "b");
        waits.await;
        assert_eq!(drain(&credits, &credit).0, CREDIT_ON_TRUST);
    }
}
