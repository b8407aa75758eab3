//! What a connection's reader hands on at once: many signals, after which each process that got some is woken once.
//!
//! A wake-up of another thread is a system call, and costs more than all else that is done for a small message. A process
//! that is woken by the first of many would take it, find no more, sleep, and be woken by the second.

use std::{cell::RefCell, sync::Arc, task::Waker};

use rookery_protocol::Serial;

use crate::{message, process::AnyProcess, runtime::Runtime};

/// Signals that are handed on before processes are woken, and what is left of a run then, of 256 at most. More would keep the first waiting for longer than the wake-up
/// takes.
pub(crate) const BATCH: u64 = 64;

thread_local! {
    /// Whom to wake, while a batch is handed on.
    static WAKERS: RefCell<Option<Vec<Waker>>> = const { RefCell::new(None) };
    /// Who got the last message of the batch: many get several in a row.
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

struct Last {
    serial: Serial,
    process: Arc<dyn AnyProcess>,
}

/// Hands on a batch by `f`, then wakes whom it was for.
pub(crate) fn batch<R>(runtime: &Runtime, f: impl FnOnce() -> R) -> R {
    let _wakes = Wakes { outer: WAKERS.replace(Some(Vec::new())) };
    message::decoding_for(runtime, f)
}

/// Runs `f` with the process of that serial, if it lives. Within a batch it is not looked up again for each message in a row.
pub(crate) fn with_receiver<R: Default>(runtime: &Runtime, serial: Serial, f: impl FnOnce(&dyn AnyProcess) -> R) -> R {
    // Taken, as what is done with it may come here again.
    let last = LAST.take().filter(|last| last.serial == serial && last.process.runtime().is(runtime));
    let Some(last) = last.or_else(|| Some(Last { serial, process: runtime.table().get(serial)? })) else {
        return R::default();
    };
    let done = f(&*last.process);
    if WAKERS.with_borrow(Option::is_some) {
        LAST.set(Some(last));
    }
    done
}

/// Wakes who gets something: at the end of the batch, if there is one.
pub(crate) fn wake(waker: Waker) {
    let now = WAKERS.with_borrow_mut(|wakers| match wakers {
        Some(wakers) => {
            wakers.push(waker);
            None
        }
        None => Some(waker),
    });
    if let Some(waker) = now {
        waker.wake();
    }
}

/// Wakes all at the end, also when the batch panics.
struct Wakes {
    outer: Option<Vec<Waker>>,
}

impl Drop for Wakes {
    fn drop(&mut self) {
        let wakers = WAKERS.replace(self.outer.take());
        // Its last handle, perhaps.
        drop(LAST.take());
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}
