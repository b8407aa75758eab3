//! The mailbox: what a process has been sent and has not received, in the order of arrival. It takes from every thread
//! and gives to one; values of the process's own type lie in it as they are, so a local send moves the value and makes
//! no bytes.
//!
//! One lock guards the queue and the process's state. The receiver takes the whole queue at once, so it locks once for
//! many messages, and a sender finds the lock free.

mod delivery;
mod item;
mod signals;
mod told;

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use rookery_protocol::{
    CreditChange, CreditNumber, Destination, ExitReason, Pid, Ref, Signal, SignalBody, TraceContext, UnlinkId,
};

use crate::{
    message::{self, Message},
    process::{
        bounded::{self, Admission, Bounded},
        deadline::Deadline,
        event::Event,
        info::Vitals,
        relations::Relations,
    },
    runtime::Runtime,
    spawn::{Kept, SpawnOptions},
    sync::lock,
    trace::{ActiveSpan, SpanKind},
};

use item::fail_all;
pub(crate) use item::{Item, Other, Traced};

/// A mailbox that has held more than this gives its memory back when it is empty.
const KEPT_CAPACITY: usize = 256;

/// With each so many messages more in a mailbox, one sender that can wait lets others run: the receiver, if it shares the
/// sender's thread, which receives as many in a turn. So a sender in a loop keeps nobody from running, and what it has
/// sent is still in the processor's cache when it is received. At half of it the turns cost more than the messages.
const CROWD: usize = 256;

/// A process: what others reach of it. Its own half is [`crate::Context`].
pub(crate) struct Process<M> {
    pid: Pid,
    runtime: Runtime,
    label: &'static str,
    /// Who started it, if a process did.
    parent: Option<Pid>,
    /// With a link, which may be gone since.
    linked: bool,
    vitals: Vitals,
    /// Out of reach of clients.
    members_only: bool,
    /// Not for clients to end.
    vital: bool,
    /// It runs a server that allows requests to it as a system.
    sys: bool,
    /// It runs a server.
    serves: bool,
    /// It has handed over: what is for its groups is not for it any more.
    retired: AtomicBool,
    /// It has to end; looked at without the lock before each poll.
    ending: AtomicBool,
    /// It runs a server that is to handle nothing.
    suspended: AtomicBool,
    /// It works on a message of a trace. Its own thread alone writes.
    traced: AtomicBool,
    state: Mutex<State<M>>,
    /// What a bounded mailbox has beside it.
    bounded: Option<Box<Bounded>>,
}

struct State<M> {
    queue: VecDeque<Item<M>>,
    /// The process's task, once it has run.
    task: Option<Waker>,
    /// The task waits for the queue to be filled.
    waits: bool,
    /// What else does: part of the task that is polled apart from it, as in a FuturesUnordered.
    waits_apart: Option<Box<Waker>>,
    /// How many messages senders may queue before they wait; 0 is no limit.
    capacity: u32,
    traps_exits: bool,
    /// The receiver waits for what is urgent: messages do not wake it.
    quiet: bool,
    phase: Phase,
    /// Why it ends, or has ended, if not with `Normal`.
    reason: Option<Box<ExitReason>>,
    /// Ties to others; none for most processes.
    relations: Option<Box<Relations>>,
}

#[derive(PartialEq)]
enum Phase {
    Running,
    /// Has to end; its own code has not yet.
    Ending,
    /// Has ended, and its names are not free yet: whoever ties itself to it is told when they are.
    Leaving,
    Ended,
}

/// What became of a message that was to be queued.
pub(crate) enum Pushed<M> {
    Queued,
    /// The mailbox is full; the message comes back.
    Full(M),
    /// The process has ended; the message comes back.
    Ended(M),
}

impl<M> State<M> {
    fn ended(&self) -> bool {
        matches!(self.phase, Phase::Leaving | Phase::Ended)
    }

    /// The reason in `phase`, unless it runs on.
    fn why(&self) -> Option<ExitReason> {
        (self.phase != Phase::Running).then(|| self.reason.as_deref().cloned().unwrap_or(ExitReason::Normal))
    }

    fn set_phase(&mut self, phase: Phase, reason: ExitReason) {
        self.phase = phase;
        // The most frequent takes no memory.
        self.reason = (reason != ExitReason::Normal).then(|| Box::new(reason));
    }

    fn is_full(&self) -> bool {
        self.capacity != 0 && self.queue.len() >= self.capacity as usize
    }

    fn relations(&mut self) -> &mut Relations {
        self.relations.get_or_insert_default()
    }

    fn push(&mut self, item: Item<M>) -> Option<Waker> {
        let wakes = !self.quiet || matches!(item, Item::Other(_));
        self.queue.push_back(item);
        if wakes { self.receiver() } else { None }
    }

    /// Who waits for the queue to be filled, and does not any more.
    fn receiver(&mut self) -> Option<Waker> {
        if std::mem::take(&mut self.waits) {
            return self.task.clone();
        }
        self.waits_apart.take().map(|waker| *waker)
    }

    /// `waker` is to be woken when the queue is filled.
    fn wait(&mut self, waker: &Waker) {
        self.waits = self.task.as_ref().is_some_and(|task| task.will_wake(waker));
        self.waits_apart = (!self.waits).then(|| Box::new(waker.clone()));
    }

    fn push_event(&mut self, event: Event) -> Option<Waker> {
        self.push(Item::Other(Box::new(Other::Event(event))))
    }

    /// Tells the process to end. The first reason counts.
    fn end_with(&mut self, reason: ExitReason, ending: &AtomicBool) -> Option<Waker> {
        if self.phase != Phase::Running {
            return None;
        }
        self.set_phase(Phase::Ending, reason);
        ending.store(true, Ordering::Release);
        // The task's waker stays: it may have to be woken before it was first polled, and then finds `ending`.
        self.task.clone()
    }

    /// An exit signal that was not filtered out: an event if exits are trapped, the end otherwise.
    fn take_exit(&mut self, from: &Pid, reason: ExitReason, linked: bool, ending: &AtomicBool) -> Option<Waker> {
        if self.ended() {
            None
        } else if self.traps_exits {
            self.push_event(Event::Exit { from: from.clone(), reason, linked })
        } else if reason == ExitReason::Normal {
            None
        } else {
            self.end_with(reason, ending)
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl<M: Message> Process<M> {
    pub(crate) fn new(
        pid: Pid,
        runtime: Runtime,
        label: &'static str,
        parent: Option<Pid>,
        options: &SpawnOptions,
    ) -> Self {
        let Kept { capacity, members_only, vital, sys, serves } = options.of_process();
        Self {
            pid,
            vitals: Vitals::new(runtime.uptime_us()),
            runtime,
            label,
            parent,
            linked: options.parent().is_some(),
            members_only,
            vital,
            sys,
            serves,
            retired: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            suspended: AtomicBool::new(false),
            traced: AtomicBool::new(false),
            bounded: (capacity != 0).then(|| Box::new(Bounded::new(capacity))),
            state: Mutex::new(State {
                queue: VecDeque::new(),
                task: None,
                waits: false,
                waits_apart: None,
                capacity,
                traps_exits: false,
                quiet: false,
                phase: Phase::Running,
                reason: None,
                relations: None,
            }),
        }
    }

    /// Who started it with a link.
    pub(crate) fn linked_parent(&self) -> Option<&Pid> {
        self.parent.as_ref().filter(|_| self.linked)
    }

    /// Queues a message of a local sender, who waits for the answer until `deadline` if it is a call.
    pub(crate) fn push(&self, message: M, deadline: Option<Deadline>) -> Pushed<M> {
        self.offer(message, deadline, false)
    }

    /// As [`push`](Self::push); who can give way finds a crowded mailbox full at first.
    #[inline]
    pub(crate) fn offer(&self, message: M, deadline: Option<Deadline>, gives_way: bool) -> Pushed<M> {
        // Before the lock, which may be that of who sends.
        let trace = self.runtime.outgoing();
        let mut state = lock(&self.state);
        if state.ended() {
            return Pushed::Ended(message);
        }
        let waiting = state.queue.len();
        if state.is_full() || gives_way && waiting != 0 && waiting.is_multiple_of(CROWD) {
            return Pushed::Full(message);
        }
        let waker = state.push(Item::of(message, deadline, trace));
        drop(state);
        wake(waker);
        Pushed::Queued
    }

    /// Gives all that is queued in exchange for an empty queue; waits while there is nothing.
    pub(crate) fn poll_take(&self, cx: &Context<'_>, empty: &mut VecDeque<Item<M>>) -> Poll<()> {
        let mut state = lock(&self.state);
        self.vitals.left(state.queue.len());
        // Whoever waited for what is urgent may have given up.
        state.quiet = false;
        if state.queue.is_empty() {
            // While there is more, what the one has held holds the next.
            for queue in [&mut state.queue, empty] {
                if queue.capacity() > KEPT_CAPACITY {
                    *queue = VecDeque::new();
                }
            }
            state.wait(cx.waker());
            return Poll::Pending;
        }
        std::mem::swap(&mut state.queue, empty);
        let grants = self.bounded.as_ref().map(|bounded| (bounded, bounded.taken()));
        drop(state);
        self.runtime.count_found(empty.len());
        let Some((bounded, grants)) = grants else { return Poll::Ready(()) };
        bounded.room.notify_waiters();
        bounded::grant(&self.runtime, &self.pid, grants);
        Poll::Ready(())
    }

    /// The first urgent thing in `taken` or the queue; waits while there is none. All else stays where it is, so that a
    /// bounded mailbox fills up.
    pub(crate) fn poll_urgent(
        &self,
        cx: &Context<'_>,
        taken: &mut VecDeque<Item<M>>,
        parent: Option<&Pid>,
    ) -> Poll<Item<M>> {
        let mut state = lock(&self.state);
        let urgent = Item::take_urgent(taken, parent).or_else(|| Item::take_urgent(&mut state.queue, parent));
        state.quiet = urgent.is_none();
        self.vitals.left(taken.len());
        match urgent {
            Some(item) => Poll::Ready(item),
            None => {
                state.wait(cx.waker());
                Poll::Pending
            }
        }
    }

    /// It has taken a message of a trace, and works on it until it receives again.
    #[cold]
    pub(crate) fn begin_handling(&self, trace: TraceContext, is_call: bool) {
        let Some(tracer) = self.runtime.tracer() else { return };
        let kind = if is_call { SpanKind::Server } else { SpanKind::Consumer };
        let name = message::tag_of::<M>().to_owned();
        let Some(mut span) = ActiveSpan::child(tracer, trace, kind, name) else { return };
        span.note("rookery.process", self.pid.to_string());
        span.note("rookery.behaviour", self.label.to_owned());
        lock(&self.state).relations().handling = Some(span);
        self.traced.store(true, Ordering::Relaxed);
    }

    /// It receives: what it worked on is done.
    #[inline]
    pub(crate) fn end_handling(&self) {
        if self.traced.load(Ordering::Relaxed) {
            self.handled();
        }
    }

    #[cold]
    fn handled(&self) {
        self.traced.store(false, Ordering::Relaxed);
        let span = lock(&self.state).relations.as_mut().and_then(|relations| relations.handling.take());
        drop(span);
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Acquire)
    }

    pub(crate) fn suspend(&self, suspended: bool) {
        self.suspended.store(suspended, Ordering::Release);
    }

    /// Gives back the memory of a queue that is empty.
    pub(crate) fn shrink(&self) {
        let mut state = lock(&self.state);
        if state.queue.is_empty() {
            state.queue = VecDeque::new();
        }
    }

    /// Waits until a bounded mailbox may have room, or its process has ended; gives way once if it has no limit.
    pub(crate) async fn room(&self) {
        let Some(bounded) = &self.bounded else { return tokio::task::yield_now().await };
        let mut told = std::pin::pin!(bounded.room.notified());
        // Before looking, so that what happens in between is not missed.
        told.as_mut().enable();
        if !self.is_full() {
            return;
        }
        told.await;
    }

    fn is_full(&self) -> bool {
        let state = lock(&self.state);
        !state.ended() && state.is_full()
    }

    /// A message that somebody counts has come, and got into the mailbox or not. Gives what is to be told, and to whom.
    fn counted(&self, admission: Admission<'_>, into_mailbox: bool) -> Option<(Pid, CreditNumber, CreditChange)> {
        let Admission::Counted(asker, number) = admission else { return None };
        match &self.bounded {
            Some(bounded) => {
                let grant = bounded.arrived(asker, number, into_mailbox)?;
                Some((grant.asker, grant.number, CreditChange::More(grant.more)))
            }
            None => Some((asker.clone(), number, CreditChange::Unlimited)),
        }
    }

    /// Tells it. Gives whether there is an account.
    fn tell(&self, told: Option<(Pid, CreditNumber, CreditChange)>) -> bool {
        let Some((asker, number, change)) = told else { return false };
        bounded::tell(&self.runtime, &self.pid, asker, number, change);
        change != CreditChange::Unlimited
    }

    /// Removes from the queue, and from `taken`, what `unwanted` names. For the guarantees of unlink and demonitor.
    fn flush(&self, taken: &mut VecDeque<Item<M>>, unwanted: impl Fn(&Event) -> bool) {
        let wanted = |item: &Item<M>| match item {
            Item::Other(other) => !matches!(&**other, Other::Event(event) if unwanted(event)),
            Item::Message(_) | Item::Call(..) | Item::Traced(_) => true,
        };
        taken.retain(wanted);
        self.vitals.left(taken.len());
        lock(&self.state).queue.retain(wanted);
    }

    pub(crate) fn trap_exits(&self, trap: bool) -> bool {
        std::mem::replace(&mut lock(&self.state).traps_exits, trap)
    }

    /// Removes the link to `to`, and whatever of it waits in the mailbox. Tells whether there was one.
    pub(crate) fn unlink_to(&self, to: &Pid, id: UnlinkId, taken: &mut VecDeque<Item<M>>) -> bool {
        let linked = lock(&self.state).relations.as_mut().is_some_and(|relations| relations.unlink(to, id));
        self.flush(taken, |event| matches!(event, Event::Exit { from, linked: true, .. } if from == to));
        linked
    }

    /// Removes the monitor, and whatever of it waits in the mailbox. Gives what was monitored, if it was still.
    pub(crate) fn demonitor(&self, monitor: Ref, taken: &mut VecDeque<Item<M>>) -> Option<Destination> {
        let target = lock(&self.state).relations.as_mut().and_then(|relations| relations.monitors.remove(&monitor));
        if target.is_none() {
            self.flush(taken, |event| matches!(event, Event::Down(down) if down.monitor == monitor));
        }
        target
    }

    /// Puts items that the receiver had taken and not received back in front: they are to be drained with the rest.
    /// If the process has ended already they are failed here.
    pub(crate) fn put_back(&self, taken: &mut VecDeque<Item<M>>) {
        let mut state = lock(&self.state);
        if state.ended() {
            let reason = state.why().unwrap_or(ExitReason::Normal);
            drop(state);
            return fail_all(taken.drain(..), &reason);
        }
        taken.append(&mut state.queue);
        std::mem::swap(&mut state.queue, taken);
        self.vitals.left(0);
    }
}

/// What a process sends when it makes or removes ties.
pub(crate) fn signal(from: &Pid, to: impl Into<Destination>, body: SignalBody) -> Signal {
    Signal { from: from.clone(), to: to.into(), body }
}
