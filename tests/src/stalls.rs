//! Whether the machine itself stood still: a virtual machine that is paused, or a host that gives it no time, is no fault of
//! those who are declared down for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A thread that sleeps is the first to run again, however many others want to.
const SLEEP: Duration = Duration::from_millis(50);

/// A thread that wakes up all the time, and keeps by how much it was late at most. It ends with its owner.
#[derive(Debug, Default)]
pub struct Stalls(Arc<AtomicU64>);

impl Stalls {
    /// Begins.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn watch() -> std::io::Result<Self> {
        let longest = Arc::new(AtomicU64::new(0));
        let kept = Arc::downgrade(&longest);
        thread::Builder::new().name("stalls".to_owned()).spawn(move || {
            while let Some(longest) = kept.upgrade() {
                let since = Instant::now();
                thread::sleep(SLEEP);
                let late = since.elapsed().saturating_sub(SLEEP).as_millis();
                longest.fetch_max(u64::try_from(late).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        })?;
        Ok(Self(longest))
    }

    /// The longest so far, or since the last [`take`](Self::take).
    #[must_use]
    pub fn longest(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    /// The longest since this was asked last.
    #[must_use]
    pub fn take(&self) -> Duration {
        Duration::from_millis(self.0.swap(0, Ordering::Relaxed))
    }
}
