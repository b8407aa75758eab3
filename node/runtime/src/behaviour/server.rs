//! A server: a process that keeps a state and handles one message after the other, as OTP's `gen_server`.
//!
//! ```text
//! init ─▶ whoever starts it is told ─▶ handle, event, handle, … ─▶ terminate ─▶ the process ends
//! ```
//! Whoever starts it hears of `init` exactly once, also when it panics or is killed (R2). A server that traps exits
//! stops in good order when its parent exits.

use std::{
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
};

use rookery_protocol::{ExitReason, Pid, request::RequestError};
use tokio::sync::oneshot;

use crate::{
    address::Address,
    message::Message,
    process::{context::Context, event::Event, event::Received},
    requests::init_failed,
    runtime::Runtime,
    spawn::{IntoExit, SpawnOptions},
    sync::lock,
};

/// A process that keeps a state, and handles messages and events one by one.
///
/// ```
/// use rookery_runtime::{Context, ExitReason, ReplyTo, Server};
/// use serde::{Deserialize, Serialize};
///
/// struct Counter(i64);
///
/// #[derive(Serialize, Deserialize)]
/// enum CounterMessage { Add(i64), Get(ReplyTo<i64>) }
///
/// impl Server for Counter {
///     type Message = CounterMessage;
///     type Arguments = i64;
///
///     async fn init(start: i64, _: &mut Context<CounterMessage>) -> Result<Self, ExitReason> {
///         Ok(Counter(start))
///     }
///
///     async fn handle(&mut self, message: CounterMessage, _: &mut Context<CounterMessage>) -> Result<(), ExitReason> {
///         match message {
///             CounterMessage::Add(n) => self.0 += n,
///             CounterMessage::Get(reply) => drop(reply.send(self.0)),
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Server: Sized + Send + 'static {
    /// What it understands.
    type Message: Message;
    /// What it is started with.
    type Arguments: Message;

    /// Makes the state. Whoever starts the server waits for it (R2).
    ///
    /// # Errors
    /// The reason why it cannot start; it is what the one who starts it gets, and what the process ends with.
    fn init(
        arguments: Self::Arguments,
        context: &mut Context<Self::Message>,
    ) -> impl Future<Output = Result<Self, ExitReason>> + Send;

    /// Handles a message.
    ///
    /// # Errors
    /// The reason to end with; `Err(ExitReason::Normal)` is how a server stops in good order.
    fn handle(
        &mut self,
        message: Self::Message,
        context: &mut Context<Self::Message>,
    ) -> impl Future<Output = Result<(), ExitReason>> + Send;

    /// Handles an event: an exit that was trapped, a monitor that fired, a node that came or went. Ignored by default.
    ///
    /// # Errors
    /// As [`handle`](Self::handle).
    fn event(
        &mut self,
        event: Event,
        context: &mut Context<Self::Message>,
    ) -> impl Future<Output = Result<(), ExitReason>> + Send {
        let _ = (event, context);
        async { Ok(()) }
    }

    /// The last thing it does when it stops by itself, or when it traps exits and whoever started it exits or shuts it
    /// down; not when it is killed or panics. As `gen_server:terminate/2`.
    fn terminate(
        &mut self,
        reason: &ExitReason,
        context: &mut Context<Self::Message>,
    ) -> impl Future<Output = ()> + Send {
        let _ = (reason, context);
        async {}
    }
}

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

async fn serve<S: Server>(arguments: S::Arguments, mut context: Context<S::Message>, told: Starting) -> ExitReason {
    let started = {
        let mut init = pin!(S::init(arguments, &mut context));
        // Whoever starts it shall learn of a panic by its text.
        poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| init.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        })
        .await
    };
    let mut server = match started {
        Ok(Ok(server)) => server,
        Ok(Err(reason)) => {
            told.0.tell(Err(init_failed(reason.clone())));
            return reason;
        }
        Err(panic) => {
            let text = crate::process::task::text_of(&*panic);
            told.0.tell(Err(init_failed(ExitReason::Panic(text))));
            resume_unwind(panic)
        }
    };
    told.0.tell(Ok(context.pid().clone()));
    drop(told);
    let reason = loop {
        let handled = match context.receive().await {
            Received::Message(message) => server.handle(message, &mut context).await,
            Received::Event(Event::Exit { from, reason, .. }) if context.parent() == Some(&from) => Err(reason),
            Received::Event(event) => server.event(event, &mut context).await,
        };
        if let Err(reason) = handled {
            break reason;
        }
    };
    server.terminate(&reason, &mut context).await;
    reason
}

impl Runtime {
    /// Starts a process that tells by a [`Starting`] when it is ready; `done` is told.
    pub(crate) fn spawn_starting<M, F, Fut>(&self, options: SpawnOptions, done: Done, f: F)
    where
        M: Message,
        F: FnOnce(Context<M>, Starting) -> Fut + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoExit,
    {
        let starter = Starter(Arc::new(Mutex::new(Some(done))));
        let starting = Starting(starter.clone());
        if let Err((error, _unused)) = self.try_spawn(options, move |context| f(context, starting)) {
            starter.tell(Err(error.into()));
        }
    }

    /// Starts a server here and waits until its `init` is done.
    ///
    /// # Errors
    /// `init` failed, or the process could not be started.
    pub async fn start_server<S: Server>(
        &self,
        arguments: S::Arguments,
        options: SpawnOptions,
    ) -> Result<Address<S::Message>, RequestError> {
        let (tell, told) = oneshot::channel();
        let done: Done = Box::new(move |result| drop(tell.send(result)));
        let address = self.spawn_server::<S>(arguments, options, done);
        match (address, told.await) {
            (Some(address), Ok(Ok(_))) => Ok(address),
            (_, Ok(Err(error))) => Err(error),
            (_, _) => Err(init_failed(ExitReason::Killed)),
        }
    }

    /// Starts a server; `done` is told how it went, also when there is no process.
    pub(crate) fn spawn_server<S: Server>(
        &self,
        arguments: S::Arguments,
        options: SpawnOptions,
        done: Done,
    ) -> Option<Address<S::Message>> {
        let starter = Starter(Arc::new(Mutex::new(Some(done))));
        let told = Starting(starter.clone());
        let options = options.label_or(std::any::type_name::<S>());
        match self.try_spawn(options, move |context| serve::<S>(arguments, context, told)) {
            Ok(spawned) => Some(spawned.address),
            Err((error, _unused)) => {
                starter.tell(Err(error.into()));
                None
            }
        }
    }
}
