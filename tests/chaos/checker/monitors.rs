//! M1, M2 and M4: each monitor fires once, when what it monitors is gone or out of reach, and says so truly.
//!
//! When all has settled, each monitor on a process that was ended, or whose node was, has to have fired, unless its own process has
//! ended.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    checker::{Violation, is_settled},
    history::{Entry, What},
};

/// What a monitor fires with when the connection is lost: the other end may live.
pub(crate) const NO_CONNECTION: &str = "no connection";

pub(super) fn check(history: &[Entry], found: &mut Vec<Violation>) {
    let mut downs: BTreeMap<(&str, u64), Vec<(u64, &str)>> = BTreeMap::new();
    let (mut exits, mut ended, mut killed) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for Entry { begin: at, what, .. } in history {
        match what {
            What::Down { by, monitor, reason } => downs.entry((by, *monitor)).or_default().push((*at, reason)),
            What::Exit { target } => drop(exits.entry(target.as_str()).or_insert(*at)),
            What::Ended { pid } => drop(ended.entry(pid.as_str()).or_insert(*at)),
            What::Killed { node } => killed.push((node.as_str(), *at)),
            _ => {}
        }
    }
    let settled = is_settled(history);
    // Since when nobody can find a process alive.
    let gone = |target: &str| {
        let told = exits.get(target).into_iter().chain(ended.get(target)).copied();
        told.chain(killed.iter().filter(|(node, _)| is_of(target, node)).map(|(_, at)| *at)).min()
    };
    let mut known = BTreeSet::new();
    for Entry { begin: at, what, .. } in history {
        let What::Monitor { by, target, monitor } = what else { continue };
        known.insert((by.as_str(), *monitor));
        let text = format!("monitor {monitor} of {by} on {target}");
        match downs.get(&(by.as_str(), *monitor)).map(Vec::as_slice) {
            None if settled && !ended.contains_key(by.as_str()) && gone(target).is_some() => {
                let text = format!("{text} never fired, though that process is gone");
                found.push(Violation { row: "M1", at: *at, text });
            }
            Some([_, second, ..]) => {
                found.push(Violation { row: "M1", at: second.0, text: format!("{text} fired twice or more") });
            }
            Some([(fired, reason)]) if !reason.contains(NO_CONNECTION) && gone(target).is_none_or(|at| at > *fired) => {
                let text = format!("{text} fired with `{reason}`, though nobody had ended that process");
                found.push(Violation { row: "M2", at: *fired, text });
            }
            _ => {}
        }
    }
    for ((by, monitor), fired) in downs {
        if !known.contains(&(by, monitor)) {
            let at = fired.first().map_or(0, |(at, _)| *at);
            let text = format!("{by} was told of monitor {monitor}, which it never made");
            found.push(Violation { row: "M1", at, text });
        }
    }
}

/// Whether a pid, `<name.incarnation.serial>`, is of a node, `name.incarnation`.
fn is_of(pid: &str, node: &str) -> bool {
    pid.strip_prefix('<').and_then(|pid| pid.strip_prefix(node)).is_some_and(|rest| rest.starts_with('.'))
}
