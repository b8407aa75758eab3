//! N2 and N3: a name of the cluster has one holder in each connected part, and one in all once the parts have met; and whoever got it
//! finds itself under it.
//!
//! A process holds a name *for sure* from the moment it was told so until it asks to give it up, is told that it lost it, or ends.
//! Two may do so at once only while the nodes that they did it on do not hear each other, or have had no time to find out that
//! they do, or that they do not.

use std::collections::BTreeMap;

use crate::{
    checker::{HEAL_LIMIT_MS, Violation, Window},
    history::{Entry, Outcome, What},
};

/// For so long after the beginning of a fault nodes may believe in different members, and so in different arbiters.
const NOTICED_MS: u64 = 6_000;

/// While a fault lasts nodes do not all see the same members, so two may get a name from two arbiters. One of two whose nodes
/// hear each other is told so, this much later at most.
const TOLD_MS: u64 = 3_000;

/// For so long somebody may hold a name for sure.
#[derive(Debug)]
struct Hold<'a> {
    by: &'a str,
    at: usize,
    from: u64,
    until: u64,
}

/// What takes names from a process: when, and which; `None`: all, since it has ended.
type Losses<'a> = BTreeMap<&'a str, Vec<(u64, Option<&'a str>, bool)>>;

pub(super) fn check(history: &[Entry], windows: &[Window], found: &mut Vec<Violation>) {
    let mut losses: Losses = BTreeMap::new();
    for Entry { begin, what, .. } in history {
        match what {
            What::Unregister { by, name, .. } => losses.entry(by).or_default().push((*begin, Some(name), false)),
            What::Conflict { by, name } => losses.entry(by).or_default().push((*begin, Some(name), true)),
            What::Ended { pid } => losses.entry(pid).or_default().push((*begin, None, true)),
            _ => {}
        }
    }
    // Whoever has a name to the end has it as long as anything is known.
    let last = history.last().map_or(0, |entry| entry.begin);
    let mut holds: BTreeMap<&str, Vec<Hold>> = BTreeMap::new();
    for Entry { end, what, .. } in history {
        if let What::Register { by, at, name, outcome: Outcome::Ok } = what {
            let mut given_up = losses
                .get(by.as_str())
                .into_iter()
                .flatten()
                .filter(|(at, of, _)| at >= end && of.is_none_or(|of| of == name));
            let until = given_up.next().map_or(last, |(at, ..)| *at);
            holds.entry(name).or_default().push(Hold { by, at: *at, from: *end, until });
        }
    }
    for (name, holds) in &holds {
        for (number, one) in holds.iter().enumerate() {
            for other in &holds[number + 1..] {
                if one.by != other.by {
                    both(name, one, other, windows, found);
                }
            }
        }
    }
    found.extend(history.iter().filter_map(|entry| unfound(entry, &losses)));
}

fn both(name: &str, one: &Hold, other: &Hold, windows: &[Window], found: &mut Vec<Violation>) {
    let (from, until) = (one.from.max(other.from), one.until.min(other.until));
    // What both did within the same millisecond may have been one after the other.
    if from >= until {
        return;
    }
    // What of that time was no time in which it may be, or in which it may be for a moment.
    let mut calm = vec![(from, until)];
    let mut strained = Vec::new();
    for window in windows.iter().filter(|window| window.parts_any()) {
        let whole = window.healed.min(window.over.saturating_add(HEAL_LIMIT_MS));
        let apart_until = if window.parts(one.at, other.at) { whole } else { window.begin + NOTICED_MS };
        let (during, rest) = split(&calm, window.begin, whole);
        calm = rest;
        strained.extend(split(&during, window.begin, apart_until.min(whole)).1);
        // Parts that meet again find out from the end of the fault on.
        strained = split(&strained, window.over, whole).1;
    }
    let length = |spans: &[(u64, u64)]| spans.iter().map(|(from, until)| until - from).sum::<u64>();
    let (calm, strained) = (length(&calm), length(&strained));
    if calm > 0 || strained > TOLD_MS {
        let text = format!(
            "{} on node {} and {} on node {} both held `{name}` for {calm} ms without a fault between them, and {strained} ms \
             with one elsewhere",
            one.by, one.at, other.by, other.at
        );
        found.push(Violation { row: "N2", at: from, text });
    }
}

type Spans = Vec<(u64, u64)>;

/// What of these spans lies between the two times, and what does not.
fn split(spans: &[(u64, u64)], from: u64, until: u64) -> (Spans, Spans) {
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for &(begin, end) in spans {
        let within = (begin.max(from), end.min(until));
        if within.0 >= within.1 {
            outside.push((begin, end));
            continue;
        }
        inside.push(within);
        outside.extend([(begin, within.0), (within.1, end)].into_iter().filter(|(begin, end)| begin < end));
    }
    (inside, outside)
}

/// A process that does not find itself under a name that it has, and is not told why.
fn unfound(entry: &Entry, losses: &Losses) -> Option<Violation> {
    let What::Find { by, name, found, .. } = &entry.what else { return None };
    if found.as_ref() == Some(by) {
        return None;
    }
    let (from, until) = (entry.begin, entry.end.saturating_add(HEAL_LIMIT_MS));
    let told = losses
        .get(by.as_str())
        .into_iter()
        .flatten()
        .any(|(at, of, told)| *told && of.is_none_or(|of| of == name) && (from..=until).contains(at));
    let found = found.as_deref().unwrap_or("nobody");
    let text = format!("{by} had `{name}`, found {found} under it, and was never told that it lost it");
    (!told).then_some(Violation { row: "N3", at: entry.begin, text })
}
