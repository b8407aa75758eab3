//! Credit, with askers that come and go, lanes that overtake each other, connections that are lost, and a name that changes
//! hands: the mailbox never holds more than was given out, and once all frames have arrived nobody waits for an empty
//! mailbox (S7).
#![allow(clippy::unwrap_used)] // A test may stop where it fails.

use std::collections::VecDeque;

use proptest::prelude::*;
use rookery_protocol::{
    CreditChange, CreditNumber, Pid, Serial,
    credit::{Accounts, SendCredit, Taken},
    limits::{CREDIT_OF_NAMES, CREDIT_ON_TRUST, MAX_CREDITS_PER_ASKER},
};

const ASKERS: usize = 3;
const LANES: usize = 2;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// An asker sends what it may of so many messages, by the name or by the pid.
    Send { asker: usize, by_name: bool, lane: usize, count: usize },
    /// What is next on one of an asker's lanes arrives.
    Arrive { asker: usize, lane: usize, count: usize },
    /// What is next of what an asker is told arrives.
    Told { asker: usize },
    /// The process takes all that lies in its mailbox.
    Take,
    /// A message does not get into the mailbox.
    PassBy { asker: usize, lane: usize },
    /// The connection to an asker is lost, and made anew.
    Lose { asker: usize },
    /// The name goes to a process without limit, or comes back from it.
    Rename,
}

fn step() -> impl Strategy<Value = Step> {
    let (asker, lane) = (0..ASKERS, 0..LANES);
    let count = prop_oneof![1..4_usize, 60..90_usize];
    prop_oneof![
        6 => (asker.clone(), any::<bool>(), lane.clone(), count.clone())
            .prop_map(|(asker, by_name, lane, count)| Step::Send { asker, by_name, lane, count }),
        6 => (asker.clone(), lane.clone(), count).prop_map(|(asker, lane, count)| Step::Arrive { asker, lane, count }),
        4 => asker.clone().prop_map(|asker| Step::Told { asker }),
        2 => Just(Step::Take),
        1 => (asker.clone(), lane).prop_map(|(asker, lane)| Step::PassBy { asker, lane }),
        1 => asker.prop_map(|asker| Step::Lose { asker }),
    ]
}

/// One message under way: how it is addressed, and what it took.
#[derive(Debug, Clone, Copy)]
struct Sent {
    by_name: bool,
    taken: Taken,
}

struct Asker {
    pid: Pid,
    /// By the pid, by the name.
    credits: [SendCredit; 2],
    lanes: [VecDeque<Sent>; LANES],
    told: VecDeque<(CreditNumber, CreditChange)>,
}

struct World {
    askers: Vec<Asker>,
    accounts: Accounts,
    /// What lies in the mailbox: whether it is counted.
    mailbox: Vec<bool>,
    /// The name is held by the bounded process, not by one without limit.
    has_name: bool,
    numbers: u32,
    received: usize,
}

impl World {
    fn new(capacity: u32) -> Self {
        let asker = |number: usize| Asker {
            pid: Pid::new(format!("node-{number}.1").parse().unwrap(), Serial::NODE),
            credits: [SendCredit::new(false), SendCredit::new(true)],
            lanes: Default::default(),
            told: VecDeque::new(),
        };
        let askers = (0..ASKERS).map(asker).collect();
        let accounts = Accounts::new(capacity);
        Self { askers, accounts, mailbox: vec![], has_name: true, numbers: 0, received: 0 }
    }

    fn send(&mut self, asker: usize, by_name: bool, lane: usize) -> bool {
        let asker = &mut self.askers[asker];
        let taken = asker.credits[usize::from(by_name)].take(|| {
            self.numbers += 1;
            CreditNumber(self.numbers)
        });
        asker.lanes[lane].extend(taken.map(|taken| Sent { by_name, taken }));
        taken.is_some()
    }

    fn arrive(&mut self, asker: usize, lane: usize, into_mailbox: bool) {
        let asker = &mut self.askers[asker];
        let Some(sent) = asker.lanes[lane].pop_front() else { return };
        let number = sent.taken.number();
        if sent.by_name && !self.has_name {
            asker.told.extend(number.map(|number| (number, CreditChange::Unlimited)));
            return;
        }
        if into_mailbox {
            self.mailbox.push(matches!(sent.taken, Taken::Counted(_)));
        }
        let Some(number) = number else { return };
        let pid = asker.pid.clone();
        let grant = match into_mailbox {
            true => self.accounts.arrived(&pid, number),
            false => self.accounts.passed_by(&pid, number),
        };
        asker.told.extend(grant.map(|grant| (grant.number, CreditChange::More(grant.more))));
    }

    fn told(&mut self, asker: usize) {
        let asker = &mut self.askers[asker];
        if let Some((number, change)) = asker.told.pop_front() {
            for credit in &mut asker.credits {
                credit.change(number, change);
            }
        }
    }

    fn take(&mut self) {
        self.received += self.mailbox.len();
        self.mailbox.clear();
        for grant in self.accounts.taken() {
            let asker = self.askers.iter_mut().find(|asker| asker.pid == grant.asker).unwrap();
            asker.told.push_back((grant.number, CreditChange::More(grant.more)));
        }
    }

    fn lose(&mut self, asker: usize) {
        let asker = &mut self.askers[asker];
        for credit in &mut asker.credits {
            credit.reset();
        }
        asker.lanes.iter_mut().for_each(VecDeque::clear);
        asker.told.clear();
        self.accounts.lost(|lost| *lost == asker.pid);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send { asker, by_name, lane, count } => {
                for _ in 0..count {
                    self.send(asker, by_name, lane);
                }
            }
            Step::Arrive { asker, lane, count } => {
                for _ in 0..count {
                    self.arrive(asker, lane, true);
                }
            }
            Step::Told { asker } => self.told(asker),
            Step::Take => self.take(),
            Step::PassBy { asker, lane } => self.arrive(asker, lane, false),
            Step::Lose { asker } => self.lose(asker),
            Step::Rename => self.has_name = !self.has_name,
        }
    }

    /// All that is under way arrives, and is taken.
    fn settle(&mut self) {
        while self.askers.iter().any(|asker| !asker.told.is_empty() || asker.lanes.iter().any(|lane| !lane.is_empty()))
            || !self.mailbox.is_empty()
        {
            for asker in 0..ASKERS {
                for lane in 0..LANES {
                    while !self.askers[asker].lanes[lane].is_empty() {
                        self.arrive(asker, lane, true);
                    }
                }
                while !self.askers[asker].told.is_empty() {
                    self.told(asker);
                }
            }
            self.take();
        }
    }

    fn nobody_waits(&self) -> bool {
        self.askers.iter().all(|asker| asker.credits.iter().all(SendCredit::has_room))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_mailbox_stays_within_what_was_given_out(
        capacity in prop_oneof![1..5_u32, 50..200_u32],
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut world = World::new(capacity);
        let mut trusted = ASKERS * 2;
        for step in steps {
            // Each count begins with some trust.
            trusted += if matches!(step, Step::Lose { .. }) { 2 } else { 0 };
            world.step(step);
            let askers = world.accounts.len() as u64;
            prop_assert!(world.accounts.given() <= u64::from(capacity) + askers, "{} given out", world.accounts.given());
            prop_assert!(askers <= 2 * ASKERS as u64);
            let counted = world.mailbox.iter().filter(|&&counted| counted).count();
            let others = world.mailbox.len() - counted;
            prop_assert!(others <= trusted * CREDIT_ON_TRUST as usize);
            // What a lost asker had sent may still lie there, uncounted from then on.
            if trusted == ASKERS * 2 {
                prop_assert!(counted as u64 <= world.accounts.given(), "{counted} of {}", world.accounts.given());
            }
        }
        world.settle();
        prop_assert!(world.nobody_waits(), "somebody waits for an empty mailbox");
    }

    #[test]
    fn everybody_goes_on_whoever_has_the_name(
        capacity in prop_oneof![1..5_u32, 50..200_u32],
        steps in prop::collection::vec(prop_oneof![9 => step(), 1 => Just(Step::Rename)], 1..200),
    ) {
        let mut world = World::new(capacity);
        for step in steps {
            world.step(step);
            let askers = world.accounts.len() as u64;
            prop_assert!(world.accounts.given() <= u64::from(capacity) + askers);
        }
        world.settle();
        prop_assert!(world.nobody_waits(), "somebody waits for an empty mailbox");
        // And not just for one more: each gets as far as it likes.
        if !world.has_name {
            world.step(Step::Rename);
        }
        for asker in 0..ASKERS {
            for by_name in [false, true] {
                let (before, mut sent) = (world.received, 0);
                while sent < if by_name { CREDIT_OF_NAMES as usize } else { 200 } + 100 {
                    while world.send(asker, by_name, sent % LANES) {
                        sent += 1;
                    }
                    world.settle();
                    prop_assert!(world.nobody_waits());
                }
                prop_assert_eq!(world.received - before, sent);
            }
        }
    }
}

/// With one asker, as much may be under way as the mailbox is to hold; with more it is divided, as what was sent is taken.
#[test]
fn the_mailbox_is_divided_among_those_who_ask() {
    let mut accounts = Accounts::new(100);
    let asker = |number: u32| Pid::new(format!("node-{number}.1").parse().unwrap(), Serial::NODE);
    let number = CreditNumber(1);
    assert_eq!(accounts.arrived(&asker(0), number).unwrap().more, 100);
    assert_eq!(accounts.arrived(&asker(1), number).unwrap().more, 1, "all of it is in the first one's hands");
    for _ in 0..100 {
        accounts.arrived(&asker(0), number);
    }
    accounts.arrived(&asker(1), number);
    let grants: Vec<u32> = accounts.taken().iter().map(|grant| grant.more).collect();
    assert_eq!(grants, [50, 50], "both have their half");
    accounts.forget(&asker(0), number);
    assert_eq!(accounts.given(), 50);
    for _ in 0..50 {
        accounts.arrived(&asker(1), number);
    }
    assert_eq!(accounts.taken()[0].more, 100, "it is alone now");
    assert_eq!(accounts.close(), [(asker(1), number)]);
    assert_eq!((accounts.given(), accounts.is_empty()), (0, true));
}

/// An asker that sends more than it may, or counts anew again and again, gets no more by that.
#[test]
fn who_does_not_keep_to_it_gains_nothing() {
    let mut accounts = Accounts::new(4);
    let hostile = Pid::new("node-0.1".parse().unwrap(), Serial::NODE);
    for _ in 0..1_000 {
        accounts.arrived(&hostile, CreditNumber(1));
    }
    assert_eq!(accounts.taken()[0].more, 4);
    for number in 2..1_000 {
        accounts.arrived(&hostile, CreditNumber(number));
    }
    assert!(accounts.len() <= MAX_CREDITS_PER_ASKER && accounts.given() <= 4 + accounts.len() as u64);
}
