//! A story: what goes wrong when, all from its seed; and how a world is played to its end and judged.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rookery_protocol::NodeId;

use super::{
    chance::Chance,
    connection::Stage,
    contract::Checked,
    host::Node,
    liveness::SLACK,
    network::{HostIndex, Network, Way},
    planted::Mistake,
    processes::Processes,
    schedule::{EndId, Event, Gone, Life},
    tally::Tally,
    world::{IDLE_TIMEOUT, World},
};
use crate::{
    discovery::{DialBook, Jitter, Source, SourceWatch, limits},
    membership::{
        detector::Detector,
        limits::{DOWN_AFTER, TICK},
    },
    mesh::{arbiter::Arbiter, gossip::Rounds, settling::Memory},
};

/// When things begin to go wrong, and when all is well again.
const TROUBLE: Duration = Duration::from_secs(2);
const HEALED: Duration = Duration::from_secs(10);

/// Within how long after that all are connected with all. A dial that is under way fails after a second and a half, its address
/// is due again within five, and DNS, whose last answer may have been a wrong one, is asked within five.
pub(super) const CONNECTED_WITHIN: Duration = Duration::from_secs(10);

/// The same for two who have to be told of each other: others do so in turns of ten seconds.
pub(super) const HEARD_OF_WITHIN: Duration = Duration::from_secs(40);

/// Within how long all that was sent arrives, and whoever waits for credit has it.
const DELIVERED_WITHIN: Duration = Duration::from_secs(20);

/// A graceful leave is known to all (D3).
const LEAVE_WITHIN: Duration = Duration::from_millis(100);

#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// A node starts, if none runs there.
    Start(HostIndex),
    /// Its program ends without a word.
    Kill(HostIndex),
    /// It says goodbye.
    Leave(HostIndex),
    /// It has left.
    Gone(HostIndex),
    /// Nothing runs there for so long.
    Stop(HostIndex, Duration),
    /// The host is replaced by one with another address.
    Move(HostIndex),
    /// Its wall clock is an hour behind.
    ClockBehind(HostIndex),
    Cut(BTreeSet<Way>),
    Mend(BTreeSet<Way>),
    /// So many percent of the answers of DNS are none, or wrong.
    Dns(u64),
    /// All is well from now on.
    Heal,
}

#[derive(Default)]
pub(super) struct Story {
    pub(super) faults: Vec<(Duration, Fault)>,
    /// Nothing goes wrong but on the network: no connection is ever lost.
    pub(super) is_calm: bool,
    /// Processes send.
    pub(super) talking: bool,
    /// DNS names so many of the hosts; the others are told of by these.
    pub(super) named: usize,
    /// When all is well again.
    healed: Duration,
    connected_within: Duration,
    /// Hosts whose wall clock is an hour behind.
    behind: BTreeSet<HostIndex>,
    /// What processes hold at most.
    capacity: u32,
}

impl Story {
    /// For measuring: nothing happens.
    pub(super) fn quiet() -> Self {
        Self { is_calm: true, capacity: 16, named: usize::MAX, ..Self::default() }
    }

    fn new(chance: &mut Chance, hosts: usize) -> Self {
        let is_calm = chance.percent(25);
        let capacity = [2, 8, 40][chance.below(3) as usize];
        let mut story = Self { is_calm, talking: true, capacity, healed: HEALED, ..Self::default() };
        story.connected_within = CONNECTED_WITHIN;
        story.named = if chance.percent(25) { 1 } else { hosts };
        // At once, or one after the other.
        let spread = [0, 0, 50, 1_500][chance.below(4) as usize];
        for host in 0..hosts {
            story.faults.push((chance.millis(0, spread + 1), Fault::Start(host)));
        }
        if !is_calm {
            for _ in 0..chance.between(2, 5) {
                story.trouble(chance, hosts);
            }
        }
        story.faults.push((HEALED, Fault::Heal));
        story
    }

    /// DNS names one of them, and two others lose sight of each other for longer than anybody dials on hearsay.
    fn out_of_sight(chance: &mut Chance, hosts: usize) -> Self {
        let healed = TROUBLE + chance.millis(1_000, 60_000);
        let ways = BTreeSet::from([(1, 2), (2, 1)]);
        let mut faults: Vec<_> = (0..hosts).map(|host| (chance.millis(0, 500), Fault::Start(host))).collect();
        faults.extend([(TROUBLE, Fault::Cut(ways.clone())), (healed, Fault::Mend(ways)), (healed, Fault::Heal)]);
        Self { faults, named: 1, healed, connected_within: HEARD_OF_WITHIN, ..Self::default() }
    }

    /// One thing that goes wrong, and right again by the time that all is well.
    fn trouble(&mut self, chance: &mut Chance, hosts: usize) {
        let trouble = TROUBLE.as_millis() as u64;
        let at = chance.millis(trouble, HEALED.as_millis() as u64 - 1_000);
        let until = |chance: &mut Chance, least: u64, most: u64| (at + chance.millis(least, most)).min(HEALED);
        let host = chance.below(hosts as u64) as usize;
        let mut add = |at: Duration, fault: Fault| self.faults.push((at, fault));
        match chance.below(9) {
            0 | 1 => {
                add(at, Fault::Kill(host));
                let back = until(chance, 300, 4_000);
                match chance.below(6) {
                    0 | 1 => add(back, Fault::Move(host)),
                    2 => add(back, Fault::ClockBehind(host)),
                    _ => {}
                }
                add(back, Fault::Start(host));
            }
            2 => {
                add(at, Fault::Leave(host));
                let gone = at + Duration::from_millis(1_100);
                add(gone, Fault::Gone(host));
                add(gone + chance.millis(200, 2_000), Fault::Start(host));
            }
            3 | 4 => {
                let time = if chance.percent(50) { chance.millis(200, 1_500) } else { chance.millis(3_200, 6_000) };
                add(at, Fault::Stop(host, time.min(HEALED - at)));
            }
            5 => {
                let other = (host + 1 + chance.below(hosts as u64 - 1) as usize) % hosts;
                let mut ways = BTreeSet::from([(host, other)]);
                if chance.percent(60) {
                    ways.insert((other, host));
                }
                add(at, Fault::Cut(ways.clone()));
                add(until(chance, 300, 7_000), Fault::Mend(ways));
            }
            6 | 7 => {
                // Two parts, or one host alone, one way or both.
                let part: BTreeSet<HostIndex> = match chance.percent(50) {
                    true => (0..hosts).filter(|_| chance.percent(50)).collect(),
                    false => BTreeSet::from([host]),
                };
                let both = chance.percent(75);
                let between = |from: &HostIndex, to: &HostIndex| {
                    part.contains(from) && !part.contains(to) || both && part.contains(to) && !part.contains(from)
                };
                let ways: BTreeSet<Way> = (0..hosts)
                    .flat_map(|from| (0..hosts).map(move |to| (from, to)))
                    .filter(|(from, to)| between(from, to))
                    .collect();
                add(at, Fault::Cut(ways.clone()));
                add(until(chance, 300, 7_000), Fault::Mend(ways));
            }
            _ => {
                add(at, Fault::Dns(chance.between(30, 101)));
                add(until(chance, 1_000, 7_000), Fault::Dns(0));
            }
        }
    }
}

impl World {
    pub(super) fn fault(&mut self, number: usize) -> Checked {
        let Some((_, fault)) = self.story.faults.get(number).cloned() else { return Ok(()) };
        let now = self.now;
        match fault {
            Fault::Start(host) => self.start(host),
            Fault::Kill(host) => self.kill(host, true),
            Fault::Leave(host) => return self.leaves(host),
            Fault::Gone(host) => {
                if self.hosts[host].node.as_ref().is_some_and(|node| node.leaving) {
                    self.kill(host, false);
                }
            }
            Fault::Stop(host, time) => self.stop(host, time),
            Fault::Move(host) => {
                if self.hosts[host].node.is_none() {
                    self.tally.moves += 1;
                    // Another machine's clock, but not so far behind that the node is taken for an older one.
                    let former = self.hosts[host].clock.ahead_us;
                    let clock = self.clock();
                    self.hosts[host].clock = super::host::Clock { ahead_us: clock.ahead_us.max(former), ..clock };
                    self.move_host(host);
                }
            }
            Fault::ClockBehind(host) => {
                if self.hosts[host].node.is_none() && self.story.behind.insert(host) {
                    self.tally.clocks_behind += 1;
                    self.hosts[host].clock.ahead_us -= 3_600_000_000;
                }
            }
            Fault::Cut(ways) => {
                self.tally.cuts += 1;
                self.tally.one_way_cuts += u64::from(ways.iter().any(|(a, b)| !ways.contains(&(*b, *a))));
                self.tally.partitions += u64::from(ways.len() > 2);
                self.network.cut(&ways, now);
            }
            Fault::Mend(ways) => self.network.mend(&ways, now),
            Fault::Dns(trouble) => self.dns.trouble = trouble,
            Fault::Heal => self.heal(),
        }
        Ok(())
    }

    fn heal(&mut self) {
        self.dns.trouble = 0;
        for host in std::mem::take(&mut self.story.behind) {
            self.kill(host, true);
            self.hosts[host].clock.ahead_us += 3_600_000_000;
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host].node.as_ref().is_some_and(|node| node.leaving) {
                self.kill(host, false);
            }
            self.start(host);
        }
    }

    pub(super) fn start(&mut self, index: HostIndex) {
        let (now, seed) = (self.now, self.chance.next());
        let instant = self.instant(index);
        let host = &mut self.hosts[index];
        if host.node.is_some() {
            return;
        }
        host.lives += 1;
        let life = Life { host: index, life: host.lives };
        let id = NodeId::new(host.name.clone(), host.clock.incarnation(now));
        let mut jitter = Jitter::new(seed);
        let rounds = Rounds::new(jitter.fork(), Duration::ZERO);
        let source = Source::Service("simulated".into());
        let mut node = Node {
            life,
            id: id.clone(),
            since: now,
            arbiter: Arbiter::new(id.clone()),
            detector: Detector::new(instant, IDLE_TIMEOUT, seed),
            watch: SourceWatch::new(source, limits::POLL_MIN, limits::POLL_MAX, jitter.fork()),
            book: DialBook::new(jitter),
            memory: Memory::default(),
            rounds,
            peers: BTreeMap::new(),
            ends: BTreeSet::new(),
            wake: None,
            leaving: false,
            processes: Processes::new(id, self.story.capacity),
            view: Default::default(),
        };
        match self.mistake {
            Some(Mistake::Arbiter(planted)) => node.arbiter.planted = Some(planted),
            Some(Mistake::Detector(planted)) => node.detector.planted = Some(planted),
            Some(Mistake::Book(planted)) => node.book.planted = Some(planted),
            _ => {}
        }
        let address = host.address;
        host.node = Some(node);
        self.tally.starts += 1;
        let until_tick = Duration::from_micros(self.chance.below(TICK.as_micros() as u64));
        self.schedule.at(now + until_tick, Event::Tick(life));
        self.schedule.at(now + self.chance.millis(0, 3), Event::Poll(life));
        if self.story.talking {
            for process in 0..2 {
                self.schedule.at(now + self.chance.millis(0, 100), Event::Turn(life, process));
            }
        }
        // At once, as with addresses that are published before a node is ready, or a while later.
        let named = if self.chance.percent(50) { Duration::ZERO } else { self.chance.millis(0, 1_500) };
        if index < self.story.named {
            self.schedule.at(now + named, Event::Zone(address, true));
        }
    }

    /// The program of a node ends.
    fn kill(&mut self, index: HostIndex, without_a_word: bool) {
        let now = self.now;
        let host = &mut self.hosts[index];
        let Some(node) = host.node.take() else { return };
        let address = host.address;
        host.backlog.clear();
        if host.stopped.take().is_some() {
            host.stopped_before += now.saturating_sub(host.stopped_at);
            host.resumed = now;
        }
        if without_a_word {
            self.tally.kills += 1;
            self.must_be_down_within(node.life, &node.id, DOWN_AFTER + SLACK, false);
        }
        for id in &node.ends {
            let Some(connection) = self.connections.get_mut(&id.connection) else { continue };
            connection.ends[id.end] = None;
            if connection.ends[id.other().end].is_none() {
                self.connections.remove(&id.connection);
            }
        }
        self.schedule.at(now + self.chance.millis(0, 2_500), Event::Zone(address, false));
    }

    fn must_be_down_within(&mut self, life: Life, id: &NodeId, within: Duration, is_hung: bool) {
        let gone = Gone { life, id: id.clone(), since: self.now, is_hung };
        self.schedule.at(self.now + within, Event::MustBeDown(gone));
    }

    fn leaves(&mut self, index: HostIndex) -> Checked {
        let host = &self.hosts[index];
        let Some(node) = host.node.as_ref().filter(|node| !node.leaving && host.stopped.is_none()) else {
            return Ok(());
        };
        let (life, id) = (node.life, node.id.clone());
        self.tally.leaves += 1;
        let network = &self.network;
        if network.loss == 0 && !network.any_cut() && network.late == 0 && network.delay_us <= 1_000 {
            self.must_be_down_within(life, &id, LEAVE_WITHIN, false);
        }
        self.leave(life)
    }

    fn stop(&mut self, index: HostIndex, time: Duration) {
        let now = self.now;
        let host = &mut self.hosts[index];
        if host.node.is_none() || host.stopped.is_some() {
            return;
        }
        self.tally.stops += 1;
        host.stopped = Some(now + time);
        host.stopped_at = now;
        self.schedule.at(now + time, Event::Resume(index));
        let (life, id) = match &host.node {
            Some(node) => (node.life, node.id.clone()),
            None => return,
        };
        self.must_be_down_within(life, &id, DOWN_AFTER + SLACK, true);
    }

    /// Whether every node that runs is connected with every other one, as both see it.
    pub(super) fn all_connected(&self) -> bool {
        self.hosts.iter().all(|host| host.node.is_some())
            && self.pairs().into_iter().all(|(one, other)| match (&self.hosts[one].node, &self.hosts[other].node) {
                (Some(node), Some(peer)) => node.is_connected(&peer.id),
                _ => false,
            })
    }

    /// D2: each pair has one connection, and both ends of it.
    fn one_connection_each(&self) -> Checked {
        for node in self.hosts.iter().filter_map(|host| host.node.as_ref()) {
            let up: Vec<EndId> =
                node.ends.iter().copied().filter(|id| self.end(*id).is_some_and(|end| end.is_up())).collect();
            if up.len() + 1 != self.hosts.len() {
                return Err(format!(
                    "D2: {} has {} connections with {} others",
                    node.id,
                    up.len(),
                    self.hosts.len() - 1
                ));
            }
            for id in up {
                if !self.end(id.other()).is_some_and(|end| matches!(end.stage, Stage::Up)) {
                    return Err(format!("D2: {} has a connection whose other end is none", node.id));
                }
            }
        }
        Ok(())
    }

    /// S2, S7: all that was sent has arrived, and nobody waits for credit.
    fn all_delivered(&self) -> Checked {
        for node in self.hosts.iter().filter_map(|host| host.node.as_ref()) {
            node.processes.all_have_room()?;
            for (peer, by) in node.view.up() {
                let Some(flow) = self.end(by.other()).and_then(|end| end.flow.as_ref()) else { continue };
                node.view.has_all(peer, &flow.sent)?;
            }
        }
        Ok(())
    }

    /// Plays until something holds, and fails if it does not in time.
    fn until(&mut self, within: Duration, mut holds: impl FnMut(&Self) -> Checked) -> Result<Duration, String> {
        let (start, step) = (self.now, Duration::from_millis(250));
        loop {
            let Err(text) = holds(self) else { return Ok(self.now - start) };
            if self.now - start >= within {
                return Err(format!("after {:?}: {text}", self.now - start));
            }
            self.run_until(self.now + step)?;
        }
    }

    /// From the beginning to the end. Gives how long it took to be connected again.
    fn play(&mut self) -> Result<Duration, String> {
        for (number, (at, _)) in self.story.faults.iter().enumerate() {
            self.schedule.at(*at, Event::Fault(number));
        }
        self.run_until(self.story.healed + Duration::from_millis(1))?;
        let connected = self.until(self.story.connected_within, |world| match world.all_connected() {
            true => Ok(()),
            false => Err(format!("D1: not all are connected with all: {}", world.missing())),
        })?;
        self.run_until(self.now + Duration::from_secs(1))?;
        self.story.talking = false;
        self.until(DELIVERED_WITHIN, Self::all_delivered)?;
        match self.all_connected() {
            true => self.one_connection_each()?,
            false => return Err(format!("D3: connections were lost again: {}", self.missing())),
        }
        Ok(connected)
    }

    /// Who is not connected with whom.
    fn missing(&self) -> String {
        let mut text = String::new();
        for (one, other) in self.pairs() {
            if let (Some(node), Some(peer)) = (&self.hosts[one].node, &self.hosts[other].node)
                && !node.is_connected(&peer.id)
            {
                let status = node.book.status(self.hosts[other].address);
                text += &format!("{} not with {} ({status:?}); ", node.id, peer.id);
            }
        }
        text
    }
}

/// What came of a story.
pub(super) struct Played {
    pub(super) tally: Tally,
    /// How long it took after all was well until all were connected.
    pub(super) connected: Duration,
}

/// One story, by its seed.
pub(super) fn play(seed: u64, mistake: Option<Mistake>) -> Result<Played, String> {
    let mut chance = Chance(seed ^ 0x0057_0127);
    let hosts = [3, 3, 4, 4, 5, 7][chance.below(6) as usize];
    let network = Network::new(&mut chance);
    let story = Story::new(&mut chance, hosts);
    tell(World::new(seed, hosts, network, story)?, mistake)
}

/// One story of two who lose sight of each other.
pub(super) fn play_out_of_sight(seed: u64) -> Result<Played, String> {
    let mut chance = Chance(seed ^ 0x0057_0128);
    let hosts = chance.between(3, 6) as usize;
    let story = Story::out_of_sight(&mut chance, hosts);
    tell(World::new(seed, hosts, Network::new(&mut chance), story)?, None)
}

fn tell(mut world: World, mistake: Option<Mistake>) -> Result<Played, String> {
    let told: Vec<String> = world.story.faults.iter().map(|(at, fault)| format!("  {at:?} {fault:?}")).collect();
    world.mistake = mistake;
    match world.play() {
        Ok(connected) => Ok(Played { tally: world.tally, connected }),
        Err(text) => {
            let (network, hosts) = (&world.network, world.hosts.len());
            let (loss, delay_us) = (network.loss, network.delay_us);
            Err(format!("{text}\n{hosts} hosts, {loss} % loss, {delay_us} µs; what went wrong:\n{}", told.join("\n")))
        }
    }
}
