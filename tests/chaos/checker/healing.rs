//! G2, D1, D2, N2: after a fault all is whole again within the stated time, and then all nodes see the same. D3: nobody is declared down
//! who is only slow.

//!
//! A machine that stood still is no fault of those who were late for it: what is a matter of time is not judged shortly after.

use std::collections::BTreeMap;

use crate::{
    checker::{HEAL_LIMIT_MS, Violation, Window},
    history::{Entry, What},
};

/// How long after the machine stood still nothing is judged by its time.
const FORGIVEN_MS: u64 = HEAL_LIMIT_MS + 5_000;

pub(super) fn check(history: &[Entry], windows: &[Window], found: &mut Vec<Violation>) {
    let mut rounds: BTreeMap<u64, &Entry> = BTreeMap::new();
    let stood: Vec<u64> = history
        .iter()
        .filter_map(|entry| match entry.what {
            What::Stood { .. } => Some(entry.begin),
            _ => None,
        })
        .collect();
    // It is entered when it is over, and the news of it may overtake that.
    let forgiven = |at: u64| stood.iter().any(|stood| at + 1_000 >= *stood && at <= stood + FORGIVEN_MS);
    for entry in history {
        let at = entry.begin;
        let (row, text) = match &entry.what {
            What::Unhealed { .. } | What::DeclaredDown { .. } if forgiven(at) => continue,
            What::Unhealed { fault, why } => {
                ("D1", format!("not all was whole {HEAL_LIMIT_MS} ms after the end of `{fault}`: {why}"))
            }
            What::DeclaredDown { by, of, reason } if !may_lose(windows, at, *by, *of) => {
                ("D3", format!("node {by} declared node {of} down, which lived and could be heard: {reason}"))
            }
            What::Saw { round, .. } => match differs(rounds.entry(*round).or_insert(entry), entry) {
                Some(text) => ("G2", text),
                None => continue,
            },
            _ => continue,
        };
        found.push(Violation { row, at, text });
    }
    for window in windows.iter().filter(|window| window.over != u64::MAX && window.healed == u64::MAX) {
        let told = |entry: &Entry| matches!(entry.what, What::Unhealed { .. }) && entry.begin >= window.over;
        if !history.iter().any(told) {
            let text = format!("nothing tells that all was whole after the end of `{}`", window.fault);
            found.push(Violation { row: "D1", at: window.over, text });
        }
    }
}

/// Whether a node may lose the other one then: they were kept apart.
fn may_lose(windows: &[Window], at: u64, by: usize, of: usize) -> bool {
    windows.iter().any(|window| window.begin <= at && at <= window.healed && window.parts(by, of))
}

fn differs(one: &Entry, other: &Entry) -> Option<String> {
    let (
        What::Saw { at: a, nodes, names, groups, .. },
        What::Saw { at: b, nodes: nodes_too, names: names_too, groups: groups_too, .. },
    ) = (&one.what, &other.what)
    else {
        return None;
    };
    let (what, one, other) = if nodes != nodes_too {
        ("nodes", format!("{nodes:?}"), format!("{nodes_too:?}"))
    } else if names != names_too {
        ("names", format!("{names:?}"), format!("{names_too:?}"))
    } else if groups != groups_too {
        ("groups", format!("{groups:?}"), format!("{groups_too:?}"))
    } else {
        return None;
    };
    Some(format!("when all was said to be whole, node {a} saw {what} {one}, and node {b} {other}"))
}
