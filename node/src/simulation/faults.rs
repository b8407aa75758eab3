//! What goes wrong, as it is done to hosts, nodes and the network; and a node's beginning and end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rookery_protocol::NodeId;

use super::{
    contract::Checked,
    host::Node,
    liveness::SLACK,
    network::HostIndex,
    planted::Mistake,
    processes::Processes,
    schedule::{Event, Gone, Life},
    story::Fault,
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

/// A graceful leave is known to all (D3).
const LEAVE_WITHIN: Duration = Duration::from_millis(100);

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
            self.must_be_down_within(node.life, &node.id, DOWN_AFTER * 2 + SLACK, false);
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
        self.must_be_down_within(life, &id, DOWN_AFTER * 2 + SLACK, true);
    }
}
