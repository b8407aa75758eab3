//! The tracer: decides which calls begin a trace, and takes spans that have ended, without waiting. What finds no room is dropped, and
//! counted.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    num::{NonZeroU64, NonZeroU128},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rookery_protocol::trace::{SpanId, TraceId};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use super::{
    config::TraceConfig,
    export::{self, Job},
    span::Span,
};

/// Spans that wait to be exported: some seconds of a busy node, and a megabyte or two.
const QUEUE_SPANS: usize = 4_096;

/// Records traces and exports them. A cheap handle; when the last one goes, so does the task that exports.
#[derive(Clone)]
pub struct Tracer(Arc<Shared>);

struct Shared {
    /// Of all 64-bit numbers, those below begin a trace.
    threshold: u64,
    queue: mpsc::Sender<Job>,
    counts: Arc<Counts>,
}

/// What became of spans.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) exported: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// What became of spans so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraceCounts {
    /// The collector has taken them.
    pub exported: u64,
    /// There was no room: the collector is not there, or too slow.
    pub dropped: u64,
    /// The collector does not want them.
    pub refused: u64,
}

impl Tracer {
    /// Starts to export, on the tokio runtime of the caller. Whether a collector is there is not asked: it may come later.
    ///
    /// # Errors
    /// The caller is in no tokio runtime.
    pub fn start(config: TraceConfig) -> Result<Self, tokio::runtime::TryCurrentError> {
        let tokio = Handle::try_current()?;
        let (queue, jobs) = mpsc::channel(QUEUE_SPANS);
        let counts = Arc::new(Counts::default());
        let threshold = threshold(config.ratio);
        tokio.spawn(export::run(config, jobs, counts.clone()));
        Ok(Self(Arc::new(Shared { threshold, queue, counts })))
    }

    /// What became of spans so far.
    #[must_use]
    pub fn counts(&self) -> TraceCounts {
        let Counts { exported, dropped, refused } = &*self.0.counts;
        TraceCounts { exported: exported.load(Relaxed), dropped: dropped.load(Relaxed), refused: refused.load(Relaxed) }
    }

    /// Waits until all spans that have ended so far are exported, and no longer than `limit`.
    pub async fn flush(&self, limit: Duration) {
        let flushed = async {
            let (done, told) = oneshot::channel();
            if self.0.queue.send(Job::Flush(done)).await.is_ok() {
                drop(told.await);
            }
        };
        drop(tokio::time::timeout(limit, flushed).await);
    }

    /// Whether what begins now begins a trace.
    pub(super) fn samples(&self) -> bool {
        self.0.threshold != 0 && random() <= self.0.threshold
    }

    pub(super) fn record(&self, span: Box<Span>) {
        if self.0.queue.try_send(Job::Span(span)).is_err() {
            self.0.counts.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tracer({:?})", self.counts())
    }
}

// A part of all numbers, as near as matters.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn threshold(ratio: f64) -> u64 {
    (ratio.clamp(0.0, 1.0) * u64::MAX as f64) as u64
}

/// Another number each time, in each process of the operating system: by keys from its randomness.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

pub(super) fn new_span_id() -> SpanId {
    SpanId(NonZeroU64::new(random()).unwrap_or(NonZeroU64::MIN))
}

pub(super) fn new_trace_id() -> TraceId {
    let number = u128::from(random()) << 64 | u128::from(random());
    TraceId(NonZeroU128::new(number).unwrap_or(NonZeroU128::MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_part_that_begins_a_trace() {
        assert_eq!((threshold(0.0), threshold(-1.0), threshold(1.0), threshold(7.0)), (0, 0, u64::MAX, u64::MAX));
        let below = (0..100_000).filter(|_| random() <= threshold(0.25)).count();
        assert!((24_000..26_000).contains(&below), "{below} of 100,000");
    }

    #[test]
    fn ids_differ() {
        let ids: std::collections::HashSet<_> = (0..10_000).map(|_| (new_trace_id(), new_span_id())).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
