//! `/livez`, `/readyz` and `/startupz`: what is known of the node becomes checks, and checks an answer with its reasons.
//! Decides only; `routes.rs` gathers the facts.
//!
//! | probe | checks | when it fails |
//! |---|---|---|
//! | live | a process answers, the I/O thread runs | the container is started anew |
//! | ready | live; started; joined; not draining; not refused for an older life while nobody takes it | it gets no new clients |
//! | startup | the node listens, and has started what it was told to | nobody asks the other two yet |
//!
//! Who has joined stays joined: the last node that is left of a cluster is still of use, and is not to be hidden for it.

use std::{net::SocketAddr, time::Duration};

use super::{
    limits::BEAT_DEADLINE,
    pulse::{Outcome, Stuck},
};
use crate::mesh::outlived::TakenForOlder;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    Live,
    Ready,
    Startup,
}

/// What is known of the node.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// Where nodes and clients reach it.
    pub(super) listens: SocketAddr,
    /// Whether it has started what it was told to.
    pub(super) booted: bool,
    /// How many nodes it is connected with.
    pub(super) peers: usize,
    /// Whether it was ever connected with one.
    pub(super) has_joined: bool,
    /// Why peers refuse it, while some take it for older than its last life.
    pub(super) taken_for_older: Option<TakenForOlder>,
    /// Whether it was told to look for others.
    pub(super) looks_for_others: bool,
    /// Whether it is about to leave.
    pub(super) draining: bool,
    /// The beat, for what needs one.
    pub(super) beat: Option<Outcome>,
}

/// One check: its name, and what it found.
type Check = (&'static str, Result<String, String>);

/// What a probe is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) passed: bool,
    pub(super) text: String,
}

/// Answers `probe`; `verbose` names the checks that pass as well.
pub(super) fn answer(probe: Probe, facts: &Facts, verbose: bool) -> Report {
    let checks = checks(probe, facts);
    let passed = checks.iter().all(|(_, outcome)| outcome.is_ok());
    let verdict = match (probe, passed) {
        (Probe::Live, true) => "live",
        (Probe::Live, false) => "not live",
        (Probe::Ready, true) => "ready",
        (Probe::Ready, false) => "not ready",
        (Probe::Startup, true) => "started",
        (Probe::Startup, false) => "not started",
    };
    let mut text = format!("{verdict}\n");
    for (name, outcome) in &checks {
        match outcome {
            Ok(found) if verbose => text.push_str(&format!("ok      {name}: {found}\n")),
            Ok(_) => {}
            Err(why) => text.push_str(&format!("failed  {name}: {why}\n")),
        }
    }
    Report { passed, text }
}

fn checks(probe: Probe, facts: &Facts) -> Vec<Check> {
    let listens = ("listens", Ok(format!("on {} (UDP)", facts.listens)));
    match probe {
        Probe::Live => vec![("processes", processes(facts)), ("io", io(facts))],
        Probe::Ready => vec![
            ("boot", boot(facts)),
            ("joined", joined(facts)),
            ("life", life(facts)),
            ("draining", draining(facts)),
            ("processes", processes(facts)),
            ("io", io(facts)),
        ],
        Probe::Startup => vec![listens, ("boot", boot(facts))],
    }
}

fn boot(facts: &Facts) -> Result<String, String> {
    if facts.booted {
        return Ok("done".to_owned());
    }
    Err("it has not started all that it was told to yet; a child may wait for a node to live on (see the log)"
        .to_owned())
}

fn joined(facts: &Facts) -> Result<String, String> {
    match (facts.peers, facts.has_joined, facts.looks_for_others) {
        (1.., ..) => Ok(format!("connected with other nodes: {}", facts.peers)),
        (0, true, _) => Ok("connected with no other node now, but it was".to_owned()),
        (0, false, false) => Ok("alone, as neither service nor peers are set".to_owned()),
        (0, false, true) => Err("no other node was found yet; it goes on looking (service, peers)".to_owned()),
    }
}

/// Whoever is refused for an older life is so for ever: it is of no use alone, whatever it was before.
fn life(facts: &Facts) -> Result<String, String> {
    match &facts.taken_for_older {
        None => Ok("nobody has known a newer one".to_owned()),
        Some(refusal) if facts.peers > 0 => Ok(format!("others take it, but {refusal}")),
        // What is wrong is with whoever says so, and who has joined stays joined.
        Some(refusal) if facts.has_joined && refusal.too_far => Ok(format!("others took it, but {refusal}")),
        Some(refusal) => Err(refusal.to_string()),
    }
}

fn draining(facts: &Facts) -> Result<String, String> {
    if facts.draining { Err("the node is leaving".to_owned()) } else { Ok("no".to_owned()) }
}

fn processes(facts: &Facts) -> Result<String, String> {
    match facts.beat.as_ref().map(|beat| &beat.process) {
        // Who leaves ends its processes, this one too, and is to be given the time for the rest of it.
        Some(Err(Stuck::Gone(_))) if facts.draining => Ok("ended, as the node is leaving".to_owned()),
        Some(outcome) => told("a process answered", outcome),
        None => Err("nobody was asked".to_owned()),
    }
}

fn io(facts: &Facts) -> Result<String, String> {
    match facts.beat.as_ref().map(|beat| &beat.io) {
        Some(outcome) => told("the I/O thread ran a task", outcome),
        None => Err("nobody was asked".to_owned()),
    }
}

fn told(what: &str, outcome: &Result<Duration, Stuck>) -> Result<String, String> {
    match outcome {
        Ok(took) => Ok(format!("{what} within {took:.1?}")),
        Err(Stuck::Silent) => Err(format!("not within {BEAT_DEADLINE:?}: {what}")),
        Err(Stuck::Gone(why)) => Err(why.clone()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may stop where it fails.
mod tests {
    use rookery_protocol::{Incarnation, handshake::NewerLife};

    use super::*;

    fn well() -> Facts {
        let fine = Ok(Duration::from_micros(200));
        Facts {
            listens: SocketAddr::from(([127, 0, 0, 1], 4370)),
            booted: true,
            peers: 2,
            has_joined: true,
            taken_for_older: None,
            looks_for_others: true,
            draining: false,
            beat: Some(Outcome { process: fine.clone(), io: fine }),
        }
    }

    fn passes(probe: Probe, facts: &Facts) -> bool {
        answer(probe, facts, false).passed
    }

    #[test]
    fn a_node_that_is_well_passes_each_probe_and_says_why_when_asked() {
        for (probe, word) in [(Probe::Live, "live"), (Probe::Ready, "ready"), (Probe::Startup, "started")] {
            let report = answer(probe, &well(), false);
            assert_eq!(report, Report { passed: true, text: format!("{word}\n") });
        }
        let text = answer(Probe::Ready, &well(), true).text;
        assert!(text.contains("ok      joined: connected with other nodes: 2\n"), "{text}");
    }

    #[test]
    fn a_stuck_process_or_io_thread_is_neither_live_nor_ready() {
        for (process, io) in [(Err(Stuck::Silent), Ok(Duration::ZERO)), (Ok(Duration::ZERO), Err(Stuck::Silent))] {
            let facts = Facts { beat: Some(Outcome { process, io }), ..well() };
            assert!(!passes(Probe::Live, &facts) && !passes(Probe::Ready, &facts) && passes(Probe::Startup, &facts));
        }
    }

    #[test]
    fn who_leaves_is_not_ready_but_live_to_its_end() {
        let process = Err(Stuck::Gone("there is no such process".to_owned()));
        let facts = Facts { draining: true, beat: Some(Outcome { process, io: Ok(Duration::ZERO) }), ..well() };
        assert!(passes(Probe::Live, &facts) && !passes(Probe::Ready, &facts));
        let gone = Facts { draining: false, ..facts };
        assert!(!passes(Probe::Live, &gone), "a node that does not leave must have its processes");
    }

    #[test]
    fn readiness_waits_for_the_first_other_node_unless_none_is_looked_for() {
        let lonely = Facts { peers: 0, has_joined: false, ..well() };
        assert!(!passes(Probe::Ready, &lonely) && passes(Probe::Live, &lonely));
        assert!(passes(Probe::Ready, &Facts { looks_for_others: false, ..lonely.clone() }));
        assert!(passes(Probe::Ready, &Facts { has_joined: true, ..lonely }), "the last one left is of use");
    }

    #[test]
    fn a_node_that_is_refused_for_an_older_life_and_has_nobody_says_so_and_is_not_ready() {
        let newer = NewerLife { incarnation: Incarnation(7), runs: false };
        let refused = TakenForOlder { by: "b".parse().unwrap(), newer, too_far: false };
        let among_others = Facts { taken_for_older: Some(refused), ..well() };
        assert!(passes(Probe::Ready, &among_others));
        let told = answer(Probe::Ready, &among_others, true).text;
        assert!(told.contains("ok      life: others take it, but b refuses it"), "{told}");
        // Whether it was connected before, or looks for nobody.
        for (has_joined, looks_for_others) in [(true, true), (false, true), (false, false)] {
            let alone = Facts { peers: 0, has_joined, looks_for_others, ..among_others.clone() };
            let told = answer(Probe::Ready, &alone, false);
            assert!(!told.passed && told.text.contains("failed  life: b refuses it"), "{}", told.text);
            assert!(passes(Probe::Live, &alone) && passes(Probe::Startup, &alone));
        }
    }

    #[test]
    fn a_node_that_had_joined_is_ready_whoever_is_wrong_about_its_last_life() {
        let newer = NewerLife { incarnation: Incarnation(u64::MAX), runs: false };
        let refused = TakenForOlder { by: "b".parse().unwrap(), newer, too_far: true };
        let left_alone = Facts { peers: 0, has_joined: true, taken_for_older: Some(refused), ..well() };
        assert!(passes(Probe::Ready, &left_alone));
        assert!(!passes(Probe::Ready, &Facts { has_joined: false, ..left_alone }));
    }

    #[test]
    fn startup_waits_for_what_is_to_be_started() {
        let booting = Facts { booted: false, ..well() };
        assert!(!passes(Probe::Startup, &booting) && !passes(Probe::Ready, &booting) && passes(Probe::Live, &booting));
    }
}
