//! A server: a process that keeps a state and handles one message after the other, as OTP's `gen_server`.
//!
//! ```text
//! init ─▶ whoever starts it is told ─▶ handle, event, handle, … ─▶ terminate ─▶ the process ends
//!                                       └─ each followed by next: receive, continue, hibernate
//! ```
//! A server that traps exits stops in good order when its parent exits. What it may do is here; how it is run, in `serving.rs`.

use std::{future::Future, time::Duration};

use rookery_protocol::{ExitReason, request::RequestError};
use tokio::sync::oneshot;

use crate::{
    address::Address,
    behaviour::{serving::serve, starting::Done},
    handover::Handover,
    message::Message,
    process::{context::Context, event::Event},
    requests::init_failed,
    runtime::Runtime,
    spawn::SpawnOptions,
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

impl Runtime {
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
