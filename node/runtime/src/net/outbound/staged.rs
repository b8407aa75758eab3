//! Messages that a process sends to one other in a row, within one step: from the second on they wait here, on the worker's seat,
//! and go to their lane together. So most of them take no lock that others want, and nothing is looked up for them.
//!
//! ```text
//! send, send, send, … ─▶ stage of this worker ─▶ lane        (all at once)
//!                             └── at the end of the step; before whatever else this thread queues; when it is full;
//!                                 by the watcher, when the step takes a millisecond
//! ```
//! **Invariant:** what is staged goes before all that its sender sends later (S1): the same thread sends that, or another one in a
//! later step.
//!
//! **Invariant:** the stage's lock is held until its messages are on the lane, and nobody takes it while they hold a lane's.

use std::{
    cell::Cell,
    ptr,
    sync::{Arc, Mutex},
};

use rookery_protocol::{Codec, Pid, RunBuffer, lane::MessageHead};

use crate::{address::Elsewhere, process::current, scheduler, sync::lock};

thread_local! {
    /// Where the process of this thread's step has sent its last message, if the next one there may wait.
    static LAST: Cell<*const Elsewhere> = const { Cell::new(ptr::null()) };
    /// Whether something may be on this thread's stage.
    static STAGED: Cell<bool> = const { Cell::new(false) };
}

/// What one worker's process has sent and its lane has not.
#[derive(Default)]
pub(crate) struct Stage {
    to: Option<Staged>,
    messages: RunBuffer,
}

/// Whom it is for, and from whom.
struct Staged {
    to: Arc<Elsewhere>,
    from: Pid,
    tag: &'static str,
}

impl Stage {
    /// Puts what there is on its lane. True if there is room for more.
    fn flush(&mut self) -> bool {
        let Some(Staged { to, from, tag }) = &self.to else { return true };
        if self.messages.messages() == 0 {
            return true;
        }
        let head = MessageHead {
            from,
            to: to.destination(),
            tag: tag.as_bytes(),
            codec: Codec::Bincode,
            reply: None,
            deadline_ms: None,
            credit: None,
            trace: None,
        };
        let has_room = to.push_staged(&head, &self.messages);
        self.messages.clear();
        has_room
    }
}

/// Takes a message of a type that has the tag, without anything beside it, if it may wait and there is room for it.
pub(crate) fn take(to: &Arc<Elsewhere>, tag: &'static str, body: &[u8]) -> bool {
    if LAST.get() != Arc::as_ptr(to) || !RunBuffer::takes(body.len()) {
        return false;
    }
    // Dropped when the lock is not held any more.
    let mut _former = None;
    let take = |stage: &Mutex<Stage>| {
        let mut stage = lock(stage);
        let stage = &mut *stage;
        if !stage.to.as_ref().is_some_and(|staged| Arc::ptr_eq(&staged.to, to)) {
            stage.flush();
            let Some(from) = current::pid() else { return false };
            _former = stage.to.replace(Staged { to: to.clone(), from, tag });
        }
        if !stage.messages.has_room(body.len()) && !stage.flush() {
            return false;
        }
        stage.messages.push(body);
        STAGED.set(true);
        true
    };
    scheduler::with_stage(take).unwrap_or(false)
}

/// The process of this step has sent a message there by its lane: the next one there may wait.
pub(crate) fn after(to: &Arc<Elsewhere>) {
    LAST.set(Arc::as_ptr(to));
}

/// Puts what this thread's process has sent on its lane, before something else goes there.
#[inline]
pub(crate) fn flush() {
    if STAGED.get() {
        STAGED.set(false);
        scheduler::with_stage(|stage| lock(stage).flush());
    }
}

/// A step of a process begins or ends here: nothing of it waits any longer.
#[inline]
pub(crate) fn end_step() {
    LAST.set(ptr::null());
    if STAGED.get() {
        STAGED.set(false);
        scheduler::with_stage(|stage| {
            let mut stage = lock(stage);
            stage.flush();
            let ended = stage.to.take();
            drop(stage);
            drop(ended);
        });
    }
}

/// Another thread sees that the step takes long.
pub(crate) fn flush_of_other(stage: &Mutex<Stage>) {
    lock(stage).flush();
}
