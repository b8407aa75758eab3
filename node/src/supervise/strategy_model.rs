//! A second, simple supervisor, written from OTP's manual (supervisor(3), "Supervision Principles" and "Restart
//! Strategies") and not from ours: starts and stops happen at once, so each rule is a few lines. What the state machine
//! does is compared with what this does.

// A model may stop where it is wrong.
#![allow(clippy::panic)]

use std::time::Duration;

use rookery_runtime::ExitReason;

use crate::supervise::policy::{Restart, Strategy};

/// What is seen of a supervisor from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// A start that succeeded, or did not.
    Start(usize, bool),
    /// A child was told to end.
    Stop(usize),
    /// The supervisor has ended; with `Shutdown`, or since a first start failed.
    End { shutdown: bool },
}

pub(super) struct Model {
    strategy: Strategy,
    intensity: usize,
    period: Duration,
    /// Number, type, and whether it runs; in start order.
    children: Vec<(usize, Restart, bool)>,
    restarts: Vec<Duration>,
    /// The outcomes of the starts to come; succeeds when there are no more.
    script: std::vec::IntoIter<bool>,
    pub(super) seen: Vec<Seen>,
    pub(super) ended: bool,
}

impl Model {
    pub(super) fn new(
        strategy: Strategy,
        (intensity, period): (usize, Duration),
        children: &[Restart],
        script: Vec<bool>,
    ) -> Self {
        let children = children.iter().enumerate().map(|(number, &restart)| (number, restart, false)).collect();
        let (restarts, seen) = (Vec::new(), Vec::new());
        Self { strategy, intensity, period, children, restarts, script: script.into_iter(), seen, ended: false }
    }

    fn start(&mut self, at: usize) -> bool {
        let succeeds = self.script.next().unwrap_or(true);
        self.seen.push(Seen::Start(self.children[at].0, succeeds));
        self.children[at].2 = succeeds;
        succeeds
    }

    /// Stops what runs of `from..`, in reverse; temporary children of it are gone then.
    fn terminate(&mut self, from: usize) {
        for at in (from..self.children.len()).rev() {
            if std::mem::take(&mut self.children[at].2) {
                self.seen.push(Seen::Stop(self.children[at].0));
            }
        }
        let mut at = 0;
        self.children.retain(|child| {
            at += 1;
            at <= from || child.1 != Restart::Temporary
        });
    }

    fn end(&mut self, shutdown: bool) {
        self.terminate(0);
        self.seen.push(Seen::End { shutdown });
        self.ended = true;
    }

    pub(super) fn init(&mut self) {
        for at in 0..self.children.len() {
            if !self.start(at) {
                return self.end(false);
            }
        }
    }

    pub(super) fn runs(&self, number: usize) -> bool {
        self.children.iter().any(|child| child.0 == number && child.2)
    }

    pub(super) fn exit(&mut self, number: usize, reason: &ExitReason, now: Duration) {
        let Some(at) = self.children.iter().position(|child| child.0 == number) else { panic!("no child {number}") };
        self.children[at].2 = false;
        let clean = matches!(reason, ExitReason::Normal | ExitReason::Shutdown | ExitReason::ShutdownWith(_));
        match self.children[at].1 {
            Restart::Temporary => drop(self.children.remove(at)),
            Restart::Transient if clean => {}
            Restart::Transient | Restart::Permanent => self.restart(at, now),
        }
    }

    fn restart(&mut self, failed: usize, now: Duration) {
        let mut failed = failed;
        loop {
            self.restarts.retain(|then| *then + self.period >= now);
            self.restarts.push(now);
            if self.restarts.len() > self.intensity {
                return self.end(true);
            }
            let from = match self.strategy {
                Strategy::OneForOne => match self.start(failed) {
                    true => return,
                    false => continue,
                },
                Strategy::OneForAll => 0,
                Strategy::RestForOne => failed,
            };
            self.terminate(from);
            match (from..self.children.len()).find(|&at| !self.start(at)) {
                None => return,
                Some(at) => failed = at,
            }
        }
    }

    pub(super) fn stop(&mut self) {
        self.end(true);
    }
}
