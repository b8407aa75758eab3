//! Who is alive, as `membership/driver.rs` has it, and what D3 says of what the detector decides.

use std::time::Duration;

use rookery_protocol::{ControlFrame, control::Heard};

use super::{
    contract::Checked,
    schedule::{EndId, Event, Gone, Life, Packet},
    world::{IDLE_TIMEOUT, KEEP_ALIVE, World},
};
use crate::membership::{
    detector::Effect,
    limits::{ASKED, DOWN_AFTER, DOWN_AFTER_REFUSED, TICK, UNREACHABLE_PART},
};

/// What is allowed beyond the detector's own times: ticks, a question and its answer, lost pings, clocks that differ.
pub(super) const SLACK: Duration = Duration::from_millis(900);

/// What a connected pair takes a round trip for. QUIC measures it; here all are alike.
const ROUND_TRIP: Duration = Duration::from_millis(2);

impl World {
    pub(super) fn tick(&mut self, life: Life) -> Checked {
        let instant = self.instant(life.host);
        let run_time = self.hosts[life.host].run_time(self.now);
        let Some(own) = self.alive(life) else { return Ok(()) };
        let peers: Vec<EndId> = own.peers.values().map(|peer| EndId::of(peer.number)).collect();
        let (mut connections, mut idle) = (Vec::with_capacity(peers.len()), Vec::new());
        for id in peers {
            let Some(end) = self.end_mut(id) else { continue };
            let silent = run_time.saturating_sub(end.heard);
            let is_silent = silent >= KEEP_ALIVE && run_time.saturating_sub(end.kept_alive) >= KEEP_ALIVE;
            if silent > IDLE_TIMEOUT {
                idle.push(id);
            } else if let Some(node) = &end.node {
                connections.push((id.number(), node.clone(), end.arrived, ROUND_TRIP));
            }
            if is_silent {
                end.kept_alive = run_time;
                self.tally.keep_alives += 1;
                self.send_packet(id, &Packet::Ping);
            }
        }
        // QUIC ends it without a word.
        for id in idle {
            self.lost(id, "timed out")?;
        }
        let Some(own) = self.node(life) else { return Ok(()) };
        let effects = if own.leaving { Vec::new() } else { own.detector.tick(instant, &connections) };
        let wait = self.hosts[life.host].until(TICK);
        self.schedule.at(self.now + wait, Event::Tick(life));
        self.carry_out(life, effects)
    }

    pub(super) fn carry_out(&mut self, life: Life, effects: Vec<Effect>) -> Checked {
        effects.into_iter().try_for_each(|effect| self.carry_out_one(life, effect))
    }

    fn carry_out_one(&mut self, life: Life, effect: Effect) -> Checked {
        match effect {
            Effect::Ping(number) => {
                self.tally.pings += 1;
                self.send_packet(EndId::of(number), &Packet::Ping);
            }
            Effect::Probe(number) => self.probe(life, EndId::of(number)),
            Effect::Ask { peer, suspect } => {
                self.send_control(EndId::of(peer), &ControlFrame::HaveYouHeard(suspect))?;
            }
            Effect::Answer { peer, suspect, ago } => {
                let ms_ago = ago.map(|ago| u32::try_from(ago.as_millis()).unwrap_or(u32::MAX));
                self.send_control(EndId::of(peer), &ControlFrame::Heard(Heard { node: suspect, ms_ago }))?;
            }
            Effect::Suspected { .. } => self.tally.suspected += 1,
            Effect::Heard { .. } => {}
            Effect::Down { number, reason } => {
                self.check_down(life, EndId::of(number), &reason)?;
                self.tally.given_up += 1;
                self.lost(EndId::of(number), "given up")?;
            }
        }
        Ok(())
    }

    /// Asks whether somebody listens where the other end is.
    fn probe(&mut self, life: Life, id: EndId) {
        let Some(end) = self.end(id) else { return };
        let (there, peer_end) = (end.host_of_peer, id.other().end);
        let Some(connection) = self.connections.get(&id.connection) else { return };
        let reaches = !self.network.is_cut((life.host, there)) && !self.network.is_cut((there, life.host));
        let is_closed = match (peer_end, connection.lives[peer_end]) {
            // A dialler's port goes with its process.
            (0, Some(dialler)) => self.alive(dialler).is_none(),
            // Where it was dialled somebody else may listen by now.
            _ => self.addresses.get(&connection.address).is_some_and(|&host| self.hosts[host].node.is_none()),
        };
        if reaches && is_closed && self.network.hosts_answer {
            let way = Duration::from_micros(self.network.delay_us * 2);
            self.tally.refused += 1;
            self.schedule.at(self.now + way, Event::Refused(life, id.number()));
        }
    }

    /// D3: a node that is up and reachable is not declared down, and nobody before it was silent for as long as is promised.
    fn check_down(&self, life: Life, id: EndId, reason: &str) -> Checked {
        let (Some(end), Some(own)) = (self.end(id), self.alive(life)) else { return Ok(()) };
        let there = end.host_of_peer;
        let who = end.node.as_ref().map(ToString::to_string).unwrap_or_default();
        let silent = self.hosts[life.host].run_time(self.now).saturating_sub(end.heard);
        let told = |text: &str| Err(format!("D3: {} gives up {who} after {silent:?} ({reason}): {text}", own.id));
        let peer_life = self.connections.get(&id.connection).and_then(|connection| connection.lives[id.other().end]);
        let peer_lives = peer_life.is_some_and(|peer| self.alive(peer).is_some());
        // By true time, with a clock that is half a percent off, looked at twenty times a second.
        let least = |promised: Duration| silent + TICK + promised.mul_f64(0.01) >= promised;
        if !peer_lives {
            let promised = if self.network.hosts_answer { DOWN_AFTER_REFUSED } else { DOWN_AFTER };
            return if least(promised) { Ok(()) } else { told("it was silent for less than is promised") };
        }
        if !least(DOWN_AFTER) {
            return told("it was silent for less than is promised");
        }
        // It has closed this connection: it does not answer on it.
        if self.end(id.other()).is_none() {
            return Ok(());
        }
        let recently = self.now.saturating_sub(SLACK);
        let ways = [(life.host, there), (there, life.host)];
        let was_cut = ways.iter().any(|way| self.network.was_cut_since(*way, recently));
        if !was_cut && self.hosts[there].ran_since(recently, self.now) {
            return told("it is up, and reachable");
        }
        if self.others_hear(life, there) && !least(IDLE_TIMEOUT.mul_f64(UNREACHABLE_PART)) {
            return told("others hear it");
        }
        Ok(())
    }

    /// Whether others have been well, and connected with both, for long enough to be asked: one of them, where all are asked,
    /// or all.
    fn others_hear(&self, life: Life, suspect: usize) -> bool {
        const WELL: Duration = Duration::from_secs(3);
        let since = self.now.saturating_sub(WELL);
        let ran = self.hosts_that_ran_since(since);
        let others: Vec<usize> = (0..self.hosts.len()).filter(|host| *host != life.host && *host != suspect).collect();
        let well = |a: usize, b: usize| {
            let up = |a: usize, b: usize| {
                let (Some(one), Some(other)) = (&self.hosts[a].node, &self.hosts[b].node) else { return false };
                one.peers.get(other.id.name()).is_some_and(|peer| peer.node == other.id && peer.since < since)
            };
            let ways = [(a, b), (b, a)];
            up(a, b) && up(b, a) && ways.iter().all(|way| !self.network.was_cut_since(*way, since))
        };
        let hears = |other: &usize| ran.contains(other) && well(life.host, *other) && well(*other, suspect);
        self.network.loss == 0
            && !others.is_empty()
            && ran.contains(&life.host)
            && ran.contains(&suspect)
            && match others.len() <= ASKED {
                true => others.iter().any(hears),
                false => others.iter().all(hears),
            }
    }

    /// D3: who is gone, or hung, is known to be down in time, by all that have run since.
    pub(super) fn must_be_down(&mut self, gone: &Gone) -> Checked {
        let Gone { life, id, since, is_hung } = gone;
        let host = &self.hosts[life.host];
        let still = self.alive(*life).is_some() && host.stopped.is_some() && host.stopped_at == *since;
        if *is_hung && !still {
            return Ok(());
        }
        // Where the answers of those who are asked may not come, silence says nothing of the one that is asked about, and it may
        // take twice as long.
        let hosts = 0..self.hosts.len();
        let all_ran = hosts.clone().all(|at| at == life.host || self.hosts[at].ran_since(*since, self.now));
        let was_cut = |a: usize| hosts.clone().any(|b| self.network.was_cut_since((a, b), *since));
        let all_answer = self.network.loss == 0 && all_ran && !hosts.clone().any(was_cut);
        if !all_answer && self.now - *since < DOWN_AFTER * 2 {
            return Ok(());
        }
        for host in &self.hosts {
            let Some(node) = &host.node else { continue };
            // Whoever was stopped itself has had less time.
            if !host.ran_since(*since, self.now) || node.leaving || node.id == *id {
                continue;
            }
            if node.view.has_up(id).is_some() {
                return Err(format!("D3: {} does not know after {:?} that {id} is gone", node.id, self.now - *since));
            }
        }
        self.tally.noticed += 1;
        Ok(())
    }
}
