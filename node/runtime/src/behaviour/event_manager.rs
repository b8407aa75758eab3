//! An event manager, as OTP's `gen_event`: a process that gives each event to a set of handlers, which are added and
//! removed while it runs. One that fails goes, its owner is told, and the others do not notice.
//!
//! Handlers run in the manager's process, one after the other, so they are to be quick. They are code and stay on their
//! node; events come from anywhere. To publish to processes, wherever they are, is what groups and topics are for.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use rookery_protocol::{ExitReason, Ref, request::RequestError};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::{
    address::{Address, SendError},
    behaviour::server::Server,
    message::Message,
    process::{context::Context, event::Event, task::text_of},
    reply::{CallError, ReplyTo},
    runtime::Runtime,
    spawn::SpawnOptions,
};

/// Handlers of one manager: each event goes to all of them in one process.
pub const MAX_HANDLERS: usize = 1_000;

/// Handles the events of an [`EventManager`]. Every closure over an event is one that never fails.
pub trait EventHandler<E>: Send + 'static {
    /// Handles an event. It is not to wait: the other handlers do meanwhile, and so does the manager.
    ///
    /// # Errors
    /// The reason to be removed for; a panic is one too. `Err(ExitReason::Normal)` is how a handler removes itself.
    fn handle(&mut self, event: &E) -> Result<(), ExitReason>;

    /// The last thing it does: it was removed, it failed, its owner has ended, or the manager ends.
    fn terminate(&mut self, reason: &ExitReason) {
        let _ = reason;
    }
}

impl<E, F: FnMut(&E) + Send + 'static> EventHandler<E> for F {
    fn handle(&mut self, event: &E) -> Result<(), ExitReason> {
        self(event);
        Ok(())
    }
}

/// A handler of a manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HandlerId(u64);

/// What an event manager understands. `{"Notify":…}` comes from anywhere; handlers are added by an [`EventManager`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "E: Message")]
#[non_exhaustive]
pub enum EventMessage<E: Message> {
    /// An event.
    Notify(E),
    /// An event; the answer comes when all handlers have had it.
    SyncNotify(E, ReplyTo<()>),
    /// Adds a handler, here.
    Add(HandlerToAdd<E>, ReplyTo<HandlerId>),
    /// Removes a handler; the answer is whether it was there.
    Remove(HandlerId, ReplyTo<bool>),
    /// How many handlers there are.
    Count(ReplyTo<u64>),
}

/// A handler on its way to its manager. It cannot be sent to another node: no code travels.
pub struct HandlerToAdd<E>(Entry<E>);

struct Entry<E> {
    handler: Box<dyn EventHandler<E>>,
    owner: Option<Owner>,
}

struct Owner {
    pid: rookery_protocol::Pid,
    /// The manager's monitor, once it has one.
    monitor: Ref,
    tell: Box<dyn FnOnce(HandlerId, ExitReason) + Send>,
}

impl<E> fmt::Debug for HandlerToAdd<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandlerToAdd")
    }
}

impl<E> Serialize for HandlerToAdd<E> {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("a handler cannot be added to an event manager of another node"))
    }
}

impl<'de, E> Deserialize<'de> for HandlerToAdd<E> {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("a handler cannot be added from another node"))
    }
}

/// The way to an event manager, here or elsewhere.
///
/// ```
/// # use rookery_runtime::{CallError, EventManager, Runtime, SpawnOptions};
/// # async fn example(runtime: &Runtime) -> Result<(), Box<dyn std::error::Error>> {
/// let alarms = EventManager::<String>::start(runtime, SpawnOptions::new().name("alarms".parse()?)).await?;
/// let log = alarms.add(|alarm: &String| println!("{alarm}")).await?;
/// alarms.notify("the boiler is hot".to_owned()).await?;
/// // Once this returns, every handler has had it.
/// alarms.sync_notify("the boiler is cold".to_owned()).await?;
/// alarms.remove(log).await?;
/// # Ok(()) }
/// ```
pub struct EventManager<E: Message> {
    address: Address<EventMessage<E>>,
}

impl<E: Message> EventManager<E> {
    /// Starts one, without handlers. It ends by an exit signal, with its parent if it has one, and tells its handlers.
    ///
    /// # Errors
    /// When the process cannot be started as `options` say.
    pub async fn start(runtime: &Runtime, options: SpawnOptions) -> Result<Self, RequestError> {
        let options = options.label_or("event manager");
        Ok(Self { address: runtime.start_server::<EventServer<E>>((), options).await? })
    }

    /// One that runs already, here or elsewhere.
    #[must_use]
    pub fn at(address: Address<EventMessage<E>>) -> Self {
        Self { address }
    }

    /// Its process.
    #[must_use]
    pub fn address(&self) -> &Address<EventMessage<E>> {
        &self.address
    }

    /// Gives an event to all handlers, and does not wait for them. As [`Address::send`].
    ///
    /// # Errors
    /// As [`Address::send`].
    pub async fn notify(&self, event: E) -> Result<(), SendError<EventMessage<E>>> {
        self.address.send(EventMessage::Notify(event)).await
    }

    /// Gives an event to all handlers, and waits until they have handled it, or have failed.
    ///
    /// # Errors
    /// As [`Address::call`].
    pub async fn sync_notify(&self, event: E) -> Result<(), CallError> {
        self.address.call(|reply| EventMessage::SyncNotify(event, reply)).await
    }

    /// Adds a handler to a manager of this runtime. It gets what is notified from now on, after those that were added
    /// before it.
    ///
    /// # Errors
    /// As [`Address::call`]; `Refused` by a manager of another node, and by one that has [`MAX_HANDLERS`].
    pub async fn add(&self, handler: impl EventHandler<E>) -> Result<HandlerId, CallError> {
        self.add_entry(Entry { handler: Box::new(handler), owner: None }).await
    }

    /// As [`add`](Self::add), with this process as its owner: when the handler is gone without the owner's asking, because
    /// it failed or removed itself, the owner is sent what `tell` makes of it; and when the owner ends, the handler is
    /// removed. As `gen_event:add_sup_handler/3`.
    ///
    /// # Errors
    /// As `add`.
    pub async fn add_owned<M: Message>(
        &self,
        owner: &mut Context<M>,
        handler: impl EventHandler<E>,
        tell: impl FnOnce(HandlerId, ExitReason) -> M + Send + 'static,
    ) -> Result<HandlerId, CallError> {
        let (pid, address) = (owner.pid().clone(), owner.address());
        let tell = Box::new(move |handler, reason| {
            // The manager waits for nobody; whose mailbox is full is told once there is room.
            if let Err(SendError::Full { message }) = address.try_send(tell(handler, reason)) {
                drop(address.send_after(Duration::ZERO, message));
            }
        });
        let owner = Some(Owner { pid, monitor: Ref(0), tell });
        self.add_entry(Entry { handler: Box::new(handler), owner }).await
    }

    async fn add_entry(&self, entry: Entry<E>) -> Result<HandlerId, CallError> {
        self.address.call(|reply| EventMessage::Add(HandlerToAdd(entry), reply)).await
    }

    /// Removes a handler; tells whether it was there. Its owner is not told.
    ///
    /// # Errors
    /// As [`Address::call`].
    pub async fn remove(&self, handler: HandlerId) -> Result<bool, CallError> {
        self.address.call(|reply| EventMessage::Remove(handler, reply)).await
    }
}

impl<E: Message> Clone for EventManager<E> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone() }
    }
}

impl<E: Message> fmt::Debug for EventManager<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventManager({:?})", self.address)
    }
}

/// The process.
struct EventServer<E> {
    /// In the order they were added.
    handlers: BTreeMap<HandlerId, Entry<E>>,
    next: u64,
}

impl<E: Message> EventServer<E> {
    fn notify(&mut self, event: &E, context: &mut Context<EventMessage<E>>) {
        let failed: Vec<_> =
            self.handlers.iter_mut().filter_map(|(&id, entry)| Some((id, entry.handle(event)?))).collect();
        for (id, reason) in failed {
            if let Some(owner) = self.remove(id, &reason, context) {
                (owner.tell)(id, reason);
            } else if reason != ExitReason::Normal {
                tracing::warn!(manager = %context.pid(), handler = id.0, %reason, "an event handler failed and is removed");
            }
        }
    }

    fn add(&mut self, mut entry: Entry<E>, context: &mut Context<EventMessage<E>>) -> Result<HandlerId, String> {
        if self.handlers.len() >= MAX_HANDLERS {
            return Err(format!("the event manager has its limit of {MAX_HANDLERS} handlers"));
        }
        if let Some(owner) = &mut entry.owner {
            owner.monitor = context.monitor(&owner.pid);
        }
        self.next += 1;
        self.handlers.insert(HandlerId(self.next), entry);
        Ok(HandlerId(self.next))
    }

    /// Removes a handler; gives its owner.
    fn remove(&mut self, id: HandlerId, reason: &ExitReason, context: &mut Context<EventMessage<E>>) -> Option<Owner> {
        let mut entry = self.handlers.remove(&id)?;
        entry.terminate(reason);
        if let Some(owner) = &entry.owner {
            context.demonitor(owner.monitor);
        }
        entry.owner
    }
}

impl<E: 'static> Entry<E> {
    /// Why the handler fails at this event, if it does.
    fn handle(&mut self, event: &E) -> Option<ExitReason> {
        match catch_unwind(AssertUnwindSafe(|| self.handler.handle(event))) {
            Ok(handled) => handled.err(),
            Err(panic) => Some(ExitReason::Panic(text_of(&*panic))),
        }
    }

    fn terminate(&mut self, reason: &ExitReason) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.handler.terminate(reason))) {
            tracing::error!(panic = text_of(&*panic), "an event handler panicked while it was removed");
        }
    }
}

impl<E: Message> Server for EventServer<E> {
    type Message = EventMessage<E>;
    type Arguments = ();

    async fn init((): (), context: &mut Context<EventMessage<E>>) -> Result<Self, ExitReason> {
        // So that handlers are told before it ends.
        context.trap_exits(true);
        Ok(Self { handlers: BTreeMap::new(), next: 0 })
    }

    async fn handle(
        &mut self,
        message: EventMessage<E>,
        context: &mut Context<EventMessage<E>>,
    ) -> Result<(), ExitReason> {
        match message {
            EventMessage::Notify(event) => self.notify(&event, context),
            EventMessage::SyncNotify(event, reply) => {
                self.notify(&event, context);
                drop(reply.send(()));
            }
            EventMessage::Add(HandlerToAdd(entry), reply) => match self.add(entry, context) {
                Ok(id) => drop(reply.send(id)),
                Err(why) => reply.refuse(why),
            },
            EventMessage::Remove(id, reply) => {
                let there = self.handlers.contains_key(&id);
                self.remove(id, &ExitReason::Normal, context);
                drop(reply.send(there));
            }
            EventMessage::Count(reply) => drop(reply.send(self.handlers.len() as u64)),
        }
        Ok(())
    }

    async fn event(&mut self, event: Event, context: &mut Context<EventMessage<E>>) -> Result<(), ExitReason> {
        if let Event::Exit { linked: false, reason, .. } = event {
            return Err(reason);
        }
        if let Event::Down(down) = event {
            let of_owner = |entry: &Entry<E>| entry.owner.as_ref().is_some_and(|owner| owner.monitor == down.monitor);
            let orphaned = self.handlers.iter().find(|(_, entry)| of_owner(entry)).map(|(&id, _)| id);
            if let Some(id) = orphaned {
                self.remove(id, &down.reason, context);
            }
        }
        Ok(())
    }

    async fn terminate(&mut self, reason: &ExitReason, _: &mut Context<EventMessage<E>>) {
        for entry in self.handlers.values_mut() {
            entry.terminate(reason);
        }
    }
}
