//! A1: whatever is asked is answered, by the answer or by why there is none, and within its time.

use crate::{
    checker::Violation,
    history::{Entry, What},
};

/// How long calls of the load wait.
pub(crate) const CALL_LIMIT_MS: u64 = 5_000;

/// How long requests to a node wait: for names, and for starting processes. A name is asked for again when its arbiter is lost, within
/// the same time, and the last try has all of it.
pub(crate) const REQUEST_LIMIT_MS: u64 = 20_000;

/// By how much an answer may come late on a machine that has no time.
const LATE_MS: u64 = 3_000;

pub(super) fn check(history: &[Entry], found: &mut Vec<Violation>) {
    let stood: Vec<(u64, u64)> = history.iter().filter_map(stood).collect();
    for Entry { begin, end, what } in history {
        let (limit, text) = match what {
            What::Call { from, to, number, .. } => (CALL_LIMIT_MS, format!("call {number} of {from} to {to}")),
            What::Put { by, store, .. } => (CALL_LIMIT_MS, format!("a write of {by} to {store}")),
            What::Get { by, store, .. } => (CALL_LIMIT_MS, format!("a read of {by} from {store}")),
            What::Register { by, name, .. } => (REQUEST_LIMIT_MS, format!("{by}'s asking for `{name}`")),
            What::Unregister { by, name, .. } => (REQUEST_LIMIT_MS, format!("{by}'s giving up of `{name}`")),
            What::Start { by, on, .. } => (REQUEST_LIMIT_MS, format!("{by}'s starting of a process on {on}")),
            _ => continue,
        };
        // A machine that stood still is no fault of those who were late for it.
        let still: u64 = stood.iter().filter(|(at, _)| at >= begin && at <= end).map(|(_, still)| still).sum();
        let took = (end - begin).saturating_sub(still);
        if took > limit + LATE_MS {
            found.push(Violation {
                row: "A1",
                at: *begin,
                text: format!("{text} took {took} ms, and may take {limit}"),
            });
        }
    }
}

fn stood(entry: &Entry) -> Option<(u64, u64)> {
    match entry.what {
        What::Stood { still_ms } => Some((entry.begin, still_ms)),
        _ => None,
    }
}
