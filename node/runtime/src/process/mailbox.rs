//! The mailbox: what a process has been sent and has not received, in the order of arrival. It takes from every thread
//! and gives to one; values of the process's own type lie in it as they are, so a local send moves the value and makes
//! no bytes.
//!
//! One lock guards the queue and the process's state. The receiver takes the whole queue at once, so it locks once for
//! many messages, and a sender finds the lock free.

use std::{
    any::Any,
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use crate::{
    behaviour::system::SystemRequest,
    message::{self, Message},
    net::arriving,
    process::{
        AnyProcess,
        bounded::{self, Admission, Bounded},
        deadline::Deadline,
        event::{Down, Event},
        info::{CallInfo, Callee, ProcessDetails, ProcessInfo, ProcessState, Vitals, some},
        relations::{End, Lost, Relations},
    },
    reply::{CallError, RemoteReply, dropping},
    runtime::Runtime,
    spawn::{Kept, SpawnOptions},
    sync::lock,
    trace::{ActiveSpan, SpanKind},
};
use rookery_protocol::{
    CallFailure, CreditChange, CreditNumber, Destination, ExitReason, Payload, Pid, PlainMessage, ProcessName, Ref,
    Signal, SignalBody, TraceContext, UnlinkId,
};

/// One thing in a mailbox. Hardly larger than a message of the process: a deadline takes the room beside the variant.
pub(crate) enum Item<M> {
    Message(M),
    /// A message that somebody waits for the answer to, at most so long.
    Call(M, Deadline),
    /// Either of these, of a trace that is recorded.
    Traced(Box<Traced<M>>),
    Other(Box<Other>),
}

pub(crate) struct Traced<M> {
    pub(crate) message: M,
    pub(crate) deadline: Option<Deadline>,
    pub(crate) trace: TraceContext,
}

pub(crate) enum Other {
    /// A message that came as bytes and is decoded when it is received.
    Encoded(Payload, Option<RemoteReply>, Option<Box<TraceContext>>),
    Event(Event),
    /// For the server that the process runs.
    System(SystemRequest),
    /// The message before this one was called for an answer that its type does not give: tell that it was taken.
    Taken(RemoteReply),
    /// Another process is its parent from now on.
    Adopted(Pid),
}

impl<M> Item<M> {
    /// Whether a suspended server takes it all the same: what it is asked as a system, and the exit that it obeys.
    fn is_urgent(&self, parent: Option<&Pid>) -> bool {
        match self {
            Self::Message(_) | Self::Call(..) | Self::Traced(_) => false,
            Self::Other(other) => match &**other {
                Other::System(_) | Other::Adopted(_) => true,
                Other::Event(Event::Exit { from, .. }) => parent == Some(from),
                _ => false,
            },
        }
    }

    /// Takes the first that is urgent out of a queue.
    fn take_urgent(queue: &mut VecDeque<Self>, parent: Option<&Pid>) -> Option<Self> {
        let at = queue.iter().position(|item| item.is_urgent(parent))?;
        queue.remove(at)
    }

    pub(crate) fn message(message: M, deadline: Option<Deadline>) -> Self {
        match deadline {
            Some(deadline) => Self::Call(message, deadline),
            None => Self::Message(message),
        }
    }

    /// As [`message`](Self::message), of a trace if it is of one.
    #[inline]
    pub(crate) fn of(message: M, deadline: Option<Deadline>, trace: Option<TraceContext>) -> Self {
        match trace {
            None => Self::message(message, deadline),
            Some(trace) => Self::Traced(Box::new(Traced { message, deadline, trace })),
        }
    }

    /// It is received by nobody: whoever waits for its answer is told why.
    fn fail(self, failure: &CallFailure) {
        match self {
            Self::Message(message) | Self::Call(message, _) => {
                dropping::within(dropping::Mode::Fail(failure.clone()), message);
            }
            Self::Traced(traced) => dropping::within(dropping::Mode::Fail(failure.clone()), traced.message),
            Self::Other(other) => match *other {
                Other::Encoded(_, Some(reply), _) | Other::Taken(reply) => reply.answer(Err(failure.clone())),
                Other::System(request) => dropping::within(dropping::Mode::Fail(failure.clone()), request),
                Other::Encoded(_, None, _) | Other::Event(_) | Other::Adopted(_) => {}
            },
        }
    }
}

fn fail_all<M>(items: impl IntoIterator<Item = Item<M>>, reason: &ExitReason) {
    let failure = CallFailure::Exited(reason.clone());
    items.into_iter().for_each(|item| item.fail(&failure));
}

/// Payloads up to this size are decoded as they arrive; larger ones by their receiver, on its own time.
const DECODED_ON_ARRIVAL_BYTES: usize = 1024;

/// A mailbox that has held more than this gives its memory back when it is empty.
pub(crate) const KEPT_CAPACITY: usize = 256;

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
        self.phase == Phase::Ended
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

impl<M: Message> AnyProcess for Process<M> {
    fn pid(&self) -> &Pid {
        &self.pid
    }

    fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    fn label(&self) -> &'static str {
        self.label
    }

    fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    fn members_only(&self) -> bool {
        self.members_only
    }

    fn vital(&self) -> bool {
        self.vital
    }

    fn serves(&self) -> bool {
        self.serves
    }

    fn adopt(&self, parent: Pid) {
        let mut state = lock(&self.state);
        if state.ended() {
            return;
        }
        state.relations().adopted_by = Some(parent.clone());
        let waker = state.push(Item::Other(Box::new(Other::Adopted(parent))));
        drop(state);
        wake(waker);
    }

    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    fn supervisor(&self) -> Option<Pid> {
        let adopted = lock(&self.state).relations.as_ref().and_then(|relations| relations.adopted_by.clone());
        adopted.or_else(|| self.linked_parent().cloned())
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn deliver(
        &self,
        payload: Payload,
        reply: Option<RemoteReply>,
        trace: Option<Box<TraceContext>>,
        admission: Admission<'_>,
    ) -> bool {
        if !payload.tag.fits(message::tag_of::<M>()) {
            let detail = format!("the process understands `{}`", message::tag_of::<M>());
            self.runtime.not_understood(&self.pid, payload.tag, detail, reply);
            return self.tell(self.counted(admission, false));
        }
        let deadline = reply.as_ref().and_then(|reply| reply.deadline);
        let (item, taken) = if payload.body.len() <= DECODED_ON_ARRIVAL_BYTES {
            match message::decode::<M>(&payload, &self.runtime, reply) {
                Ok((message, untaken)) => (Item::of(message, deadline, trace.map(|trace| *trace)), untaken),
                Err((detail, reply)) => {
                    self.runtime.not_understood(&self.pid, payload.tag, detail, reply);
                    return self.tell(self.counted(admission, false));
                }
            }
        } else {
            (Item::Other(Box::new(Other::Encoded(payload, reply, trace))), None)
        };
        let mut state = lock(&self.state);
        if state.ended() {
            drop(state);
            self.runtime.dead_letter(&self.pid, "the process has ended");
            item.fail(&CallFailure::NoProc);
            if let Some(reply) = taken {
                reply.answer(Err(CallFailure::NoProc));
            }
            if let Admission::Counted(asker, number) = admission {
                bounded::tell(&self.runtime, &self.pid, asker.clone(), number, CreditChange::Unlimited);
            }
            return false;
        }
        if matches!(admission, Admission::IfRoom) && state.is_full() {
            drop(state);
            self.runtime.dead_letter(&self.pid, "its mailbox is full");
            return false;
        }
        let told = self.counted(admission, true);
        let waker = state.push(item);
        if let Some(reply) = taken {
            state.queue.push_back(Item::Other(Box::new(Other::Taken(reply))));
        }
        drop(state);
        if let Some(waker) = waker {
            arriving::wake(waker);
        }
        self.tell(told)
    }

    fn deliver_plain(&self, message: &PlainMessage) -> bool {
        if message.tag_bytes() != message::tag_of::<M>().as_bytes() || message.body().len() > DECODED_ON_ARRIVAL_BYTES {
            return false;
        }
        let Some(message) = message::decode_plain::<M>(message, &self.runtime) else { return false };
        let mut state = lock(&self.state);
        if state.ended() {
            drop(state);
            self.runtime.dead_letter(&self.pid, "the process has ended");
            Item::Message(message).fail(&CallFailure::NoProc);
            return true;
        }
        let waker = state.push(Item::Message(message));
        drop(state);
        if let Some(waker) = waker {
            arriving::wake(waker);
        }
        true
    }

    fn forget_credit(&self, asker: &Pid, number: CreditNumber) {
        if let Some(bounded) = &self.bounded {
            bounded.forget(asker, number);
        }
    }

    fn exit(&self, from: &Pid, reason: ExitReason) {
        let mut state = lock(&self.state);
        let waker = if reason == ExitReason::Kill {
            // Cannot be trapped; what others see is `Killed` (X2).
            state.end_with(ExitReason::Killed, &self.ending)
        } else {
            state.take_exit(from, reason, false, &self.ending)
        };
        drop(state);
        wake(waker);
    }

    fn link_exit(&self, from: &Pid, reason: ExitReason) {
        let mut state = lock(&self.state);
        if !state.relations.as_mut().is_some_and(|relations| relations.break_link(from)) {
            return;
        }
        let waker = state.take_exit(from, reason, true, &self.ending);
        drop(state);
        wake(waker);
    }

    fn system_request(&self, request: SystemRequest) -> Result<(), CallError> {
        let allowed = if request.is_handover() { self.serves } else { self.sys };
        if !allowed {
            return Err(CallError::Refused(format!("`{}` does not allow it (Server::SYS)", self.label)));
        }
        let item = Item::Other(Box::new(Other::System(request)));
        let mut state = lock(&self.state);
        if state.ended() {
            drop(state);
            item.fail(&CallFailure::NoProc);
            return Err(CallError::NoProc);
        }
        let waker = state.push(item);
        drop(state);
        wake(waker);
        Ok(())
    }

    fn event(&self, event: Event) {
        let mut state = lock(&self.state);
        if !state.ended() {
            let waker = state.push_event(event);
            drop(state);
            wake(waker);
        }
    }

    fn link_from(&self, from: &Pid) -> bool {
        let mut state = lock(&self.state);
        if state.ended() {
            return false;
        }
        state.relations().link(from);
        true
    }

    fn unlink_from(&self, from: &Pid) {
        if let Some(relations) = lock(&self.state).relations.as_mut() {
            relations.unlinked_by(from);
        }
    }

    fn unlink_ack(&self, from: &Pid, id: UnlinkId) {
        if let Some(relations) = lock(&self.state).relations.as_mut() {
            relations.unlink_ack(from, id);
        }
    }

    fn link_to(&self, to: &Pid) -> bool {
        let mut state = lock(&self.state);
        !state.ended() && state.relations().link(to)
    }

    fn monitor_to(&self, monitor: Ref, target: Destination) {
        let mut state = lock(&self.state);
        if !state.ended() {
            state.relations().monitors.insert(monitor, target);
        }
    }

    fn watch(&self, watcher: &Pid, monitor: Ref) -> bool {
        let mut state = lock(&self.state);
        if state.ended() {
            return false;
        }
        state.relations().watchers.insert((watcher.clone(), monitor));
        true
    }

    fn unwatch(&self, watcher: &Pid, monitor: Ref) {
        if let Some(relations) = lock(&self.state).relations.as_mut() {
            relations.watchers.remove(&(watcher.clone(), monitor));
        }
    }

    fn down(&self, monitor: Ref, reason: ExitReason) {
        let mut state = lock(&self.state);
        let target = state.relations.as_mut().and_then(|relations| relations.monitors.remove(&monitor));
        let waker = target.and_then(|target| state.push_event(Event::Down(Down { monitor, target, reason })));
        drop(state);
        wake(waker);
    }

    fn tied_over_connection(&self) {
        let mut state = lock(&self.state);
        if !state.ended() {
            state.relations().tied_over_connection = true;
        }
    }

    fn watch_nodes(&self) -> bool {
        let mut state = lock(&self.state);
        if state.ended() {
            return false;
        }
        state.relations().watches_nodes = true;
        true
    }

    fn enter_directory(&self) -> bool {
        let mut state = lock(&self.state);
        if state.ended() {
            return false;
        }
        state.relations().in_directory = true;
        true
    }

    fn name_conflict(&self, name: ProcessName, holder: Pid) {
        let mut state = lock(&self.state);
        let waker = if state.ended() {
            None
        } else if state.traps_exits {
            state.push_event(Event::NameConflict { name, holder })
        } else {
            let text = format!("`{name}` is held by {holder} as well, and was so before");
            state.end_with(ExitReason::NameConflict(text), &self.ending)
        };
        drop(state);
        wake(waker);
    }

    fn add_name(&self, name: &ProcessName) -> bool {
        let mut state = lock(&self.state);
        if state.ended() {
            return false;
        }
        state.relations().names.push(name.clone());
        true
    }

    fn remove_name(&self, name: &ProcessName) {
        if let Some(relations) = lock(&self.state).relations.as_mut() {
            relations.names.retain(|own| own != name);
        }
    }

    fn lost(&self, lost: &Lost) {
        let fires = lock(&self.state).relations.as_mut().map(|relations| relations.lost(lost));
        if let Some(bounded) = &self.bounded {
            bounded.lost(lost);
        }
        let (links, monitors) = fires.unwrap_or_default();
        for from in links {
            self.link_exit(&from, ExitReason::NoConnection);
        }
        for monitor in monitors {
            self.down(monitor, ExitReason::NoConnection);
        }
    }

    fn end_now(&self, reason: ExitReason) {
        let waker = lock(&self.state).end_with(reason, &self.ending);
        wake(waker);
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    fn must_end(&self) -> Option<ExitReason> {
        if !self.is_ending() {
            return None;
        }
        lock(&self.state).why()
    }

    fn set_task(&self, waker: Waker) {
        lock(&self.state).task = Some(waker);
    }

    fn end(&self, reason: &ExitReason) -> End {
        let mut state = lock(&self.state);
        if state.ended() {
            return End::Before;
        }
        state.set_phase(Phase::Ended, reason.clone());
        self.ending.store(true, Ordering::Release);
        // Tasks that hold the process's address must not keep the task's memory.
        (state.task, state.waits, state.waits_apart) = (None, false, None);
        let mut relations = state.relations.take();
        drop(state);
        if let Some(mut span) = relations.as_mut().and_then(|relations| relations.handling.take())
            && !reason.is_clean()
        {
            span.fail(reason.to_string());
        }
        if let Some(bounded) = &self.bounded {
            bounded.close(&self.runtime, &self.pid);
        }
        End::Now(relations)
    }

    fn drain(&self, reason: &ExitReason) {
        let queue = std::mem::take(&mut lock(&self.state).queue);
        self.runtime.count_found(queue.len());
        fail_all(queue, reason);
    }

    fn begin_call(&self, to: Callee<'_>, since: Instant) -> bool {
        if self.vitals.is_calling() {
            return false;
        }
        if let Callee::Other(to) = to {
            let mut state = lock(&self.state);
            if state.ended() {
                return false;
            }
            state.relations().called = Some(to.clone());
        }
        self.vitals.begin_call(to, self.runtime.us_at(since));
        true
    }

    fn trace(&self) -> Option<TraceContext> {
        if !self.traced.load(Ordering::Relaxed) {
            return None;
        }
        lock(&self.state).relations.as_ref()?.handling.as_ref().map(ActiveSpan::context)
    }

    fn mailbox_len(&self) -> usize {
        lock(&self.state).queue.len() + self.vitals.unreceived()
    }

    fn memory_bytes(&self) -> usize {
        self.bytes(&lock(&self.state))
    }

    fn info(&self) -> ProcessInfo {
        self.info_of(&lock(&self.state))
    }

    fn details(&self) -> ProcessDetails {
        let state = lock(&self.state);
        let relations = state.relations.as_deref();
        ProcessDetails {
            info: self.info_of(&state),
            message: message::tag_of::<M>().to_owned(),
            mailbox_limit: state.capacity,
            members_only: self.members_only,
            // What the directory knows; the process does not.
            groups: Vec::new(),
            linked: some(relations.into_iter().flat_map(|relations| relations.linked().cloned())),
            monitored: some(relations.into_iter().flat_map(|relations| relations.monitors.values().map(to_text))),
            watched_by: some(
                relations.into_iter().flat_map(|relations| relations.watchers.iter().map(|w| w.0.clone())),
            ),
        }
    }
}

/// What is told about it.
impl<M: Message> Process<M> {
    fn info_of(&self, state: &State<M>) -> ProcessInfo {
        let relations = state.relations.as_deref();
        let count = |count: Option<usize>| count.unwrap_or(0) as u64;
        let now_us = self.runtime.uptime_us();
        let call = self.vitals.call(relations.and_then(|relations| relations.called.as_ref()));
        let call = call.map(|(to, since_us)| CallInfo {
            to: match to {
                Callee::Own(serial) => Pid::new(self.pid.node().clone(), serial).to_string(),
                Callee::Other(to) => to.to_string(),
            },
            for_ms: now_us.saturating_sub(since_us) / 1_000,
        });
        ProcessInfo {
            pid: self.pid.clone(),
            names: relations.map(|relations| relations.names.clone()).unwrap_or_default(),
            // The directory knows them.
            cluster_names: Vec::new(),
            behaviour: self.label.to_owned(),
            state: match state.phase {
                Phase::Running if self.vitals.is_running() => ProcessState::Running,
                Phase::Running if self.is_suspended() => ProcessState::Suspended,
                Phase::Running => ProcessState::Waiting,
                Phase::Ending | Phase::Ended => ProcessState::Stopping,
            },
            mailbox: (state.queue.len() + self.vitals.unreceived()) as u64,
            handled: self.vitals.handled(),
            steps: self.vitals.steps(),
            memory_bytes: self.bytes(state) as u64,
            age_ms: self.vitals.age_us(now_us) / 1_000,
            parent: relations.and_then(|own| own.adopted_by.clone()).or_else(|| self.parent.clone()),
            call,
            links: count(relations.map(|relations| relations.linked().count())),
            monitors: count(relations.map(|relations| relations.monitors.len())),
            watchers: count(relations.map(|relations| relations.watchers.len())),
            traps_exits: state.traps_exits,
        }
    }

    fn bytes(&self, state: &State<M>) -> usize {
        let items = state.queue.capacity() + self.vitals.unreceived();
        let relations = state.relations.as_ref().map_or(0, |relations| relations.bytes());
        size_of::<Self>() + self.vitals.task_bytes() + items * size_of::<Item<M>>() + relations
    }
}

fn to_text(to: &Destination) -> String {
    to.to_string()
}

/// What a process sends when it makes or removes ties.
pub(crate) fn signal(from: &Pid, to: impl Into<Destination>, body: SignalBody) -> Signal {
    Signal { from: from.clone(), to: to.into(), body }
}
