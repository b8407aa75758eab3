//! What a soak tells: a line each ten seconds, a line for each node that is declared down, and a table at the end.

use std::{sync::atomic::Ordering, time::Duration};

use rookery_tests::{
    fleet::{News, Told},
    machine::{CpuTime, Loopback, describe, spread, today},
    program::rookery,
};

use super::load::{Carried, Outcome};

/// Losses that are told one by one.
const MAX_LINES: usize = 40;

/// Seconds of CPU so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Of all nodes together.
    pub(crate) nodes: f64,
    pub(crate) machine: CpuTime,
}

/// What part of the CPU was used for some time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    /// Cores that all nodes together took.
    nodes: f64,
    /// The part of the machine that was busy, nodes and all else.
    busy: f64,
}

impl Usage {
    pub(crate) fn since(self, before: Self, lasted: Duration) -> Used {
        let nodes = (self.nodes - before.nodes) / lasted.as_secs_f64().max(f64::EPSILON);
        Used { nodes, busy: self.machine.busy_since(before.machine) }
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Report {
    nodes: usize,
    formed: Duration,
    pub(crate) lasted: Duration,
    /// Nodes that ended by themselves, with how.
    pub(crate) ended: Vec<String>,
    /// Each node's resident memory, in MiB.
    pub(crate) rss_begin: Vec<f64>,
    pub(crate) rss_end: Vec<f64>,
    pub(crate) usage: Used,
    pub(crate) network: Loopback,
    /// Datagrams that were made to be lost.
    pub(crate) lost: u64,
    /// The longest time for which the machine stood still.
    pub(crate) stall: Duration,
    up: usize,
    suspected: usize,
    heard: usize,
    /// As each was logged.
    downs: Vec<String>,
    calls: u64,
    failed: u64,
    failures: Vec<String>,
    sent: u64,
    sessions_lost: u64,
    latencies_us: Vec<u32>,
    counted: Option<u64>,
}

impl Report {
    /// Of so many nodes, which have formed a mesh in this time.
    pub(crate) fn new(nodes: usize, formed: Duration) -> Self {
        Self { nodes, formed, ..Self::default() }
    }

    /// Takes news, and gives a line for each that a soak must not have.
    pub(crate) fn take(&mut self, news: Vec<Told>) -> Vec<String> {
        let mut lines = Vec::new();
        for Told { at, by, of, news } in news {
            match news {
                News::Up => self.up += 1,
                News::Suspected(_) => self.suspected += 1,
                News::Heard => self.heard += 1,
                News::Down(reason) => {
                    let line = format!("{at} {by} says that {of} is DOWN: {reason}");
                    if self.downs.len() < MAX_LINES {
                        lines.push(line.clone());
                    }
                    self.downs.push(line);
                }
            }
        }
        lines
    }

    pub(crate) fn carry(&mut self, carried: &Carried) {
        self.calls = carried.calls.load(Ordering::Relaxed);
        self.failed = carried.failed.load(Ordering::Relaxed);
        self.sent = carried.sent.load(Ordering::Relaxed);
        self.sessions_lost = carried.sessions_lost.load(Ordering::Relaxed);
        self.failures = carried.failures().into_iter().map(|(why, times)| format!("{times} × {why}")).collect();
    }

    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        self.latencies_us = outcome.latencies_us;
        self.counted = outcome.counted;
    }

    /// Whether nobody was declared down who lived, and it was a soak at all.
    pub(crate) fn is_good(&self) -> bool {
        self.downs.is_empty() && self.ended.is_empty() && self.calls > 0
    }

    /// How it goes.
    pub(crate) fn line(&self, at: Duration, carried: &Carried, rss: &[f64], used: Used) -> String {
        let (calls, failed) = (carried.calls.load(Ordering::Relaxed), carried.failed.load(Ordering::Relaxed));
        format!(
            "{:6.0} s  down {}  suspected {} (cleared {})  calls {calls} ({failed} failed)  messages {}  RSS {} MiB  \
             CPU of nodes {:.2} cores, machine {:.0} %",
            at.as_secs_f64(),
            self.downs.len(),
            self.suspected,
            self.heard,
            carried.sent.load(Ordering::Relaxed),
            three(rss),
            used.nodes,
            used.busy * 100.0,
        )
    }

    /// How it went, in Markdown.
    pub(crate) fn table(&self, loss: u8, burners: usize) -> String {
        let mut table = format!("\n{}; {}\n\n| soak | |\n|---|---|\n", today(), describe(&rookery()));
        let mut row = |what: &str, figure: String| {
            table += &format!("| {what} | {figure} |\n");
        };
        let expected = self.nodes * (self.nodes - 1);
        row("nodes, each a process", self.nodes.to_string());
        row("lasted", format!("{:.1} min", self.lasted.as_secs_f64() / 60.0));
        row("loss", format!("{loss} %"));
        row("CPU of the machine; of the nodes; burners", {
            let Used { nodes, busy } = self.usage;
            format!("{:.0} % busy; {nodes:.2} cores; {burners}", busy * 100.0)
        });
        row("mesh formed", format!("{:.2} s", self.formed.as_secs_f64()));
        row("**false NodeDown** (must be 0)", format!("**{}**", self.downs.len()));
        row("nodes that ended by themselves (must be 0)", self.ended.len().to_string());
        row("suspected; of them cleared", format!("{}; {}", self.suspected, self.heard));
        row("connections; made again", format!("{}; {}", expected / 2, self.up.saturating_sub(expected)));
        row("longest time that the machine stood still, ms", self.stall.as_millis().to_string());
        row("calls answered; failed", format!("{}; {}", self.calls, self.failed));
        let at = |part: usize| {
            let last = self.latencies_us.len().saturating_sub(1);
            self.latencies_us.get((self.latencies_us.len() * part / 1_000).min(last)).copied().unwrap_or_default()
        };
        let ms = |part| f64::from(at(part)) / 1_000.0;
        row("a call, ms: p50, p99, longest", format!("{:.1}, {:.1}, {:.1}", ms(500), ms(990), ms(1_000)));
        row("messages sent; of them counted", {
            format!("{}; {}", self.sent, self.counted.map_or("not all could be asked".to_owned(), |n| n.to_string()))
        });
        row("sessions of clients that were lost", self.sessions_lost.to_string());
        row("RSS a node at the beginning, MiB: min, median, max", three(&self.rss_begin));
        row("RSS a node at the end, MiB: min, median, max", three(&self.rss_end));
        let Loopback { sent, overflowed, .. } = self.network;
        let part = self.lost as f64 * 100.0 / sent.max(1) as f64;
        row(
            "datagrams sent; made to be lost; no room for",
            format!("{sent}; {} ({part:.1} %); {overflowed}", self.lost),
        );
        for (what, lines) in [("down", &self.downs), ("ended", &self.ended), ("failed", &self.failures)] {
            for line in lines.iter().take(MAX_LINES) {
                table += &format!("\n{what}: {line}");
            }
        }
        table
    }
}

fn three(figures: &[f64]) -> String {
    let (min, median, max) = spread(figures).unwrap_or_default();
    format!("{min:.1}, {median:.1}, {max:.1}")
}
