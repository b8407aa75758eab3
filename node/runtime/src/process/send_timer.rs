//! Messages to another process, later. A process's own timers are in `timers.rs`.
//!
//! Such a timer belongs to nobody but its runtime: it is a small process of its own, which sleeps and sends. So it
//! outlives whoever set it, is seen by `ps`, counts as a process, and ends with the runtime.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rookery_protocol::ExitReason;
use tokio::time::{Instant, sleep_until};

use crate::{
    address::Address,
    message::Message,
    process::{context::Context, deadline::FAR},
    spawn::{SpawnError, SpawnOptions},
};

/// A message that is to be sent later. Dropping it changes nothing: the message is sent.
pub struct SendTimer {
    due: Instant,
    /// Whoever sets it first has the message: the timer to send it, or who cancels to drop it.
    taken: Arc<AtomicBool>,
    process: Address<()>,
}

impl SendTimer {
    /// Cancels; gives the time that was left, or `None` if the message has been sent, or is just being.
    #[must_use = "None says that the message was sent"]
    pub fn cancel(self) -> Option<Duration> {
        if self.taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        if let Some(pid) = self.process.pid() {
            self.process.runtime().exit(&pid, ExitReason::Kill);
        }
        Some(self.due.saturating_duration_since(Instant::now()))
    }
}

impl fmt::Debug for SendTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendTimer({:?})", self.process)
    }
}

impl<M: Message> Address<M> {
    /// Sends `message` after `after`, never early; waits then for room as [`send`](Self::send) does. As
    /// `erlang:send_after/3` to another process, which here may live anywhere.
    ///
    /// The timer is independent of the process that sets it, and ends with this runtime. To a receiver that does not
    /// live by then the message is a dead letter. Nothing is promised of its order among other signals. For messages
    /// to a process itself, [`Context::send_after`] costs less and ends with the process.
    ///
    /// # Errors
    /// When the table of processes is full, or the runtime shuts down.
    pub fn send_after(&self, after: Duration, message: M) -> Result<SendTimer, SpawnError> {
        let due = Instant::now() + after.min(FAR);
        let taken = Arc::new(AtomicBool::new(false));
        let (to, free) = (self.clone(), taken.clone());
        let options = SpawnOptions::new().label("timer");
        let spawned = self.runtime().spawn_with(options, async move |_: Context<()>| {
            sleep_until(due).await;
            if !free.swap(true, Ordering::AcqRel)
                && let Err(error) = to.send(message).await
            {
                tracing::warn!(to = ?to, %error, "a message could not be sent when its time came");
            }
        })?;
        Ok(SendTimer { due, taken, process: spawned.address })
    }
}
