//! Which process this thread is running just now: who sends what is sent (S1), under which deadline it works (A4), and
//! whose replies are left unanswered when a [`ReplyTo`](crate::ReplyTo) is dropped. Set around each poll of a process, and nowhere else.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use rookery_protocol::{CallFailure, ExitReason, Pid};

use crate::process::{AnyProcess, deadline::Deadline};

/// A reply that was dropped unanswered: fails its caller.
pub(crate) type Orphan = Box<dyn FnOnce(CallFailure) + Send>;

#[derive(Default)]
struct Running {
    process: Option<Arc<dyn AnyProcess>>,
    orphans: Vec<Orphan>,
}

thread_local! {
    static RUNNING: RefCell<Running> = RefCell::new(Running::default());
    /// Apart from the rest, since each receiving sets it.
    static INHERITED: Cell<Option<Deadline>> = const { Cell::new(None) };
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
    INHERITED.get()
}

/// The process that runs on this thread works under this deadline from now on. What runs outside of one never does.
pub(crate) fn inherit(deadline: Option<Deadline>) {
    if deadline.is_none() || RUNNING.with_borrow(|running| running.process.is_some()) {
        INHERITED.set(deadline);
    }
}

/// It has answered the call of that deadline: nobody waits for more.
pub(crate) fn answered(deadline: Deadline) {
    if inherited() == Some(deadline) {
        INHERITED.set(None);
    }
}

/// As [`pid`], the process itself.
pub(crate) fn process() -> Option<Arc<dyn AnyProcess>> {
    RUNNING.with_borrow(|running| running.process.clone())
}

/// Leaves a reply to be failed when the running process next yields; at once if none runs.
pub(crate) fn orphan(orphan: Orphan) {
    let at_once = RUNNING.with_borrow_mut(|running| match running.process {
        Some(_) => {
            running.orphans.push(orphan);
            None
        }
        None => Some(orphan),
    });
    if let Some(orphan) = at_once {
        orphan(dropped());
    }
}

/// Runs `f` as `process`. Gives the process back, with the replies that it dropped.
pub(crate) fn run<R>(process: Arc<dyn AnyProcess>, f: impl FnOnce() -> R) -> (R, Arc<dyn AnyProcess>, Vec<Orphan>) {
    let keep = process;
    // Moving the handle in and out costs no counting; the outer process is there when one runs inside another's poll.
    let outer = RUNNING
        .with_borrow_mut(|running| std::mem::replace(running, Running { process: Some(keep), orphans: Vec::new() }));
    let outer_inherited = INHERITED.replace(None);
    let result = f();
    INHERITED.set(outer_inherited);
    let inner = RUNNING.replace(outer);
    match inner.process {
        Some(process) => (result, process, inner.orphans),
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
