//! A server: a process that keeps a state and handles one message after the other, as OTP's `gen_server`.
//!
//! ```text
//! init ─▶ whoever starts it is told ─▶ handle, event, handle, … ─▶ terminate ─▶ the process ends
//!                                       └─ each followed by next: receive, continue, hibernate
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
    time::Duration,
};

use rookery_protocol::{ExitReason, Pid, ProcessName, request::RequestError};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    address::Address,
    behaviour::{
        succession::{PassingOn, Stop, hand_over, placed},
        system::SystemRequest,
    },
    handover::{Handover, Succession, heir::Heir},
    message::Message,
    process::{
        alarm::Until,
        context::{Context, Incoming},
        deadline::FAR,
        event::{Event, Received},
    },
    requests::init_failed,
    runtime::{RegisterError, Runtime},
    spawn::{IntoExit, SpawnOptions},
    sync::lock,
};

/// What a server does [next](Server::next), as the last element of what `gen_server`'s callbacks return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Waits for whatever comes.
    Receive,
    /// Waits so long; if nothing comes, [`Server::handle_timeout`].
    ReceiveWithin(Duration),
    /// [`Server::handle_continue`] before anything else that comes.
    Continue,
    /// Gives back the memory of its mailbox ([`Context::hibernate`]), and waits for whatever comes.
    Hibernate,
}

/// A process that keeps a state, and handles messages and events one by one.
///
/// `init` and `handle` must be there; all else has a default. A server is started by
/// [`start_server`](Runtime::start_server), without a name or, by [`SpawnOptions::name`], with one; or by name from a
/// registry of [`Behaviours`](crate::Behaviours).
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

    /// Whether operators may suspend and resume it and ask for its state: [`Runtime::suspend_here`],
    /// [`Runtime::state_here`]. Not unless it says so: whoever can ask could otherwise stop any server, and read what
    /// it keeps.
    const SYS: bool = false;

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

    /// What to do next; asked after `init` and after each callback. To wait for whatever comes is the default.
    ///
    /// It follows from the state alone. So a server that has work left says `Continue` until there is none, and no
    /// message can come in between its steps; it lets other processes run.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use rookery_runtime::{Context, ExitReason, Next, Server};
    /// /// Loads a table after it has started, so that whoever starts it does not wait; ends when unused for a minute.
    /// struct Table { loaded: bool }
    ///
    /// impl Server for Table {
    ///     # type Message = String;
    ///     # type Arguments = ();
    ///     async fn init((): (), _: &mut Context<String>) -> Result<Self, ExitReason> {
    ///         Ok(Table { loaded: false })
    ///     }
    ///
    ///     fn next(&self) -> Next {
    ///         if self.loaded { Next::ReceiveWithin(Duration::from_secs(60)) } else { Next::Continue }
    ///     }
    ///
    ///     async fn handle_continue(&mut self, _: &mut Context<String>) -> Result<(), ExitReason> {
    ///         self.loaded = true;
    ///         Ok(())
    ///     }
    ///
    ///     async fn handle_timeout(&mut self, _: &mut Context<String>) -> Result<(), ExitReason> {
    ///         Err(ExitReason::Normal)
    ///     }
    ///     # async fn handle(&mut self, _: String, _: &mut Context<String>) -> Result<(), ExitReason> { Ok(()) }
    /// }
    /// ```
    fn next(&self) -> Next {
        Next::Receive
    }

    /// Does what [`next`](Self::next) called [`Next::Continue`] for. As `gen_server:handle_continue/2`.
    ///
    /// # Errors
    /// As [`handle`](Self::handle).
    fn handle_continue(
        &mut self,
        context: &mut Context<Self::Message>,
    ) -> impl Future<Output = Result<(), ExitReason>> + Send {
        let _ = context;
        async { Ok(()) }
    }

    /// Nothing has come for as long as [`next`](Self::next) said by [`Next::ReceiveWithin`].
    ///
    /// # Errors
    /// As [`handle`](Self::handle).
    fn handle_timeout(
        &mut self,
        context: &mut Context<Self::Message>,
    ) -> impl Future<Output = Result<(), ExitReason>> + Send {
        let _ = context;
        async { Ok(()) }
    }

    /// The state, for operators that ask by [`Runtime::state_here`]; only if [`SYS`](Self::SYS) allows it. None by
    /// default. What must not be seen is to be left out here.
    fn state(&self) -> Option<String> {
        None
    }

    /// Its state, for the process that takes its place on another node: its node is to leave, or another one has fewer. From
    /// then on it handles nothing; what comes for it waits, and goes to the other one. Its timers end with it: the other one sets
    /// its own.
    ///
    /// It is told, not given away: should the other one not come to life, this server goes on as if nothing had been. None
    /// by default: then the other one begins as [`init`](Self::init) makes it, and only names, groups and what waits move.
    ///
    /// ```
    /// # use rookery_runtime::{Context, ExitReason, Handover, Server};
    /// struct Table(Vec<String>);
    ///
    /// impl Server for Table {
    ///     # type Message = String;
    ///     # type Arguments = ();
    ///     # async fn init((): (), _: &mut Context<String>) -> Result<Self, ExitReason> { Ok(Table(Vec::new())) }
    ///     # async fn handle(&mut self, line: String, _: &mut Context<String>) -> Result<(), ExitReason> { self.0.push(line); Ok(()) }
    ///     async fn hand_over(&mut self, _: &mut Context<String>) -> Option<Handover> {
    ///         Handover::new(1, &self.0).ok()
    ///     }
    ///
    ///     async fn take_over(state: Handover, (): (), _: &mut Context<String>) -> Result<Self, ExitReason> {
    ///         state.read().map(Table).map_err(ExitReason::Error)
    ///     }
    /// }
    /// ```
    fn hand_over(&mut self, context: &mut Context<Self::Message>) -> impl Future<Output = Option<Handover>> + Send {
        let _ = context;
        async { None }
    }

    /// As [`init`](Self::init), from the state that a server of another node, perhaps of another release, has
    /// [handed over](Self::hand_over). By default `init` is called, and the state is lost.
    ///
    /// # Errors
    /// The reason why it cannot start; the other one goes on then.
    fn take_over(
        state: Handover,
        arguments: Self::Arguments,
        context: &mut Context<Self::Message>,
    ) -> impl Future<Output = Result<Self, ExitReason>> + Send {
        drop(state);
        Self::init(arguments, context)
    }

    /// The last thing it does when it stops by itself, or when it traps exits and whoever started it exits or shuts it
    /// down; not when it is killed or panics. As `gen_server:terminate/2`.
    ///
    /// Also when it has [handed over](Self::hand_over): then the reason is `ShutdownWith("handed over to <pid>")`, and another process has
    /// its state and its place already, so what belongs to that is to be left alone. What waited for it has been passed on by then; what
    /// comes meanwhile is when this is done.
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
        starting.0.tell(Err(error));
        return reason;
    }
    Box::pin(f(context, starting)).await.into_exit()
}

async fn serve<S: Server>(
    arguments: S::Arguments,
    mut context: Context<S::Message>,
    told: Starting,
    succession: Option<Box<Succession>>,
) -> ExitReason {
    let mut heir = None;
    let mut state = None;
    if let Some(succession) = succession {
        match Box::pin(Heir::begin(succession, &mut context)).await {
            // Boxed: most servers take nobody's place, and are no larger for it.
            Ok((found, handed)) => (heir, state) = (Some(Box::new(found)), handed),
            Err(error) => {
                let reason = ExitReason::Error(error.to_string());
                told.0.tell(Err(error));
                return reason;
            }
        }
    }
    let started = {
        let init = async {
            match state {
                Some(state) => Box::pin(S::take_over(state, arguments, &mut context)).await,
                None => S::init(arguments, &mut context).await,
            }
        };
        let mut init = pin!(init);
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
    if let Some(heir) = heir
        && let Err(error) = Box::pin(heir.take_place(&mut context)).await
    {
        let reason = ExitReason::Error(error.to_string());
        told.0.tell(Err(error));
        return reason;
    }
    told.0.tell(Ok(context.pid().clone()));
    drop(told);
    let end = loop {
        if let Err(end) = step(&mut server, &mut context).await {
            break end;
        }
    };
    match end {
        Stop::With(reason) => {
            server.terminate(&reason, &mut context).await;
            reason
        }
        Stop::HandedOver(to) => {
            let reason = ExitReason::ShutdownWith(format!("handed over to {to}"));
            Box::pin(handed_over(server, &mut context, to, reason)).await
        }
    }
}

/// The end of a server that has handed over. First of all goes what waits: callers wait for it, and `terminate` may take its time.
async fn handed_over<S: Server>(
    mut server: S,
    context: &mut Context<S::Message>,
    to: Pid,
    reason: ExitReason,
) -> ExitReason {
    let mut passing = PassingOn::begin(context, to);
    let ended = passing.what_waits(context).await;
    server.terminate(&reason, context).await;
    drop(server);
    match ended {
        Some(reason) => reason,
        None => passing.all(context).await,
    }
}

/// One step of a server: what it wants to do next, or what comes to it.
async fn step<S: Server>(server: &mut S, context: &mut Context<S::Message>) -> Result<(), Stop> {
    let next = if context.is_suspended() { Next::Receive } else { server.next() };
    let incoming = match next {
        Next::Continue => {
            // However much is left to do, other processes run.
            tokio::task::coop::consume_budget().await;
            return Ok(server.handle_continue(context).await?);
        }
        Next::ReceiveWithin(timeout) => {
            match Until::new(Instant::now() + timeout.min(FAR), context.receive_incoming()).await {
                Some(incoming) => incoming,
                None => return Ok(server.handle_timeout(context).await?),
            }
        }
        Next::Hibernate => {
            context.hibernate();
            context.receive_incoming().await
        }
        Next::Receive => context.receive_incoming().await,
    };
    match incoming {
        Incoming::Received(Received::Message(message)) => Ok(server.handle(message, context).await?),
        Incoming::Received(Received::Event(Event::Exit { from, reason, .. })) if context.parent() == Some(&from) => {
            Err(reason.into())
        }
        Incoming::Received(Received::Event(event)) => Ok(server.event(event, context).await?),
        Incoming::System(request) => {
            const GOES_ON: &str = "it has not handed over, and goes on";
            match *request {
                // The next step waits as it says.
                SystemRequest::Suspend | SystemRequest::Resume | SystemRequest::Abandon(_) => {}
                SystemRequest::State(reply) => match server.state() {
                    Some(state) => drop(reply.send(state)),
                    None => reply.refuse("the server does not tell its state (Server::state)"),
                },
                SystemRequest::HandOver(to, reply) => {
                    return Box::pin(hand_over(server, context, to, reply)).await;
                }
                SystemRequest::Part(_, _, reply) => reply.refuse(GOES_ON),
                SystemRequest::Commit(_, reply) => reply.refuse(GOES_ON),
            }
            Ok(())
        }
    }
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

    /// Starts a server here and waits until its `init` is done. Named, linked or monitored as `options` say; a server
    /// with a name is found by [`named`](Runtime::named). As `gen_server:start/3,4`.
    ///
    /// ```
    /// # use rookery_runtime::{Address, RequestError, Runtime, Server, SpawnOptions};
    /// async fn start<S: Server<Arguments = ()>>(runtime: &Runtime) -> Result<(), Box<dyn std::error::Error>> {
    ///     let anonymous: Address<S::Message> = runtime.start_server::<S>((), SpawnOptions::new()).await?;
    ///     let options = SpawnOptions::new().name("till".parse()?).mailbox(1_000);
    ///     runtime.start_server::<S>((), options).await?;
    ///     let till = runtime.named::<S::Message>("till".parse()?);
    ///     # drop((anonymous, till));
    ///     Ok(())
    /// }
    /// ```
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
        let mut options = options.label_or(std::any::type_name::<S>()).serves(S::SYS);
        // It gets its names when it has the state.
        let succession = options.take_succession();
        self.spawn_starting(options, done, move |context, starting| {
            serve::<S>(arguments, context, starting, succession)
        })
    }
}
