//! The end of a runtime: drained, shut down in good order, or lost.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use rookery_protocol::{ExitReason, Pid};
use tokio::time::{sleep, timeout};

use super::Runtime;
use crate::sync::lock;

/// How long is waited for what processes that are killed have to tell: one that keeps its thread does not end.
const KILLED_WITHIN: Duration = Duration::from_millis(250);

/// How often it is looked whether all have ended: shutting down is rare, and the table has no list of waiters for it.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The end.
impl Runtime {
    /// Whether the runtime takes no processes any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// From now on no process is started for others; their requests answer `Draining` (R2).
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// Whether the runtime is draining.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire) || self.is_closed()
    }

    /// Whether anything here waits for an answer from elsewhere: to a call, or to a request.
    #[must_use]
    pub fn awaits_answers(&self) -> bool {
        !self.0.calls.is_empty() || !lock(&self.0.requests).is_empty()
    }

    /// The processes of other nodes that have started some of this node's with a link, or have taken such a one's place:
    /// mostly supervisors. Looks at every process.
    #[must_use]
    pub fn supervisors_elsewhere(&self) -> BTreeSet<Pid> {
        let own = self.0.table.all().into_iter().filter(|process| !process.is_retired());
        let member_elsewhere = |pid: &Pid| pid.node() != self.node() && pid.serial().session().is_none();
        own.filter_map(|process| process.supervisor()).filter(member_elsewhere).collect()
    }

    /// Takes no processes any more, and sends every process an exit signal with `reason`; then waits until all have
    /// ended, their destructors too, and have told whoever is tied to them, or `grace` is over; what is left is killed, and has a quarter
    /// of a second to tell.
    pub async fn shut_down(&self, reason: ExitReason, grace: Duration) {
        self.0.closed.store(true, Ordering::Release);
        let own = self.own_pid();
        for process in self.0.table.all() {
            process.exit(&own, reason.clone());
        }
        if timeout(grace, self.all_have_told()).await.is_err() {
            let (left, telling) = (self.process_count(), self.0.table.telling());
            tracing::warn!(
                left,
                telling,
                "processes did not end in time and are killed, or their destructors take long"
            );
            for process in self.0.table.all() {
                process.exit(&own, ExitReason::Kill);
            }
            drop(timeout(KILLED_WITHIN, self.all_have_told()).await);
        }
        self.0.calls.fail_from(None);
        self.0.credits.lost(|_| true);
        self.fail_requests(None);
    }

    async fn all_have_told(&self) {
        while !self.has_told_all() {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Whether no process lives, and all that did have told whoever is tied to them of their ends.
    #[must_use]
    pub fn has_told_all(&self) -> bool {
        self.process_count() == 0 && self.0.table.telling() == 0
    }

    /// The session, or the node, is gone for good: every process of it ends with `NoConnection`, which cannot be trapped here, since
    /// the pids are gone.
    pub fn session_lost(&self) {
        self.0.closed.store(true, Ordering::Release);
        for process in self.0.table.all() {
            process.end_now(ExitReason::NoConnection);
        }
        self.0.calls.fail_from(None);
        self.0.credits.lost(|_| true);
        self.fail_requests(None);
    }
}
