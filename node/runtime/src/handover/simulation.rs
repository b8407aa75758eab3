//! A move in one seeded world, in virtual time: the old process's node, the new one's, and their supervisor's, which may be one of the
//! two. Connections are lost and come back, which each end notices when it notices, and nodes are killed, at each step. What decides
//! is real ([`Parting`], [`Arriving`], [`Succeeding`]); the drivers around it are played as they are written.
//!
//! ```text
//! client ── write ──▶ whoever serves          supervisor ── Start ──▶ new ── Offer, Part, Commit ──▶ old
//! ```
//! What holds: no two serve for longer than a loss takes to be noticed; every move ends; after one fault that leaves the supervisor its
//! ties, one of both serves and has every write that was acknowledged. A seed that fails is printed with the command that plays it again.

#![allow(clippy::unwrap_used, clippy::panic)] // A test may stop where it fails.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rookery_protocol::{ExitReason, Pid};

use super::{
    limits::{ASK_PATIENCE, FORWARDS_FOR, MAX_STATE_BYTES, OFFER_PATIENCE, PARTING_PATIENCE, RELAY_PATIENCE},
    parting::{Arriving, Outcome, Parting},
    state::Handover,
    succeeding::{Step, Succeeding, Way},
    wire::{Offer, Part, Relayed},
};
use crate::{reply::CallError, requests::REQUEST_TIMEOUT};

/// Runs of the test; `ROOKERY_SEEDS` takes another number, `ROOKERY_SEED` one run.
const SEEDS: u64 = 3_000;
/// How long a loss is unnoticed at most, in milliseconds; and how long a message takes.
const NOTICED_WITHIN: u64 = 3_000;
const DELAY: u64 = 5;
/// How often whoever serves is written to.
const WRITE_EVERY: u64 = 7;
/// When a run is over: all limits have passed by then.
const END: u64 = 30_000;
/// Bytes of a state that travel at once.
const PART: usize = 16;

const OLD: usize = 0;
const NEW: usize = 1;
const THIRD: usize = 2;

/// What is done wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// Whoever does not reach its predecessor takes it for lost.
    AsksNobody,
    /// Who has handed over goes on when its successor is lost.
    GoesOnAfterCommit,
    /// Who hands over handles what comes.
    HandlesMeanwhile,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The connection of these two is lost.
    Cut(usize, usize),
    Kill(usize),
}

#[derive(Debug)]
enum OldProcess {
    Serves,
    Parts(Parting),
    PassesOn,
    Ended,
}

#[derive(Debug)]
enum NewProcess {
    NotYet,
    WantsOffer,
    WantsParts(Arriving),
    /// It makes itself of the state.
    TakesOver,
    Commits(Succeeding),
    Serves,
    Ended,
}

/// What the supervisor knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Child {
    Old,
    Moving,
    New,
}

#[derive(Debug, Clone)]
enum Question {
    Offer,
    Part(u64),
    Commit,
    Relay,
}

#[derive(Debug, Clone)]
enum Answer {
    Offer(Offer),
    Part(Part),
    Done,
    Relayed(Relayed),
}

#[derive(Debug, Clone)]
enum Message {
    Ask {
        call: u64,
        question: Question,
    },
    Answer {
        call: u64,
        answer: Result<Answer, CallError>,
    },
    Start,
    Started(bool),
    /// The new process has ended.
    Down,
    Kill,
    /// The old process's link is taken away.
    Retire,
}

#[derive(Debug)]
enum Event {
    Arrives { from: usize, to: usize, connection: u64, message: Message },
    Notices { at: usize, lost: usize, connection: u64 },
    Reconnects(usize, usize),
    CallLate(u64),
    PartingOver,
    PassingOver,
    HasTakenOver,
    StartLate,
    Writes,
    Happens(Fault),
}

/// A call that waits.
struct Waiting {
    at: usize,
    of: usize,
    /// It is one that is asked in place of the new process, whose call this is.
    relays: Option<u64>,
}

/// One connection: its number, whether it carries, and whether each end takes it for standing.
#[derive(Clone, Copy)]
struct Connection {
    number: u64,
    carries: bool,
    stands: [bool; 2],
}

struct World {
    random: u64,
    bug: Bug,
    begin: Instant,
    now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    next: u64,
    connections: BTreeMap<(usize, usize), Connection>,
    lives: [bool; 3],
    /// The supervisor's node.
    home: usize,
    child: Child,
    old: OldProcess,
    old_linked: bool,
    /// The porter monitors the new process.
    watches: bool,
    old_state: Vec<u8>,
    new: NewProcess,
    new_state: Vec<u8>,
    new_until: u64,
    waiting: BTreeMap<u64, Waiting>,
    acknowledged: Vec<u8>,
    both_since: Option<u64>,
    /// The new one had all of the state when this was asked last.
    had_all: bool,
}

fn pid(node: usize) -> Pid {
    ["<old.1.1>", "<new.1.1>", "<third.1.1>"][node].parse().unwrap()
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

impl World {
    fn new(seed: u64, bug: Bug) -> Self {
        let mut world = Self {
            random: seed,
            bug,
            begin: Instant::now(),
            now: 0,
            queue: BTreeMap::new(),
            next: 0,
            connections: BTreeMap::new(),
            lives: [true; 3],
            home: THIRD,
            child: Child::Old,
            old: OldProcess::Serves,
            old_linked: true,
            watches: false,
            old_state: Vec::new(),
            new: NewProcess::NotYet,
            new_state: Vec::new(),
            new_until: 0,
            waiting: BTreeMap::new(),
            acknowledged: Vec::new(),
            both_since: None,
            had_all: false,
        };
        world.home = [THIRD, THIRD, OLD, NEW][world.below(4) as usize];
        for pair in [(OLD, NEW), (OLD, THIRD), (NEW, THIRD)] {
            let number = world.number();
            world.connections.insert(pair, Connection { number, carries: true, stands: [true; 2] });
        }
        world
    }

    /// SplitMix64.
    fn below(&mut self, n: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn after(&mut self, wait: u64, event: Event) {
        let number = self.number();
        self.queue.insert((self.now + wait, number), event);
    }

    fn instant(&self) -> Instant {
        self.begin + Duration::from_millis(self.now)
    }

    /// The connection as `at` sees it: its number, while it takes it for standing.
    fn connection(&self, at: usize, other: usize) -> Option<u64> {
        let connection = self.connections[&(at.min(other), at.max(other))];
        connection.stands[usize::from(at > other)].then_some(connection.number)
    }

    /// Sends, in order on each connection, or tells that there is none.
    fn send(&mut self, from: usize, to: usize, message: Message) -> bool {
        if from == to {
            self.after(0, Event::Arrives { from, to, connection: 0, message });
            return true;
        }
        let Some(connection) = self.connection(from, to) else { return false };
        // The same for all, so that order is kept.
        self.after(DELAY, Event::Arrives { from, to, connection, message });
        true
    }

    fn ask(&mut self, at: usize, of: usize, question: Question, patience: u64, relays: Option<u64>) {
        let call = self.number();
        self.waiting.insert(call, Waiting { at, of, relays });
        self.after(patience, Event::CallLate(call));
        if !self.send(at, of, Message::Ask { call, question }) {
            self.answered(call, Err(CallError::NoConnection));
        }
    }

    fn play(&mut self, faults: &[(u64, Fault)]) -> Result<(), String> {
        self.after(0, Event::Writes);
        for (at, fault) in faults {
            self.after(*at, Event::Happens(*fault));
        }
        self.after(20, Event::Arrives { from: self.home, to: self.home, connection: 0, message: Message::Start });
        while let Some(((at, _), event)) = self.queue.pop_first() {
            if at > END {
                break;
            }
            self.now = at;
            self.happens(event);
            self.two_do_not_serve()?;
        }
        if matches!(self.old, OldProcess::Parts(_)) && self.lives[OLD] {
            return Err("the old process still waits".to_owned());
        }
        let is_over = matches!(self.new, NewProcess::NotYet | NewProcess::Serves | NewProcess::Ended);
        if !is_over && self.lives[NEW] {
            return Err(format!("the new process is not done: {:?}", self.new));
        }
        Ok(())
    }

    fn serves(&self) -> [bool; 2] {
        let old = match self.old {
            OldProcess::Serves => true,
            OldProcess::Parts(_) => self.bug == Bug::HandlesMeanwhile,
            OldProcess::PassesOn | OldProcess::Ended => false,
        };
        [old && self.lives[OLD], matches!(self.new, NewProcess::Serves) && self.lives[NEW]]
    }

    fn two_do_not_serve(&mut self) -> Result<(), String> {
        if self.serves() != [true; 2] {
            self.both_since = None;
            return Ok(());
        }
        let since = *self.both_since.get_or_insert(self.now);
        match self.now - since > NOTICED_WITHIN + 2 * DELAY {
            true => Err(format!("both serve since {since} ms")),
            false => Ok(()),
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrives { from, to, connection, message } => {
                let pair = (from.min(to), from.max(to));
                let carried = from == to
                    || self.connections.get(&pair).is_some_and(|now| now.number == connection && now.carries);
                if carried && self.lives[to] && self.lives[from] {
                    self.arrives(from, to, message);
                }
            }
            Event::Notices { at, lost, connection } => {
                if self.lives[at] && self.connection(at, lost) == Some(connection) {
                    let pair = (at.min(lost), at.max(lost));
                    self.connections.get_mut(&pair).unwrap().stands[usize::from(at > lost)] = false;
                    self.lost(at, lost);
                }
            }
            Event::Reconnects(a, b) => {
                let number = self.number();
                let connection = self.connections.get_mut(&(a, b)).unwrap();
                if self.lives[a] && self.lives[b] && connection.stands == [false; 2] {
                    *connection = Connection { number, carries: true, stands: [true; 2] };
                }
            }
            Event::CallLate(call) => self.answered(call, Err(CallError::Timeout)),
            Event::PartingOver => {
                if matches!(&self.old, OldProcess::Parts(parting) if parting.left(self.instant()).is_none()) {
                    self.old = OldProcess::Serves;
                }
            }
            Event::PassingOver => {
                if matches!(self.old, OldProcess::PassesOn) {
                    self.old = OldProcess::Ended;
                }
            }
            Event::HasTakenOver => {
                if self.lives[NEW] && matches!(self.new, NewProcess::TakesOver) {
                    self.new_until += ms(ASK_PATIENCE);
                    let has_other_way = self.home != NEW && self.bug != Bug::AsksNobody;
                    let until = self.begin + Duration::from_millis(self.new_until);
                    self.new = NewProcess::Commits(Succeeding::new(has_other_way, until));
                    self.had_all = true;
                    self.commit(Way::Straight);
                }
            }
            Event::StartLate => self.not_moved(),
            Event::Writes => {
                let write = u8::try_from(self.acknowledged.len() % 251).unwrap();
                let [old, new] = self.serves();
                if old {
                    self.old_state.push(write);
                }
                if new {
                    self.new_state.push(write);
                }
                if old || new {
                    self.acknowledged.push(write);
                }
                self.after(WRITE_EVERY, Event::Writes);
            }
            Event::Happens(Fault::Cut(a, b)) => self.cut(a, b),
            Event::Happens(Fault::Kill(node)) => {
                self.lives[node] = false;
                for other in (0..3).filter(|other| *other != node) {
                    self.cut(node.min(other), node.max(other));
                }
            }
        }
    }

    fn cut(&mut self, a: usize, b: usize) {
        let connection = self.connections.get_mut(&(a, b)).unwrap();
        if !std::mem::replace(&mut connection.carries, false) {
            return;
        }
        let number = connection.number;
        for (at, lost) in [(a, b), (b, a)] {
            let wait = self.below(NOTICED_WITHIN);
            self.after(wait, Event::Notices { at, lost, connection: number });
        }
        let wait = NOTICED_WITHIN + self.below(10_000);
        if self.below(2) == 0 {
            self.after(wait, Event::Reconnects(a, b));
        }
    }

    /// `at` has noticed that it has no connection with `lost` any more.
    fn lost(&mut self, at: usize, lost: usize) {
        let calls: Vec<u64> =
            self.waiting.iter().filter(|(_, call)| call.at == at && call.of == lost).map(|(call, _)| *call).collect();
        for call in calls {
            self.answered(call, Err(CallError::NoConnection));
        }
        if at == OLD && lost == self.home && self.old_linked {
            self.old = OldProcess::Ended;
        }
        if at == OLD && lost == NEW {
            self.successor_down();
        }
        if at == NEW && lost == self.home {
            self.new_ends();
        }
        if at == self.home && lost == NEW {
            self.not_moved();
        }
    }

    /// The old process's node hears that the new one is gone.
    fn successor_down(&mut self) {
        if matches!(self.old, OldProcess::PassesOn) {
            self.old = if self.bug == Bug::GoesOnAfterCommit { OldProcess::Serves } else { OldProcess::Ended };
        }
        if std::mem::take(&mut self.watches)
            && matches!(&self.old, OldProcess::Parts(parting) if parting.waits_for(&pid(NEW)))
        {
            self.old = OldProcess::Serves;
        }
    }

    fn new_ends(&mut self) {
        if !matches!(self.new, NewProcess::NotYet | NewProcess::Ended) {
            self.new = NewProcess::Ended;
            self.send(NEW, OLD, Message::Down);
            self.send(NEW, self.home, Message::Started(false));
        }
    }

    /// The supervisor's start has failed.
    fn not_moved(&mut self) {
        if self.child == Child::Moving {
            self.child = Child::Old;
        }
    }

    fn arrives(&mut self, from: usize, to: usize, message: Message) {
        match message {
            // To the supervisor, which begins; then to the new process's node.
            Message::Start if self.child == Child::Old => {
                self.child = Child::Moving;
                self.after(ms(REQUEST_TIMEOUT), Event::StartLate);
                if self.home == NEW || !self.send(self.home, NEW, Message::Start) {
                    self.starts(to == NEW);
                }
            }
            Message::Start => self.starts(to == NEW),
            Message::Started(true) if self.child == Child::Moving => {
                self.child = Child::New;
                self.send(self.home, OLD, Message::Retire);
            }
            // Nobody waits for it any more.
            Message::Started(true) => drop(self.send(self.home, NEW, Message::Kill)),
            Message::Started(false) => self.not_moved(),
            Message::Down => self.successor_down(),
            Message::Kill => self.new_ends(),
            Message::Retire => self.old_linked = false,
            Message::Ask { call, question: Question::Relay } => {
                let question = Question::Commit;
                self.ask(to, OLD, question, ms(RELAY_PATIENCE), Some(call));
            }
            Message::Ask { call, question } => {
                let answer = self.asked(&question);
                self.send(to, from, Message::Answer { call, answer });
            }
            Message::Answer { call, answer } => self.answered(call, answer),
        }
    }

    fn starts(&mut self, there: bool) {
        if !there {
            return self.not_moved();
        }
        if matches!(self.new, NewProcess::NotYet) {
            self.new = NewProcess::WantsOffer;
            self.new_until = self.now + ms(PARTING_PATIENCE);
            self.ask(NEW, OLD, Question::Offer, ms(OFFER_PATIENCE), None);
        }
    }

    /// The old process, or the porter of its node, is asked by the new one.
    fn asked(&mut self, question: &Question) -> Result<Answer, CallError> {
        let refused = |why: &str| Err(CallError::Refused(why.to_owned()));
        if matches!(self.old, OldProcess::Ended) {
            return Err(CallError::Exited(ExitReason::NoProc));
        }
        let new = pid(NEW);
        match (question, &self.old) {
            (Question::Offer, OldProcess::Serves) => {
                let state = Handover::bytes(1, self.old_state.clone()).unwrap();
                let parting = Parting::new(new.clone(), Some(state), self.instant());
                let Outcome::Answer(offer) = parting.offer(&new, PART) else { return refused("to another one") };
                self.old = OldProcess::Parts(parting);
                self.after(ms(PARTING_PATIENCE), Event::PartingOver);
                self.watches = true;
                if self.connection(OLD, NEW).is_none() {
                    self.successor_down();
                }
                Ok(Answer::Offer(offer))
            }
            (Question::Part(offset), OldProcess::Parts(parting)) => match parting.part(&new, *offset, PART) {
                Outcome::Answer(part) => Ok(Answer::Part(part)),
                Outcome::Refuse(why) => Err(CallError::Refused(why)),
            },
            (Question::Commit, OldProcess::Parts(parting)) => {
                self.watches = false;
                match parting.commit(&new) {
                    Outcome::Answer(()) => {
                        self.old = OldProcess::PassesOn;
                        self.after(ms(FORWARDS_FOR), Event::PassingOver);
                        Ok(Answer::Done)
                    }
                    Outcome::Refuse(why) => Err(CallError::Refused(why)),
                }
            }
            (Question::Commit, OldProcess::PassesOn) => Ok(Answer::Done),
            _ => refused("it goes on"),
        }
    }

    fn answered(&mut self, call: u64, answer: Result<Answer, CallError>) {
        let Some(Waiting { at, relays, .. }) = self.waiting.remove(&call) else { return };
        if !self.lives[at] {
            return;
        }
        if let Some(call) = relays {
            let relayed = Relayed::of(answer.map(drop));
            self.send(at, NEW, Message::Answer { call, answer: Ok(Answer::Relayed(relayed)) });
            return;
        }
        match (std::mem::replace(&mut self.new, NewProcess::Ended), answer) {
            (NewProcess::WantsOffer, Ok(Answer::Offer(Offer::State { version, bytes, first }))) => {
                self.new = NewProcess::WantsParts(Arriving::new(version, bytes, &first, MAX_STATE_BYTES).unwrap());
                self.next_part();
            }
            (NewProcess::WantsParts(mut arriving), Ok(Answer::Part(Part(part)))) => {
                arriving.add(&part).unwrap();
                self.new = NewProcess::WantsParts(arriving);
                self.next_part();
            }
            (NewProcess::Commits(mut succeeding), answer) => {
                let answer = match answer {
                    Ok(Answer::Relayed(relayed)) => relayed.answer(),
                    other => other.map(drop),
                };
                let step = succeeding.answered(answer, self.instant());
                self.new = NewProcess::Commits(succeeding);
                match step {
                    Step::Ask(way) => self.commit(way),
                    Step::Serve => {
                        self.new = NewProcess::Serves;
                        self.send(NEW, self.home, Message::Started(true));
                    }
                    Step::Fail(_) => self.new_ends(),
                }
            }
            (former, _) => {
                // It cannot have the state, and ends.
                self.new = former;
                self.new_ends();
            }
        }
    }

    fn next_part(&mut self) {
        let NewProcess::WantsParts(arriving) = &self.new else { return };
        match arriving.wants() {
            Some(offset) => self.ask(NEW, OLD, Question::Part(offset), ms(ASK_PATIENCE), None),
            None => {
                if let NewProcess::WantsParts(arriving) = std::mem::replace(&mut self.new, NewProcess::TakesOver) {
                    self.new_state = arriving.whole().unwrap().body().to_vec();
                    let wait = self.below(20);
                    self.after(wait, Event::HasTakenOver);
                }
            }
        }
    }

    fn commit(&mut self, way: Way) {
        match way {
            Way::Straight => self.ask(NEW, OLD, Question::Commit, ms(ASK_PATIENCE), None),
            Way::BySupervisor => self.ask(NEW, self.home, Question::Relay, ms(ASK_PATIENCE), None),
        }
    }

    /// After this fault alone, which of both has to serve, if that is certain.
    fn certain(&self, fault: Option<Fault>) -> bool {
        match fault {
            None => true,
            Some(Fault::Cut(OLD, NEW)) => self.home == THIRD,
            // It was killed before it had handed over, or the new one has taken it over.
            Some(Fault::Kill(OLD)) => self.home != OLD && self.had_all,
            Some(Fault::Kill(NEW)) => self.home != NEW && matches!(self.old, OldProcess::Serves | OldProcess::Parts(_)),
            Some(_) => false,
        }
    }
}

fn run(seed: u64, bug: Bug) -> Result<(), String> {
    let mut world = World::new(seed, bug);
    let count = world.below(4);
    let faults: Vec<(u64, Fault)> = (0..count)
        .map(|_| {
            // Most of them while the state moves.
            let at = if world.below(5) == 0 { world.below(12_000) } else { world.below(120) };
            let fault = match world.below(8) {
                0 => Fault::Kill(OLD),
                1 => Fault::Kill(NEW),
                2 => Fault::Kill(THIRD),
                3 => Fault::Cut(OLD, THIRD),
                4 => Fault::Cut(NEW, THIRD),
                _ => Fault::Cut(OLD, NEW),
            };
            (at, fault)
        })
        .collect();
    let context = |world: &World, why: &str| {
        let World { home, child, old, new, now, .. } = world;
        format!("{why}; at {now} ms, faults {faults:?}, supervisor on {home} has {child:?}: old {old:?}, new {new:?}")
    };
    world.play(&faults).map_err(|why| context(&world, &why))?;
    if count > 1 || !world.certain(faults.first().map(|(_, fault)| *fault)) {
        return Ok(());
    }
    let (state, serves) = match world.serves() {
        [true, false] => (&world.old_state, Child::Old),
        [false, true] => (&world.new_state, Child::New),
        other => return Err(context(&world, &format!("who serves: {other:?}"))),
    };
    if *state != world.acknowledged {
        let (has, of) = (state.len(), world.acknowledged.len());
        return Err(context(&world, &format!("{serves:?} has {has} of {of} writes")));
    }
    let knows = world.child == serves || !world.lives[world.home];
    if knows { Ok(()) } else { Err(context(&world, "the supervisor has another child than the one that serves")) }
}

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    number("ROOKERY_SEED").map_or_else(|| (0..number("ROOKERY_SEEDS").unwrap_or(SEEDS)).collect(), |seed| vec![seed])
}

#[test]
fn d6_a_move_ends_and_one_of_both_serves() {
    for seed in seeds() {
        if let Err(why) = run(seed, Bug::None) {
            panic!(
                "seed {seed}: {why}\nagain: ROOKERY_SEED={seed} cargo test -p rookery-runtime --lib handover::simulation"
            );
        }
    }
}

#[test]
fn the_simulation_finds_what_is_done_wrong() {
    for bug in [Bug::AsksNobody, Bug::GoesOnAfterCommit, Bug::HandlesMeanwhile] {
        assert!((0..SEEDS).any(|seed| run(seed, bug).is_err()), "{bug:?}");
    }
}
