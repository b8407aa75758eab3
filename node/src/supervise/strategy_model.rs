//! A second, simple supervisor, written from OTP's manual (supervisor(3), "Supervision Principles" and "Restart
//! Strategies") and not from ours: starts and stops happen at once, so each rule is a few lines. What the state machine
//! does is compared with what this does.

// A model may stop where it is wrong.
#![allow(clippy::panic)]

use std::time::Duration;

use rookery_runtime::ExitReason;

use crate::supervise::policy::{AutoShutdown, Restart, Strategy};

/// What is seen of a supervisor from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// A start that succeeded, or did not.
    Start(usize, bool),
    /// A child was told to end.
    Stop(usize),
    /// A request was done, or refused.
    Answer(bool),
    /// The supervisor has ended; with `Shutdown`, or since a first start failed.
    End { shutdown: bool },
}

/// A child's number, and what its spec says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec {
    pub(super) restart: Restart,
    pub(super) significant: bool,
}

struct Child {
    number: usize,
    spec: Spec,
    runs: bool,
}

pub(super) struct Model {
    strategy: Strategy,
    auto_shutdown: AutoShutdown,
    intensity: usize,
    period: Duration,
    /// In start order.
    children: Vec<Child>,
    restarts: Vec<Duration>,
    /// The outcomes of the starts to come; succeeds when there are no more.
    script: std::vec::IntoIter<bool>,
    pub(super) seen: Vec<Seen>,
    pub(super) ended: bool,
}

impl Model {
    pub(super) fn new(
        strategy: Strategy,
        auto_shutdown: AutoShutdown,
        (intensity, period): (usize, Duration),
        children: &[Spec],
        script: Vec<bool>,
    ) -> Self {
        let children = children.iter().enumerate().map(|(number, &spec)| Child { number, spec, runs: false }).collect();
        let (restarts, seen, script) = (Vec::new(), Vec::new(), script.into_iter());
        Self { strategy, auto_shutdown, intensity, period, children, restarts, script, seen, ended: false }
    }

    fn dynamic(&self) -> bool {
        self.strategy == Strategy::SimpleOneForOne
    }

    fn at(&self, number: usize) -> Option<usize> {
        self.children.iter().position(|child| child.number == number)
    }

    fn start(&mut self, at: usize) -> bool {
        let succeeds = self.script.next().unwrap_or(true);
        self.seen.push(Seen::Start(self.children[at].number, succeeds));
        self.children[at].runs = succeeds;
        succeeds
    }

    /// Stops what runs of `from..`, in reverse, or dynamic children in no order; temporary children of it are gone then.
    fn terminate(&mut self, from: usize) {
        let mut order: Vec<usize> = (from..self.children.len()).collect();
        if !self.dynamic() {
            order.reverse();
        }
        for at in order {
            if std::mem::take(&mut self.children[at].runs) {
                self.seen.push(Seen::Stop(self.children[at].number));
            }
        }
        let mut at = 0;
        self.children.retain(|child| {
            at += 1;
            at <= from || child.spec.restart != Restart::Temporary
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
        self.at(number).is_some_and(|at| self.children[at].runs)
    }

    pub(super) fn exit(&mut self, number: usize, reason: &ExitReason, now: Duration) {
        let Some(at) = self.at(number) else { panic!("no child {number}") };
        self.children[at].runs = false;
        let Spec { restart, significant } = self.children[at].spec;
        let clean = matches!(reason, ExitReason::Normal | ExitReason::Shutdown | ExitReason::ShutdownWith(_));
        let for_good = match restart {
            Restart::Temporary => true,
            Restart::Transient => clean,
            Restart::Permanent => false,
        };
        if !for_good {
            return self.restart(at, now);
        }
        if restart == Restart::Temporary || self.dynamic() {
            self.children.remove(at);
        }
        // "automatic shutdown … when any significant child terminates", "… when all significant children have": those that
        // terminate by themselves, for good.
        let left = self.children.iter().any(|child| child.spec.significant && child.runs);
        match self.auto_shutdown {
            AutoShutdown::AnySignificant if significant => self.end(true),
            AutoShutdown::AllSignificant if significant && !left => self.end(true),
            _ => {}
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
                Strategy::OneForOne | Strategy::SimpleOneForOne => match self.start(failed) {
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

    /// `start_child/2`: "if the start function fails, the child spec is discarded".
    pub(super) fn start_child(&mut self, number: usize, spec: Spec) {
        if self.at(number).is_some() {
            return self.answer(false);
        }
        self.children.push(Child { number, spec, runs: false });
        let started = self.start(self.children.len() - 1);
        if !started {
            self.children.pop();
        }
        self.answer(started);
    }

    /// `terminate_child/2`: "the process, if any, is terminated"; the spec stays, but for temporary and dynamic children.
    pub(super) fn stop_child(&mut self, number: usize) {
        let Some(at) = self.at(number) else { return self.answer(false) };
        if std::mem::take(&mut self.children[at].runs) {
            self.seen.push(Seen::Stop(number));
        }
        if self.children[at].spec.restart == Restart::Temporary || self.dynamic() {
            self.children.remove(at);
        }
        self.answer(true);
    }

    /// `restart_child/2`: "the child specification must exist, and the corresponding child process must not be running".
    pub(super) fn restart_child(&mut self, number: usize) {
        match self.at(number) {
            Some(at) if !self.children[at].runs => {
                let started = self.start(at);
                self.answer(started);
            }
            _ => self.answer(false),
        }
    }

    /// `delete_child/2`: "the corresponding child process must not be running".
    pub(super) fn delete_child(&mut self, number: usize) {
        match self.at(number) {
            Some(at) if !self.children[at].runs => {
                self.children.remove(at);
                self.answer(true);
            }
            _ => self.answer(false),
        }
    }

    fn answer(&mut self, done: bool) {
        self.seen.push(Seen::Answer(done));
    }

    /// Specs, active children, all children: as `count_children/1`.
    pub(super) fn count(&self) -> (u64, u64, u64) {
        let active = self.children.iter().filter(|child| child.runs).count() as u64;
        let all = self.children.len() as u64;
        (if self.dynamic() { 1 } else { all }, active, all)
    }

    pub(super) fn stop(&mut self) {
        self.end(true);
    }
}
