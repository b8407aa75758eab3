//! When which fault was on, as the history tells it.

use crate::history::{Entry, What};

/// A fault, from its beginning until all was whole again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    /// Its name.
    pub(crate) fault: String,
    pub(crate) begin: u64,
    /// When it was taken back; `u64::MAX`: not in this history.
    pub(crate) over: u64,
    /// When all was whole again.
    pub(crate) healed: u64,
    /// Pairs of nodes of which at least one does not hear the other.
    pub(crate) cut: Vec<(usize, usize)>,
    /// Nodes that are killed, or stopped.
    pub(crate) touched: Vec<usize>,
}

impl Window {
    /// Whether the two nodes do not hear each other in it, for one reason or the other.
    pub(crate) fn parts(&self, a: usize, b: usize) -> bool {
        let touched = |node| self.touched.contains(&node);
        touched(a) || touched(b) || self.cut.contains(&(a, b)) || self.cut.contains(&(b, a))
    }

    /// Whether any two nodes do not.
    pub(crate) fn parts_any(&self) -> bool {
        !self.cut.is_empty() || !self.touched.is_empty()
    }
}

/// All faults, in their order.
pub(crate) fn windows(history: &[Entry]) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    for entry in history {
        let last = windows.last_mut();
        match (&entry.what, last) {
            (What::Fault { fault, cut, touched }, _) => windows.push(Window {
                fault: fault.clone(),
                begin: entry.begin,
                over: u64::MAX,
                healed: u64::MAX,
                cut: cut.clone(),
                touched: touched.clone(),
            }),
            (What::Over { .. }, Some(window)) => window.over = entry.begin,
            (What::Healed { .. }, Some(window)) => window.healed = entry.begin,
            _ => {}
        }
    }
    windows
}
