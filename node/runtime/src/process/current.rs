//! Which process this thread is running just now: who sends what is sent (S1), under which deadline it works (A4), and
//! whose replies are left unanswered when a [`ReplyTo`](crate::ReplyTo) is dropped. Set around each poll of a process, and nowhere else.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    task::{RawWakerVTable, Waker},
};

use rookery_protocol::{CallFailure, ExitReason, Pid, TraceContext};
use tokio::time::Instant;

use crate::{
    net::outbound::staged,
    process::{AnyProcess, deadline::Deadline},
};

/// A reply that was dropped unanswered: fails its caller.
pub(crate) type Orphan = Box<dyn FnOnce(CallFailure) + Send>;

/// Replies that were dropped in one step, boxed, as they are rare.
#[derive(Default)]
pub(crate) struct Orphans(Vec<Orphan>);

/// What tells a waker from others, as [`Waker::will_wake`] compares it.
type WakerId = (*const (), &'static RawWakerVTable);

/// Each apart and in a cell of its own: set and put back for each step, and moved together they cost more than all the rest.
struct Current {
    process: RefCell<Option<Arc<dyn AnyProcess>>>,
    /// The deadline that it works under.
    inherited: Cell<Option<Deadline>>,
    /// When it has to be woken at the latest.
    alarm: Cell<Option<Instant>>,
    /// What wakes its task.
    waker: Cell<Option<WakerId>>,
    /// Replies that it dropped.
    orphans: Cell<Option<Box<Orphans>>>,
}

thread_local! {
    static CURRENT: Current = const {
        Current {
            process: RefCell::new(None),
            inherited: Cell::new(None),
            alarm: Cell::new(None),
            waker: Cell::new(None),
            orphans: Cell::new(None),
        }
    };
}

/// The process that runs on this thread.
pub(crate) fn pid() -> Option<Pid> {
    with_pid(|pid| pid.cloned())
}

/// As [`pid`], lent to `f` and not counted: threads that send would all count at one place.
pub(crate) fn with_pid<R>(f: impl FnOnce(Option<&Pid>) -> R) -> R {
    CURRENT.with(|current| f(current.process.borrow().as_ref().map(|process| process.pid())))
}

/// The trace of the message that the process that runs on this thread works on.
pub(crate) fn trace() -> Option<TraceContext> {
    CURRENT.with(|current| current.process.borrow().as_ref().and_then(|process| process.trace()))
}

/// The deadline that the process that runs on this thread has inherited.
pub(crate) fn inherited() -> Option<Deadline> {
    CURRENT.with(|current| current.inherited.get())
}

/// The process that runs on this thread works under this deadline from now on. What runs outside of one never does.
pub(crate) fn inherit(deadline: Option<Deadline>) {
    CURRENT.with(|current| {
        if deadline.is_none() || current.process.borrow().is_some() {
            current.inherited.set(deadline);
        }
    });
}

/// It has answered the call of that deadline: nobody waits for more.
pub(crate) fn answered(deadline: Deadline) {
    CURRENT.with(|current| {
        if current.inherited.get() == Some(deadline) {
            current.inherited.set(None);
        }
    });
}

/// Has the process that runs on this thread woken by `at`, if `waker` is its task's own: whoever is polled by another must
/// be woken by that.
pub(crate) fn wake_by(at: Instant, waker: &Waker) -> bool {
    CURRENT.with(|current| {
        let (data, vtable) = id_of(waker);
        let own = current.waker.get().is_some_and(|own| own.0 == data && std::ptr::eq(own.1, vtable));
        if own && current.alarm.get().is_none_or(|alarm| at < alarm) {
            current.alarm.set(Some(at));
        }
        own
    })
}

fn id_of(waker: &Waker) -> WakerId {
    (waker.data(), waker.vtable())
}

/// As [`pid`], the process itself.
pub(crate) fn process() -> Option<Arc<dyn AnyProcess>> {
    CURRENT.with(|current| current.process.borrow().clone())
}

/// Leaves a reply to be failed when the running process next yields; at once if none runs.
pub(crate) fn orphan(orphan: Orphan) {
    let at_once = CURRENT.with(|current| {
        if current.process.borrow().is_none() {
            return Some(orphan);
        }
        let mut orphans = current.orphans.take().unwrap_or_default();
        orphans.0.push(orphan);
        current.orphans.set(Some(orphans));
        None
    });
    if let Some(orphan) = at_once {
        orphan(dropped());
    }
}

/// What a process leaves on the thread that it has run on, for its task to look after.
pub(crate) struct Left {
    /// The deadline that it works under.
    pub(crate) inherited: Option<Deadline>,
    /// When it has to be woken at the latest.
    pub(crate) alarm: Option<Instant>,
    /// Replies that it dropped.
    pub(crate) orphans: Option<Box<Orphans>>,
}

/// Runs a step of `process`, whose task `waker` wakes. Gives the process back, with what it leaves.
#[inline]
pub(crate) fn step<R>(
    process: Arc<dyn AnyProcess>,
    waker: Option<&Waker>,
    inherited: Option<Deadline>,
    f: impl FnOnce() -> R,
) -> (R, Arc<dyn AnyProcess>, Left) {
    CURRENT.with(|current| {
        // Moving the handle in and out costs no counting; the outer process is there when one runs inside another's poll.
        let outer_process = current.process.replace(Some(process));
        let outer_inherited = current.inherited.replace(inherited);
        let outer_waker = current.waker.replace(waker.map(id_of));
        let (outer_alarm, outer_orphans) = (current.alarm.take(), current.orphans.take());
        staged::end_step();
        let result = f();
        // Before another thread may go on with it.
        staged::end_step();
        let inherited = current.inherited.replace(outer_inherited);
        current.waker.set(outer_waker);
        let left = Left {
            inherited,
            alarm: current.alarm.replace(outer_alarm),
            orphans: current.orphans.replace(outer_orphans),
        };
        match current.process.replace(outer_process) {
            Some(process) => (result, process, left),
            None => unreachable!("the running process is taken by nobody else"),
        }
    })
}

/// Runs `f` as `process`, beside its steps. Gives the process back, with the replies that it dropped.
pub(crate) fn run(process: Arc<dyn AnyProcess>, f: impl FnOnce()) -> (Arc<dyn AnyProcess>, Option<Box<Orphans>>) {
    let ((), process, left) = step(process, None, None, f);
    (process, left.orphans)
}

impl Orphans {
    /// Fails replies whose holder lives on.
    pub(crate) fn fail_dropped(self) {
        for orphan in self.0 {
            orphan(dropped());
        }
    }

    /// Fails replies whose holder ended.
    pub(crate) fn fail_exited(self, reason: &ExitReason) {
        for orphan in self.0 {
            orphan(CallFailure::Exited(reason.clone()));
        }
    }
}

fn dropped() -> CallFailure {
    CallFailure::Refused("the receiver dropped the request without an answer".to_owned())
}
