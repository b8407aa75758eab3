//! Each thread's part of what a runtime counts. Only its own thread writes to one; anybody may read it.

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed},
            fence,
        },
    },
    time::Duration,
};

use super::{
    CALL_BOUNDS, FAILURES, Kind, LOCAL_CALLS_PER_TIMED, MAX_COUNTED_SUPERVISORS, Route,
    snapshot::{Durations, Tally},
};
use crate::sync::lock;

/// The classes of one histogram, and above all of them.
const CLASSES: usize = CALL_BOUNDS.len() + 1;

/// One thread's figures.
#[derive(Default)]
pub(crate) struct Part {
    messages: [[AtomicU64; Kind::ALL.len()]; Route::ALL.len()],
    failures: [AtomicU64; FAILURES.len()],
    /// Calls within this runtime, timed or not.
    local_calls: AtomicU64,
    local: Timed,
    remote: Timed,
    /// The most that a receiver has found in its mailbox on this thread.
    deepest: AtomicU64,
}

#[derive(Default)]
struct Timed {
    classes: [AtomicU64; CLASSES],
    sum_ns: AtomicU64,
}

/// Its own thread alone writes, so a load and a store are enough.
#[inline]
fn add(to: &AtomicU64, more: u64) -> u64 {
    let so_far = to.load(Relaxed).wrapping_add(more);
    to.store(so_far, Relaxed);
    so_far
}

impl Timed {
    fn add(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let class = CALL_BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(class) = self.classes.get(class) {
            add(class, 1);
        }
        add(&self.sum_ns, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    fn add_to(&self, sum: &mut Durations) {
        for (sum, class) in sum.counts.iter_mut().zip(&self.classes) {
            *sum += class.load(Relaxed);
        }
        sum.sum += Duration::from_nanos(self.sum_ns.load(Relaxed));
    }
}

impl Part {
    #[inline]
    pub(super) fn message(&self, route: Route, kind: Kind) {
        self.messages(route, kind, 1);
    }

    #[inline]
    pub(super) fn messages(&self, route: Route, kind: Kind, more: u64) {
        if let Some(count) = self.messages.get(route as usize).and_then(|of_route| of_route.get(kind as usize)) {
            add(count, more);
        }
    }

    pub(super) fn failure(&self, number: usize) {
        if let Some(count) = self.failures.get(number) {
            add(count, 1);
        }
    }

    /// Whether the next call within the runtime is timed; the first is.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        add(&self.local_calls, 1) % LOCAL_CALLS_PER_TIMED == 1
    }

    pub(super) fn call(&self, local: bool, took: Duration) {
        let timed = if local { &self.local } else { &self.remote };
        timed.add(took);
    }

    /// A receiver finds so much in its mailbox.
    pub(super) fn found(&self, waiting: u64) {
        if waiting > self.deepest.load(Relaxed) {
            self.deepest.store(waiting, Relaxed);
        }
    }

    fn add_to(&self, sum: &mut Tally) {
        let counts = self.messages.iter().flatten();
        for (sum, count) in sum.messages.iter_mut().zip(counts) {
            sum.2 += count.load(Relaxed);
        }
        for (sum, count) in sum.call_failures.iter_mut().zip(&self.failures) {
            sum.1 += count.load(Relaxed);
        }
        self.local.add_to(&mut sum.local_calls);
        self.remote.add_to(&mut sum.remote_calls);
        sum.deepest_mailbox = sum.deepest_mailbox.max(self.deepest.load(Relaxed));
    }
}

/// What a runtime counts.
#[derive(Default)]
pub(crate) struct Tallies {
    parts: Mutex<Parts>,
    restarts: Mutex<BTreeMap<String, u64>>,
}

#[derive(Default)]
struct Parts {
    live: Vec<Arc<Part>>,
    /// What those had whose threads have ended.
    ended: Tally,
}

/// A thread's part of what one runtime counts.
struct Own {
    /// Whose it is. While this is held, no other runtime gets the same place in memory.
    of: Weak<Tallies>,
    part: Arc<Part>,
}

impl Own {
    fn is_of(&self, tallies: &Arc<Tallies>) -> bool {
        std::ptr::eq(self.of.as_ptr(), Arc::as_ptr(tallies))
    }
}

thread_local! {
    /// This thread's part for the first runtime that it counted for: the only one, but in programs of several nodes.
    static FIRST: OnceCell<Own> = const { OnceCell::new() };

    /// Its parts for others.
    static OTHERS: RefCell<Vec<Own>> = const { RefCell::new(Vec::new()) };
}

impl Tallies {
    /// Counts on this thread's part. What a thread does while it ends is not counted.
    #[inline]
    pub(super) fn with(this: &Arc<Self>, count: impl FnOnce(&Part)) {
        let _ = FIRST.try_with(|first| {
            let first = first.get_or_init(|| this.new_own());
            if first.is_of(this) { count(&first.part) } else { Self::with_other(this, count) }
        });
    }

    #[cold]
    fn with_other(this: &Arc<Self>, count: impl FnOnce(&Part)) {
        let part = OTHERS.try_with(|others| {
            // Taken only here, and nobody else's code runs meanwhile.
            let mut others = others.try_borrow_mut().ok()?;
            if let Some(known) = others.iter().find(|other| other.is_of(this)) {
                return Some(known.part.clone());
            }
            others.retain(|other| other.of.strong_count() > 0);
            let own = this.new_own();
            let part = own.part.clone();
            others.push(own);
            Some(part)
        });
        if let Ok(Some(part)) = part {
            count(&part);
        }
    }

    fn new_own(self: &Arc<Self>) -> Own {
        let part = Arc::new(Part::default());
        let mut parts = lock(&self.parts);
        parts.fold_ended();
        parts.live.push(part.clone());
        Own { of: Arc::downgrade(self), part }
    }

    pub(super) fn sum(&self) -> Tally {
        let mut sum = {
            let mut parts = lock(&self.parts);
            parts.fold_ended();
            let mut sum = parts.ended.clone();
            parts.live.iter().for_each(|part| part.add_to(&mut sum));
            sum
        };
        sum.restarts = lock(&self.restarts).iter().map(|(name, count)| (name.clone(), *count)).collect();
        sum
    }

    pub(super) fn count_restart(&self, supervisor: Option<&str>) {
        let mut restarts = lock(&self.restarts);
        let known = supervisor.filter(|name| restarts.contains_key(*name) || restarts.len() < MAX_COUNTED_SUPERVISORS);
        // No name of a process has parentheses.
        let name = known.unwrap_or(if supervisor.is_some() { "(more)" } else { "(unnamed)" });
        *restarts.entry(name.to_owned()).or_default() += 1;
    }
}

impl Parts {
    /// Keeps what threads had that have ended, and not the memory of each.
    fn fold_ended(&mut self) {
        let Self { live, ended } = self;
        live.retain(|part| {
            let lives = Arc::strong_count(part) > 1;
            if !lives {
                // So that all that the thread stored before it let go is seen.
                fence(Acquire);
                part.add_to(ended);
            }
            lives
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(tallies: &Tallies) -> u64 {
        tallies.sum().messages.iter().map(|(_, _, count)| count).sum()
    }

    #[test]
    fn what_threads_counted_is_added_up_and_stays_when_they_end() {
        let tallies = Arc::new(Tallies::default());
        for round in 1..=3 {
            let count = |tallies: Arc<Tallies>| {
                (0..1_000).for_each(|_| Tallies::with(&tallies, |part| part.message(Route::Sent, Kind::Call)));
            };
            let threads: Vec<_> =
                (0..4).map(|_| tallies.clone()).map(|own| std::thread::spawn(move || count(own))).collect();
            // To their very end: a scope would not wait for what threads keep to be dropped.
            assert!(threads.into_iter().all(|thread| thread.join().is_ok()));
            assert_eq!(messages(&tallies), round * 4_000);
            assert_eq!(lock(&tallies.parts).live.len(), 0, "parts of threads that have ended are not kept");
        }
        let sum = tallies.sum();
        assert!(sum.messages.iter().all(|(route, kind, count)| {
            (*count == 12_000) == (*route == Route::Sent && *kind == Kind::Call) && (*count == 12_000 || *count == 0)
        }));
    }

    #[test]
    fn one_thread_counts_for_each_runtime_apart() {
        let all: Vec<_> = (0..3).map(|_| Arc::new(Tallies::default())).collect();
        for number in 0..9 {
            let tallies = &all[number % 3];
            Tallies::with(tallies, |part| part.message(Route::Local, Kind::Message));
        }
        assert!(all.iter().all(|tallies| messages(tallies) == 3));
        drop(all);
        let next = Arc::new(Tallies::default());
        Tallies::with(&next, |part| part.message(Route::Local, Kind::Message));
        assert_eq!(messages(&next), 1);
        OTHERS.with(|others| assert_eq!(others.borrow().len(), 1, "parts of runtimes that are gone are not kept"));
    }

    #[test]
    fn calls_are_counted_by_class() {
        let tallies = Arc::new(Tallies::default());
        Tallies::with(&tallies, |part| {
            for took in [Duration::ZERO, Duration::from_micros(10), Duration::from_micros(11), Duration::from_secs(60)]
            {
                part.call(false, took);
            }
            let timed = (0..33).filter(|_| part.is_timed()).count();
            assert_eq!(timed, 3, "the first and each sixteenth after it");
        });
        let calls = tallies.sum().remote_calls;
        // A bound belongs to its class.
        assert_eq!(calls.counts[..4], [1, 1, 1, 0]);
        assert_eq!((calls.counts[CLASSES - 1], calls.sum), (1, Duration::from_micros(60_000_021)));
    }

    #[test]
    fn the_deepest_mailbox_is_that_of_all_threads_and_of_those_that_have_ended() {
        let tallies = Arc::new(Tallies::default());
        for waiting in [5, 300, 7] {
            let own = tallies.clone();
            let thread = std::thread::spawn(move || Tallies::with(&own, |part| part.found(waiting)));
            assert!(thread.join().is_ok());
        }
        assert_eq!(tallies.sum().deepest_mailbox, 300);
        Tallies::with(&tallies, |part| part.found(301));
        Tallies::with(&tallies, |part| part.found(2));
        assert_eq!(tallies.sum().deepest_mailbox, 301);
    }

    #[test]
    fn restarts_are_counted_by_name_up_to_a_limit() {
        let tallies = Tallies::default();
        for number in 0..MAX_COUNTED_SUPERVISORS + 5 {
            tallies.count_restart(Some(&format!("s-{number}")));
        }
        tallies.count_restart(Some("s-1"));
        tallies.count_restart(None);
        let restarts: BTreeMap<_, _> = tallies.sum().restarts.into_iter().collect();
        assert_eq!((restarts.len(), restarts["(more)"], restarts["s-1"]), (MAX_COUNTED_SUPERVISORS + 2, 5, 2));
        assert_eq!(restarts["(unnamed)"], 1);
    }
}
