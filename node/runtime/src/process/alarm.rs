//! Waiting no longer than until a moment. A process has one timer for all such waits of its own, its alarm, which is set
//! for the first of them and then left as it is: it rings at worst too early, finds that nobody is late, and is set
//! anew. So a call that is answered in time touches no timer, and takes none of the lock that all timers share.
//!
//! ```text
//! call, receive_timeout ─▶ Until ─┬─ polled by the process's task ─▶ after the step: its Alarm ─▶ wakes the task
//!                                 └─ by anything else ─▶ a timer of its own
//! ```

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::{
    task::coop::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

use crate::process::current;

pin_project! {
    /// What `future` gives; `None` if it has not by `at`.
    pub(crate) struct Until<F> {
        at: Instant,
        #[pin]
        future: F,
        waited: bool,
        // Where no process's alarm wakes whoever polls.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F> Until<F> {
    pub(crate) fn new(at: Instant, future: F) -> Self {
        Self { at, future, waited: false, timer: None }
    }
}

impl<F: Future> Future for Until<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        // The clock costs more than all else here, and most waits are over when they are polled again.
        if std::mem::replace(this.waited, true) && Instant::now() >= *this.at {
            return Poll::Ready(None);
        }
        if current::wake_by(*this.at, cx.waker()) {
            return Poll::Pending;
        }
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(*this.at)));
        // Out of turn, as the future has had its own: a wait of no time at all is over at once.
        ready!(Pin::new(&mut unconstrained(timer.as_mut())).poll(cx));
        Poll::Ready(None)
    }
}

/// A process's timer.
#[derive(Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Sees to it that the task of `cx` is woken by `at`, if not before.
    pub(crate) fn set(&mut self, at: Instant, cx: &mut Context<'_>) {
        let timer = match &mut self.0 {
            Some(timer) if timer.deadline() <= at && !timer.is_elapsed() => return,
            Some(timer) => {
                timer.as_mut().reset(at);
                timer
            }
            None => self.0.insert(Box::pin(sleep_until(at))),
        };
        if Pin::new(&mut unconstrained(timer.as_mut())).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use std::{
        future::{pending, poll_fn},
        pin::pin,
        sync::Arc,
        task::{Wake, Waker},
        time::Duration,
    };

    use rookery_protocol::ExitReason;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{Context as ProcessContext, Runtime, RuntimeConfig};

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(600);

    /// Runs `waits` in a process, and gives what it gives if it does within a minute.
    async fn in_a_process<F: Future<Output = T> + Send + 'static, T: Send + 'static>(waits: F) -> T {
        let runtime = Runtime::new(RuntimeConfig::new("a.1".parse().unwrap())).unwrap();
        let (done, is_done) = oneshot::channel();
        runtime.spawn(async move |_: ProcessContext<()>| drop(done.send(waits.await))).unwrap();
        let given = tokio::time::timeout(Duration::from_secs(60), is_done).await.unwrap().unwrap();
        runtime.shut_down(ExitReason::Shutdown, LONG).await;
        given
    }

    fn wait(time: Duration) -> Until<std::future::Pending<()>> {
        Until::new(Instant::now() + time, pending())
    }

    /// Begins to wait, which sets the alarm, and gives up at once.
    async fn begin(time: Duration) {
        let waits = poll_fn(|cx| Poll::Ready(pin!(wait(time)).poll(cx).is_pending())).await;
        assert!(waits);
    }

    #[tokio::test]
    async fn a_shorter_wait_after_a_longer_and_a_longer_after_a_shorter_end_in_time() {
        let took = in_a_process(async {
            // Sets the alarm far away, and waits no more.
            begin(LONG).await;
            let start = Instant::now();
            assert!(wait(SHORT).await.is_none());
            assert!(wait(2 * SHORT).await.is_none());
            assert!(wait(Duration::ZERO).await.is_none());
            start.elapsed()
        });
        assert!(took.await >= 3 * SHORT, "never early");
    }

    #[tokio::test]
    async fn an_alarm_that_rings_for_an_earlier_wait_ends_no_later_one() {
        in_a_process(async {
            begin(SHORT).await;
            let (late, comes) = oneshot::channel();
            tokio::spawn(async move {
                tokio::time::sleep(3 * SHORT).await;
                late.send(5)
            });
            assert_eq!(Until::new(Instant::now() + LONG, comes).await, Some(Ok(5)));
        })
        .await;
    }

    #[tokio::test]
    async fn a_wait_that_something_else_polls_is_woken_by_a_timer_of_its_own() {
        /// As `FuturesUnordered` does: polls again only what was woken itself.
        struct Woken(Waker, std::sync::atomic::AtomicBool);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.1.store(true, std::sync::atomic::Ordering::Release);
                self.0.wake_by_ref();
            }
        }
        in_a_process(async {
            let mut inner = Box::pin(wait(SHORT));
            let mut woken = None;
            poll_fn(|cx| {
                let woken = woken.get_or_insert_with(|| {
                    Arc::new(Woken(cx.waker().clone(), std::sync::atomic::AtomicBool::new(true)))
                });
                if !woken.1.swap(false, std::sync::atomic::Ordering::AcqRel) {
                    return Poll::Pending;
                }
                inner.as_mut().poll(&mut Context::from_waker(&Waker::from(woken.clone())))
            })
            .await;
        })
        .await;
    }
}
