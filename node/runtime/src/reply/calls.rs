//! The table of calls that wait for a reply from elsewhere: from the number in the frame to the caller's slot.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use rookery_protocol::{CallFailure, CallId, Destination};

use super::AnySlot;
use crate::{process::relations::Lost, sync::lock};

/// The calls of this runtime that wait for a reply from elsewhere.
///
/// Each entry leaves with its reply, with the loss of the connection to whom it was sent (`NoConnection`), or when its
/// caller gives up; so the table is bounded by the callers.
#[derive(Default)]
pub(crate) struct Calls {
    shards: [Mutex<HashMap<CallId, Awaited>>; CALL_SHARDS],
    next: AtomicU64,
}

/// Enough that two threads seldom meet.
const CALL_SHARDS: usize = 16;

struct Awaited {
    slot: Arc<dyn AnySlot>,
    /// Whom it was sent to: without a connection to there, no answer comes.
    from: Destination,
}

impl Calls {
    pub(crate) fn insert(&self, slot: Arc<dyn AnySlot>, from: Destination) -> CallId {
        let call = CallId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        lock(self.shard(call)).insert(call, Awaited { slot, from });
        call
    }

    /// It was not taken where it was sent first: the answer comes from `from`, if it comes.
    pub(super) fn redirect(&self, call: CallId, from: &Destination) {
        if let Some(awaited) = lock(self.shard(call)).get_mut(&call) {
            awaited.from.clone_from(from);
        }
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| lock(shard).is_empty())
    }

    pub(crate) fn remove(&self, call: CallId) -> Option<Arc<dyn AnySlot>> {
        lock(self.shard(call)).remove(&call).map(|awaited| awaited.slot)
    }

    /// Fails every call that waits for one who is lost, or every call.
    pub(crate) fn fail_from(&self, whom: Option<&Lost>) {
        for shard in &self.shards {
            let lost: Vec<Awaited> = {
                let mut calls = lock(shard);
                let lost = calls.iter().filter(|(_, awaited)| whom.is_none_or(|lost| lost.reaches(&awaited.from)));
                let lost: Vec<CallId> = lost.map(|(&call, _)| call).collect();
                lost.iter().filter_map(|call| calls.remove(call)).collect()
            };
            for awaited in lost {
                awaited.slot.fail(CallFailure::NoConnection);
            }
        }
    }

    fn shard(&self, call: CallId) -> &Mutex<HashMap<CallId, Awaited>> {
        &self.shards[(call.0 as usize) % CALL_SHARDS]
    }
}
