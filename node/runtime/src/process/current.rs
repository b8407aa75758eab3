//! Which process this thread is running just now: who sends what is sent (S1), under which deadline it works (A4), and
//! whose replies are left unanswered when a [`ReplyTo`](crate::ReplyTo) is dropped. Set around each poll of a process, and nowhere else.

use std::{
    cell::RefCell,
    sync::Arc,
    task::{RawWakerVTable, Waker},
};

use rookery_protocol::{CallFailure, ExitReason, Pid};
use tokio::time::Instant;

use crate::process::{AnyProcess, deadline::Deadline};

/// A reply that was dropped unanswered: fails its caller.
pub(crate) type Orphan = Box<dyn FnOnce(CallFailure) + Send>;

/// What a process has of the thread that it runs on, for one step; what it leaves there is for its task to look after.
#[derive(Default)]
pub(crate) struct Step {
    /// The deadline that it works under.
    pub(crate) inherited: Option<Deadline>,
    /// Replies that it dropped.
    pub(crate) orphans: Vec<Orphan>,
    /// When it has to be woken at the latest.
    pub(crate) alarm: Option<Instant>,
    /// What wakes its task, as far as it takes to know it again.
    waker: Option<(*const (), &'static RawWakerVTable)>,
}

impl Step {
    /// A step of the task that `waker` wakes.
    pub(crate) fn of(waker: &Waker, inherited: Option<Deadline>) -> Self {
        Self { inherited, waker: Some((waker.data(), waker.vtable())), ..Self::default() }
    }
}

struct Running {
    process: Option<Arc<dyn AnyProcess>>,
    step: Step,
}

thread_local! {
    static RUNNING: RefCell<Running> = const {
        let step = Step { inherited: None, orphans: Vec::new(), alarm: None, waker: None };
        RefCell::new(Running { process: None, step })
    };
}

/// The process that runs on this thread.
pub(crate) fn pid() -> Option<Pid> {
    RUNNING.with_borrow(|running| running.process.as_ref().map(|process| process.pid().clone()))
}

/// As [`pid`], lent to `f` and not counted: threads that send would all count at one place.
pub(crate) fn with_pid<R>(f: impl FnOnce(Option<&Pid>) -> R) -> R {
    RUNNING.with_borrow(|running| f(running.process.as_ref().map(|process| process.pid())))
}

/// The deadline that the process that runs on this thread has inherited.
pub(crate) fn inherited() -> Option<Deadline> {
    RUNNING.with_borrow(|running| running.step.inherited)
}

/// The process that runs on this thread works under this deadline from now on. What runs outside of one never does.
pub(crate) fn inherit(deadline: Option<Deadline>) {
    RUNNING.with_borrow_mut(|running| {
        if deadline.is_none() || running.process.is_some() {
            running.step.inherited = deadline;
        }
    });
}

/// It has answered the call of that deadline: nobody waits for more.
pub(crate) fn answered(deadline: Deadline) {
    RUNNING.with_borrow_mut(|running| {
        running.step.inherited.take_if(|inherited| *inherited == deadline);
    });
}

/// Has the process that runs on this thread woken by `at`, if `waker` is its task's own: whoever is polled by another must
/// be woken by that.
pub(crate) fn wake_by(at: Instant, waker: &Waker) -> bool {
    RUNNING.with_borrow_mut(|Running { step, .. }| {
        let own = step.waker.is_some_and(|(data, vtable)| data == waker.data() && std::ptr::eq(vtable, waker.vtable()));
        if own && step.alarm.is_none_or(|alarm| at < alarm) {
            step.alarm = Some(at);
        }
        own
    })
}

/// As [`pid`], the process itself.
pub(crate) fn process() -> Option<Arc<dyn AnyProcess>> {
    RUNNING.with_borrow(|running| running.process.clone())
}

/// Leaves a reply to be failed when the running process next yields; at once if none runs.
pub(crate) fn orphan(orphan: Orphan) {
    let at_once = RUNNING.with_borrow_mut(|running| match running.process {
        Some(_) => {
            running.step.orphans.push(orphan);
            None
        }
        None => Some(orphan),
    });
    if let Some(orphan) = at_once {
        orphan(dropped());
    }
}

/// Runs `f` as `process`. Gives the process back, with what it leaves.
pub(crate) fn run<R>(
    process: Arc<dyn AnyProcess>,
    step: Step,
    f: impl FnOnce() -> R,
) -> (R, Arc<dyn AnyProcess>, Step) {
    // Moving the handle in and out costs no counting; the outer process is there when one runs inside another's poll.
    let outer = RUNNING.replace(Running { process: Some(process), step });
    let result = f();
    let inner = RUNNING.replace(outer);
    match inner.process {
        Some(process) => (result, process, inner.step),
        None => unreachable!("the running process is taken by nobody else"),
    }
}

/// Fails replies whose holder lives on.
pub(crate) fn fail_dropped(orphans: Vec<Orphan>) {
    for orphan in orphans {
        orphan(dropped());
    }
}

/// Fails replies whose holder ended.
pub(crate) fn fail_exited(orphans: Vec<Orphan>, reason: &ExitReason) {
    for orphan in orphans {
        orphan(CallFailure::Exited(reason.clone()));
    }
}

fn dropped() -> CallFailure {
    CallFailure::Refused("the receiver dropped the request without an answer".to_owned())
}
