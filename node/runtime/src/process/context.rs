//! The inside of a process: what its own code can do. One [`Context`] a process; it cannot leave it.
//!
//! It takes from the mailbox (`mailbox.rs`) and gives one item after the other, in the order of arrival; due timers
//! come first. Ties are changed here in the process's own half, and by a signal in the other's. Where the behaviour is
//! Erlang's, the function names its counterpart.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use rookery_protocol::{
    Destination, ExitReason, Group, Pid, ProcessName, Ref, SignalBody, UnlinkId, request::RequestError,
};
use tokio::time::Instant;

use crate::{
    address::Address,
    behaviour::system::SystemRequest,
    message::{self, Message},
    process::{
        AnyProcess,
        alarm::Until,
        current,
        deadline::FAR,
        event::{Event, Received},
        mailbox::{Item, Other, Process, Traced, signal},
        timers::{TimerRef, Timers},
    },
    reply::ReplyTo,
    runtime::{RegisterError, Runtime},
    spawn::{IntoExit, SpawnOptions, Spawned},
};

/// What a process does with the outside: receive, link, monitor, trap exits, set timers.
///
/// Everything here is for the process itself. To send, use an [`Address`], or the [`Runtime`] with a pid.
pub struct Context<M: Message> {
    process: Arc<Process<M>>,
    /// None before the first message, or timer: an idle process is small.
    inbox: Option<Box<Inbox<M>>>,
}

/// What is a process's alone.
struct Inbox<M> {
    /// What was taken from the mailbox and not received yet.
    taken: VecDeque<Item<M>>,
    timers: Option<Box<Timers<M>>>,
    /// Who is its parent instead of whoever started it.
    adopted_by: Option<Box<Pid>>,
    /// Whose place it is about to take: that one's names are its own.
    succeeds: Option<Box<Pid>>,
}

impl<M> Default for Inbox<M> {
    fn default() -> Self {
        Self { taken: VecDeque::new(), timers: None, adopted_by: None, succeeds: None }
    }
}

/// What comes out of a mailbox.
pub(crate) enum Incoming<M> {
    Received(Received<M>),
    System(Box<SystemRequest>),
}

impl<M: Message> fmt::Debug for Context<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({})", self.process.pid())
    }
}

impl<M: Message> Context<M> {
    pub(crate) fn new(process: Arc<Process<M>>) -> Self {
        Self { process, inbox: None }
    }

    /// This process.
    #[must_use]
    pub fn pid(&self) -> &Pid {
        self.process.pid()
    }

    /// This process, for others to send to.
    #[must_use]
    pub fn address(&self) -> Address<M> {
        Address::local(self.process.clone())
    }

    /// The runtime that the process lives in.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        self.process.runtime()
    }

    /// Who started this process with a link, if somebody did, or has taken that one's place: the one whose exit a trapping
    /// server obeys.
    #[must_use]
    pub fn parent(&self) -> Option<&Pid> {
        let adopted = self.inbox.as_ref().and_then(|inbox| inbox.adopted_by.as_deref());
        adopted.or_else(|| self.process.linked_parent())
    }

    fn timers(&mut self) -> &mut Timers<M> {
        self.inbox.get_or_insert_default().timers.get_or_insert_default()
    }

    /// What was worked on is done: it hurries nobody any more, and its span ends.
    #[inline]
    fn begin_receive(&self) {
        current::inherit(None);
        self.process.end_handling();
    }

    /// The next message or event, in the order of arrival. Waits until there is one.
    ///
    /// Safe to cancel: what it has not given is given by the next call.
    pub async fn receive(&mut self) -> Received<M> {
        self.begin_receive();
        poll_fn(|cx| {
            loop {
                match std::task::ready!(self.poll_incoming(cx)) {
                    Incoming::Received(received) => return Poll::Ready(received),
                    // A server that receives in the middle of its own work is suspended, or resumed, when it is done.
                    Incoming::System(request) => request.busy(),
                }
            }
        })
        .await
    }

    /// As [`receive`](Self::receive), and what a server is asked as a system too; nothing but that, and the exit of its
    /// parent, while it is suspended.
    pub(crate) async fn receive_incoming(&mut self) -> Incoming<M> {
        self.begin_receive();
        poll_fn(|cx| if self.process.is_suspended() { self.poll_urgent(cx) } else { self.poll_incoming(cx) }).await
    }

    /// What a server that hands over still takes: what it is asked as a system, and the exit of its parent. All else waits.
    pub(crate) async fn receive_urgent(&mut self) -> Incoming<M> {
        self.begin_receive();
        poll_fn(|cx| self.poll_urgent(cx)).await
    }

    /// From now on the names of `of` can be taken by this process, until it is told otherwise.
    pub(crate) fn succeeds(&mut self, of: Option<&Pid>) {
        self.inbox.get_or_insert_default().succeeds = of.map(|of| Box::new(of.clone()));
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.process.is_suspended()
    }

    fn poll_urgent(&mut self, cx: &mut task::Context<'_>) -> Poll<Incoming<M>> {
        let coop = std::task::ready!(tokio::task::coop::poll_proceed(cx));
        loop {
            let Self { process, inbox } = self;
            let inbox = inbox.get_or_insert_default();
            let parent = inbox.adopted_by.as_deref().or_else(|| process.linked_parent());
            let item = std::task::ready!(process.poll_urgent(cx, &mut inbox.taken, parent));
            if let Some(incoming) = self.open(item) {
                coop.made_progress();
                return Poll::Ready(incoming);
            }
        }
    }

    #[inline]
    fn poll_incoming(&mut self, cx: &mut task::Context<'_>) -> Poll<Incoming<M>> {
        // A process with a full mailbox yields now and then all the same: after 256 messages, of tokio's budget of 128.
        let coop = match self.unreceived().is_multiple_of(2) {
            true => Some(std::task::ready!(tokio::task::coop::poll_proceed(cx))),
            false => None,
        };
        let received = |context: &Self, incoming| {
            coop.as_ref().inspect(|coop| coop.made_progress());
            context.process.vitals().received(context.unreceived());
            Poll::Ready(incoming)
        };
        // Timers first: a mailbox that is never empty must not hold them up.
        if let Some(timers) = self.inbox.as_mut().and_then(|inbox| inbox.timers.as_mut())
            && let Poll::Ready(message) = timers.poll_due(cx)
        {
            return received(self, Incoming::Received(Received::Message(message)));
        }
        loop {
            let Some(inbox) = &mut self.inbox else {
                let mut taken = VecDeque::new();
                std::task::ready!(self.process.poll_take(cx, &mut taken));
                self.inbox = Some(Box::new(Inbox { taken, ..Inbox::default() }));
                continue;
            };
            if let Some(item) = inbox.taken.pop_front() {
                if let Some(incoming) = self.open(item) {
                    return received(self, incoming);
                }
                continue;
            }
            std::task::ready!(self.process.poll_take(cx, &mut inbox.taken));
        }
    }

    /// What was taken from the mailbox and not received yet.
    fn unreceived(&self) -> usize {
        self.inbox.as_ref().map_or(0, |inbox| inbox.taken.len())
    }

    /// Gives back the memory of the mailbox and the timers, as far as they are empty: for a process that has had many
    /// messages, and now waits for long. What else it holds is its own to give back. In Rust nothing else follows: there
    /// is no heap of the process that is collected, as with `erlang:hibernate/3`.
    pub fn hibernate(&mut self) {
        if let Some(inbox) = &mut self.inbox {
            inbox.timers.take_if(|timers| timers.is_empty());
            if inbox.taken.is_empty() {
                inbox.taken = VecDeque::new();
            }
        }
        self.inbox.take_if(|inbox| {
            inbox.taken.is_empty() && inbox.timers.is_none() && inbox.adopted_by.is_none() && inbox.succeeds.is_none()
        });
        self.process.shrink();
    }

    /// The next message, for a process that lives by messages alone: events are passed over, but for an exit signal that it
    /// traps, which asks it to end: `None`. Waits until there is one. Safe to cancel, as [`receive`](Self::receive).
    ///
    /// ```
    /// # use rookery_runtime::{Context, ReplyTo};
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Add(i64, ReplyTo<i64>);
    ///
    /// async fn count(mut context: Context<Add>) {
    ///     let mut sum = 0;
    ///     while let Some(Add(number, reply)) = context.message().await {
    ///         sum += number;
    ///         reply.answer(sum);
    ///     }
    /// }
    /// ```
    pub async fn message(&mut self) -> Option<M> {
        loop {
            match self.receive().await {
                Received::Message(message) => return Some(message),
                Received::Event(Event::Exit { .. }) => return None,
                Received::Event(_) => {}
            }
        }
    }

    /// As [`receive`](Self::receive), but waits no longer than `timeout`; `None` then.
    pub async fn receive_timeout(&mut self, timeout: Duration) -> Option<Received<M>> {
        Until::new(Instant::now() + timeout.min(FAR), self.receive()).await
    }

    #[inline]
    fn open(&mut self, item: Item<M>) -> Option<Incoming<M>> {
        let message = |message| Some(Incoming::Received(Received::Message(message)));
        let other = match item {
            Item::Message(value) => return message(value),
            Item::Call(value, deadline) => {
                current::inherit(Some(deadline));
                return message(value);
            }
            Item::Traced(traced) => {
                let Traced { message: value, deadline, trace } = *traced;
                current::inherit(deadline);
                self.process.begin_handling(trace, deadline.is_some());
                return message(value);
            }
            Item::Other(other) => other,
        };
        match *other {
            Other::Event(event) => Some(Incoming::Received(Received::Event(event))),
            Other::System(request) => {
                match request {
                    SystemRequest::Suspend => self.process.suspend(true),
                    SystemRequest::Resume => self.process.suspend(false),
                    _ => {}
                }
                Some(Incoming::System(Box::new(request)))
            }
            Other::Taken(reply) => {
                reply.acknowledge();
                None
            }
            Other::Adopted(parent) => {
                self.inbox.get_or_insert_default().adopted_by = Some(Box::new(parent));
                None
            }
            Other::Encoded(payload, reply, trace) => {
                let is_call = reply.is_some();
                let deadline = reply.as_ref().and_then(|reply| reply.deadline);
                match message::decode::<M>(&payload, self.runtime(), reply) {
                    Ok((value, untaken)) => {
                        current::inherit(deadline);
                        if let Some(trace) = trace {
                            self.process.begin_handling(*trace, is_call);
                        }
                        if let Some(reply) = untaken {
                            self.inbox
                                .get_or_insert_default()
                                .taken
                                .push_front(Item::Other(Box::new(Other::Taken(reply))));
                        }
                        message(value)
                    }
                    Err((detail, reply)) => {
                        self.runtime().not_understood(self.pid(), payload.tag, detail, reply);
                        None
                    }
                }
            }
        }
    }

    /// How long whoever called with the message received last still waits for the answer (A4). `None` if nobody waits:
    /// it was sent, not called; it has been answered; or its caller waits for weeks.
    ///
    /// Until this process has answered, or receives again, its own calls wait no longer than that, whatever they are
    /// told, and whom it calls sees it in turn.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        Some(self.runtime().clock().left(current::inherited()?, Instant::now()))
    }

    /// From now on this process works for whoever waits for `reply`: its calls wait no longer than that, as if the
    /// request had been received just now. For requests that were put aside, or that another process of this runtime
    /// has handed on.
    pub fn work_for<T: Send + 'static>(&mut self, reply: &ReplyTo<T>) {
        current::inherit(reply.deadline());
    }

    /// Whether exit signals become events instead of ending this process (X1). Gives the former setting.
    pub fn trap_exits(&mut self, trap: bool) -> bool {
        self.process.trap_exits(trap)
    }

    /// Links this process with `to` (L1). Does not wait: if `to` does not exist, an exit signal `NoProc` comes (L2), and
    /// `NoConnection` if its node is not connected (L5). As `erlang:link/1`.
    pub fn link(&mut self, to: &Pid) {
        if to != self.pid() && self.process.link_to(to) {
            self.runtime().signal_tied(signal(self.pid(), to, SignalBody::Link));
        }
    }

    /// Removes the link with `to`. When this returns, no exit signal of that link arrives any more, and none is left in
    /// the mailbox (L4). Does not wait. As `erlang:unlink/1`.
    pub fn unlink(&mut self, to: &Pid) {
        let id = UnlinkId(self.runtime().next_number());
        let taken = &mut self.inbox.get_or_insert_default().taken;
        if self.process.unlink_to(to, id, taken) {
            self.runtime().signal(signal(self.pid(), to, SignalBody::Unlink(id)));
        }
    }

    /// Monitors a process, by pid or by name. Exactly one [`Down`](crate::Down) with this reference follows, when it
    /// ends, with `NoProc` if there is none, with `NoConnection` if its node is lost (M1, M2, M4). Does not wait. As
    /// `erlang:monitor/2`.
    pub fn monitor(&mut self, target: impl Into<Destination>) -> Ref {
        let target = self.runtime().resolved(target.into());
        let monitor = Ref(self.runtime().next_number());
        self.process.monitor_to(monitor, target.clone());
        self.runtime().signal_tied(signal(self.pid(), target, SignalBody::Monitor(monitor)));
        monitor
    }

    /// Stops to monitor. When this returns, no `Down` of that reference arrives any more, and none is left in the
    /// mailbox (M3). Does not wait. As `erlang:demonitor(Ref, [flush])`.
    pub fn demonitor(&mut self, monitor: Ref) {
        let taken = &mut self.inbox.get_or_insert_default().taken;
        if let Some(target) = self.process.demonitor(monitor, taken) {
            self.runtime().signal(signal(self.pid(), target, SignalBody::Demonitor(monitor)));
        }
    }

    /// Sends an exit signal (X1, X2, X3). Does not wait. As `erlang:exit/2`.
    pub fn exit(&self, to: &Pid, reason: ExitReason) {
        self.runtime().exit(to, reason);
    }

    /// Gives this process a name (N1). On a node it does not wait; in a client it asks the node that the client is
    /// connected to.
    ///
    /// # Errors
    /// The name belongs to another process, or the client may not take it, or the connection was lost.
    pub async fn register(&mut self, name: &ProcessName) -> Result<(), RegisterError> {
        let pid = self.pid().clone();
        self.runtime().register(name, &pid).await
    }

    /// Gives up a name.
    ///
    /// # Errors
    /// As [`register`](Self::register); not having the name is one.
    pub async fn unregister(&mut self, name: &ProcessName) -> Result<(), RegisterError> {
        let pid = self.pid().clone();
        self.runtime().unregister(name, &pid).await
    }

    /// Gives this process a name in the cluster (N2). Waits for one node's answer; see
    /// [`Runtime::register_in_cluster`].
    ///
    /// # Errors
    /// Another process has it, who is told; the client may not have it; no answer came in time.
    pub async fn register_in_cluster(&mut self, name: &ProcessName) -> Result<(), RegisterError> {
        let pid = self.pid().clone();
        match self.inbox.as_ref().and_then(|inbox| inbox.succeeds.as_deref()) {
            Some(of) => self.runtime().succeed_in_cluster(name, &pid, &of.clone()).await,
            None => self.runtime().register_in_cluster(name, &pid).await,
        }
    }

    /// Takes a cluster name that `of` has, and is about to give up since this process takes its place; one that `of` does not
    /// have is asked for as any other. When this returns all nodes know of it: each finds `of` until that gives the name up,
    /// and this process then.
    ///
    /// # Errors
    /// As [`register_in_cluster`](Self::register_in_cluster).
    pub async fn succeed_in_cluster(&mut self, name: &ProcessName, of: &Pid) -> Result<(), RegisterError> {
        let pid = self.pid().clone();
        self.runtime().succeed_in_cluster(name, &pid, of).await
    }

    /// Gives up a cluster name.
    ///
    /// # Errors
    /// As [`register_in_cluster`](Self::register_in_cluster); not having the name is one.
    pub async fn unregister_in_cluster(&mut self, name: &ProcessName) -> Result<(), RegisterError> {
        let pid = self.pid().clone();
        self.runtime().unregister_in_cluster(name, &pid).await
    }

    /// Joins a group; several times if it is called so (G1). Does not wait on a node; a client asks its node.
    ///
    /// # Errors
    /// The client may not join; or its node does not answer.
    pub async fn join(&mut self, group: &Group) -> Result<(), RequestError> {
        let pid = self.pid().clone();
        self.runtime().join(group, &pid).await
    }

    /// Leaves a group, once.
    ///
    /// # Errors
    /// This process is no member; or as [`join`](Self::join).
    pub async fn leave(&mut self, group: &Group) -> Result<(), RequestError> {
        let pid = self.pid().clone();
        self.runtime().leave(group, &pid).await
    }

    /// Starts to tell this process of each join and leave in a group by [`Event::Group`](crate::Event::Group), or stops
    /// to (G3). Those that are members already are told first, as if they joined now.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub async fn watch_group(&mut self, group: &Group, tell: bool) -> Result<(), RequestError> {
        let pid = self.pid().clone();
        self.runtime().watch_group(group, &pid, tell).await
    }

    /// Starts to tell this process of nodes that come and go (M5), or stops to. Nodes that are up already are told too.
    pub fn monitor_nodes(&mut self, tell: bool) {
        self.runtime().monitor_nodes(self.pid(), tell);
    }

    /// Starts a process that is linked with this one from its first moment (R1).
    ///
    /// # Errors
    /// When the table of processes is full, or the runtime shuts down.
    pub fn spawn_link<N, F, Fut>(&mut self, f: F) -> Result<Address<N>, crate::SpawnError>
    where
        N: Message,
        F: FnOnce(Context<N>) -> Fut + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoExit,
    {
        let options = SpawnOptions::new().link_to(self.pid());
        self.runtime().clone().spawn_with(options, f).map(|spawned| spawned.address)
    }

    /// Starts a process that this one monitors from its first moment (R1).
    ///
    /// # Errors
    /// As [`spawn_link`](Self::spawn_link).
    pub fn spawn_monitor<N, F, Fut>(&mut self, f: F) -> Result<(Address<N>, Ref), crate::SpawnError>
    where
        N: Message,
        F: FnOnce(Context<N>) -> Fut + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoExit,
    {
        let options = SpawnOptions::new().monitored_by(self.pid());
        let Spawned { address, monitor, .. } = self.runtime().clone().spawn_with(options, f)?;
        Ok((address, monitor.unwrap_or(Ref(0))))
    }

    /// Sends this process `message` after `after`. The timer ends with the process. As `erlang:send_after/3` to self; to
    /// others: [`Address::send_after`].
    pub fn send_after(&mut self, after: Duration, message: M) -> TimerRef {
        self.timers().set(after, message)
    }

    /// Sends this process what `make` gives, again and again, first after `every`; of at least a millisecond. As
    /// `timer:send_interval/2`, but it ends with the process.
    ///
    /// It does not drift: ticks are due at multiples of `every` from now. A process that is late gets one tick for all
    /// that it has missed, and the next one is due when it would have been.
    pub fn interval(&mut self, every: Duration, make: impl FnMut() -> M + Send + Sync + 'static) -> TimerRef {
        self.timers().set_interval(every, Box::new(make))
    }

    /// Cancels a timer; gives the time that was left, to the next tick if it is an interval, or `None` if it has fired.
    pub fn cancel_timer(&mut self, timer: TimerRef) -> Option<Duration> {
        self.inbox.as_mut()?.timers.as_mut()?.cancel(timer)
    }
}

impl<M: Message> Context<M> {
    /// Ends all timers of this process.
    pub(crate) fn end_timers(&mut self) {
        if let Some(inbox) = &mut self.inbox {
            inbox.timers = None;
        }
    }
}

impl<M: Message> Drop for Context<M> {
    // What was taken and not received is drained with the mailbox, so that its callers learn why (A1).
    fn drop(&mut self) {
        if let Some(inbox) = &mut self.inbox
            && !inbox.taken.is_empty()
        {
            self.process.put_back(&mut inbox.taken);
        }
    }
}
