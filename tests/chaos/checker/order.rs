//! S1 and S2: from one process to another messages arrive in their order, none twice, and none is lost without a word.
//!
//! Each sender numbers what it sends to a receiver, casts and calls alike, and monitors the receiver. Whatever is lost, the
//! monitor must fire: under a monitor that never did, all has arrived. A monitor that fires excuses what was under way, and not what
//! was sent long before, while nothing was done to anybody.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    checker::{Violation, Window, is_settled},
    history::{Entry, Outcome, What},
};

/// What is sent while nothing is done to the nodes arrives within so long, whatever happens then.
const ARRIVES_MS: u64 = 5_000;

/// It is known only some time later that the machine stood still.
const STOOD_MS: u64 = 2_000;

type Pair<'a> = (&'a str, &'a str);

/// One message, as its sender knows it.
struct Sent<'a> {
    at: u64,
    monitor: u64,
    outcome: &'a Outcome,
    is_call: bool,
}

pub(super) fn check(history: &[Entry], windows: &[Window], found: &mut Vec<Violation>) {
    let mut sent: BTreeMap<Pair, BTreeMap<u64, Sent>> = BTreeMap::new();
    let mut received: BTreeMap<Pair, Vec<(u64, u64)>> = BTreeMap::new();
    let (mut fired, mut ended, mut stood) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
    for Entry { begin: at, what, .. } in history {
        match what {
            What::Send { from, to, monitor, number, outcome } => {
                let message = Sent { at: *at, monitor: *monitor, outcome, is_call: false };
                sent.entry((from, to)).or_default().insert(*number, message);
            }
            What::Call { from, to, monitor, number, outcome } => {
                let message = Sent { at: *at, monitor: *monitor, outcome, is_call: true };
                sent.entry((from, to)).or_default().insert(*number, message);
            }
            What::Received { by, from, number } => received.entry((from, by)).or_default().push((*number, *at)),
            What::Down { by, monitor, .. } => drop(fired.insert((by.as_str(), *monitor))),
            What::Ended { pid } => drop(ended.insert(pid.as_str(), *at)),
            What::Stood { .. } => stood.push(*at),
            _ => {}
        }
    }
    let nothing = BTreeMap::new();
    for (pair, numbers) in &received {
        arrived(*pair, numbers, sent.get(pair).unwrap_or(&nothing), found);
    }
    let settled = is_settled(history);
    let last = history.last().map_or(0, |entry| entry.begin);
    // Nothing was done to the nodes between the two times, and the machine did not stand still: what is sent then arrives.
    let calm = |from: u64, until: u64| {
        until <= last
            && !windows.iter().any(|window| window.begin <= until && from <= window.healed)
            && !stood.iter().any(|at| (from..=until + STOOD_MS).contains(at))
    };
    for (pair @ (from, to), messages) in &sent {
        let numbers: BTreeSet<u64> = received.get(pair).into_iter().flatten().map(|(number, _)| *number).collect();
        let both_live = settled && !ended.contains_key(from) && !ended.contains_key(to);
        let ended = ended.get(from).into_iter().chain(ended.get(to)).min().copied().unwrap_or(u64::MAX);
        for (number, message) in messages {
            let lost = !numbers.contains(number);
            let violation = match (message.outcome, message.is_call) {
                (Outcome::Ok, true) if lost => "was answered, but never received",
                (Outcome::Fail(_), _) if !lost => "was said not to have run, but was received",
                (Outcome::Ok | Outcome::Info(_), _)
                    if lost && both_live && !fired.contains(&(*from, message.monitor)) =>
                {
                    "was lost, and no monitor has fired"
                }
                (Outcome::Ok | Outcome::Info(_), _)
                    if lost && message.at + ARRIVES_MS < ended && calm(message.at, message.at + ARRIVES_MS) =>
                {
                    "was lost in calm, and what its monitor says later is of something else"
                }
                _ => continue,
            };
            let text = format!("message {number} of {from} to {to} {violation}");
            found.push(Violation { row: "S2", at: message.at, text });
        }
    }
}

fn arrived((from, to): Pair, numbers: &[(u64, u64)], sent: &BTreeMap<u64, Sent>, found: &mut Vec<Violation>) {
    let (mut seen, mut last) = (BTreeSet::new(), 0);
    for &(number, at) in numbers {
        let (row, what) = if !seen.insert(number) {
            ("S2", "twice".to_owned())
        } else if number < last {
            ("S1", format!("after message {last}"))
        } else if !sent.contains_key(&number) {
            ("S2", "though it was never sent".to_owned())
        } else {
            last = number;
            continue;
        };
        found.push(Violation { row, at, text: format!("{to} received message {number} of {from} {what}") });
    }
}
