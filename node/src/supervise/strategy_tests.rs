//! The state machine in single situations, mostly those that OTP's manual, and so the model, knows nothing of.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests say what they expect by failing.

use std::time::Instant;

use rookery_runtime::{ExitReason, Pid, RequestError};

use super::{
    effect::{Attempt, CommandError, CommandId, Effect, Report, StartFailure},
    intensity::Intensity,
    policy::{AutoShutdown, Restart, Shutdown, Strategy},
    strategy::StrategyMachine,
    strategy_model::Spec,
    strategy_properties::{PERIOD, id, pid, plan, plans},
};

/// A machine of one child for each of `specs`, all of which run: as `<a.1.1>`, `<a.1.2>`, …
fn up(strategy: Strategy, auto_shutdown: AutoShutdown, intensity: u32, specs: &[Spec]) -> StrategyMachine {
    let plans = plans(specs, Shutdown::Forever);
    let mut machine =
        StrategyMachine::new(strategy, Intensity::new(intensity, PERIOD), None, plans).auto_shutdown(auto_shutdown);
    machine.handle_start();
    settle(&mut machine, 0);
    machine
}

/// Lets every start succeed, as the next pids after `pids`; gives what else there was.
fn settle(machine: &mut StrategyMachine, mut pids: u64) -> Vec<Effect> {
    let mut others = Vec::new();
    while let Some(effect) = machine.poll_effect() {
        match effect {
            Effect::Start { attempt, .. } => {
                pids += 1;
                machine.handle_started(attempt, pid(pids), Instant::now());
            }
            other => others.push(other),
        }
    }
    others
}

const PERMANENT: Spec = Spec { restart: Restart::Permanent, significant: false };

#[test]
fn v7_a_node_that_is_lost_is_one_restart() {
    let now = Instant::now();
    let mut machine = up(Strategy::OneForOne, AutoShutdown::Never, 2, &[PERMANENT; 10]);
    let ended = |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::Shutdown(_)));
    for child in 1..=10 {
        machine.handle_lost(&pid(child), now);
        assert!(!ended(&settle(&mut machine, 9 + child)), "all ten go with their node");
    }
    for life in 2..=3 {
        // The node is back, and takes another one down: that is the third.
        machine.handle_node_up(&"a.2".parse().unwrap());
        machine.handle_lost(&pid(9 + life), now);
        assert_eq!(ended(&settle(&mut machine, 20 + life)), life == 3);
    }
}

#[test]
fn v7_a_move_is_no_restart_and_touches_nobody_else() {
    let now = Instant::now();
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let mut machine = up(strategy, AutoShutdown::Never, 0, &[PERMANENT; 3]);
        machine.handle_move(&id(1));
        let effects = settle(&mut machine, 3);
        assert!(matches!(&effects[..], [Effect::Report(Report::Moving { .. }), Effect::Shutdown(_)]), "{effects:?}");
        machine.handle_down(&pid(2), ExitReason::Shutdown, now);
        settle(&mut machine, 3);
        let pids: Vec<Pid> = machine.children().filter_map(|child| child.pid.cloned()).collect();
        assert_eq!(pids, [pid(1), pid(4), pid(3)], "{strategy:?}");
        assert!(machine.children().all(|child| child.restarts == 0));
    }
}

#[test]
fn v7_a_child_that_is_stopped_while_it_moves_stays_stopped() {
    let mut machine = up(Strategy::OneForOne, AutoShutdown::Never, 0, &[PERMANENT]);
    machine.handle_move(&id(0));
    machine.handle_stop_child(CommandId(1), &id(0));
    machine.handle_down(&pid(1), ExitReason::Shutdown, Instant::now());
    let effects = settle(&mut machine, 1);
    assert!(matches!(effects.last(), Some(Effect::Answer { outcome: Ok(None), .. })), "{effects:?}");
    assert!(machine.children().all(|child| child.pid.is_none()));
}

/// Hands child 0 over; gives the attempt.
fn hand_over(machine: &mut StrategyMachine) -> Attempt {
    machine.handle_hand_over(&id(0));
    let effects = settle(machine, 0);
    match &effects[..] {
        [Effect::Report(Report::Moving { .. }), Effect::Succeed { attempt, pid: old, .. }] if *old == pid(1) => {
            *attempt
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn d6_a_child_runs_until_its_successor_does() {
    let mut machine = up(Strategy::OneForAll, AutoShutdown::Never, 0, &[PERMANENT; 2]);
    let attempt = hand_over(&mut machine);
    assert_eq!(machine.pid_of(&id(0)), Some(&pid(1)));
    assert!(!machine.may_move(&id(0)) && !machine.is_quiet(), "once at a time");
    machine.handle_started(attempt, pid(9), Instant::now());
    let effects = settle(&mut machine, 9);
    assert!(
        matches!(&effects[..], [Effect::Retire(old), Effect::Report(Report::Moved { .. })] if *old == pid(1)),
        "{effects:?}"
    );
    assert_eq!(machine.pid_of(&id(0)), Some(&pid(9)));
    // It has passed on what came, and ends.
    machine.handle_down(&pid(1), ExitReason::Normal, Instant::now());
    assert!(settle(&mut machine, 9).is_empty());
    assert!(machine.children().all(|child| child.restarts == 0));
}

#[test]
fn d6_a_child_whose_successor_fails_goes_on() {
    let mut machine = up(Strategy::OneForOne, AutoShutdown::Never, 0, &[PERMANENT; 2]);
    let attempt = hand_over(&mut machine);
    machine.handle_start_failed(attempt, StartFailure::NoPlace(String::new()), Instant::now());
    let effects = settle(&mut machine, 2);
    assert!(matches!(&effects[..], [Effect::Report(Report::NotMoved { .. })]), "{effects:?}");
    assert!(machine.pid_of(&id(0)) == Some(&pid(1)) && machine.may_move(&id(0)));
}

#[test]
fn d6_a_child_that_has_handed_over_to_one_that_is_lost_is_started_again() {
    let (now, transient) = (Instant::now(), Spec { restart: Restart::Transient, ..PERMANENT });
    for (is_moved, later, starts_again) in [(true, 0, true), (true, 60, false), (false, 0, false)] {
        let mut machine = up(Strategy::OneForOne, AutoShutdown::Never, 1, &[transient]);
        if is_moved {
            let attempt = hand_over(&mut machine);
            machine.handle_start_failed(attempt, StartFailure::Failed(RequestError::NoConnection), now);
        }
        settle(&mut machine, 2);
        machine.handle_down(&pid(1), ExitReason::Shutdown, now + std::time::Duration::from_secs(later));
        settle(&mut machine, 10);
        assert_eq!(machine.children().any(|child| child.pid.is_some()), starts_again, "{is_moved} {later}");
    }
}

#[test]
fn d6_a_child_that_is_lost_while_it_moves_lives_on_in_its_successor() {
    let now = Instant::now();
    for succeeds in [true, false] {
        let mut machine = up(Strategy::OneForOne, AutoShutdown::Never, 1, &[PERMANENT; 2]);
        let attempt = hand_over(&mut machine);
        machine.handle_lost(&pid(1), now);
        assert!(settle(&mut machine, 2).is_empty(), "it may have handed over");
        if succeeds {
            machine.handle_started(attempt, pid(9), now);
        } else {
            machine.handle_start_failed(attempt, StartFailure::Failed(RequestError::Timeout), now);
        }
        settle(&mut machine, 10);
        assert_eq!(machine.pid_of(&id(0)), Some(&pid(if succeeds { 9 } else { 11 })));
    }
    // One that is no server is shut down by its successor: no restart, of nobody.
    let mut machine = up(Strategy::OneForAll, AutoShutdown::Never, 0, &[PERMANENT; 2]);
    let attempt = hand_over(&mut machine);
    machine.handle_down(&pid(1), ExitReason::Shutdown, now);
    assert!(settle(&mut machine, 2).is_empty());
    machine.handle_started(attempt, pid(9), now);
    settle(&mut machine, 9);
    assert_eq!((machine.pid_of(&id(0)), machine.pid_of(&id(1))), (Some(&pid(9)), Some(&pid(2))));
    // Where others go with it, they do.
    let mut machine = up(Strategy::OneForAll, AutoShutdown::Never, 1, &[PERMANENT; 2]);
    let attempt = hand_over(&mut machine);
    machine.handle_lost(&pid(1), now);
    assert!(settle(&mut machine, 2).contains(&Effect::Shutdown(pid(2))));
    machine.handle_started(attempt, pid(9), now);
    assert_eq!(settle(&mut machine, 9), [Effect::Dismiss(pid(9))], "nobody knows it");
}

#[test]
fn d6_a_child_that_is_stopped_while_it_moves_leaves_no_successor() {
    let mut machine = up(Strategy::OneForOne, AutoShutdown::Never, 0, &[PERMANENT]);
    let attempt = hand_over(&mut machine);
    machine.handle_stop_child(CommandId(1), &id(0));
    assert_eq!(settle(&mut machine, 1), [Effect::Shutdown(pid(1))]);
    machine.handle_started(attempt, pid(9), Instant::now());
    assert_eq!(settle(&mut machine, 9), [Effect::Dismiss(pid(9))]);
    machine.handle_down(&pid(1), ExitReason::Shutdown, Instant::now());
    let effects = settle(&mut machine, 9);
    assert!(matches!(effects.last(), Some(Effect::Answer { outcome: Ok(None), .. })), "{effects:?}");
}

#[test]
fn d6_inherited_children_run_on() {
    let plans = plans(&[PERMANENT; 3], Shutdown::Forever);
    let mut machine = StrategyMachine::new(Strategy::OneForOne, Intensity::new(1, PERIOD), None, plans.clone());
    let mut plans = plans.into_iter();
    let mut plan = || plans.next().unwrap();
    machine.handle_inherit(vec![(plan(), Some(pid(1)), false, 4), (plan(), None, true, 0), (plan(), None, false, 0)]);
    assert!(settle(&mut machine, 5).contains(&Effect::Up));
    let pids: Vec<Option<Pid>> = machine.children().map(|child| child.pid.cloned()).collect();
    assert_eq!(pids, [Some(pid(1)), None, Some(pid(6))], "what is to run runs");
    assert_eq!(machine.children().next().unwrap().restarts, 4);
    machine.handle_down(&pid(1), ExitReason::Killed, Instant::now());
    settle(&mut machine, 6);
    assert_eq!(machine.pid_of(&id(0)), Some(&pid(7)));
}

#[test]
fn v5_a_significant_child_that_is_stopped_ends_nothing() {
    let significant = Spec { restart: Restart::Transient, significant: true };
    let now = Instant::now();
    let mut machine = up(Strategy::OneForOne, AutoShutdown::AnySignificant, 0, &[significant, PERMANENT]);
    machine.handle_stop_child(CommandId(1), &id(0));
    machine.handle_down(&pid(1), ExitReason::Shutdown, now);
    assert!(!settle(&mut machine, 2).iter().any(|effect| matches!(effect, Effect::Report(Report::AutoShutdown(_)))));
    // By itself, it does.
    machine.handle_restart_child(CommandId(2), &id(0));
    settle(&mut machine, 2);
    machine.handle_down(&pid(3), ExitReason::Normal, now);
    let effects = settle(&mut machine, 3);
    assert!(
        effects.contains(&Effect::Report(Report::AutoShutdown(id(0)))) && effects.contains(&Effect::Shutdown(pid(2)))
    );
    machine.handle_down(&pid(2), ExitReason::Shutdown, now);
    assert_eq!(settle(&mut machine, 3).last(), Some(&Effect::Ended(ExitReason::Shutdown)));
}

#[test]
fn v5_who_cannot_be_significant_is_not_taken() {
    let mut machine = up(Strategy::OneForOne, AutoShutdown::Never, 0, &[]);
    for restart in [Restart::Permanent, Restart::Transient] {
        machine.handle_add(CommandId(1), plan(1, Spec { restart, significant: true }, Shutdown::Kill));
        let refused = settle(&mut machine, 0);
        let insignificant =
            |effect: &Effect| matches!(effect, Effect::Answer { outcome: Err(CommandError::Insignificant { .. }), .. });
        assert!(matches!(&refused[..], [answer] if insignificant(answer)), "{refused:?}");
    }
}

#[test]
fn v1_dynamic_children_are_told_to_end_all_at_once() {
    let mut machine = up(Strategy::SimpleOneForOne, AutoShutdown::Never, 0, &[]);
    for child in 0..3 {
        machine.handle_add(CommandId(1), plan(child, PERMANENT, Shutdown::Forever));
        settle(&mut machine, child as u64);
    }
    machine.handle_stop(ExitReason::Shutdown);
    let told: Vec<Effect> = (1..=3).map(|child| Effect::Shutdown(pid(child))).collect();
    assert_eq!(settle(&mut machine, 3), told);
}
