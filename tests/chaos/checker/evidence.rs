//! Each fault really happened: a run in which nothing was done to the nodes proves nothing, however well they did.

use crate::{
    checker::{Violation, Window},
    history::{Entry, What},
};

pub(super) fn check(history: &[Entry], windows: &[Window], found: &mut Vec<Violation>) {
    for window in windows.iter().filter(|window| window.over != u64::MAX) {
        let shown =
            history.iter().filter(|entry| (window.begin..=window.over).contains(&entry.begin)).filter_map(|entry| {
                match &entry.what {
                    What::Shown { shown, how, .. } => Some((*shown, how)),
                    _ => None,
                }
            });
        let (shown, not): (Vec<_>, Vec<_>) = shown.partition(|(shown, _)| *shown);
        let text = match (shown.first(), not.first()) {
            (_, Some((_, how))) => format!("`{}` did not happen as it should: {how}", window.fault),
            (None, None) => format!("nothing shows that `{}` happened", window.fault),
            (Some(_), None) => continue,
        };
        found.push(Violation { row: "fault", at: window.begin, text });
    }
}
