//! What `rookery top` lists: processes with their rates, columns, and the order that they stand in. Pure.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    time::Instant,
};

use rookery_node::{
    Pid,
    system::{NodeInfo, ProcessInfo, SortBy},
};

use super::super::ps;

/// What the nodes told, at one time.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) at: Instant,
    /// The node that is asked for the others.
    pub(crate) here: String,
    pub(crate) nodes: Vec<NodeInfo>,
    pub(crate) processes: Vec<ProcessInfo>,
    /// How many processes there are that the filter lets through, listed or not.
    pub(crate) matching: u64,
    /// Nodes that did not answer, with why.
    pub(crate) silent: Vec<String>,
}

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Pid,
    Name,
    Behaviour,
    State,
    Mailbox,
    Rate,
    Handled,
    Memory,
    Age,
}

impl Column {
    pub(crate) const ALL: [Self; 9] = [
        Self::Pid,
        Self::Name,
        Self::Behaviour,
        Self::State,
        Self::Mailbox,
        Self::Rate,
        Self::Handled,
        Self::Memory,
        Self::Age,
    ];

    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Pid => "PID",
            Self::Name => "NAMES",
            Self::Behaviour => "BEHAVIOUR",
            Self::State => "STATE",
            Self::Mailbox => "MAILBOX",
            Self::Rate => "MSG/S",
            Self::Handled => "HANDLED",
            Self::Memory => "MEMORY",
            Self::Age => "AGE",
        }
    }

    /// Figures: from the largest down, aligned to the right.
    pub(crate) fn is_figure(self) -> bool {
        matches!(self, Self::Mailbox | Self::Rate | Self::Handled | Self::Memory | Self::Age)
    }

    /// What a node is asked to choose its first processes by. It knows no rates: who has handled most comes nearest.
    pub(crate) fn sort_by(self) -> SortBy {
        match self {
            Self::Mailbox | Self::State => SortBy::Mailbox,
            Self::Rate | Self::Handled => SortBy::Handled,
            Self::Memory => SortBy::Memory,
            Self::Age => SortBy::Age,
            Self::Behaviour => SortBy::Behaviour,
            Self::Pid | Self::Name => SortBy::Pid,
        }
    }
}

/// A process in the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) info: ProcessInfo,
    /// What it has received each second since it was seen last.
    pub(crate) rate: f64,
    /// How deep it stands in the tree; 0 in a list.
    pub(crate) depth: usize,
}

impl Row {
    /// Whether the text, in lower case, is in it.
    pub(crate) fn has(&self, text: &str) -> bool {
        let has = |what: &str| what.to_lowercase().contains(text);
        has(&self.info.pid.to_string()) || has(&ps::names(&self.info)) || has(&self.info.behaviour)
    }
}

/// Turns what two snapshots say into what happened in between.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    before: HashMap<Pid, u64>,
    at: Option<Instant>,
}

impl Rates {
    /// The rows of a snapshot, in its own order.
    pub(crate) fn rows(&mut self, snapshot: &Snapshot) -> Vec<Row> {
        let seconds = self.at.map_or(0.0, |at| snapshot.at.saturating_duration_since(at).as_secs_f64());
        let rows = snapshot.processes.iter().map(|info| {
            let more = self.before.get(&info.pid).map_or(0, |before| info.handled.saturating_sub(*before));
            let rate = if seconds > 0.0 { more as f64 / seconds } else { 0.0 };
            Row { info: info.clone(), rate, depth: 0 }
        });
        let rows = rows.collect();
        self.before = snapshot.processes.iter().map(|info| (info.pid.clone(), info.handled)).collect();
        self.at = Some(snapshot.at);
        rows
    }
}

/// Sorts rows; equal ones by their pids, so that they stand still from one look to the next.
pub(crate) fn sort(rows: &mut [Row], by: Column, reverse: bool) {
    let order = |a: &Row, b: &Row| match by {
        Column::Pid => a.info.pid.cmp(&b.info.pid),
        Column::Name => (a.info.names.is_empty(), &a.info.names).cmp(&(b.info.names.is_empty(), &b.info.names)),
        Column::Behaviour => ps::short(&a.info.behaviour).cmp(ps::short(&b.info.behaviour)),
        Column::State => a.info.state.cmp(&b.info.state),
        Column::Mailbox => b.info.mailbox.cmp(&a.info.mailbox),
        Column::Rate => b.rate.partial_cmp(&a.rate).unwrap_or(Ordering::Equal),
        Column::Handled => b.info.handled.cmp(&a.info.handled),
        Column::Memory => b.info.memory_bytes.cmp(&a.info.memory_bytes),
        Column::Age => b.info.age_ms.cmp(&a.info.age_ms),
    };
    rows.sort_by(|a, b| {
        let by_column = order(a, b);
        let by_column = if reverse { by_column.reverse() } else { by_column };
        by_column.then_with(|| a.info.pid.cmp(&b.info.pid))
    });
}

/// Puts sorted rows below who started them, each family in the order that it had.
pub(crate) fn as_tree(rows: Vec<Row>) -> Vec<Row> {
    let known: HashSet<Pid> = rows.iter().map(|row| row.info.pid.clone()).collect();
    let mut children: HashMap<Pid, Vec<Row>> = HashMap::new();
    let mut tops = Vec::new();
    for row in rows {
        match &row.info.parent {
            Some(parent) if known.contains(parent) && *parent != row.info.pid => {
                children.entry(parent.clone()).or_default().push(row);
            }
            _ => tops.push(row),
        }
    }
    // A stack, since a chain of parents can be as long as there are processes. The last is the next.
    let mut stack: Vec<Row> = tops.into_iter().rev().collect();
    let mut tree = Vec::with_capacity(known.len());
    while let Some(row) = stack.pop() {
        let below = children.remove(&row.info.pid).unwrap_or_default();
        let depth = row.depth + 1;
        stack.extend(below.into_iter().rev().map(|child| Row { depth, ..child }));
        tree.push(row);
    }
    // Whose parents make a circle, which no honest node tells, are there all the same.
    tree.extend(children.into_values().flatten());
    tree
}
