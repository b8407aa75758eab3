//! What it means when a [`ReplyTo`](crate::ReplyTo) is dropped on this thread just now. A destructor is not told why it
//! runs, so whoever drops a message says so around it.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
};

use rookery_protocol::CallFailure;

use crate::process::task::text_of;

/// The meaning.
#[derive(Clone)]
pub(crate) enum Mode {
    /// Its holder let go of it.
    Unanswered,
    /// The message that held it is on its way to another node, with it.
    Sent,
    /// The message that held it has come to an end.
    Fail(CallFailure),
}

thread_local! {
    static MODE: RefCell<Mode> = const { RefCell::new(Mode::Unanswered) };
}

pub(super) fn mode() -> Mode {
    MODE.with_borrow(Clone::clone)
}

/// Drops `value` with this meaning. A destructor of the user's that panics ends nothing: whoever drops a message is
/// seldom to blame for it, and may be the I/O thread, in the middle of what other processes are sent.
pub(crate) fn within<T>(mode: Mode, value: T) {
    let outer = MODE.replace(mode);
    quietly(value);
    MODE.set(outer);
}

/// Drops `value`; if its destructor panics, that is logged and nothing more.
pub(crate) fn quietly<T>(value: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        tracing::error!(panic = text_of(&*panic), "a destructor panicked");
    }
}
