//! State machines, as OTP's `gen_statem`: a server whose answer to an event depends on its state, which can postpone
//! events until the state has changed, and whose timeouts know of states.
//!
//! What is decided is in `queue.rs`, without I/O. Here a [`Machine`] drives it as a [`Server`]: start, name, supervision,
//! registry and requests of operators are those of servers.

mod queue;

use std::future::Future;

use rookery_protocol::{ExitReason, request::RequestError};
use tokio::time::Instant;

use self::queue::{EventQueue, TooManyHeld};
pub use self::queue::{MAX_HELD_EVENTS, StateEvent, Timeouts, Transition};
use crate::{
    address::Address,
    behaviour::server::{Next, Server},
    message::Message,
    process::{context::Context, event::Event},
    runtime::Runtime,
    spawn::SpawnOptions,
};

/// A process that is in one of several states, and handles each event according to it.
///
/// ```
/// use std::time::Duration;
/// use rookery_runtime::{Context, ExitReason, ReplyTo, StateEvent, StateMachine, Timeouts, Transition};
/// use serde::{Deserialize, Serialize};
///
/// /// A door that locks itself ten seconds after it was unlocked. Who wants to go through waits until it is.
/// struct Door { code: u32 }
///
/// #[derive(Clone, PartialEq)]
/// enum State { Locked, Unlocked }
///
/// #[derive(Serialize, Deserialize)]
/// enum DoorMessage { Code(u32), GoThrough(ReplyTo<()>) }
///
/// impl StateMachine for Door {
///     type State = State;
///     type Message = DoorMessage;
///     type Arguments = u32;
///
///     async fn init(code: u32, _: &mut Context<DoorMessage>) -> Result<(Self, State), ExitReason> {
///         Ok((Door { code }, State::Locked))
///     }
///
///     async fn enter(
///         &mut self, state: &State, _from: Option<&State>, _: &mut Context<DoorMessage>,
///     ) -> Result<Timeouts, ExitReason> {
///         Ok(match state {
///             State::Unlocked => Timeouts::new().state(Duration::from_secs(10)),
///             State::Locked => Timeouts::new(),
///         })
///     }
///
///     async fn handle(
///         &mut self, state: &State, event: StateEvent<DoorMessage>, _: &mut Context<DoorMessage>,
///     ) -> Result<Transition<State, DoorMessage>, ExitReason> {
///         Ok(match (state, event) {
///             (State::Locked, StateEvent::Message(DoorMessage::Code(code))) if code == self.code => {
///                 Transition::to(State::Unlocked)
///             }
///             (State::Locked, event @ StateEvent::Message(DoorMessage::GoThrough(_))) => {
///                 Transition::keep().postpone(event)
///             }
///             (State::Unlocked, StateEvent::Message(DoorMessage::GoThrough(reply))) => {
///                 drop(reply.send(()));
///                 Transition::keep()
///             }
///             (State::Unlocked, StateEvent::StateTimeout) => Transition::to(State::Locked),
///             _ => Transition::keep(),
///         })
///     }
/// }
/// ```
pub trait StateMachine: Sized + Send + 'static {
    /// Its states. What changes without being a state of its own stands in the machine itself.
    type State: PartialEq + Send + Sync + 'static;
    /// What it understands.
    type Message: Message;
    /// What it is started with.
    type Arguments: Message;

    /// As [`Server::SYS`].
    const SYS: bool = false;

    /// Makes the machine, and says in which state it is first. Whoever starts it waits for it, and for the first
    /// [`enter`](Self::enter) (R2).
    ///
    /// # Errors
    /// The reason why it cannot start.
    fn init(
        arguments: Self::Arguments,
        context: &mut Context<Self::Message>,
    ) -> impl Future<Output = Result<(Self, Self::State), ExitReason>> + Send;

    /// Handles an event in a state.
    ///
    /// # Errors
    /// The reason to end with; `Err(ExitReason::Normal)` is how a machine stops in good order.
    fn handle(
        &mut self,
        state: &Self::State,
        event: StateEvent<Self::Message>,
        context: &mut Context<Self::Message>,
    ) -> impl Future<Output = Result<Transition<Self::State, Self::Message>, ExitReason>> + Send;

    /// Is called whenever it comes into a state, before any event in it; `from` is where it comes from, none at the start.
    /// Its timeouts are set after the transition's. As state enter calls. Nothing by default.
    ///
    /// # Errors
    /// As [`handle`](Self::handle).
    fn enter(
        &mut self,
        state: &Self::State,
        from: Option<&Self::State>,
        context: &mut Context<Self::Message>,
    ) -> impl Future<Output = Result<Timeouts, ExitReason>> + Send {
        let _ = (state, from, context);
        async { Ok(Timeouts::new()) }
    }

    /// The last thing it does, as [`Server::terminate`].
    fn terminate(
        &mut self,
        state: &Self::State,
        reason: &ExitReason,
        context: &mut Context<Self::Message>,
    ) -> impl Future<Output = ()> + Send {
        let _ = (state, reason, context);
        async {}
    }

    /// The state as text, for operators: as [`Server::state`].
    fn describe(&self, state: &Self::State) -> Option<String> {
        let _ = state;
        None
    }
}

/// The server that a state machine runs in: for [`Behaviours::server`](crate::Behaviours::server), as
/// `.server::<Machine<Door>>("door")`.
pub struct Machine<S: StateMachine> {
    machine: S,
    queue: EventQueue<S::State, S::Message>,
}

impl<S: StateMachine> Machine<S> {
    /// Handles all that waits and is due.
    async fn run(&mut self, context: &mut Context<S::Message>) -> Result<(), ExitReason> {
        while let Some(event) = self.queue.poll(Instant::now()) {
            // However many events it makes itself, other processes run.
            tokio::task::coop::consume_budget().await;
            let transition = self.machine.handle(self.queue.state(), event, context).await?;
            let former = self.queue.apply(transition, Instant::now()).map_err(|TooManyHeld| {
                ExitReason::Error(format!("the state machine holds back more than {MAX_HELD_EVENTS} events"))
            })?;
            if let Some(former) = former {
                self.enter(Some(&former), context).await?;
            }
        }
        Ok(())
    }

    async fn enter(&mut self, from: Option<&S::State>, context: &mut Context<S::Message>) -> Result<(), ExitReason> {
        let timeouts = self.machine.enter(self.queue.state(), from, context).await?;
        self.queue.set_timeouts(timeouts, Instant::now());
        Ok(())
    }

    async fn receive(
        &mut self,
        event: StateEvent<S::Message>,
        context: &mut Context<S::Message>,
    ) -> Result<(), ExitReason> {
        // What is due comes first.
        self.run(context).await?;
        self.queue.handle(event);
        self.run(context).await
    }
}

impl<S: StateMachine> Server for Machine<S> {
    type Message = S::Message;
    type Arguments = S::Arguments;

    const SYS: bool = S::SYS;

    async fn init(arguments: S::Arguments, context: &mut Context<S::Message>) -> Result<Self, ExitReason> {
        let (machine, state) = S::init(arguments, context).await?;
        let mut machine = Self { machine, queue: EventQueue::new(state) };
        machine.enter(None, context).await?;
        Ok(machine)
    }

    fn next(&self) -> Next {
        match self.queue.next_due() {
            Some(due) => Next::ReceiveWithin(due.saturating_duration_since(Instant::now())),
            None => Next::Receive,
        }
    }

    async fn handle(&mut self, message: S::Message, context: &mut Context<S::Message>) -> Result<(), ExitReason> {
        self.receive(StateEvent::Message(message), context).await
    }

    async fn event(&mut self, event: Event, context: &mut Context<S::Message>) -> Result<(), ExitReason> {
        self.receive(StateEvent::Event(event), context).await
    }

    async fn handle_timeout(&mut self, context: &mut Context<S::Message>) -> Result<(), ExitReason> {
        self.run(context).await
    }

    fn state(&self) -> Option<String> {
        self.machine.describe(self.queue.state())
    }

    async fn terminate(&mut self, reason: &ExitReason, context: &mut Context<S::Message>) {
        self.machine.terminate(self.queue.state(), reason, context).await;
    }
}

impl Runtime {
    /// Starts a state machine here and waits until it is in its first state. As
    /// [`start_server`](Runtime::start_server).
    ///
    /// # Errors
    /// `init` or the first `enter` failed, or the process could not be started.
    pub async fn start_state_machine<S: StateMachine>(
        &self,
        arguments: S::Arguments,
        options: SpawnOptions,
    ) -> Result<Address<S::Message>, RequestError> {
        self.start_server::<Machine<S>>(arguments, options.label_or(std::any::type_name::<S>())).await
    }
}

#[cfg(test)]
mod properties;
