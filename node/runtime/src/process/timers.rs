//! A process's own timers: messages that it sends itself later, once or again and again. They end with the process, and
//! cost nothing where there are none. Time is the runtime's monotonic clock; a timer never fires early. What is sent to
//! others later is in `send_timer.rs`.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use crate::process::deadline::FAR;

/// The shortest interval: a process does more than to tick.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// A timer of a process, for [`cancel_timer`](crate::Context::cancel_timer).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerRef {
    /// When it fires; an interval's, first.
    due: Instant,
    /// Tells timers apart that are due at the same instant, in the order they were set.
    number: u64,
}

pub(crate) struct Timers<M> {
    /// What is sent when. An interval's entry moves on; its `due` is the next.
    due: BTreeMap<TimerRef, Timed<M>>,
    /// Where intervals stand in `due` now.
    intervals: BTreeMap<TimerRef, TimerRef>,
    sleep: Option<Pin<Box<Sleep>>>,
    next: u64,
}

/// As large as a message, or a pointer.
enum Timed<M> {
    Once(M),
    Every(Box<Interval<M>>),
}

struct Interval<M> {
    timer: TimerRef,
    every: Duration,
    make: Box<dyn FnMut() -> M + Send + Sync>,
}

impl<M> Default for Timers<M> {
    fn default() -> Self {
        Self { due: BTreeMap::new(), intervals: BTreeMap::new(), sleep: None, next: 0 }
    }
}

impl<M> Timers<M> {
    pub(crate) fn set(&mut self, after: Duration, message: M) -> TimerRef {
        let timer = self.timer(after);
        self.due.insert(timer, Timed::Once(message));
        timer
    }

    pub(crate) fn set_interval(&mut self, every: Duration, make: Box<dyn FnMut() -> M + Send + Sync>) -> TimerRef {
        let every = every.clamp(MIN_INTERVAL, FAR);
        let timer = self.timer(every);
        self.due.insert(timer, Timed::Every(Box::new(Interval { timer, every, make })));
        self.intervals.insert(timer, timer);
        timer
    }

    fn timer(&mut self, after: Duration) -> TimerRef {
        let timer = TimerRef { due: Instant::now() + after.min(FAR), number: self.next };
        self.next += 1;
        timer
    }

    pub(crate) fn cancel(&mut self, timer: TimerRef) -> Option<Duration> {
        let timer = self.intervals.remove(&timer).unwrap_or(timer);
        self.due.remove(&timer).map(|_| timer.due.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// The message of a timer that is due; otherwise makes sure that `cx` is woken when the next one is.
    pub(crate) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<M> {
        while let Some((timer, _)) = self.due.first_key_value() {
            let due = timer.due;
            let now = Instant::now();
            if due <= now
                && let Some((_, timed)) = self.due.pop_first()
            {
                return Poll::Ready(match timed {
                    Timed::Once(message) => message,
                    Timed::Every(interval) => self.tick(interval, due, now),
                });
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

    fn tick(&mut self, mut interval: Box<Interval<M>>, due: Instant, now: Instant) -> M {
        let message = (interval.make)();
        let next = TimerRef { due: next_tick(due, interval.every, now), number: interval.timer.number };
        self.intervals.insert(interval.timer, next);
        self.due.insert(next, Timed::Every(interval));
        message
    }
}

/// The first multiple of `every` behind `due` that lies behind `now`: ticks do not drift, and missed ones are skipped.
fn next_tick(due: Instant, every: Duration, now: Instant) -> Instant {
    let ticks = now.saturating_duration_since(due).as_nanos() / every.as_nanos() + 1;
    // More than five centuries do not come.
    due + Duration::from_nanos(u64::try_from(every.as_nanos() * ticks).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_do_not_drift_and_missed_ones_are_skipped() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        assert_eq!(next_tick(start, ms(10), start), start + ms(10));
        assert_eq!(next_tick(start, ms(10), start + ms(3)), start + ms(10), "three late, and no drift");
        assert_eq!(next_tick(start, ms(10), start + ms(10)), start + ms(20));
        assert_eq!(next_tick(start, ms(10), start + ms(57)), start + ms(60), "five are skipped");
    }
}
