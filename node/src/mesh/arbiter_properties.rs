//! D2, shown rather than hoped: two nodes, each with a real [`Arbiter`], and connections of two FIFO channels each. The ends
//! take the steps of the driver's `dial_until_agreed` and `accept_until_agreed`; a schedule decides who dials when, which
//! frame arrives next, and where a connection is lost. Few dials are explored in all interleavings, more by proptest.
//!
//! **Held:** without losses exactly one connection is left, the same at both ends; what stands (and so may have carried a
//! signal) is never given up for another; nobody remembers a connection that has ended. With losses and restarts the two
//! find each other again, and the newest lives win. The checker is proven by bugs planted into the steps.
#![allow(clippy::unwrap_used, clippy::panic)] // A test may stop where it fails.

use std::collections::{HashSet, VecDeque};

use proptest::prelude::*;
use rookery_protocol::{Incarnation, NodeId, NodeName, handshake::RefusalCode};

use super::arbiter::{Arbiter, ConnectionNumber, Ruling};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Frame {
    Hello { replace: bool },
    Welcome,
    Refuse(RefusalCode),
    Confirm,
    Abort,
}

/// What one end of a connection has come to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// Hello is on its way, or awaited.
    Shaking,
    /// The acceptor awaits the last word.
    Welcomed,
    /// With a planted bug: the last word is sent, and the arbiter not told.
    Confirming,
    Up,
    Gone,
}

#[derive(Debug, Clone)]
struct Connection {
    /// The lives that it connects.
    lives: [NodeId; 2],
    stages: [Stage; 2],
    /// Frames towards each end.
    wires: [VecDeque<Frame>; 2],
    /// The other end has closed it, or it is dead: this end learns of it at any time, and loses what is on the wire.
    dead: [bool; 2],
}

#[derive(Debug, Clone)]
struct End {
    own: NodeId,
    arbiter: Arbiter,
    /// The one peer, as the driver's table has it.
    peer: Option<usize>,
    dials_left: usize,
    /// It was told of a connection that it does not have.
    stale: bool,
}

/// Bugs that the checker must find.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Plant {
    Nothing,
    /// The dialler confirms first, and lets its arbiter know later.
    ConfirmsBeforeItStands,
    /// A handshake that ends early is not told to the arbiter.
    ForgetsToEnd,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Dial(usize),
    Deliver(usize, usize),
    HearOfDeath(usize, usize),
    Mark(usize, usize),
    Lose(usize),
    Restart(usize),
}

#[derive(Debug, Clone)]
struct World {
    ends: [End; 2],
    connections: Vec<Connection>,
    losses_left: usize,
    restarts_left: usize,
    plant: Plant,
    /// Whether to hold that what stands is never given up: not with losses, nor after a `replace`.
    strict: bool,
}

fn id(end: usize, incarnation: u64) -> NodeId {
    NodeId::new(NodeName::new(["a", "b"][end]).unwrap(), Incarnation(incarnation))
}

impl World {
    fn new(dials: [usize; 2], plant: Plant) -> Self {
        let end = |n: usize| End {
            own: id(n, 1),
            arbiter: Arbiter::new(id(n, 1)),
            peer: None,
            dials_left: dials[n],
            stale: false,
        };
        let strict = true;
        Self { ends: [end(0), end(1)], connections: Vec::new(), losses_left: 0, restarts_left: 0, plant, strict }
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = (0..2).filter(|&n| self.ends[n].dials_left > 0).map(Step::Dial).collect();
        for (c, connection) in self.connections.iter().enumerate() {
            for end in 0..2 {
                if connection.stages[end] == Stage::Gone {
                    continue;
                }
                if !connection.wires[end].is_empty() {
                    steps.push(Step::Deliver(c, end));
                }
                if connection.dead[end] {
                    steps.push(Step::HearOfDeath(c, end));
                }
                if connection.stages[end] == Stage::Confirming {
                    steps.push(Step::Mark(c, end));
                }
            }
            if self.losses_left > 0 && connection.stages != [Stage::Gone; 2] && connection.dead == [false; 2] {
                steps.push(Step::Lose(c));
            }
        }
        if self.restarts_left > 0 {
            steps.extend([Step::Restart(0), Step::Restart(1)]);
        }
        steps
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Dial(end) => {
                self.ends[end].dials_left -= 1;
                let lives = [self.ends[0].own.clone(), self.ends[1].own.clone()];
                let replace = std::mem::take(&mut self.ends[end].stale);
                self.strict &= !replace;
                let mut wires = [VecDeque::new(), VecDeque::new()];
                wires[1 - end].push_back(Frame::Hello { replace });
                let stages = [Stage::Shaking; 2];
                self.connections.push(Connection { lives, stages, wires, dead: [false; 2] });
            }
            Step::Deliver(c, end) => {
                if let Some(frame) = self.connections[c].wires[end].pop_front() {
                    self.deliver(c, end, frame);
                }
            }
            Step::HearOfDeath(c, end) => self.leave(c, end),
            Step::Mark(c, end) => {
                let peer = self.connections[c].lives[1 - end].clone();
                match self.ends[end].arbiter.welcomed(number(c), &peer) {
                    Ruling::Keep(other) => self.establish(c, end, other),
                    Ruling::Refuse(..) => self.leave(c, end),
                }
            }
            Step::Lose(c) => {
                self.losses_left -= 1;
                self.strict = false;
                self.connections[c].dead = [true; 2];
            }
            Step::Restart(end) => {
                self.restarts_left -= 1;
                self.strict = false;
                let own = id(end, self.ends[end].own.incarnation().0 + 1);
                // It dials when it is there again, and has no time to say goodbye.
                self.ends[end] =
                    End { arbiter: Arbiter::new(own.clone()), own, peer: None, dials_left: 1, stale: false };
                for connection in &mut self.connections {
                    connection.stages[end] = Stage::Gone;
                    connection.dead[1 - end] = true;
                }
            }
        }
    }

    fn deliver(&mut self, c: usize, end: usize, frame: Frame) {
        let peer = self.connections[c].lives[1 - end].clone();
        let stage = self.connections[c].stages[end];
        let arbiter = &mut self.ends[end].arbiter;
        match (stage, frame) {
            (Stage::Shaking, Frame::Hello { replace }) => match arbiter.asked(number(c), &peer, replace) {
                Ruling::Keep(_) => {
                    self.connections[c].stages[end] = Stage::Welcomed;
                    self.say(c, end, Frame::Welcome);
                }
                Ruling::Refuse(code, _) => {
                    self.say(c, end, Frame::Refuse(code));
                    self.leave(c, end);
                }
            },
            (Stage::Shaking, Frame::Welcome) if self.plant == Plant::ConfirmsBeforeItStands => {
                if matches!(arbiter.clone().welcomed(number(c), &peer), Ruling::Keep(_)) {
                    self.connections[c].stages[end] = Stage::Confirming;
                    self.say(c, end, Frame::Confirm);
                } else {
                    self.say(c, end, Frame::Abort);
                    self.leave(c, end);
                }
            }
            (Stage::Shaking, Frame::Welcome) => match arbiter.welcomed(number(c), &peer) {
                Ruling::Keep(other) => {
                    self.say(c, end, Frame::Confirm);
                    self.establish(c, end, other);
                }
                Ruling::Refuse(..) => {
                    self.say(c, end, Frame::Abort);
                    self.leave(c, end);
                }
            },
            (Stage::Shaking, Frame::Refuse(code)) => {
                if code == RefusalCode::Duplicate && !arbiter.knows(&peer) {
                    self.ends[end].stale = true;
                }
                self.leave(c, end);
            }
            (Stage::Welcomed, Frame::Confirm) => match arbiter.confirmed(number(c), &peer) {
                Ruling::Keep(other) => self.establish(c, end, other),
                Ruling::Refuse(code, text) => {
                    assert!(!self.strict, "{c} stands at its dialler, and is refused: {code:?} {text}");
                    self.leave(c, end);
                }
            },
            (Stage::Welcomed, Frame::Abort) => self.leave(c, end),
            (stage, frame) => panic!("{frame:?} came in stage {stage:?}"),
        }
    }

    fn say(&mut self, c: usize, end: usize, frame: Frame) {
        self.connections[c].wires[1 - end].push_back(frame);
    }

    fn establish(&mut self, c: usize, end: usize, other: Option<ConnectionNumber>) {
        if let Some(ConnectionNumber(other)) = other {
            let other = usize::try_from(other).unwrap();
            let newer = self.connections[c].lives[1 - end] > self.connections[other].lives[1 - end];
            assert!(newer || !self.strict, "{other} stands, and is given up for {c}");
            assert_eq!(
                self.ends[end].peer,
                Some(other),
                "the arbiter names a connection that the driver does not have"
            );
            self.leave(other, end);
        }
        assert_eq!(self.ends[end].peer, None, "{c} is established beside another one");
        self.ends[end].peer = Some(c);
        self.connections[c].stages[end] = Stage::Up;
    }

    /// The end has done with the connection, and the other one will hear of it.
    fn leave(&mut self, c: usize, end: usize) {
        let connection = &mut self.connections[c];
        let stage = std::mem::replace(&mut connection.stages[end], Stage::Gone);
        connection.dead[1 - end] = true;
        if stage == Stage::Gone || stage == Stage::Welcomed && self.plant == Plant::ForgetsToEnd {
            return;
        }
        let peer = connection.lives[1 - end].clone();
        assert!(stage != Stage::Up || !self.strict, "{c} stands, and is lost");
        self.ends[end].arbiter.ended(number(c), &peer);
        self.ends[end].peer.take_if(|peer| *peer == c);
    }

    /// What must hold once nothing is on its way.
    fn check_at_rest(&self) {
        let peers = [self.ends[0].peer, self.ends[1].peer];
        assert_eq!(peers[0], peers[1], "the two disagree");
        for (end, peer) in self.ends.iter().enumerate() {
            let other = &self.ends[1 - end].own;
            let (knows, own) = (peer.arbiter.knows(other), &peer.own);
            assert_eq!(knows, peers[end].is_some(), "{own} remembers what is not there, or forgets what is");
        }
        if let Some(c) = peers[0] {
            let lives = [self.ends[0].own.clone(), self.ends[1].own.clone()];
            assert_eq!(self.connections[c].lives, lives, "a former life is taken for the present one");
        }
        assert!(peers[0].is_some() || !self.strict || self.connections.is_empty(), "all were refused");
    }

    fn run(&mut self, mut choose: impl FnMut(usize) -> usize) {
        loop {
            let steps = self.steps();
            let Some(&step) = steps.get(choose(steps.len())) else { return };
            self.take(step);
        }
    }
}

fn number(c: usize) -> ConnectionNumber {
    ConnectionNumber(c as u64)
}

/// Walks through every interleaving, each state once. Gives how many states there are.
fn explore(start: World) -> usize {
    let mut seen = HashSet::new();
    let mut open = vec![(start, Vec::new())];
    while let Some((world, path)) = open.pop() {
        let steps = world.steps();
        if steps.is_empty() {
            report(&path, || world.check_at_rest());
        }
        for step in steps {
            let mut next = world.clone();
            let mut path = path.clone();
            path.push(step);
            report(&path, || next.take(step));
            if seen.insert(format!("{next:?}")) {
                open.push((next, path));
            }
        }
    }
    seen.len()
}

/// Says how it came to a failure.
fn report(path: &[Step], check: impl FnOnce()) {
    if let Err(failure) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)) {
        eprintln!("after {path:?}");
        std::panic::resume_unwind(failure);
    }
}

#[test]
fn d2_one_connection_is_left_in_every_interleaving() {
    for dials in [[1, 0], [1, 1], [2, 1], [1, 2], [2, 2]] {
        let states = explore(World::new(dials, Plant::Nothing));
        eprintln!("{dials:?}: {states} states");
    }
}

#[test]
fn d2_a_loss_or_a_restart_at_any_step_leaves_no_trace() {
    for dials in [[1, 0], [0, 1], [1, 1]] {
        explore(World { losses_left: 1, ..World::new(dials, Plant::Nothing) });
        explore(World { restarts_left: 1, ..World::new(dials, Plant::Nothing) });
    }
}

#[test]
fn d2_the_checker_finds_who_confirms_before_it_stands() {
    finds(World::new([1, 1], Plant::ConfirmsBeforeItStands));
}

#[test]
fn d2_the_checker_finds_who_forgets_to_end() {
    finds(World { losses_left: 1, ..World::new([1, 0], Plant::ForgetsToEnd) });
}

fn finds(planted: World) {
    assert!(std::panic::catch_unwind(|| explore(planted)).is_err(), "the planted bug was not found");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn d2_many_dials_leave_one_connection(
        dials in [0_usize..6, 0_usize..6],
        schedule in prop::collection::vec(any::<prop::sample::Index>(), 1..80),
    ) {
        let mut world = World::new(dials, Plant::Nothing);
        let mut schedule = schedule.into_iter().cycle();
        world.run(|steps| schedule.next().map_or(0, |index| if steps == 0 { 0 } else { index.index(steps) }));
        world.check_at_rest();
    }

    /// Who is not connected dials again, as the dialling book has it, and asks to replace what it does not have.
    #[test]
    fn d2_two_nodes_find_each_other_again_after_any_losses_and_restarts(
        dials in [0_usize..4, 0_usize..4],
        losses_left in 0_usize..6,
        restarts_left in 0_usize..3,
        schedule in prop::collection::vec(any::<prop::sample::Index>(), 1..120),
    ) {
        let mut world = World { losses_left, restarts_left, ..World::new(dials, Plant::Nothing) };
        let mut schedule = schedule.into_iter().cycle();
        let mut choose =
            |steps: usize| schedule.next().map_or(0, |index| if steps == 0 { 0 } else { index.index(steps) });
        world.run(&mut choose);
        world.check_at_rest();
        (world.losses_left, world.restarts_left, world.strict) = (0, 0, false);
        for _ in 0..2 {
            for end in &mut world.ends {
                end.dials_left = usize::from(end.peer.is_none());
            }
            world.run(&mut choose);
            world.check_at_rest();
        }
        prop_assert!(world.ends[0].peer.is_some(), "they do not find each other: {world:?}");
    }
}
