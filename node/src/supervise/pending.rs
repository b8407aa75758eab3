//! Starts that are under way: futures that the supervisor's own process polls beside its mailbox. A panic in one is that
//! start's failure, and nothing else's. Each is polled when it has been woken, whatever the others do: a thousand starts
//! cost a thousand times what one costs.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use rookery_runtime::{ExitReason, NodeName, Pid, RequestError};

use crate::supervise::{effect::Attempt, policy::ChildId, start::Starting};

/// The starts of one supervisor. Each child has one at most, and each abandoned one is waited for too: its process, if
/// it comes to life, has to be killed.
#[derive(Default)]
pub(super) struct PendingStarts {
    pending: HashMap<Attempt, Pending>,
    woken: Arc<Woken>,
}

struct Pending {
    child: ChildId,
    node: Option<NodeName>,
    starting: Starting,
    waker: Waker,
}

/// The starts that can go on, and whom to wake for them.
#[derive(Default)]
struct Woken(Mutex<(VecDeque<Attempt>, Option<Waker>)>);

impl Woken {
    fn lock(&self) -> std::sync::MutexGuard<'_, (VecDeque<Attempt>, Option<Waker>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes one start.
struct StartWaker {
    attempt: Attempt,
    woken: Arc<Woken>,
}

impl Wake for StartWaker {
    fn wake(self: Arc<Self>) {
        let supervisor = {
            let mut woken = self.woken.lock();
            woken.0.push_back(self.attempt);
            woken.1.take()
        };
        if let Some(supervisor) = supervisor {
            supervisor.wake();
        }
    }
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
        let waker = Arc::new(StartWaker { attempt, woken: self.woken.clone() });
        self.pending.insert(attempt, Pending { child, node, starting, waker: waker.clone().into() });
        waker.wake();
    }

    /// The next start that is done. Safe to cancel; never done while there is none.
    pub(super) async fn next(&mut self) -> Finished {
        poll_fn(|cx| {
            // First, so that what is woken from now on wakes the process.
            self.woken.lock().1 = Some(cx.waker().clone());
            self.take_finished().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// A start that is done already.
    pub(super) fn take_finished(&mut self) -> Option<Finished> {
        // One that yields to others wakes itself at once; it is not polled again before the process itself has yielded.
        let round = self.woken.lock().0.len();
        for _ in 0..round {
            let attempt = self.woken.lock().0.pop_front()?;
            // One that is done may have been woken again.
            let Some(pending) = self.pending.get_mut(&attempt) else { continue };
            let mut cx = Context::from_waker(&pending.waker);
            let outcome = match catch_unwind(AssertUnwindSafe(|| pending.starting.as_mut().poll(&mut cx))) {
                Ok(Poll::Pending) => continue,
                Ok(Poll::Ready(outcome)) => outcome,
                Err(panic) => Err(RequestError::InitFailed(ExitReason::Panic(text_of(&*panic)).cut())),
            };
            let Pending { child, node, .. } = self.pending.remove(&attempt)?;
            return Some(Finished { child, attempt, node, outcome });
        }
        None
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    match panic.downcast_ref::<&'static str>() {
        Some(text) => (*text).to_owned(),
        None => panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a value that is no text".to_owned()),
    }
}
