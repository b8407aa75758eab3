//! A process's own timers: messages that it sends itself later. They end with the process, and cost nothing where there
//! are none. Time is the runtime's monotonic clock; a timer never fires early.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use crate::process::deadline::FAR;

/// A timer of a process, for [`cancel_timer`](crate::Context::cancel_timer).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerRef {
    due: Instant,
    /// Tells timers apart that are due at the same instant, in the order they were set.
    number: u64,
}

pub(crate) struct Timers<M> {
    due: BTreeMap<TimerRef, M>,
    sleep: Option<Pin<Box<Sleep>>>,
    next: u64,
}

impl<M> Default for Timers<M> {
    fn default() -> Self {
        Self { due: BTreeMap::new(), sleep: None, next: 0 }
    }
}

impl<M> Timers<M> {
    pub(crate) fn set(&mut self, after: Duration, message: M) -> TimerRef {
        let due = Instant::now() + after.min(FAR);
        let timer = TimerRef { due, number: self.next };
        self.next += 1;
        self.due.insert(timer, message);
        timer
    }

    pub(crate) fn cancel(&mut self, timer: TimerRef) -> Option<Duration> {
        self.due.remove(&timer).map(|_| timer.due.saturating_duration_since(Instant::now()))
    }

    /// The message of a timer that is due; otherwise makes sure that `cx` is woken when the next one is.
    pub(crate) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<M> {
        while let Some((timer, _)) = self.due.first_key_value() {
            let due = timer.due;
            if due <= Instant::now()
                && let Some((_, message)) = self.due.pop_first()
            {
                return Poll::Ready(message);
            }
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if sleep.deadline() != due {
                sleep.as_mut().reset(due);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        Poll::Pending
    }
}
