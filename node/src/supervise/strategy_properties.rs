//! The state machine against the model, over all sorts of histories: any children, exits, requests, starts that fail, and
//! any time between them. And: it comes to an end however its children and the timers interleave.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests say what they expect by failing.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use proptest::{prelude::*, strategy::Strategy as _};
use rookery_runtime::{ExitReason, Pid, RequestError};

use super::{
    effect::{Attempt, ChildPlan, CommandId, Effect, StartFailure, TimerToken},
    intensity::Intensity,
    policy::{AutoShutdown, ChildId, ChildType, Restart, Shutdown, Strategy},
    strategy::StrategyMachine,
    strategy_model::{Model, Seen, Spec},
};

pub(super) const PERIOD: Duration = Duration::from_secs(5);

pub(super) fn id(number: usize) -> ChildId {
    ChildId::new(number.to_string()).unwrap()
}

pub(super) fn plan(number: usize, spec: Spec, shutdown: Shutdown) -> ChildPlan {
    let Spec { restart, significant } = spec;
    ChildPlan { id: id(number), restart, shutdown, significant, kind: ChildType::Worker }
}

pub(super) fn plans(children: &[Spec], shutdown: Shutdown) -> Vec<ChildPlan> {
    children.iter().enumerate().map(|(number, &spec)| plan(number, spec, shutdown)).collect()
}

pub(super) fn pid(serial: u64) -> Pid {
    format!("<a.1.{serial}>").parse().unwrap()
}

/// Carries out every effect at once.
struct World {
    machine: StrategyMachine,
    script: std::vec::IntoIter<bool>,
    running: HashMap<usize, Pid>,
    pids: u64,
    seen: Vec<Seen>,
    start: Instant,
}

impl World {
    fn settle(&mut self, now: Duration) {
        while let Some(effect) = self.machine.poll_effect() {
            let at = self.start + now;
            match effect {
                Effect::Start { child, attempt } => {
                    let number: usize = child.as_str().parse().unwrap();
                    let succeeds = self.script.next().unwrap_or(true);
                    self.seen.push(Seen::Start(number, succeeds));
                    if succeeds {
                        self.pids += 1;
                        self.running.insert(number, pid(self.pids));
                        self.machine.handle_started(attempt, pid(self.pids), at);
                    } else {
                        let failure = StartFailure::Failed(RequestError::Unsupported);
                        self.machine.handle_start_failed(attempt, failure, at);
                    }
                }
                Effect::Shutdown(pid) | Effect::Kill(pid) | Effect::Dismiss(pid) => {
                    let number = *self.running.iter().find(|(_, running)| **running == pid).unwrap().0;
                    self.running.remove(&number);
                    self.seen.push(Seen::Stop(number));
                    self.machine.handle_down(&pid, ExitReason::Shutdown, at);
                }
                Effect::Ended(reason) => self.seen.push(Seen::End { shutdown: reason == ExitReason::Shutdown }),
                Effect::Answer { outcome, .. } => self.seen.push(Seen::Answer(outcome.is_ok())),
                // The model moves nobody.
                Effect::Succeed { .. } | Effect::Retire(_) => {}
                Effect::SetTimer { .. } | Effect::Forget(_) | Effect::Report(_) | Effect::Up => {}
            }
        }
    }
}

fn strategies() -> impl proptest::strategy::Strategy<Value = Strategy> {
    prop_oneof![
        Just(Strategy::OneForOne),
        Just(Strategy::OneForAll),
        Just(Strategy::RestForOne),
        Just(Strategy::SimpleOneForOne)
    ]
}

fn auto_shutdowns() -> impl proptest::strategy::Strategy<Value = AutoShutdown> {
    prop_oneof![Just(AutoShutdown::Never), Just(AutoShutdown::AnySignificant), Just(AutoShutdown::AllSignificant)]
}

fn restarts() -> impl proptest::strategy::Strategy<Value = Restart> {
    prop_oneof![
        4 => Just(Restart::Permanent),
        2 => Just(Restart::Transient),
        1 => Just(Restart::Temporary)
    ]
}

fn reasons() -> impl proptest::strategy::Strategy<Value = ExitReason> {
    prop_oneof![
        Just(ExitReason::Normal),
        Just(ExitReason::Shutdown),
        Just(ExitReason::ShutdownWith("done".to_owned())),
        Just(ExitReason::Killed),
        Just(ExitReason::NoConnection),
        Just(ExitReason::Panic("boom".to_owned())),
    ]
}

/// What happens to a supervisor.
#[derive(Debug, Clone)]
enum Happening {
    /// A child ends by itself, so many milliseconds after what happened before.
    Exit(usize, ExitReason, u64),
    Start(usize, Restart, bool),
    Stop(usize),
    StopPid(usize),
    Restart(usize),
    Delete(usize),
}

fn happenings() -> impl proptest::strategy::Strategy<Value = Happening> {
    let number = || 0_usize..8;
    prop_oneof![
        6 => (number(), reasons(), 0_u64..4_000).prop_map(|(child, reason, after)| Happening::Exit(child, reason, after)),
        3 => (number(), restarts(), any::<bool>()).prop_map(|(child, restart, significant)| {
            Happening::Start(child, restart, significant)
        }),
        2 => number().prop_map(Happening::Stop),
        1 => number().prop_map(Happening::StopPid),
        2 => number().prop_map(Happening::Restart),
        1 => number().prop_map(Happening::Delete),
    ]
}

/// A child as the settings of its supervisor allow it.
fn spec(restart: Restart, significant: bool, auto_shutdown: AutoShutdown) -> Spec {
    let significant = significant && restart != Restart::Permanent && auto_shutdown != AutoShutdown::Never;
    Spec { restart, significant }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn v1_v2_v3_v5_any_history_is_as_in_the_manual(
        strategy in strategies(),
        auto_shutdown in auto_shutdowns(),
        children in prop::collection::vec((restarts(), any::<bool>()), 1..6),
        intensity in 0_u32..5,
        script in prop::collection::vec(prop::bool::weighted(0.85), 0..40),
        happenings in prop::collection::vec(happenings(), 0..40),
    ) {
        let mut children: Vec<Spec> =
            children.into_iter().map(|(restart, significant)| spec(restart, significant, auto_shutdown)).collect();
        let template = children[0];
        let dynamic = strategy == Strategy::SimpleOneForOne;
        if dynamic {
            children.clear();
        }
        let limits = (intensity as usize, PERIOD);
        let mut model = Model::new(strategy, auto_shutdown, limits, &children, script.clone());
        let plans = plans(&children, Shutdown::default());
        let mut world = World {
            machine: StrategyMachine::new(strategy, Intensity::new(intensity, PERIOD), None, plans)
                .auto_shutdown(auto_shutdown),
            script: script.into_iter(),
            running: HashMap::new(),
            pids: 0,
            seen: Vec::new(),
            start: Instant::now(),
        };
        let mut now = Duration::ZERO;
        model.init();
        world.machine.handle_start();
        world.settle(now);
        prop_assert_eq!(&world.seen, &model.seen);
        for (number, happening) in happenings.into_iter().enumerate() {
            if model.ended {
                break;
            }
            let command = CommandId(number as u64);
            match happening {
                Happening::Exit(child, reason, after) => {
                    now += Duration::from_millis(after);
                    prop_assert_eq!(world.running.contains_key(&child), model.runs(child));
                    if let Some(gone) = world.running.remove(&child) {
                        model.exit(child, &reason, now);
                        world.machine.handle_down(&gone, reason, world.start + now);
                    }
                }
                Happening::Start(child, restart, significant) => {
                    let spec = if dynamic { template } else { spec(restart, significant, auto_shutdown) };
                    model.start_child(child, spec);
                    world.machine.handle_add(command, plan(child, spec, Shutdown::default()));
                }
                Happening::Stop(child) => {
                    model.stop_child(child);
                    world.machine.handle_stop_child(command, &id(child));
                }
                Happening::StopPid(child) => {
                    if let Some(pid) = world.running.get(&child) {
                        model.stop_child(child);
                        world.machine.handle_stop_pid(command, pid);
                    }
                }
                Happening::Restart(child) => {
                    model.restart_child(child);
                    world.machine.handle_restart_child(command, &id(child));
                }
                Happening::Delete(child) => {
                    model.delete_child(child);
                    world.machine.handle_delete_child(command, &id(child));
                }
            }
            world.settle(now);
            prop_assert_eq!(&world.seen, &model.seen);
            let count = world.machine.count();
            prop_assert!(model.ended || (count.specs, count.active, count.workers) == model.count(), "{:?}", count);
        }
        if !model.ended {
            model.stop();
            world.machine.handle_stop(ExitReason::Shutdown);
            world.settle(now);
        }
        prop_assert_eq!(&world.seen, &model.seen);
        prop_assert!(world.running.is_empty());
    }

    /// Starts, stops, exits and timers come in any order, at any time; what was started is never forgotten.
    #[test]
    fn v4_v6_any_interleaving_ends_with_nothing_left(
        strategy in strategies(),
        auto_shutdown in auto_shutdowns(),
        children in prop::collection::vec((restarts(), any::<bool>()), 0..6),
        shutdown in prop_oneof![
            Just(Shutdown::Kill), Just(Shutdown::Forever), Just(Shutdown::Within(Duration::from_secs(1)))
        ],
        choices in prop::collection::vec((0_u8..15, any::<prop::sample::Index>()), 0..80),
    ) {
        let start = Instant::now();
        let children: Vec<Spec> =
            children.into_iter().map(|(restart, significant)| spec(restart, significant, auto_shutdown)).collect();
        let mut machine = StrategyMachine::new(strategy, Intensity::new(20, PERIOD), None, plans(&children, shutdown))
            .auto_shutdown(auto_shutdown);
        let (mut asked, mut answered) = (0_u64, 0_u64);
        let (mut starting, mut alive, mut told): (Vec<Attempt>, Vec<Pid>, Vec<Pid>) = Default::default();
        let mut timers: Vec<TimerToken> = Vec::new();
        let (mut ended, mut pids) = (false, 0);
        machine.handle_start();
        let drain = (0_u8..4).cycle().take(4_000).map(|choice| (choice, None));
        let chosen = choices.into_iter().map(|(choice, index)| (choice, Some(index)));
        for (step, (choice, index)) in chosen.chain([(200, None)]).chain(drain).enumerate() {
            while let Some(effect) = machine.poll_effect() {
                prop_assert!(!ended, "nothing comes after the end: {:?}", effect);
                match effect {
                    Effect::Start { attempt, .. } => starting.push(attempt),
                    Effect::Succeed { attempt, pid, .. } => {
                        prop_assert!(alive.contains(&pid) || told.contains(&pid), "nobody is there to hand over");
                        starting.push(attempt);
                    }
                    // It has handed over, and ends by itself.
                    Effect::Retire(pid) => {
                        alive.retain(|other| *other != pid);
                        told.retain(|other| *other != pid);
                    }
                    Effect::Shutdown(pid) => told.push(pid),
                    Effect::Kill(pid) | Effect::Dismiss(pid) => {
                        // What is killed is dead; whether the supervisor hears of it in time is the next choice's.
                        alive.retain(|other| *other != pid);
                        told.retain(|other| *other != pid);
                        told.push(pid);
                    }
                    Effect::SetTimer { token, .. } => timers.push(token),
                    Effect::Ended(_) => ended = true,
                    Effect::Answer { .. } => answered += 1,
                    _ => {}
                }
            }
            if ended {
                break;
            }
            let now = start + Duration::from_millis(step as u64 * 10);
            let of = |len: usize| index.map_or(0, |index: prop::sample::Index| if len == 0 { 0 } else { index.index(len) });
            match choice {
                0 if !told.is_empty() => {
                    let pid = told.remove(of(told.len()));
                    alive.retain(|other| *other != pid);
                    machine.handle_down(&pid, ExitReason::Shutdown, now);
                    machine.handle_down(&pid, ExitReason::NoProc, now);
                }
                1 | 4 if !starting.is_empty() => {
                    pids += 1;
                    let attempt = starting.remove(of(starting.len()));
                    alive.push(pid(pids));
                    machine.handle_started(attempt, pid(pids), now);
                }
                2 if !timers.is_empty() => machine.handle_timer(timers.remove(of(timers.len()))),
                3 | 5 if !starting.is_empty() => {
                    let failure = if choice == 5 {
                        StartFailure::NoPlace(String::new())
                    } else {
                        StartFailure::Failed(RequestError::Unsupported)
                    };
                    machine.handle_start_failed(starting.remove(of(starting.len())), failure, now);
                }
                6 if !alive.is_empty() => {
                    let pid = alive.remove(of(alive.len()));
                    told.retain(|other| *other != pid);
                    machine.handle_down(&pid, ExitReason::Panic(String::new()), now);
                }
                7 => machine.handle_node_up(&"b.1".parse().unwrap()),
                8 => machine.handle_move(&id(of(6))),
                9 if !alive.is_empty() => {
                    let pid = alive.remove(of(alive.len()));
                    told.retain(|other| *other != pid);
                    machine.handle_lost(&pid, now);
                }
                10..=13 => {
                    asked += 1;
                    let (command, child) = (CommandId(asked), of(6));
                    match choice {
                        10 => machine.handle_stop_child(command, &id(child)),
                        11 => machine.handle_restart_child(command, &id(child)),
                        12 => machine.handle_delete_child(command, &id(child)),
                        _ => {
                            let spec = Spec { restart: Restart::Permanent, significant: false };
                            machine.handle_add(command, plan(child, spec, shutdown));
                        }
                    }
                }
                14 => machine.handle_hand_over(&id(of(6))),
                200 => machine.handle_stop(ExitReason::Shutdown),
                _ => {}
            }
        }
        prop_assert!(ended, "the supervisor hangs: {:?}", machine);
        prop_assert!(alive.is_empty(), "left behind: {:?} of {:?}", alive, machine);
        prop_assert_eq!(asked, answered, "each request is answered once");
    }
}
