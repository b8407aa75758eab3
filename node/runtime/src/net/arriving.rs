//! What a connection's reader hands on at once: many signals, after which each process that got some is woken once.
//!
//! A wake-up of another thread is a system call, and costs more than all else that is done for a small message. A process
//! that is woken by the first of many would take it, find no more, sleep, and be woken by the second.

use std::{cell::RefCell, task::Waker};

use crate::{message, runtime::Runtime};

/// Signals that are handed on before processes are woken. More would keep the first waiting for longer than the wake-up
/// takes.
pub(crate) const BATCH: usize = 64;

thread_local! {
    /// Whom to wake, while a batch is handed on.
    static WAKERS: RefCell<Option<Vec<Waker>>> = const { RefCell::new(None) };
}

/// Hands on a batch by `f`, then wakes whom it was for.
pub(crate) fn batch<R>(runtime: &Runtime, f: impl FnOnce() -> R) -> R {
    let _wakes = Wakes { outer: WAKERS.replace(Some(Vec::new())) };
    message::decoding_for(runtime, f)
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
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}
