//! Waiting in tests: for a condition, or for a future, with a deadline; never for a time to pass.
//!
//! The deadline is far above what a busy machine needs, since it is waited for in full only by a test that fails.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How long anything may take that happens at once.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How often a condition is looked at that cannot tell of its change.
const POLL: Duration = Duration::from_millis(2);

/// Waits for `future`.
///
/// # Panics
/// When the deadline is over; names `what` was waited for.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {DEADLINE:?} in vain for {what}"),
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// When the deadline is over; names `what` was waited for.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain until {what}");
        tokio::time::sleep(POLL).await;
    }
}
