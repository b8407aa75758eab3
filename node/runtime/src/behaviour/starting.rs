//! How a process starts that tells whoever starts it when it is ready, or why it is not: exactly once, also when it panics or is
//! killed (R2).

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex},
};

use rookery_protocol::{ExitReason, Pid, ProcessName, request::RequestError};

use crate::{
    address::Address,
    behaviour::succession::placed,
    message::Message,
    process::context::Context,
    requests::init_failed,
    runtime::{RegisterError, Runtime},
    spawn::{IntoExit, SpawnOptions},
    sync::lock,
};

/// Tells whoever starts a server how its `init` went; also when it never came to an end.
#[derive(Clone)]
struct Starter(Arc<Mutex<Option<Done>>>);

/// Is told how the start of a process went: once.
pub(crate) type Done = Box<dyn FnOnce(Result<Pid, RequestError>) + Send>;

impl Starter {
    fn tell(&self, result: Result<Pid, RequestError>) {
        let done = lock(&self.0).take();
        if let Some(done) = done {
            done(result);
        }
    }
}

/// A process that starts, and has to tell whoever started it how that went: as `proc_lib:init_ack/1`. Dropping it
/// untold says that the process ended before it was ready.
// Dropped with the process's own values, before anybody is told that it ended.
#[must_use = "whoever starts the process waits for this"]
pub struct Starting(Starter);

impl Starting {
    /// The process is ready.
    pub fn ready<M: Message>(self, context: &Context<M>) {
        self.0.tell(Ok(context.pid().clone()));
    }

    /// As [`ready`](Self::ready), told by the process whose pid this is.
    pub fn ready_as(self, pid: Pid) {
        self.0.tell(Ok(pid));
    }

    /// The process cannot start, for a reason that is not its own.
    pub(crate) fn refused(self, error: RequestError) {
        self.0.tell(Err(error));
    }

    /// The process cannot start, and ends by itself.
    pub fn failed(self, reason: ExitReason) {
        self.0.tell(Err(init_failed(reason)));
    }
}

impl fmt::Debug for Starting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Starting")
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.tell(Err(init_failed(ExitReason::Killed)));
    }
}

/// A process that has to have a cluster name before it starts. Boxed, so that those without one are no larger for it.
async fn named<M, F, Fut>(name: ProcessName, mut context: Context<M>, starting: Starting, f: F) -> ExitReason
where
    M: Message,
    F: FnOnce(Context<M>, Starting) -> Fut + Send + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: IntoExit,
{
    if let Err(RegisterError(error)) = Box::pin(context.register_in_cluster(&name)).await {
        let reason = ExitReason::Error(error.to_string());
        starting.refused(error);
        return reason;
    }
    Box::pin(f(context, starting)).await.into_exit()
}

impl Runtime {
    /// Starts a process that tells by a [`Starting`] when it is ready; `done` is told.
    pub(crate) fn spawn_starting<M, F, Fut>(&self, mut options: SpawnOptions, done: Done, f: F) -> Option<Address<M>>
    where
        M: Message,
        F: FnOnce(Context<M>, Starting) -> Fut + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoExit,
    {
        let starter = Starter(Arc::new(Mutex::new(Some(done))));
        let starting = Starting(starter.clone());
        // Told before what was to run is dropped, which would tell that it was killed.
        if let Some(succession) = options.take_succession() {
            let spawned = self.try_spawn(options, move |context| placed(succession, context, starting, f));
            let spawned = spawned.map_err(|(error, _unused)| starter.tell(Err(error.into())));
            return spawned.ok().map(|(process, _)| Address::local(process));
        }
        match options.take_cluster_name() {
            None => self.try_spawn(options, move |context| f(context, starting)).map_err(|(error, _unused)| {
                starter.tell(Err(error.into()));
            }),
            Some(name) => {
                let spawned = self.try_spawn(options, move |context| named(name, context, starting, f));
                spawned.map_err(|(error, _unused)| starter.tell(Err(error.into())))
            }
        }
        .ok()
        .map(|(process, _)| Address::local(process))
    }
}
