//! The queue against a model, over all sorts of histories. The model is written from the manual of OTP's `gen_statem`, in
//! its other words: postponing is a selective receive. There is one list of events in the order of their coming; the
//! machine goes along it and skips what it postpones, and begins anew at its head when the state has changed.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests say what they expect by failing.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::queue::{EventQueue, MAX_HELD_EVENTS, StateEvent, Timeouts, TooManyHeld, Transition};

const NAMES: [&str; 2] = ["a", "b"];

#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Message(u32),
    Internal(u32),
    StateTimeout,
    Timeout(&'static str),
}

impl From<&StateEvent<u32>> for Seen {
    fn from(event: &StateEvent<u32>) -> Self {
        match event {
            StateEvent::Message(number) => Self::Message(*number),
            StateEvent::Internal(number) => Self::Internal(*number),
            StateEvent::StateTimeout => Self::StateTimeout,
            StateEvent::Timeout(name) => Self::Timeout(name),
            StateEvent::Event(_) => panic!("there are none here"),
        }
    }
}

/// What the user's code does with the next event.
#[derive(Debug, Clone)]
struct Answer {
    next: Option<u8>,
    postpones: bool,
    inserts: u32,
    /// Which timeout (the state's is 2), and after how many milliseconds; cancelled without.
    timeouts: Vec<(usize, Option<u64>)>,
}

#[derive(Debug, Clone)]
enum Step {
    Receive,
    Pass(u64),
    Answer(Answer),
}

#[derive(Default)]
struct Model {
    state: u8,
    /// All that has come and is not done, and whether it was skipped in this state.
    list: Vec<(Seen, bool)>,
    /// Timeouts by what they give, when they are due, and in which order they were started.
    timers: Vec<(Seen, Duration, u32)>,
    started: u32,
}

impl Model {
    /// Takes the next event out of the list.
    fn next(&mut self, now: Duration) -> Option<(Seen, usize)> {
        if let Some(at) = self.list.iter().position(|(_, skipped)| !skipped) {
            return Some((self.list.remove(at).0, at));
        }
        let due = self.timers.iter().filter(|timer| timer.1 <= now).min_by_key(|timer| (timer.1, timer.2))?.0.clone();
        self.timers.retain(|timer| timer.0 != due);
        Some((due, self.list.len()))
    }

    /// The event that stood at `at` was answered so.
    fn answer(&mut self, event: Seen, at: usize, answer: &Answer, numbers: &[u32], now: Duration) {
        let mut at = at;
        if answer.postpones {
            self.list.insert(at, (event, true));
            at += 1;
        }
        if answer.next.is_some_and(|next| next != self.state) {
            self.state = answer.next.unwrap();
            self.list.iter_mut().for_each(|(_, skipped)| *skipped = false);
            self.timers.retain(|timer| timer.0 != Seen::StateTimeout);
            at = 0;
        }
        for &number in numbers.iter().rev() {
            self.list.insert(at, (Seen::Internal(number), false));
        }
        for &(which, after) in &answer.timeouts {
            let what = NAMES.get(which).map_or(Seen::StateTimeout, |name| Seen::Timeout(name));
            self.timers.retain(|timer| timer.0 != what);
            if let Some(after) = after {
                self.started += 1;
                self.timers.push((what, now + Duration::from_millis(after), self.started));
            }
        }
    }
}

fn answers() -> impl Strategy<Value = Answer> {
    let timeout = (0_usize..3, prop::option::weighted(0.8, 0_u64..30));
    (prop::option::of(0_u8..3), prop::bool::weighted(0.4), 0_u32..3, prop::collection::vec(timeout, 0..3))
        .prop_map(|(next, postpones, inserts, timeouts)| Answer { next, postpones, inserts, timeouts })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Receive),
        1 => (0_u64..20).prop_map(Step::Pass),
        5 => answers().prop_map(Step::Answer),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_history_is_as_in_the_manual(steps in steps()) {
        let start = Instant::now();
        let (mut now, mut number) = (Duration::ZERO, 0);
        let (mut queue, mut model) = (EventQueue::new(0_u8), Model::default());
        for step in steps {
            match step {
                Step::Pass(ms) => now += Duration::from_millis(ms),
                Step::Receive => {
                    number += 1;
                    queue.handle(StateEvent::Message(number));
                    model.list.push((Seen::Message(number), false));
                }
                Step::Answer(answer) => {
                    let event = queue.poll(start + now);
                    let expected = model.next(now);
                    prop_assert_eq!(event.as_ref().map(Seen::from), expected.clone().map(|(seen, _)| seen));
                    let (Some(event), Some((seen, at))) = (event, expected) else { continue };
                    let numbers: Vec<u32> = (0..answer.inserts).map(|more| number + 1 + more).collect();
                    number += answer.inserts;
                    let mut transition = answer.next.map_or_else(Transition::keep, Transition::to);
                    if answer.postpones {
                        transition = transition.postpone(event);
                    }
                    for &number in &numbers {
                        transition = transition.next_event(number);
                    }
                    for &(which, after) in &answer.timeouts {
                        transition = transition.timeouts(match (NAMES.get(which), after) {
                            (Some(name), Some(after)) => Timeouts::new().named(name, Duration::from_millis(after)),
                            (Some(name), None) => Timeouts::new().cancel(name),
                            (None, Some(after)) => Timeouts::new().state(Duration::from_millis(after)),
                            (None, None) => Timeouts::new().cancel_state(),
                        });
                    }
                    let former = model.state;
                    model.answer(seen, at, &answer, &numbers, now);
                    let changed = queue.apply(transition, start + now).unwrap();
                    prop_assert_eq!(*queue.state(), model.state);
                    prop_assert_eq!(changed, (former != model.state).then_some(former));
                }
            }
        }
        let due = model.timers.iter().map(|timer| start + timer.1).min();
        prop_assert_eq!(queue.next_due(), due);
    }
}

#[test]
fn a_machine_that_holds_back_too_much_is_told() {
    let now = Instant::now();
    let mut queue = EventQueue::new(0_u8);
    let mut postpone = |number| {
        queue.handle(StateEvent::Message(number));
        let event = queue.poll(now).unwrap();
        queue.apply(Transition::keep().postpone(event), now)
    };
    for number in 0..u32::try_from(MAX_HELD_EVENTS).unwrap() {
        assert_eq!(postpone(number), Ok(None));
    }
    assert_eq!(postpone(0), Err(TooManyHeld));
}
