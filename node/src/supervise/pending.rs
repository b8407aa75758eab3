//! Starts that are under way: futures that the supervisor's own process polls beside its mailbox. A panic in one is that
//! start's failure, and nothing else's.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll, Waker},
};

use rookery_runtime::{ExitReason, NodeName, Pid, RequestError};

use crate::supervise::{effect::Attempt, policy::ChildId, spec::Starting};

/// The starts of one supervisor. Each child has one at most, and each abandoned one is waited for too: its process, if
/// it comes to life, has to be killed.
#[derive(Default)]
pub(super) struct PendingStarts(Vec<Pending>);

struct Pending {
    child: ChildId,
    attempt: Attempt,
    node: Option<NodeName>,
    starting: Starting,
}

/// A start that is done.
pub(super) struct Finished {
    pub(super) child: ChildId,
    pub(super) attempt: Attempt,
    /// Where it was tried, if that was a choice.
    pub(super) node: Option<NodeName>,
    pub(super) outcome: Result<Pid, RequestError>,
}

impl PendingStarts {
    pub(super) fn push(&mut self, child: ChildId, attempt: Attempt, node: Option<NodeName>, starting: Starting) {
        self.0.push(Pending { child, attempt, node, starting });
    }

    /// The next start that is done. Safe to cancel; never done while there is none.
    pub(super) async fn next(&mut self) -> Finished {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// A start that is done already.
    pub(super) fn take_finished(&mut self) -> Option<Finished> {
        // Whatever is not done yet is polled again, with the process's waker, before the process next waits.
        match self.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(finished) => Some(finished),
            Poll::Pending => None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Finished> {
        for at in 0..self.0.len() {
            let starting = &mut self.0[at].starting;
            let outcome = match catch_unwind(AssertUnwindSafe(|| starting.as_mut().poll(cx))) {
                Ok(Poll::Pending) => continue,
                Ok(Poll::Ready(outcome)) => outcome,
                Err(panic) => Err(RequestError::InitFailed(ExitReason::Panic(text_of(&*panic)).cut())),
            };
            let Pending { child, attempt, node, .. } = self.0.swap_remove(at);
            return Poll::Ready(Finished { child, attempt, node, outcome });
        }
        Poll::Pending
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    match panic.downcast_ref::<&'static str>() {
        Some(text) => (*text).to_owned(),
        None => panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a value that is no text".to_owned()),
    }
}
