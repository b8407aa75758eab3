//! The state machine against the model, over all sorts of histories: any children, any exits, any starts that fail, any
//! time between them. And: it comes to an end however its children and the timers interleave.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests say what they expect by failing.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use rookery_runtime::{ExitReason, Pid, RequestError};

use super::{
    effect::{Attempt, ChildPlan, Effect, StartFailure, TimerToken},
    intensity::Intensity,
    policy::{ChildId, Restart, Shutdown, Strategy},
    strategy::StrategyMachine,
    strategy_model::{Model, Seen},
};

const PERIOD: Duration = Duration::from_secs(5);

fn plans(children: &[Restart], shutdown: Shutdown) -> Vec<ChildPlan> {
    let plan = |(number, &restart): (usize, &Restart)| ChildPlan {
        id: ChildId::new(number.to_string()).unwrap(),
        restart,
        shutdown,
    };
    children.iter().enumerate().map(plan).collect()
}

fn pid(serial: u64) -> Pid {
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
                Effect::Shutdown(pid) | Effect::Kill(pid) => {
                    let number = *self.running.iter().find(|(_, running)| **running == pid).unwrap().0;
                    self.running.remove(&number);
                    self.seen.push(Seen::Stop(number));
                    self.machine.handle_down(&pid, ExitReason::Shutdown, at);
                }
                Effect::Ended(reason) => self.seen.push(Seen::End { shutdown: reason == ExitReason::Shutdown }),
                Effect::Answer { .. } => panic!("nobody asked"),
                Effect::SetTimer { .. } | Effect::Forget(_) | Effect::Report(_) | Effect::Up => {}
            }
        }
    }
}

fn strategies() -> impl proptest::strategy::Strategy<Value = Strategy> {
    prop_oneof![Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)]
}

fn restarts() -> impl proptest::strategy::Strategy<Value = Vec<Restart>> {
    let restart = prop_oneof![
        4 => Just(Restart::Permanent),
        2 => Just(Restart::Transient),
        1 => Just(Restart::Temporary)
    ];
    prop::collection::vec(restart, 0..6)
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn v1_v2_v3_any_history_is_as_in_the_manual(
        strategy in strategies(),
        children in restarts(),
        intensity in 0_u32..5,
        script in prop::collection::vec(prop::bool::weighted(0.85), 0..40),
        exits in prop::collection::vec((0_usize..6, reasons(), 0_u64..4_000), 0..30),
    ) {
        let mut model = Model::new(strategy, (intensity as usize, PERIOD), &children, script.clone());
        let mut world = World {
            machine: StrategyMachine::new(
                strategy, Intensity::new(intensity, PERIOD), None, plans(&children, Shutdown::default()),
            ),
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
        for (number, reason, after) in exits {
            now += Duration::from_millis(after);
            prop_assert_eq!(world.running.contains_key(&number), model.runs(number));
            if model.ended || !model.runs(number) {
                continue;
            }
            model.exit(number, &reason, now);
            let gone = world.running.remove(&number).unwrap();
            world.machine.handle_down(&gone, reason, world.start + now);
            world.settle(now);
            prop_assert_eq!(&world.seen, &model.seen);
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
        children in restarts(),
        shutdown in prop_oneof![
            Just(Shutdown::Kill), Just(Shutdown::Forever), Just(Shutdown::Within(Duration::from_secs(1)))
        ],
        choices in prop::collection::vec((0_u8..8, any::<prop::sample::Index>()), 0..80),
    ) {
        let start = Instant::now();
        let mut machine = StrategyMachine::new(strategy, Intensity::new(20, PERIOD), None, plans(&children, shutdown));
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
                    Effect::Shutdown(pid) => told.push(pid),
                    Effect::Kill(pid) => {
                        // What is killed is dead; whether the supervisor hears of it in time is the next choice's.
                        alive.retain(|other| *other != pid);
                        told.retain(|other| *other != pid);
                        told.push(pid);
                    }
                    Effect::SetTimer { token, .. } => timers.push(token),
                    Effect::Ended(_) => ended = true,
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
                7 => machine.handle_place_changed(),
                200 => machine.handle_stop(ExitReason::Shutdown),
                _ => {}
            }
        }
        prop_assert!(ended, "the supervisor hangs: {:?}", machine);
        prop_assert!(alive.is_empty(), "left behind: {:?} of {:?}", alive, machine);
    }
}
