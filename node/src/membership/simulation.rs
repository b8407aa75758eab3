//! Many detectors in virtual time, over links that lose, delay, reorder and double what they carry, are cut one way or both;
//! nodes are killed, stopped for a while, and starved. After each step what D3 promises must hold. A seed that fails is
//! printed with the command that plays it again. `ROOKERY_SEEDS` says how many are played.

// A test says what it expects by failing.
#![allow(clippy::panic, clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::{
    collections::{BTreeMap, BinaryHeap},
    time::{Duration, Instant},
};

use rookery_protocol::{Incarnation, NodeId, NodeName};

use super::{
    detector::{Detector, Effect, Planted},
    limits::{ANSWER_AFTER, DOWN_AFTER, PING_AFTER, SUSPECT_AFTER, TICK},
};
use crate::{mesh::arbiter::ConnectionNumber, simulation::chance::Chance};

const IDLE_TIMEOUT: Duration = Duration::from_secs(8);

/// What is allowed beyond the detector's own times: ticks, a question and its answer, lost pings.
const SLACK: Duration = Duration::from_millis(900);

/// What is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Packet {
    Ping,
    Acknowledgement,
    Asks(NodeId),
    Tells(NodeId, Option<Duration>),
}

#[derive(Debug, PartialEq, Eq)]
struct Flying {
    at: Instant,
    order: u64,
    from: usize,
    to: usize,
    packet: Packet,
}

impl Ord for Flying {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

struct Sim {
    id: NodeId,
    detector: Detector,
    /// What came over each connection.
    arrived: BTreeMap<usize, u64>,
    /// When it was given up.
    down: BTreeMap<usize, Instant>,
    next_tick: Instant,
    killed: Option<Instant>,
    /// Does not run in this time.
    stopped: Option<(Instant, Instant)>,
    /// What came while it did not run.
    waiting: Vec<(usize, Packet)>,
}

impl Sim {
    fn runs(&self, now: Instant) -> bool {
        self.killed.is_none() && self.stopped.is_none_or(|(from, until)| now < from || now >= until)
    }
}

struct World {
    chance: Chance,
    start: Instant,
    now: Instant,
    nodes: Vec<Sim>,
    flying: BinaryHeap<Flying>,
    order: u64,
    /// Percent of packets that are lost.
    loss: u64,
    /// A round trip, as the nodes know it.
    round_trip: Duration,
    /// Links that carry nothing, from and to, since when.
    cut: BTreeMap<(usize, usize), Instant>,
    /// Ports of killed nodes answer that they are closed.
    hosts_answer: bool,
    ticks: u64,
}

impl World {
    fn new(seed: u64, count: usize, loss: u64, hosts_answer: bool, planted: Option<Planted>) -> Self {
        let start = Instant::now();
        let mut chance = Chance(seed);
        let nodes = (0..count).map(|number| {
            let name = NodeName::new(format!("node-{number}")).unwrap();
            let mut detector = Detector::new(start, IDLE_TIMEOUT, chance.next());
            detector.planted = planted;
            Sim {
                id: NodeId::new(name, Incarnation(1)),
                detector,
                arrived: BTreeMap::new(),
                down: BTreeMap::new(),
                next_tick: start + Duration::from_micros(chance.below(TICK.as_micros() as u64)),
                killed: None,
                stopped: None,
                waiting: Vec::new(),
            }
        });
        let nodes = nodes.collect();
        let (flying, cut) = (BinaryHeap::new(), BTreeMap::new());
        let round_trip = Duration::from_millis(2);
        Self { chance, start, now: start, nodes, flying, order: 0, loss, round_trip, cut, hosts_answer, ticks: 0 }
    }

    fn send(&mut self, from: usize, to: usize, packet: Packet) {
        if self.cut.contains_key(&(from, to)) || self.chance.percent(self.loss) {
            return;
        }
        let copies = if self.chance.percent(2) { 2 } else { 1 };
        for _ in 0..copies {
            // Mostly up to a round trip, now and then much more: so packets overtake each other.
            let usual = self.round_trip.as_micros() as u64;
            let micros =
                if self.chance.percent(3) { usual * 10 } else { usual / 10 + self.chance.below(usual * 9 / 10) };
            self.order += 1;
            let at = self.now + Duration::from_micros(micros);
            self.flying.push(Flying { at, order: self.order, from, to, packet: packet.clone() });
        }
    }

    /// Plays until then, and checks each step.
    fn run_until(&mut self, end: Duration) -> Result<(), String> {
        let end = self.start + end;
        loop {
            let next_tick = self.nodes.iter().filter(|node| node.killed.is_none()).map(|node| node.next_tick).min();
            let next = [next_tick, self.flying.peek().map(|flying| flying.at)].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return Ok(());
            };
            self.now = self.now.max(next);
            while self.flying.peek().is_some_and(|flying| flying.at <= self.now) {
                let Some(Flying { from, to, packet, .. }) = self.flying.pop() else { break };
                if self.nodes[to].runs(self.now) {
                    self.arrive(from, to, packet);
                } else if self.nodes[to].killed.is_none() {
                    self.nodes[to].waiting.push((from, packet));
                }
            }
            for number in 0..self.nodes.len() {
                if self.nodes[number].next_tick <= self.now && self.nodes[number].killed.is_none() {
                    self.tick(number)?;
                }
            }
        }
    }

    fn arrive(&mut self, from: usize, to: usize, packet: Packet) {
        if self.nodes[to].down.contains_key(&from) {
            return;
        }
        *self.nodes[to].arrived.entry(from).or_default() += 1;
        let number = ConnectionNumber(from as u64);
        match packet {
            Packet::Acknowledgement => {}
            Packet::Ping => self.send(to, from, Packet::Acknowledgement),
            Packet::Asks(suspect) => {
                self.send(to, from, Packet::Acknowledgement);
                let effects = self.nodes[to].detector.asked(number, suspect, self.now);
                for effect in effects {
                    self.carry_out(to, effect).unwrap();
                }
            }
            Packet::Tells(suspect, ago) => {
                self.send(to, from, Packet::Acknowledgement);
                self.nodes[to].detector.answered(number, &suspect, ago, self.now);
            }
        }
    }

    fn tick(&mut self, number: usize) -> Result<(), String> {
        if !self.nodes[number].runs(self.now) {
            // Stopped: its timer goes off when it runs again.
            if let Some((_, until)) = self.nodes[number].stopped {
                self.nodes[number].next_tick = until;
            }
            return Ok(());
        }
        self.ticks += 1;
        // As a socket's buffer: what came meanwhile is read first, or after the timer; both happen.
        let late_read = self.chance.percent(50);
        if !late_read {
            self.read_waiting(number);
        }
        let standing: Vec<_> = (0..self.nodes.len())
            .filter(|peer| *peer != number && !self.nodes[number].down.contains_key(peer))
            .map(|peer| {
                let arrived = self.nodes[number].arrived.get(&peer).copied().unwrap_or_default();
                (ConnectionNumber(peer as u64), self.nodes[peer].id.clone(), arrived, self.round_trip)
            })
            .collect();
        let now = self.now;
        let effects = self.nodes[number].detector.tick(now, &standing);
        self.nodes[number].next_tick = now + TICK;
        if late_read {
            self.read_waiting(number);
        }
        effects.into_iter().try_for_each(|effect| self.carry_out(number, effect))
    }

    fn read_waiting(&mut self, number: usize) {
        for (from, packet) in std::mem::take(&mut self.nodes[number].waiting) {
            self.arrive(from, number, packet);
        }
    }

    fn carry_out(&mut self, own: usize, effect: Effect) -> Result<(), String> {
        let index = |number: ConnectionNumber| number.0 as usize;
        match effect {
            Effect::Ping(number) => self.send(own, index(number), Packet::Ping),
            Effect::Probe(number) => {
                let to = index(number);
                let reaches = !self.cut.contains_key(&(own, to)) && !self.cut.contains_key(&(to, own));
                if self.hosts_answer && reaches && self.nodes[to].killed.is_some() {
                    self.nodes[own].detector.refused(number);
                }
            }
            Effect::Ask { peer, suspect } => self.send(own, index(peer), Packet::Asks(suspect)),
            Effect::Answer { peer, suspect, ago } => self.send(own, index(peer), Packet::Tells(suspect, ago)),
            Effect::Suspected { .. } | Effect::Heard { .. } => {}
            Effect::Down { number, reason } => {
                let to = index(number);
                self.nodes[own].down.insert(to, self.now);
                self.check_down(own, to, &reason)?;
            }
        }
        Ok(())
    }

    /// D3: a node that is up, reachable and not starved for long is not declared down; one that others reach is kept longer.
    fn check_down(&self, own: usize, to: usize, reason: &str) -> Result<(), String> {
        let at = self.now - self.start;
        let told = |text: &str| Err(format!("at {at:?} node {own} gave up node {to} ({reason}): {text}"));
        // Silence begins with what was heard last: up to a ping before.
        let before = if self.loss == 0 { PING_AFTER + TICK * 3 } else { SUSPECT_AFTER };
        let long_ago = |since: Instant, least: Duration| self.now.saturating_duration_since(since) + before >= least;
        // It has given us up before, and says nothing to us any more.
        if self.nodes[to].killed.is_some() || self.nodes[to].down.contains_key(&own) {
            return Ok(());
        }
        let stopped = self.nodes[to].stopped.filter(|(from, _)| *from <= self.now);
        if stopped.is_some_and(|(from, until)| until > self.now - SLACK && long_ago(from, DOWN_AFTER)) {
            return Ok(());
        }
        let cut = [(own, to), (to, own)].iter().filter_map(|link| self.cut.get(link)).min().copied();
        let Some(cut) = cut else { return told("it is up, and reachable") };
        let others = |peer: usize| {
            peer != own
                && peer != to
                && self.nodes[peer].runs(self.now)
                && self.nodes[peer].killed.is_none()
                && [(own, peer), (peer, own), (to, peer), (peer, to)].iter().all(|link| !self.cut.contains_key(link))
        };
        let reached_by_others = (0..self.nodes.len()).filter(|peer| others(*peer)).count();
        // All others see it: whoever is asked says so. With loss an answer may be missing, and is asked for again.
        if reached_by_others == self.nodes.len() - 2 && reached_by_others > 0 && self.loss == 0 {
            return match long_ago(cut, IDLE_TIMEOUT.mul_f64(0.9)) {
                true if reason.contains("out of reach") => Ok(()),
                true => told("others hear it, and the reason does not say so"),
                false => told("others hear it"),
            };
        }
        if long_ago(cut, DOWN_AFTER) { Ok(()) } else { told("it was silent for less than was promised") }
    }

    /// D3: who is killed is known to be down in time.
    fn check_killed(&self, to: usize, within: Duration) -> Result<(), String> {
        let Some(killed) = self.nodes[to].killed else { return Ok(()) };
        for (own, node) in self.nodes.iter().enumerate() {
            if own == to || !node.runs(self.now) || node.stopped.is_some() {
                continue;
            }
            match node.down.get(&to) {
                Some(at) if *at - killed <= within => {}
                Some(at) => return Err(format!("node {own} noticed after {:?} that node {to} was gone", *at - killed)),
                None => return Err(format!("node {own} does not notice that node {to} is gone")),
            }
        }
        Ok(())
    }
}

/// One story, by its seed.
fn play(seed: u64, planted: Option<Planted>) -> Result<(), String> {
    let mut dice = Chance(seed ^ 0x5eed);
    let count = 2 + dice.below(5) as usize;
    let loss = [0, 0, 5, 10][dice.below(4) as usize];
    let hosts_answer = dice.percent(70);
    let mut world = World::new(seed, count, loss, hosts_answer, planted);
    world.run_until(Duration::from_secs(2))?;
    let victim = dice.below(count as u64) as usize;
    let other = (victim + 1) % count;
    match dice.below(7) {
        0 | 1 => {
            world.nodes[victim].killed = Some(world.now);
            let is_stopped = dice.percent(30) && count > 2;
            if is_stopped {
                // One who is asked about it.
                let from = world.now + Duration::from_millis(dice.below(1_500));
                world.nodes[other].stopped = Some((from, from + Duration::from_millis(200 + dice.below(1_800))));
            }
            world.run_until(Duration::from_secs(7))?;
            let within = match is_stopped {
                false if hosts_answer && loss == 0 => Duration::from_millis(900),
                // It may be the only one to ask, and takes for fresh what it reads late.
                true => DOWN_AFTER * 2 + SLACK,
                false => DOWN_AFTER + SLACK,
            };
            world.check_killed(victim, within)?;
        }
        // Stopped: long enough to be down, or not.
        2 | 3 => {
            let ms = if dice.percent(50) { 200 + dice.below(1_000) } else { 3_000 + dice.below(3_000) };
            world.nodes[victim].stopped = Some((world.now, world.now + Duration::from_millis(ms)));
            world.run_until(Duration::from_secs(5))?;
            // It was stopped itself: that it heard nobody meanwhile is nobody's fault.
            world.run_until(Duration::from_secs(10))?;
        }
        // A link is cut, one way or both.
        4 => {
            world.cut.insert((victim, other), world.now);
            if dice.percent(50) {
                world.cut.insert((other, victim), world.now);
            }
            world.run_until(Duration::from_secs(12))?;
        }
        // A link is cut, and one who asks about the other is stopped in the middle of it.
        5 => {
            world.cut.insert((victim, other), world.now);
            world.cut.insert((other, victim), world.now);
            let stop = Duration::from_millis(600 + dice.below(6_000));
            world.run_until(Duration::from_secs(2) + stop)?;
            world.nodes[victim].stopped = Some((world.now, world.now + Duration::from_millis(200 + dice.below(1_700))));
            world.run_until(Duration::from_secs(16))?;
        }
        // One is cut off from everybody, then killed.
        _ => {
            for peer in (0..count).filter(|peer| *peer != victim) {
                world.cut.insert((victim, peer), world.now);
                world.cut.insert((peer, victim), world.now);
            }
            world.run_until(Duration::from_secs(8))?;
            world.nodes[victim].killed = Some(world.start + Duration::from_secs(2));
            world.check_killed(victim, DOWN_AFTER + SLACK)?;
        }
    }
    Ok(())
}

fn seeds() -> u64 {
    std::env::var("ROOKERY_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

#[test]
fn d3_what_is_alive_is_kept_and_what_is_gone_is_noticed_in_any_story() {
    let first = std::env::var("ROOKERY_SEED").ok().and_then(|text| text.parse().ok());
    let range = first.map_or(0..seeds(), |seed| seed..seed + 1);
    for seed in range {
        if let Err(text) = play(seed, None) {
            panic!(
                "seed {seed}: {text}\nplay it again: ROOKERY_SEED={seed} cargo test -p rookery-node --lib \
                 membership::simulation"
            );
        }
    }
}

/// A machine that has no time: what takes milliseconds elsewhere takes a quarter of a second here, and more.
#[test]
fn d3_nobody_is_lost_where_round_trips_are_long_and_a_tenth_of_all_packets_is_lost() {
    for seed in 0..seeds() / 50 {
        let mut world = World::new(seed, 3 + seed as usize % 4, 10, true, None);
        world.round_trip = Duration::from_millis(250);
        if let Err(text) = world.run_until(Duration::from_secs(30)) {
            panic!("seed {seed}: {text}");
        }
    }
}

#[test]
fn the_simulation_finds_planted_mistakes() {
    for planted in [Planted::AsksNobody, Planted::NeverDown] {
        let found = (0..500).find(|seed| play(*seed, Some(planted)).is_err());
        assert!(found.is_some(), "{planted:?} was not found");
    }
}

/// Who was stopped himself, with a ping under way, gives nobody up for that.
#[test]
fn d3_time_in_which_a_node_did_not_run_counts_for_nobody() {
    let gives_up = |planted: Option<Planted>| {
        let start = Instant::now();
        let mut detector = Detector::new(start, IDLE_TIMEOUT, 1);
        detector.planted = planted;
        let peer = NodeId::new(NodeName::new("peer").unwrap(), Incarnation(1));
        let standing = [(ConnectionNumber(1), peer, 0, Duration::from_millis(1))];
        let ticks = [0, 50, 100, 150, 5_150].map(|ms| detector.tick(start + Duration::from_millis(ms), &standing));
        assert!(ticks[..4].concat().contains(&Effect::Ping(ConnectionNumber(1))));
        ticks[4].iter().any(|effect| matches!(effect, Effect::Down { .. }))
    };
    assert!(!gives_up(None));
    assert!(gives_up(Some(Planted::OwnStarvation)), "the mistake is found");
}

/// Who asks others about a suspect, and is stopped before it is told, does not give it up when it goes on: what it knew is no older, and
/// what was said meanwhile is read now.
#[test]
fn d3_who_was_stopped_while_it_asked_others_gives_nobody_up_for_that() {
    let gives_up = |planted: Option<Planted>, told_while_stopped: bool| {
        let start = Instant::now();
        let mut detector = Detector::new(start, IDLE_TIMEOUT, 1);
        detector.planted = planted;
        let node = |number: u64| NodeId::new(NodeName::new(format!("node-{number}")).unwrap(), Incarnation(1));
        let mut standing: Vec<_> =
            (1..4).map(|number| (ConnectionNumber(number), node(number), 0, Duration::from_millis(1))).collect();
        let mut effects = Vec::new();
        let mut now = start;
        // The suspect is silent for 1.9 s, while the others hear it.
        while now < start + Duration::from_millis(1_900) {
            now += TICK;
            standing[1].2 += 1;
            standing[2].2 += 1;
            effects = detector.tick(now, &standing);
            for effect in &effects {
                if let Effect::Ask { peer, suspect } = effect {
                    detector.answered(*peer, suspect, Some(Duration::from_millis(20)), now);
                }
            }
        }
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Down { .. })));
        now += Duration::from_secs(4);
        if told_while_stopped {
            detector.answered(ConnectionNumber(2), &node(1), Some(Duration::from_millis(300)), now);
        }
        effects = detector.tick(now, &standing);
        effects.iter().any(|effect| matches!(effect, Effect::Down { .. }))
    };
    for told_while_stopped in [false, true] {
        assert!(!gives_up(None, told_while_stopped));
    }
    assert!(gives_up(Some(Planted::OwnStarvation), false), "the mistake is found");
}

/// One node in a mesh of many, on whose connections QUIC keeps alive what is silent: each peer is heard once a second, in its
/// turn, until it is gone. Gives what the detector wants at each tick.
fn among_a_thousand(ticks: u32, gone: Option<u64>) -> Vec<Vec<Effect>> {
    let start = Instant::now();
    let mut detector = Detector::new(start, IDLE_TIMEOUT, 1);
    let node = |number: u64| NodeId::new(NodeName::new(format!("node-{number}")).unwrap(), Incarnation(1));
    let mut standing: Vec<_> =
        (0..1_000).map(|number| (ConnectionNumber(number), node(number), 0_u64, Duration::from_millis(1))).collect();
    let mut pinged = Vec::new();
    let mut asked: Vec<(u32, ConnectionNumber, NodeId)> = Vec::new();
    let tick = |tick: u32| {
        for number in (0..1_000).filter(|number| number % 20 == u64::from(tick % 20)).chain(pinged.drain(..)) {
            if gone != Some(number) || tick <= 40 {
                standing[number as usize].2 += 1;
            }
        }
        let now = start + TICK * tick;
        // Those who are asked answer as they do: when they have pinged it in vain.
        asked.retain(|(since, peer, suspect)| {
            let due = TICK * (tick - since) >= ANSWER_AFTER;
            if due {
                detector.answered(*peer, suspect, Some(TICK * tick.saturating_sub(40)), now);
            }
            !due
        });
        let effects = detector.tick(now, &standing);
        asked.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Ask { peer, suspect } => Some((tick, *peer, suspect.clone())),
            _ => None,
        }));
        pinged.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Ping(number) => Some(number.0),
            _ => None,
        }));
        effects
    };
    (1..=ticks).map(tick).collect()
}

/// The cost of one node in a mesh of many: what one tick takes, and how many pings it sends.
#[test]
fn a_thousand_nodes_cost_each_little() {
    let (began, ticks) = (Instant::now(), 1_200);
    let effects = among_a_thousand(ticks, None).concat();
    let per_tick = began.elapsed() / ticks;
    assert!(effects.iter().all(|effect| matches!(effect, Effect::Ping(_))), "{effects:?}");
    let per_second = effects.len() as f64 / (TICK * ticks).as_secs_f64();
    // For whoever runs it with --nocapture: the cost of a node.
    eprintln!("1,000 peers: {per_second:.0} pings a second, {per_tick:?} a tick of {TICK:?} (this build)");
    assert!(per_second < 130.0, "{per_second} pings a second");
}

/// However many there are: one that falls silent is asked about, and is down no later than among few.
#[test]
fn d3_one_of_a_thousand_that_falls_silent_is_asked_about_and_down_in_time() {
    let effects = among_a_thousand(140, Some(7));
    let at = |wanted: &dyn Fn(&Effect) -> bool| effects.iter().position(|tick| tick.iter().any(wanted));
    let asked = at(&|effect| matches!(effect, Effect::Ask { .. })).unwrap();
    let down = at(&|effect| matches!(effect, Effect::Down { number, .. } if number.0 == 7)).unwrap();
    // It was heard within the second before, at the 40th tick at the latest.
    assert!(TICK * (down - asked) as u32 >= ANSWER_AFTER * 3, "asked at {asked}, down at {down}");
    assert!(TICK * (down - 40) as u32 <= DOWN_AFTER + TICK * 2, "down at {down}");
}
