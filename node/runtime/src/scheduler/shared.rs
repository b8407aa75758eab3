//! What the threads of a scheduler share: who leads, who sleeps, what came from outside, and how one wakes another.
//!
//! **Invariant:** who looks for work and finds none says so (`sleepers`, `waits`) before it looks again and sleeps; who
//! brings work looks for sleepers after it has put the work where they look. So no work waits while all sleep.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, TryLockError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    },
    task::Waker,
    thread::{self, Thread},
    time::Instant,
};

use async_task::Runnable;
use crossbeam_deque::{Injector, Steal, Stealer, Worker as Queue};
use crossbeam_utils::CachePadded;
use tokio::runtime::{Handle, Runtime};

use crate::{net::outbound::staged::Stage, sync::lock};

/// The I/O, in the hands of who leads; none when the scheduler has stopped.
pub(super) type Lead<'a> = MutexGuard<'a, Option<Runtime>>;

pub(crate) struct Shared {
    /// What workers are within when they run processes.
    tokio: Handle,
    /// Where to spawn what does I/O.
    io: Handle,
    lead: Mutex<Option<Runtime>>,
    /// Wakes the leader out of its turn.
    leader: OnceLock<Waker>,
    /// Somebody drives the I/O.
    led: AtomicBool,
    /// A worker leads and waits for something to run.
    waits: AtomicBool,
    /// The leader is to look for work in others' queues.
    called: AtomicBool,
    /// The watcher leads.
    pub(super) watcher_leads: AtomicBool,
    /// Processes that were woken from elsewhere.
    injector: Injector<Runnable>,
    seats: Box<[CachePadded<Seat>]>,
    /// Workers that have not ended.
    working: AtomicUsize,
    /// Somebody ends what is injected too late: what that wakes in turn is ended by the same loop, and not within it.
    ending: AtomicBool,
    sleepers: Mutex<Vec<usize>>,
    /// How many they are, to be looked at without the lock.
    sleeping: AtomicUsize,
    watcher: OnceLock<Thread>,
    pub(super) watcher_sleeps: AtomicBool,
    stopping: AtomicBool,
    started: Instant,
}

/// What others see of a worker.
pub(super) struct Seat {
    queue: Stealer<Runnable>,
    thread: OnceLock<Thread>,
    woken: AtomicBool,
    /// Odd while it runs a process; grows with each.
    pub(super) steps: AtomicU64,
    /// For how long it has run processes, in microseconds.
    pub(super) busy_us: AtomicU64,
    /// Tasks of the I/O that its processes have woken while nobody led, for its own next turn.
    deferred: Mutex<Vec<Waker>>,
    /// What the process that it runs has sent in this step and its lane does not have yet.
    pub(super) stage: Mutex<Stage>,
}

impl Shared {
    pub(super) fn new(io: Runtime, tokio: Handle, queues: Vec<Stealer<Runnable>>) -> Self {
        let seat = |queue| {
            CachePadded::new(Seat {
                queue,
                thread: OnceLock::new(),
                woken: AtomicBool::new(false),
                steps: AtomicU64::new(0),
                busy_us: AtomicU64::new(0),
                deferred: Mutex::default(),
                stage: Mutex::default(),
            })
        };
        Self {
            tokio,
            io: io.handle().clone(),
            lead: Mutex::new(Some(io)),
            leader: OnceLock::new(),
            led: AtomicBool::new(false),
            waits: AtomicBool::new(false),
            called: AtomicBool::new(false),
            watcher_leads: AtomicBool::new(false),
            injector: Injector::new(),
            working: AtomicUsize::new(queues.len()),
            ending: AtomicBool::new(false),
            seats: queues.into_iter().map(seat).collect(),
            sleepers: Mutex::default(),
            sleeping: AtomicUsize::new(0),
            watcher: OnceLock::new(),
            watcher_sleeps: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            started: Instant::now(),
        }
    }

    pub(crate) fn tokio(&self) -> &Handle {
        &self.tokio
    }

    pub(crate) fn io(&self) -> &Handle {
        &self.io
    }

    /// How many workers there are.
    pub(crate) fn workers(&self) -> usize {
        self.seats.len()
    }

    /// For how long all workers together have run processes, in microseconds.
    pub(crate) fn busy_us(&self) -> u64 {
        self.seats.iter().map(|seat| seat.busy_us.load(Ordering::Relaxed)).sum()
    }

    /// Processes that wait for a thread, as far as they are not some thread's already.
    pub(crate) fn queued(&self) -> usize {
        self.injector.len()
    }

    pub(super) fn seat(&self, index: usize) -> Option<&Seat> {
        self.seats.get(index).map(|seat| &**seat)
    }

    pub(super) fn seats(&self) -> impl Iterator<Item = &Seat> {
        self.seats.iter().map(|seat| &**seat)
    }

    /// Since the scheduler was made, in microseconds.
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The lead, if nobody has it.
    pub(super) fn try_lead(&self) -> Option<Lead<'_>> {
        match self.lead.try_lock() {
            Ok(lead) => Some(lead),
            Err(TryLockError::Poisoned(lead)) => Some(lead.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Ends all threads. What is queued is run first.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake_leader();
        while self.wake_sleeper() {}
        self.rouse_watcher();
    }

    /// Gives up the I/O with all that runs on it, when nobody leads any more.
    pub(super) fn end_io(&self) {
        let io = lock(&self.lead).take();
        drop(io);
    }

    /// A process is to run that was woken by no worker. When there are no workers any more it ends.
    pub(super) fn inject(&self, runnable: Runnable) {
        self.injector.push(runnable);
        fence(Ordering::SeqCst);
        if self.working.load(Ordering::SeqCst) == 0 {
            self.drop_injected();
        } else if self.waits.load(Ordering::SeqCst) {
            self.wake_leader();
            // Should the leader not be waiting at all, but held up by what came last.
            self.rouse_watcher();
        } else if !self.wake_sleeper() {
            self.rouse_watcher();
        }
    }

    fn drop_injected(&self) {
        while !self.injector.is_empty() && !self.ending.swap(true, Ordering::SeqCst) {
            while let Some(runnable) = until_clear(|| self.injector.steal()) {
                // Destructors of a process that has nobody left to tell.
                drop(catch_unwind(AssertUnwindSafe(|| drop(runnable))));
            }
            self.ending.store(false, Ordering::SeqCst);
        }
    }

    /// A worker has ended.
    pub(super) fn worker_ended(&self) {
        if self.working.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.drop_injected();
        }
    }

    pub(super) fn has_injected(&self) -> bool {
        !self.injector.is_empty()
    }

    /// Takes some of what came from outside into `queue`, and gives the first.
    pub(super) fn take_injected(&self, queue: &Queue<Runnable>) -> Option<Runnable> {
        if self.injector.is_empty() {
            return None;
        }
        until_clear(|| self.injector.steal_batch_and_pop(queue))
    }

    /// Takes half of what waits for another worker than `own` into `queue`, and gives the first.
    pub(super) fn steal(&self, own: usize, queue: &Queue<Runnable>) -> Option<Runnable> {
        let (before, after) = self.seats.split_at(own.min(self.seats.len()));
        after.iter().chain(before).find_map(|seat| {
            if seat.queue.is_empty() { None } else { until_clear(|| seat.queue.steal_batch_and_pop(queue)) }
        })
    }

    /// `waker` ends the turn of who leads. It is the same for all turns: that of the I/O's runtime.
    pub(super) fn leader_wakes_by(&self, waker: &Waker) {
        if self.leader.get().is_none() {
            drop(self.leader.set(waker.clone()));
        }
    }

    /// Somebody drives the I/O from now on, or nobody does.
    pub(super) fn set_led(&self, led: bool) {
        self.led.store(led, Ordering::SeqCst);
    }

    pub(super) fn is_led(&self) -> bool {
        self.led.load(Ordering::SeqCst)
    }

    /// The leader begins to wait, or looks again.
    pub(super) fn leader_waits(&self) {
        self.waits.store(true, Ordering::SeqCst);
    }

    pub(super) fn leader_goes_on(&self) {
        self.waits.store(false, Ordering::SeqCst);
    }

    /// Whether nobody drives the I/O just now.
    pub(super) fn is_leaderless(&self) -> bool {
        self.try_lead().is_some()
    }

    /// Whether the leader was called for help since it was last asked.
    pub(super) fn was_called(&self) -> bool {
        self.called.load(Ordering::Relaxed) && self.called.swap(false, Ordering::AcqRel)
    }

    /// Ends the turn of who leads.
    pub(super) fn wake_leader(&self) {
        if let Some(leader) = self.leader.get() {
            leader.wake_by_ref();
        }
    }

    /// Has somebody who does nothing look for work. False if all are busy.
    pub(super) fn call_for_help(&self) -> bool {
        if self.wake_sleeper() {
            return true;
        }
        let waits = self.waits.load(Ordering::SeqCst);
        if waits {
            self.called.store(true, Ordering::SeqCst);
            self.wake_leader();
        }
        waits
    }

    /// Wakes the worker that fell asleep last, whose stack is the warmest.
    pub(super) fn wake_sleeper(&self) -> bool {
        if self.sleeping.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let Some(index) = self.pop_sleeper() else { return false };
        if let Some(thread) = self.seat(index).and_then(|seat| seat.thread.get()) {
            thread.unpark();
        }
        true
    }

    fn pop_sleeper(&self) -> Option<usize> {
        let mut sleepers = lock(&self.sleepers);
        let index = sleepers.pop();
        self.sleeping.store(sleepers.len(), Ordering::SeqCst);
        if let Some(seat) = index.and_then(|index| self.seat(index)) {
            seat.woken.store(true, Ordering::Release);
        }
        index
    }

    pub(super) fn anyone_sleeps(&self) -> bool {
        self.sleeping.load(Ordering::SeqCst) > 0
    }

    /// Lets any worker run what waits behind one that does not get on.
    pub(super) fn share_out(&self, seat: &Seat) {
        while let Some(runnable) = until_clear(|| seat.queue.steal()) {
            self.injector.push(runnable);
        }
    }

    /// The thread of `index` is the caller's.
    pub(super) fn sit_down(&self, index: usize) {
        if let Some(seat) = self.seat(index) {
            drop(seat.thread.set(thread::current()));
        }
    }

    /// Sleeps until there may be something to do for the worker of `index`.
    pub(super) fn sleep(&self, index: usize) {
        let Some(seat) = self.seat(index) else { return };
        {
            let mut sleepers = lock(&self.sleepers);
            seat.woken.store(false, Ordering::Relaxed);
            sleepers.push(index);
            self.sleeping.store(sleepers.len(), Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
        if self.watcher_leads.load(Ordering::SeqCst) {
            // It gives the lead back to whoever sleeps.
            self.wake_leader();
        }
        if self.has_injected() || self.is_stopping() || self.is_leaderless() {
            let mut sleepers = lock(&self.sleepers);
            sleepers.retain(|sleeper| *sleeper != index);
            self.sleeping.store(sleepers.len(), Ordering::SeqCst);
            return;
        }
        while !seat.woken.load(Ordering::Acquire) {
            thread::park();
        }
    }

    /// The watcher's thread is the caller's.
    pub(super) fn watch(&self) {
        drop(self.watcher.set(thread::current()));
    }

    /// The watcher looks again how the workers get on, if it sleeps.
    pub(super) fn rouse_watcher(&self) {
        if self.watcher_sleeps.load(Ordering::SeqCst)
            && self.watcher_sleeps.swap(false, Ordering::SeqCst)
            && let Some(watcher) = self.watcher.get()
        {
            watcher.unpark();
        }
    }
}

impl Seat {
    /// It runs a process now, by an odd number of steps.
    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::SeqCst)
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn defer(&self, waker: Waker) {
        lock(&self.deferred).push(waker);
    }

    /// Wakes what was deferred. Within a turn, that costs no system call.
    pub(super) fn wake_deferred(&self) {
        let mut deferred = lock(&self.deferred);
        deferred.drain(..).for_each(Waker::wake);
    }
}

impl Drop for Shared {
    // Where a start has failed, and no thread has ended it.
    fn drop(&mut self) {
        if let Some(io) = lock(&self.lead).take() {
            io.shutdown_background();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scheduler({} workers)", self.workers())
    }
}

fn until_clear<T>(mut steal: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match steal() {
            Steal::Success(found) => return Some(found),
            Steal::Empty => return None,
            // Somebody else took of it at that moment.
            Steal::Retry => std::hint::spin_loop(),
        }
    }
}

/// Kept alive by the wakers of processes.
pub(super) fn is_same(a: &Arc<Shared>, b: &Arc<Shared>) -> bool {
    Arc::ptr_eq(a, b)
}
