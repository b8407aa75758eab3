//! Messages that a process sends to one other in a row, within one step: from the second on they wait here, on the worker's seat,
//! and go to their lane together. So most of them take no lock that others want, and nothing is looked up for them.
//!
//! ```text
//! send, send, send, … ─▶ stage of this worker ─▶ lane        (all at once)
//!                             └── at the end of the step; before whatever else this thread queues; when it is full;
//!                                 by the watcher, when the step takes some milliseconds
//! ```
//! **Invariant:** what is staged goes before all that its sender sends later (S1): the same thread sends that, or another one in a
//! later step. (A thread that a process lends its [`Context`](crate::Context) to within a step is no such thread.)
//!
//! **Invariant:** whom it is for is there within one step alone, so nobody else's message is put to it.
//!
//! **Invariant:** the stage's lock is held until its messages are on the lane, and nobody takes it while they hold a lane's. No
//! code of others runs under it.

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
    /// Whether there may be something on this thread's stage, if only whom it is for.
    static STAGED: Cell<bool> = const { Cell::new(false) };
    /// What could not be put on a lane any more in this step.
    static LOST: Cell<Vec<Lost>> = const { Cell::new(Vec::new()) };
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

/// What has come of what was staged.
enum Flushed {
    /// There is room for more, or not.
    Queued { has_room: bool },
    /// The connection is closed.
    Lost(Lost),
}

/// Messages whose connection is closed, to be told of when no lock is held.
struct Lost {
    to: Arc<Elsewhere>,
    count: u64,
}

impl Lost {
    fn tell(self) {
        self.to.lost(self.count);
    }
}

impl Stage {
    /// Puts what there is on its lane.
    fn flush(&mut self) -> Flushed {
        let count = self.messages.messages() as u64;
        let Some(Staged { to, from, tag }) = self.to.as_ref().filter(|_| count > 0) else {
            return Flushed::Queued { has_room: true };
        };
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
        let pushed = to.push_staged(&head, &self.messages);
        self.messages.clear();
        match pushed {
            Some(has_room) => Flushed::Queued { has_room },
            None => Flushed::Lost(Lost { to: to.clone(), count }),
        }
    }
}

/// Whether a message of so many bytes may wait, if it is for that one.
#[inline]
pub(crate) fn may_wait(to: &Arc<Elsewhere>, body_bytes: usize) -> bool {
    LAST.get() == Arc::as_ptr(to) && RunBuffer::takes(body_bytes)
}

/// Takes a message of a type that has the tag, without anything beside it, that [may wait](may_wait), if there is room for it.
pub(crate) fn take(to: &Arc<Elsewhere>, tag: &'static str, body: &[u8]) -> bool {
    let take = |stage: &Mutex<Stage>| {
        let mut stage = lock(stage);
        let (mut former, mut lost) = (None, None);
        if !stage.to.as_ref().is_some_and(|staged| Arc::ptr_eq(&staged.to, to)) {
            lost = lost_of(stage.flush());
            let Some(from) = current::pid() else { return false };
            former = stage.to.replace(Staged { to: to.clone(), from, tag });
            STAGED.set(true);
        }
        let mut has_room = true;
        if !stage.messages.has_room(body.len()) {
            match stage.flush() {
                Flushed::Queued { has_room: more } => has_room = more,
                Flushed::Lost(more) => (has_room, lost) = (false, Some(more)),
            }
        }
        if has_room {
            stage.messages.push(body);
        }
        drop(stage);
        drop(former);
        lost.into_iter().for_each(Lost::tell);
        has_room
    };
    let taken = scheduler::with_stage(take).unwrap_or(false);
    if !taken {
        // By its lane, which says whether there is room.
        LAST.set(ptr::null());
    }
    taken
}

fn lost_of(flushed: Flushed) -> Option<Lost> {
    match flushed {
        Flushed::Lost(lost) => Some(lost),
        Flushed::Queued { .. } => None,
    }
}

/// The process of this step has sent a message there by its lane, or could not: if so, the next one there may wait.
pub(crate) fn after(to: &Arc<Elsewhere>, is_sent: bool) {
    LAST.set(if is_sent { Arc::as_ptr(to) } else { ptr::null() });
}

/// Puts what this thread's process has sent on its lane, before something else goes there. Whoever queues that may hold locks.
#[inline]
pub(crate) fn flush() {
    if STAGED.get()
        && let Some(lost) = end()
    {
        let mut all = LOST.take();
        all.push(lost);
        LOST.set(all);
    }
}

/// A step of a process begins or ends here: nothing of it waits any longer.
#[inline]
pub(crate) fn end_step() {
    LAST.set(ptr::null());
    if STAGED.get() {
        end().into_iter().for_each(Lost::tell);
    }
    LOST.take().into_iter().for_each(Lost::tell);
}

#[cold]
fn end() -> Option<Lost> {
    STAGED.set(false);
    let end = |stage: &Mutex<Stage>| {
        let mut stage = lock(stage);
        let lost = lost_of(stage.flush());
        let ended = stage.to.take();
        drop(stage);
        drop(ended);
        lost
    };
    scheduler::with_stage(end).flatten()
}

/// Another thread sees that the step takes long.
pub(crate) fn flush_of_other(stage: &Mutex<Stage>) {
    let flushed = lock(stage).flush();
    lost_of(flushed).into_iter().for_each(Lost::tell);
}
