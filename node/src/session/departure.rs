//! How a client goes from a node that is about to leave: it is told, looks for another node while its session stands, says that it
//! has one, and goes once its calls are answered. A node waits for that, within limits.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rookery_runtime::DEFAULT_CALL_TIMEOUT;

/// How long a client may take to find another node, from when this one drains: some rounds of dials. One that knows no other node finds
/// none, and stays to the end.
const FINDS_WITHIN: Duration = Duration::from_secs(2);

/// How long one that has found another may stay for answers: as long as a call waits unless told otherwise, and what a client waits
/// before it looks.
const STAYS_FOR: Duration = DEFAULT_CALL_TIMEOUT.saturating_add(Duration::from_millis(500));

/// A client's part in it.
#[derive(Debug)]
pub(crate) struct Departure {
    /// Whether the client is of a release that goes by itself.
    understood: bool,
    /// It has found another node.
    found: AtomicBool,
}

impl Departure {
    pub(crate) fn new(understood: bool) -> Self {
        Self { understood, found: AtomicBool::new(false) }
    }

    pub(crate) fn is_understood(&self) -> bool {
        self.understood
    }

    pub(crate) fn found_another(&self) {
        self.found.store(true, Ordering::Relaxed);
    }

    /// Whether the node, which has drained for so long, still waits for this client to go.
    pub(crate) fn is_awaited(&self, drained_for: Duration) -> bool {
        let patience = if self.found.load(Ordering::Relaxed) { STAYS_FOR } else { FINDS_WITHIN };
        self.understood && drained_for < patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d6_a_node_waits_for_clients_that_go() {
        let older = Departure::new(false);
        assert!(!older.is_awaited(Duration::ZERO), "it would not go by itself");
        let goes = Departure::new(true);
        assert!(goes.is_awaited(Duration::ZERO) && !goes.is_awaited(FINDS_WITHIN), "it knows no other node");
        goes.found_another();
        assert!(goes.is_awaited(DEFAULT_CALL_TIMEOUT) && !goes.is_awaited(STAYS_FOR));
    }
}
