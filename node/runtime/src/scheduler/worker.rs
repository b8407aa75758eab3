//! A worker: rounds of processes, and turns of I/O in between.

use std::{
    cell::{Cell, OnceCell},
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{Ordering, fence},
    },
    task::{Poll, Waker},
};

use async_task::Runnable;
use crossbeam_deque::Worker as Queue;
use tokio::runtime::Runtime;

use super::shared::{self, Seat, Shared};
use crate::{net::outbound::staged::Stage, process::task::text_of};

/// Steps of processes in a round, after which the network has its turn.
const ROUND: u32 = 64;

/// The round ends before, when it has taken so long.
const ROUND_US: u64 = 100;

/// The clock is looked at after each of the first steps, and then after so many.
const STEPS_BY_CLOCK: u32 = 8;

/// A queue that has not been empty for so long calls for help, and so does I/O that has taken so long in one turn: another
/// worker can go on with it while this one runs what it has brought.
const PATIENCE_US: u64 = 100;

/// After so many processes of its own queue a worker looks for those that came from outside.
const FAIRNESS: u32 = 31;

thread_local! {
    static WORKER: OnceCell<Rc<Worker>> = const { OnceCell::new() };
}

/// `runnable` can run: after what this thread has to run already, if it is a worker's.
pub(super) fn schedule(shared: &Arc<Shared>, runnable: Runnable) {
    let mut runnable = Some(runnable);
    // A thread that ends has no worker any more.
    let _ = WORKER.try_with(|worker| match worker.get() {
        Some(worker) if shared::is_same(&worker.shared, shared) && !worker.ended.get() => {
            if let Some(runnable) = runnable.take() {
                worker.push(runnable);
            }
        }
        _ => {}
    });
    if let Some(runnable) = runnable {
        shared.inject(runnable);
    }
}

/// Wakes a task of the I/O. On a worker that will drive the I/O itself, if nobody does: then the task need not be told from
/// outside, and finds all that is sent until then.
pub(crate) fn wake_io(waker: Waker) {
    let mut waker = Some(waker);
    let _ = WORKER.try_with(|worker| {
        if let Some(worker) = worker.get()
            && !worker.shared.is_led()
            && let Some(seat) = worker.shared.seat(worker.index)
            && let Some(waker) = waker.take()
        {
            seat.defer(waker);
            // Should somebody have begun to lead meanwhile, who looks at what was deferred before.
            fence(Ordering::SeqCst);
            if worker.shared.is_led() {
                seat.wake_deferred();
            }
        }
    });
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Runs `f` with what the process of this thread has sent in its step and its lane does not have yet; `None` if the thread is no
/// worker's.
pub(crate) fn with_stage<R>(f: impl FnOnce(&Mutex<Stage>) -> R) -> Option<R> {
    let with = |worker: &OnceCell<Rc<Worker>>| {
        let worker = worker.get().filter(|worker| !worker.ended.get())?;
        worker.shared.seat(worker.index).map(|seat| f(&seat.stage))
    };
    WORKER.try_with(with).ok().flatten()
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    index: usize,
    queue: Queue<Runnable>,
    /// It drives the I/O, and has not been told yet to stop for a process.
    waits: Cell<bool>,
    taken: Cell<u32>,
    /// When its turn had something to do, in microseconds; none outside of turns.
    io_since: Cell<Option<u64>>,
    /// It runs no more: what it wakes is for others.
    ended: Cell<bool>,
    /// It was woken to help, and looks at the network before it waits for it.
    helps: Cell<bool>,
    /// Since when its queue has not been empty, in microseconds; none if it was.
    crowded_since: Cell<Option<u64>>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, index: usize, queue: Queue<Runnable>) -> Rc<Self> {
        let (waits, helps, taken) = (Cell::new(false), Cell::new(false), Cell::new(0));
        let (io_since, crowded_since) = (Cell::new(None), Cell::new(None));
        Rc::new(Self { shared, index, queue, waits, taken, io_since, ended: Cell::new(false), helps, crowded_since })
    }

    /// Whether the caller is a worker of `shared`.
    pub(super) fn is_on_this_thread(shared: &Arc<Shared>) -> bool {
        WORKER
            .try_with(|worker| worker.get().is_some_and(|worker| shared::is_same(&worker.shared, shared)))
            .unwrap_or(false)
    }

    /// The I/O, driven by this thread, has waited for the network: what it does from now on is work.
    pub(super) fn has_waited() {
        let _ = WORKER.try_with(|worker| {
            if let Some(worker) = worker.get() {
                worker.io_since.set(Some(worker.shared.now_us()));
            }
        });
    }

    /// Runs until the scheduler stops, and then what is queued.
    pub(super) fn run(self: &Rc<Self>) {
        drop(WORKER.with(|worker| worker.set(self.clone())));
        self.shared.sit_down(self.index);
        let Some(seat) = self.shared.seat(self.index) else { return };
        while !self.shared.is_stopping() {
            let more = self.round(seat);
            self.turn(seat, more);
        }
        while self.round(seat) || self.find() {}
        self.ended.set(true);
        while self.round(seat) {}
        seat.wake_deferred();
        self.shared.worker_ended();
    }

    fn push(&self, runnable: Runnable) {
        self.queue.push(runnable);
        if self.waits.replace(false) {
            self.shared.wake_leader();
            // Should this thread not get to it, since what else has come takes it long.
            self.shared.rouse_watcher();
        }
    }

    /// Runs processes. True if there are more.
    fn round(&self, seat: &Seat) -> bool {
        let Some(first) = self.next() else { return self.crowded(false, 0) };
        let began = self.shared.now_us();
        if self.io_since.take().is_some_and(|since| began.saturating_sub(since) >= PATIENCE_US) {
            self.shared.call_for_help();
        }
        let (mut first, mut steps, mut now) = (Some(first), 0, began);
        // Before the watcher's sleep is looked at: it looks at the steps after it has said that it sleeps.
        let mut count = seat.steps.load(Ordering::Relaxed);
        seat.steps.store(count + 1, Ordering::SeqCst);
        self.shared.rouse_watcher();
        // Each poll has a budget of tokio's, and is within its runtime.
        let more = self.shared.tokio().block_on(poll_fn(|cx| {
            let Some(runnable) = first.take().or_else(|| self.next()) else { return Poll::Ready(false) };
            seat.steps.store(count + 1, Ordering::Relaxed);
            run(runnable);
            count += 2;
            seat.steps.store(count, Ordering::Relaxed);
            steps += 1;
            if steps % STEPS_BY_CLOCK == 0 || steps < STEPS_BY_CLOCK {
                now = self.shared.now_us();
                if steps >= ROUND || now - began >= ROUND_US {
                    return Poll::Ready(!self.queue.is_empty());
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        let now = self.shared.now_us();
        seat.busy_us.fetch_add(now.saturating_sub(began), Ordering::Relaxed);
        self.crowded(more, now)
    }

    /// Calls for help when the queue has not been empty for long.
    fn crowded(&self, more: bool, now: u64) -> bool {
        let since = match self.crowded_since.get() {
            // One that is always ready needs no second thread.
            _ if self.queue.len() < 2 => None,
            Some(since) if now.saturating_sub(since) >= PATIENCE_US => {
                self.shared.call_for_help();
                None
            }
            Some(since) => Some(since),
            None => Some(now),
        };
        self.crowded_since.set(since);
        more
    }

    fn next(&self) -> Option<Runnable> {
        let taken = self.taken.get().wrapping_add(1);
        self.taken.set(taken);
        if taken.is_multiple_of(FAIRNESS)
            && let Some(runnable) = self.shared.take_injected(&self.queue)
        {
            return Some(runnable);
        }
        self.queue.pop().or_else(|| self.shared.take_injected(&self.queue))
    }

    /// Looks for work at others. True if it has some now.
    fn find(&self) -> bool {
        let found = self.shared.steal(self.index, &self.queue);
        found.map(|runnable| self.queue.push(runnable)).is_some()
    }

    /// Gives the network its turn, if nobody else does. Without `more` to run, it waits until there is something.
    fn turn(&self, seat: &Seat, more: bool) {
        let helps = self.helps.take();
        if !more && !helps && self.find() {
            return seat.wake_deferred();
        }
        let lead = self.shared.try_lead();
        match lead.as_deref() {
            Some(Some(io)) if more || helps => self.glance(seat, io),
            Some(Some(io)) => self.wait(seat, io),
            _ => {
                drop(lead);
                seat.wake_deferred();
                if !more && !self.find() {
                    self.sleep();
                }
            }
        }
    }

    fn sleep(&self) {
        self.shared.sleep(self.index);
        self.helps.set(true);
    }

    fn was_called(&self) -> bool {
        let called = self.shared.was_called();
        self.helps.set(called);
        called
    }

    /// What the network has just now: what can be done is done, and what has come is read.
    fn glance(&self, seat: &Seat, io: &Runtime) {
        self.io_since.set(Some(self.shared.now_us()));
        self.shared.set_led(true);
        io.block_on(async {
            seat.wake_deferred();
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        });
        self.shared.set_led(false);
    }

    /// Drives the I/O until there is something to run.
    fn wait(&self, seat: &Seat, io: &Runtime) {
        self.shared.set_led(true);
        io.block_on(poll_fn(|cx| {
            seat.wake_deferred();
            // Each time: another worker may have taken what it was woken for.
            self.waits.set(true);
            self.shared.leader_wakes_by(cx.waker());
            self.shared.leader_waits();
            let goes_on =
                !self.queue.is_empty() || self.shared.has_injected() || self.was_called() || self.shared.is_stopping();
            if goes_on { Poll::Ready(()) } else { Poll::Pending }
        }));
        self.waits.set(false);
        self.shared.leader_goes_on();
        self.shared.set_led(false);
    }
}

fn run(runnable: Runnable) {
    // A process catches its own panics: this is for destructors that run when it is gone.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| runnable.run())) {
        tracing::error!(panic = text_of(&*panic), "a process's task panicked at its end");
    }
}
