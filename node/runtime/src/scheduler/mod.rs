//! Runs a node's processes and its I/O on the same threads, so that a message that comes from the network finds its
//! receiver on the thread that has read it, and the answer leaves from there: no thread is woken on the way.
//!
//! ```text
//!            ┌───────────────────── worker ─────────────────────┐
//!  network ─▶│ turn: drives the I/O ─▶ its queue ─▶ round: runs │─▶ network
//!            │       until a process                processes   │
//!            │       can run                                    │
//!            └──────▲──────────────────│────────────▲───────────┘
//!                   └── leads ◀────────┘            └── takes from other workers' queues
//! ```
//!
//! There are as many **workers** as processes may run at once. The I/O is a tokio runtime of one thread that is driven by
//! one of them at a time, the **leader**: whoever has nothing to run takes the lead, waits for the network, and steps
//! down to run what that has woken. All others sleep. Work stays on as few threads as keep up with it, as with the
//! schedulers of the [BEAM](https://www.erlang.org/doc/apps/erts/erl_cmd.html#+scl): a worker whose queue has not been
//! empty for a while calls for help, and who is woken takes half of the queue.
//!
//! A process can keep its thread for as long as it likes. The **watcher** sees to it that this costs nobody else more
//! than some milliseconds: it looks for workers that do not get on, wakes another for what lies in their queues, and
//! leads itself when no worker can, until one has nothing to run. What waits behind a worker that does not get on goes to the others. It
//! sleeps when nothing runs.
//!
//! A worker is within the tokio runtime that the scheduler was started in: what its processes start there, and their
//! sockets and timers, are that runtime's, and each step of a process has tokio's budget for a step.

mod shared;
#[cfg(test)]
mod tests;
mod watcher;
mod worker;

use std::{
    future::Future,
    io,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tokio::runtime::{Handle, TryCurrentError};

pub(crate) use shared::Shared;
use thiserror::Error;
use worker::Worker;
pub(crate) use worker::{wake_io, with_stage};

/// How long the end waits for threads whose processes do not yield. They end when those do.
const STOP_LIMIT: Duration = Duration::from_millis(500);

/// Why there is no scheduler.
#[derive(Debug, Error)]
pub enum SchedulerError {
    /// Not called from a tokio runtime.
    #[error(transparent)]
    NoTokio(#[from] TryCurrentError),
    /// The operating system gives no thread, or no event queue.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// The threads that run the processes and the I/O of a node. Dropping it ends them, with all that runs on them.
#[derive(Debug)]
pub struct Scheduler {
    shared: Arc<Shared>,
    /// Closed when the last thread has ended.
    ended: mpsc::Receiver<()>,
}

/// Runs processes on a [`Scheduler`].
#[derive(Debug, Clone)]
pub struct SchedulerHandle(Arc<Shared>);

impl Scheduler {
    /// Starts `workers` threads, at least one, and the watcher's.
    ///
    /// # Errors
    /// The caller is in no tokio runtime, or the system gives no thread or event queue.
    pub fn start(workers: usize) -> Result<Self, SchedulerError> {
        let tokio = Handle::try_current()?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().on_thread_unpark(Worker::has_waited).enable_all().build()?;
        let queues: Vec<_> = (0..workers.max(1)).map(|_| crossbeam_deque::Worker::new_fifo()).collect();
        let stealers = queues.iter().map(crossbeam_deque::Worker::stealer).collect();
        let shared = Arc::new(Shared::new(runtime, tokio, stealers));
        let (ends, ended) = mpsc::channel();
        // Before the threads: should one not start, those that run are ended.
        let scheduler = Self { shared: shared.clone(), ended };
        // Dropped before it: then nobody is left who would have to end.
        let ends = ends;
        for (index, queue) in queues.into_iter().enumerate() {
            let (shared, ends) = (shared.clone(), ends.clone());
            thread::Builder::new().name("rookery-process".to_owned()).spawn(move || {
                Worker::new(shared, index, queue).run();
                drop(ends);
            })?;
        }
        thread::Builder::new().name("rookery-io".to_owned()).spawn(move || {
            watcher::run(&shared);
            drop(ends);
        })?;
        Ok(scheduler)
    }

    /// Where to spawn what does I/O. It shares its threads with processes, and must not block.
    #[must_use]
    pub fn io(&self) -> &Handle {
        self.shared.io()
    }

    /// For a runtime whose processes it is to run.
    #[must_use]
    pub fn handle(&self) -> SchedulerHandle {
        SchedulerHandle(self.shared.clone())
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.shared.stop();
        if !Worker::is_on_this_thread(&self.shared) {
            // Gives an error as soon as there is none left.
            let _ = self.ended.recv_timeout(STOP_LIMIT);
        }
    }
}

/// What runs the processes of a runtime.
#[derive(Debug, Clone)]
pub(crate) enum Executor {
    /// A tokio runtime; a client's processes run on that of the program that they are part of.
    Tokio(Handle),
    /// A node's own threads.
    Scheduler(SchedulerHandle),
}

impl Executor {
    /// Starts a process.
    pub(crate) fn spawn(&self, process: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Tokio(tokio) => drop(tokio.spawn(process)),
            Self::Scheduler(SchedulerHandle(shared)) => {
                let scheduler = shared.clone();
                let (runnable, task) =
                    async_task::spawn(process, move |runnable| worker::schedule(&scheduler, runnable));
                task.detach();
                runnable.schedule();
            }
        }
    }

    /// How many threads run processes, for how long they have done so, in microseconds, and how many processes wait for
    /// one.
    pub(crate) fn load(&self) -> (usize, u64, usize) {
        match self {
            Self::Tokio(tokio) => {
                let metrics = tokio.metrics();
                let workers = metrics.num_workers();
                let busy: Duration = (0..workers).map(|worker| metrics.worker_total_busy_duration(worker)).sum();
                (workers, u64::try_from(busy.as_micros()).unwrap_or(u64::MAX), metrics.global_queue_depth())
            }
            Self::Scheduler(SchedulerHandle(shared)) => (shared.workers(), shared.busy_us(), shared.queued()),
        }
    }

    /// Where what must not wait for the program's own tasks runs.
    pub(crate) fn io(&self) -> &Handle {
        match self {
            Self::Tokio(tokio) => tokio,
            Self::Scheduler(SchedulerHandle(shared)) => shared.io(),
        }
    }

    /// The tokio runtime that processes are within.
    pub(crate) fn tokio(&self) -> &Handle {
        match self {
            Self::Tokio(tokio) => tokio,
            Self::Scheduler(SchedulerHandle(shared)) => shared.tokio(),
        }
    }
}
