//! What a store has acknowledged it has, until its process ends; and its values never go back.
//!
//! Each key is written by one process, with numbers that grow. So whatever is read is at least what was acknowledged, or seen,
//! before it was asked for, and at most what was tried by the time of the answer. A store is a process: another incarnation of its node
//! is another store.

use std::collections::BTreeMap;

use crate::{
    checker::Violation,
    history::{Entry, Outcome, What},
};

/// A write, or a read, of one key.
struct Access {
    begin: u64,
    end: u64,
    value: u64,
    ok: bool,
}

#[derive(Default)]
struct Key {
    puts: Vec<Access>,
    gets: Vec<Access>,
}

pub(super) fn check(history: &[Entry], found: &mut Vec<Violation>) {
    let mut keys: BTreeMap<(&str, &str), Key> = BTreeMap::new();
    for Entry { begin, end, what } in history {
        match what {
            // What has failed for sure was never there.
            What::Put { outcome: Outcome::Fail(_), .. } => {}
            What::Put { store, key, value, outcome, .. } => {
                let put = Access { begin: *begin, end: *end, value: *value, ok: *outcome == Outcome::Ok };
                keys.entry((store, key)).or_default().puts.push(put);
            }
            What::Get { store, key, value, outcome: Outcome::Ok, .. } => {
                let get = Access { begin: *begin, end: *end, value: value.unwrap_or(0), ok: true };
                keys.entry((store, key)).or_default().gets.push(get);
            }
            _ => {}
        }
    }
    for ((store, key), Key { puts, gets }) in &keys {
        for get in gets {
            let acknowledged = puts.iter().filter(|put| put.ok && put.end < get.begin).map(|put| put.value).max();
            let seen = gets.iter().filter(|other| other.end < get.begin).map(|other| other.value).max();
            let least = acknowledged.max(seen).unwrap_or(0);
            let tried = get.value == 0 || puts.iter().any(|put| put.value == get.value && put.begin <= get.end);
            let text = if get.value < least {
                format!("{store} gave {} for `{key}`, when {least} had been acknowledged or read", get.value)
            } else if !tried {
                format!("{store} gave {} for `{key}`, which nobody had written", get.value)
            } else {
                continue;
            };
            found.push(Violation { row: "kv", at: get.begin, text });
        }
    }
}
