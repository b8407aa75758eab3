//! What a run tells: a line for each fault as it goes, and a table, or JSON, at the end.

use std::collections::BTreeMap;

use rookery_tests::{
    machine::{describe, spread, today},
    program::rookery,
};
use serde::Serialize;

use crate::{
    checker::{Violation, Window, windows},
    history::{Entry, Outcome, What},
};

/// Violations that are told one by one.
const MAX_TOLD: usize = 40;

/// Of all faults of one kind; times from the beginning of each until all was whole again.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) times: usize,
    pub(crate) operations: u64,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
    /// Messages that arrived.
    pub(crate) received: u64,
    /// How often a node declared another one down.
    pub(crate) declared_down: u64,
    pub(crate) violations: usize,
    /// How long all took to be whole again after the end of each, in seconds.
    pub(crate) heal_s: Vec<f64>,
}

/// See the module.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) minutes: f64,
    pub(crate) machine: String,
    pub(crate) date: String,
    /// The longest time for which the machine stood still.
    pub(crate) stood_ms: u64,
    /// By kind of fault, with `calm` for the times between.
    pub(crate) faults: BTreeMap<String, Row>,
    pub(crate) all: Row,
    pub(crate) monitors_fired: u64,
    pub(crate) conflicts_told: u64,
    pub(crate) violations: Vec<String>,
    /// What was asked for and could not be done here.
    pub(crate) skipped: Vec<String>,
    /// Why the run did not come to its end, if it did not.
    pub(crate) gave_up: Option<String>,
}

impl Report {
    pub(crate) fn new(seed: u64, nodes: usize, history: &[Entry], violations: &[Violation]) -> Self {
        let windows = windows(history);
        let mut report = Self {
            seed,
            nodes,
            minutes: history.last().map_or(0.0, |entry| entry.begin as f64 / 60_000.0),
            machine: describe(&rookery()),
            date: today(),
            stood_ms: 0,
            faults: BTreeMap::new(),
            all: Row::default(),
            monitors_fired: 0,
            conflicts_told: 0,
            violations: violations.iter().map(ToString::to_string).collect(),
            skipped: Vec::new(),
            gave_up: None,
        };
        for window in &windows {
            report.faults.entry(window.fault.clone()).or_default().times += 1;
            report.all.times += 1;
        }
        for entry in history {
            match &entry.what {
                What::Down { .. } => report.monitors_fired += 1,
                What::Conflict { .. } => report.conflicts_told += 1,
                What::Stood { still_ms } => report.stood_ms = report.stood_ms.max(*still_ms),
                _ => {}
            }
            let name = during(&windows, entry.begin);
            report.faults.entry(name).or_default().add(entry);
            report.all.add(entry);
        }
        for violation in violations {
            report.faults.entry(during(&windows, violation.at)).or_default().violations += 1;
            report.all.violations += 1;
        }
        report
    }

    pub(crate) fn table(&self) -> String {
        let mut table = format!(
            "\n{}; {}; {} nodes, {:.1} min, seed {}\n\n\
             | fault | times | operations | ok | failed | unknown | declared down | violations | heal, s: p50, max |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
            self.date, self.machine, self.nodes, self.minutes, self.seed
        );
        let all = self.faults.iter().map(|(name, row)| (name.as_str(), row)).chain([("**all**", &self.all)]);
        for (name, row) in all {
            let heal = spread(&row.heal_s).map_or("—".to_owned(), |(_, p50, max)| format!("{p50:.1}, {max:.1}"));
            table += &format!(
                "| {name} | {} | {} | {} | {} | {} | {} | **{}** | {heal} |\n",
                row.times, row.operations, row.ok, row.failed, row.unknown, row.declared_down, row.violations
            );
        }
        table += &format!(
            "\nMessages received {}, monitors fired {}, conflicts of names told {}; the machine stood still for {} ms at most.\n",
            self.all.received, self.monitors_fired, self.conflicts_told, self.stood_ms
        );
        for skipped in &self.skipped {
            table += &format!("\nSKIPPED: {skipped}");
        }
        if let Some(why) = &self.gave_up {
            table += &format!("\nGAVE UP: {why}");
        }
        for violation in self.violations.iter().take(MAX_TOLD) {
            table += &format!("\nVIOLATION {violation}");
        }
        table
    }
}

impl Row {
    fn add(&mut self, entry: &Entry) {
        match &entry.what {
            What::Received { .. } => self.received += 1,
            What::DeclaredDown { .. } => self.declared_down += 1,
            What::Healed { took_ms, .. } => self.heal_s.push(*took_ms as f64 / 1_000.0),
            _ => {}
        }
        let Some(outcome) = entry.what.outcome() else { return };
        self.operations += 1;
        match outcome {
            Outcome::Ok => self.ok += 1,
            Outcome::Fail(_) => self.failed += 1,
            Outcome::Info(_) => self.unknown += 1,
        }
    }
}

/// The fault that was on then.
fn during(windows: &[Window], at: u64) -> String {
    let on = windows.iter().find(|window| window.begin <= at && at <= window.healed);
    on.map_or("(calm)".to_owned(), |window| window.fault.clone())
}
