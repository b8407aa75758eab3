//! The world: nodes, connections that are lost and come back, time, and what is checked at each moment.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rookery_protocol::Pid;

use crate::{
    handover::{
        limits::ASK_PATIENCE,
        parting::{Arriving, Parting},
        succeeding::{Succeeding, Way},
        wire::{Offer, Part, Relayed},
    },
    reply::CallError,
};

/// How long a loss is unnoticed at most, in milliseconds; and how long a message takes.
pub(super) const NOTICED_WITHIN: u64 = 3_000;
pub(super) const DELAY: u64 = 5;
/// How often whoever serves is written to.
pub(super) const WRITE_EVERY: u64 = 7;
/// When a run is over: all limits have passed by then.
pub(super) const END: u64 = 30_000;
/// Bytes of a state that travel at once.
pub(super) const PART: usize = 16;

pub(super) const OLD: usize = 0;
pub(super) const NEW: usize = 1;
pub(super) const THIRD: usize = 2;

/// What is done wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    /// Whoever does not reach its predecessor takes it for lost.
    AsksNobody,
    /// Who has handed over goes on when its successor is lost.
    GoesOnAfterCommit,
    /// Who hands over handles what comes.
    HandlesMeanwhile,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection of these two is lost.
    Cut(usize, usize),
    Kill(usize),
}

#[derive(Debug)]
pub(super) enum OldProcess {
    Serves,
    Parts(Parting),
    PassesOn,
    Ended,
}

#[derive(Debug)]
pub(super) enum NewProcess {
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
pub(super) enum Child {
    Old,
    Moving,
    New,
}

#[derive(Debug, Clone)]
pub(super) enum Question {
    Offer,
    Part(u64),
    Commit,
    Relay,
}

#[derive(Debug, Clone)]
pub(super) enum Answer {
    Offer(Offer),
    Part(Part),
    Done,
    Relayed(Relayed),
}

#[derive(Debug, Clone)]
pub(super) enum Message {
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
pub(super) enum Event {
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
pub(super) struct Waiting {
    pub(super) at: usize,
    pub(super) of: usize,
    /// It is one that is asked in place of the new process, whose call this is.
    pub(super) relays: Option<u64>,
}

/// One connection: its number, whether it carries, and whether each end takes it for standing.
#[derive(Clone, Copy)]
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) carries: bool,
    pub(super) stands: [bool; 2],
}

pub(super) struct World {
    pub(super) random: u64,
    pub(super) bug: Bug,
    pub(super) begin: Instant,
    pub(super) now: u64,
    pub(super) queue: BTreeMap<(u64, u64), Event>,
    pub(super) next: u64,
    pub(super) connections: BTreeMap<(usize, usize), Connection>,
    pub(super) lives: [bool; 3],
    /// The supervisor's node.
    pub(super) home: usize,
    pub(super) child: Child,
    pub(super) old: OldProcess,
    pub(super) old_linked: bool,
    /// The porter monitors the new process.
    pub(super) watches: bool,
    pub(super) old_state: Vec<u8>,
    pub(super) new: NewProcess,
    pub(super) new_state: Vec<u8>,
    pub(super) new_until: u64,
    pub(super) waiting: BTreeMap<u64, Waiting>,
    pub(super) acknowledged: Vec<u8>,
    pub(super) both_since: Option<u64>,
    /// The new one had all of the state when this was asked last.
    pub(super) had_all: bool,
}

pub(super) fn pid(node: usize) -> Pid {
    ["<old.1.1>", "<new.1.1>", "<third.1.1>"][node].parse().unwrap()
}

pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

impl World {
    pub(super) fn new(seed: u64, bug: Bug) -> Self {
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
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn after(&mut self, wait: u64, event: Event) {
        let number = self.number();
        self.queue.insert((self.now + wait, number), event);
    }

    pub(super) fn instant(&self) -> Instant {
        self.begin + Duration::from_millis(self.now)
    }

    /// The connection as `at` sees it: its number, while it takes it for standing.
    pub(super) fn connection(&self, at: usize, other: usize) -> Option<u64> {
        let connection = self.connections[&(at.min(other), at.max(other))];
        connection.stands[usize::from(at > other)].then_some(connection.number)
    }

    /// Sends, in order on each connection, or tells that there is none.
    pub(super) fn send(&mut self, from: usize, to: usize, message: Message) -> bool {
        if from == to {
            self.after(0, Event::Arrives { from, to, connection: 0, message });
            return true;
        }
        let Some(connection) = self.connection(from, to) else { return false };
        // The same for all, so that order is kept.
        self.after(DELAY, Event::Arrives { from, to, connection, message });
        true
    }

    pub(super) fn ask(&mut self, at: usize, of: usize, question: Question, patience: u64, relays: Option<u64>) {
        let call = self.number();
        self.waiting.insert(call, Waiting { at, of, relays });
        self.after(patience, Event::CallLate(call));
        if !self.send(at, of, Message::Ask { call, question }) {
            self.answered(call, Err(CallError::NoConnection));
        }
    }

    pub(super) fn play(&mut self, faults: &[(u64, Fault)]) -> Result<(), String> {
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

    pub(super) fn serves(&self) -> [bool; 2] {
        let old = match self.old {
            OldProcess::Serves => true,
            OldProcess::Parts(_) => self.bug == Bug::HandlesMeanwhile,
            OldProcess::PassesOn | OldProcess::Ended => false,
        };
        [old && self.lives[OLD], matches!(self.new, NewProcess::Serves) && self.lives[NEW]]
    }

    pub(super) fn two_do_not_serve(&mut self) -> Result<(), String> {
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

    pub(super) fn happens(&mut self, event: Event) {
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

    pub(super) fn cut(&mut self, a: usize, b: usize) {
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
}
