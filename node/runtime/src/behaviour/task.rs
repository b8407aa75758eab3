//! Tasks: a piece of work in a process of its own, whose result comes back; as Elixir's `Task` and `Task.Supervisor`.
//!
//! ```text
//! Task::spawn ─▶ process (linked with its owner) ── value ──▶ Slot ◀── await_result, yield_result
//!                        └─ panics, is killed ── exit reason ──▶┘
//! ```
//! The result goes into a slot, as a reply does, and so does the reason if there is none (A1): each is told once. No
//! bytes are made, so a result may be of any type. Tasks that are not to share their owner's fate belong to a
//! [`TaskSupervisor`], which bounds how many there are.

use std::{
    fmt,
    future::{Future, poll_fn},
    sync::Arc,
    time::Duration,
};

use rookery_protocol::{CallFailure, ExitReason, Pid};
use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

use crate::{
    message::Message,
    process::{
        alarm::Until,
        context::Context,
        deadline::FAR,
        event::{Event, Received},
    },
    reply::{ReplyTo, Slot},
    runtime::Runtime,
    spawn::{SpawnError, SpawnOptions},
};

/// Work that runs in a process of its own. Dropping it lets the work go on, and drops its result.
pub struct Task<T: Send + 'static> {
    runtime: Runtime,
    pid: Pid,
    slot: Arc<Slot<T>>,
}

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TaskError {
    /// It ended without one.
    #[error("the task ended without a result: {0}")]
    Exited(ExitReason),
    /// It has none yet. It goes on.
    #[error("the task has no result yet")]
    Timeout,
    /// What became of it was told before.
    #[error("the task's result has been taken")]
    Taken,
}

impl<T: Send + 'static> Task<T> {
    /// Starts `work` in a process that is linked with this one, its owner. Should one of the two end abnormally, so does
    /// the other, unless it traps exits. As `Task.async/1`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use rookery_runtime::{Context, Task};
    /// # async fn example(mut context: Context<()>) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut sum = Task::spawn(&mut context, async { (1..=1_000_u64).sum::<u64>() })?;
    /// // …does something else meanwhile…
    /// assert_eq!(sum.await_result(Duration::from_secs(5)).await?, 500_500);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the table of processes is full, or the runtime shuts down.
    pub fn spawn<M: Message>(
        owner: &mut Context<M>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<Self, SpawnError> {
        let runtime = owner.runtime().clone();
        Self::start(runtime, SpawnOptions::new().link_to(owner.pid()), work)
    }

    fn start(
        runtime: Runtime,
        options: SpawnOptions,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<Self, SpawnError> {
        let slot = Slot::new(runtime.clock(), None);
        let reply = ReplyTo::local(slot.clone());
        let spawned = runtime.spawn_with(options.label("task"), async move |_: Context<()>| reply.put(work.await))?;
        Ok(Self { runtime, pid: spawned.pid, slot })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> &Pid {
        &self.pid
    }

    /// Waits for the result, at most so long. As `Task.await/2`, but a timeout is an error of this call and ends nobody.
    ///
    /// # Errors
    /// [`TaskError::Exited`] at once when the task ends without a result; `Timeout`; `Taken` when it has been told before.
    pub async fn await_result(&mut self, patience: Duration) -> Result<T, TaskError> {
        let taken = poll_fn(|cx| self.slot.poll_take(cx));
        match Until::new(Instant::now() + patience.min(FAR), taken).await {
            Some(outcome) => outcome.map_err(TaskError::from),
            None => Err(TaskError::Timeout),
        }
    }

    /// As [`await_result`](Self::await_result); `None` if the task is still at work then. As `Task.yield/2`.
    pub async fn yield_result(&mut self, patience: Duration) -> Option<Result<T, TaskError>> {
        match self.await_result(patience).await {
            Err(TaskError::Timeout) => None,
            outcome => Some(outcome),
        }
    }

    /// Ends the task at its next `.await`, and waits until it has ended, at most so long. Its owner, which gives its
    /// context, is unlinked first, and so does not hear of it. Gives the result, if the task had one before it ended. As
    /// `Task.shutdown/2`.
    ///
    /// # Errors
    /// [`TaskError::Exited`] with what it ended by, which is `Shutdown` unless something else was first; `Timeout` if it
    /// comes to no `.await`; `Taken`.
    pub async fn shutdown<M: Message>(mut self, owner: &mut Context<M>, patience: Duration) -> Result<T, TaskError> {
        owner.unlink(&self.pid);
        self.runtime.exit(&self.pid, ExitReason::Shutdown);
        self.await_result(patience).await
    }
}

impl<T: Send + 'static> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({})", self.pid)
    }
}

impl From<CallFailure> for TaskError {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::Exited(reason) => Self::Exited(reason),
            // What an empty slot says: it was full once.
            _ => Self::Taken,
        }
    }
}

/// Why a supervisor of tasks did not start one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TaskStartError {
    /// It has as many tasks as it may.
    #[error("the task supervisor has its limit of {limit} tasks")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// There is no process to be had.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

/// A process to which tasks belong that are not to share the fate of who waits for them; at most so many at once. As
/// Elixir's `Task.Supervisor`. A cheap handle; the supervisor lives until it is sent an exit, and its tasks end with it.
///
/// ```
/// # use std::time::Duration;
/// # use rookery_runtime::{Runtime, SpawnOptions, TaskSupervisor};
/// # async fn example(runtime: &Runtime) -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = TaskSupervisor::start(runtime, 100, SpawnOptions::new()).await?;
/// // One that panics is an answer to who waits for it, and to nobody else.
/// let mut risky = tasks.spawn(async { "17".parse::<u32>() })?;
/// assert_eq!(risky.await_result(Duration::from_secs(5)).await?, Ok(17));
/// // Four at a time; the results stand in the order of what they were made from.
/// let lengths = tasks.map_concurrent(["a", "bc", "def"], 4, async |text| text.len()).await;
/// assert_eq!(lengths, [Ok(1), Ok(2), Ok(3)]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TaskSupervisor {
    runtime: Runtime,
    pid: Pid,
    limit: usize,
    /// As many as there may be tasks; each holds one for as long as it lives.
    permits: Arc<Semaphore>,
}

impl TaskSupervisor {
    /// Starts one that has at most `limit` tasks at once, and waits for its first step. Linked with a parent, if `options`
    /// say so, it ends with it.
    ///
    /// # Errors
    /// When the table of processes is full, the runtime shuts down, or the name cannot be had.
    pub async fn start(runtime: &Runtime, limit: usize, options: SpawnOptions) -> Result<Self, SpawnError> {
        let (ready, is_ready) = oneshot::channel::<()>();
        let options = options.label_or("task supervisor");
        let parent = options.parent().cloned();
        let spawned = runtime.spawn_with(options, async move |mut context: Context<()>| {
            context.trap_exits(true);
            drop(ready);
            loop {
                let Received::Event(Event::Exit { from, reason, linked }) = context.receive().await else { continue };
                // Over a link, all but the parent's exits are those of tasks.
                match (parent.as_ref() == Some(&from), linked, reason) {
                    // Tasks do not end with a linked process that ends as `Normal`.
                    (true, _, ExitReason::Normal) => return ExitReason::Shutdown,
                    (false, true, _) | (_, _, ExitReason::Normal) => {}
                    (_, _, reason) => return reason,
                }
            }
        })?;
        // Before it traps exits, its parent's end as `Normal` would pass it by.
        drop(is_ready.await);
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Ok(Self { runtime: runtime.clone(), pid: spawned.pid, limit, permits: Arc::new(Semaphore::new(limit)) })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> &Pid {
        &self.pid
    }

    /// How many tasks it has.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.limit - self.permits.available_permits()
    }

    /// Starts `work` in a process that is linked with the supervisor alone. As `Task.Supervisor.async_nolink/2`.
    ///
    /// # Errors
    /// It has as many tasks as it may, or there is no process to be had. If the supervisor has ended, so does the task,
    /// with `NoProc`.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<Task<T>, TaskStartError> {
        match self.permits.clone().try_acquire_owned() {
            Ok(permit) => Ok(self.spawn_with(permit, work)?),
            Err(_) => Err(TaskStartError::Full { limit: self.limit }),
        }
    }

    fn spawn_with<T: Send + 'static>(
        &self,
        permit: OwnedSemaphorePermit,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<Task<T>, SpawnError> {
        let work = async move {
            let value = work.await;
            // Before whoever waits can start the next one.
            drop(permit);
            value
        };
        Task::start(self.runtime.clone(), SpawnOptions::new().link_to(&self.pid), work)
    }

    /// Does `work` for each of `items` in a task of its own, at most `at_once` of them at a time, and never more than the
    /// supervisor may have: it waits until others have ended. Gives all outcomes, in the order of the items. As
    /// `Task.Supervisor.async_stream_nolink/4`. If it is dropped, what has been started goes on.
    pub async fn map_concurrent<I, T, F, Fut>(
        &self,
        items: impl IntoIterator<Item = I>,
        at_once: usize,
        work: F,
    ) -> Vec<Result<T, TaskError>>
    where
        T: Send + 'static,
        F: Fn(I) -> Fut,
        Fut: Future<Output = T> + Send + 'static,
    {
        let turns = Arc::new(Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS)));
        let mut tasks = Vec::new();
        for item in items {
            // Neither is ever closed.
            let turn = turns.clone().acquire_owned().await;
            let Ok(permit) = self.permits.clone().acquire_owned().await else { break };
            let work = work(item);
            tasks.push(self.spawn_with(permit, async move {
                let _turn = turn;
                work.await
            }));
        }
        let mut outcomes = Vec::with_capacity(tasks.len());
        for task in tasks {
            outcomes.push(match task {
                Ok(task) => poll_fn(|cx| task.slot.poll_take(cx)).await.map_err(TaskError::from),
                Err(error) => Err(TaskError::Exited(ExitReason::Error(error.to_string()))),
            });
        }
        outcomes
    }
}

impl fmt::Debug for TaskSupervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskSupervisor({})", self.pid)
    }
}
