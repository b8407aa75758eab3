//! Who of the peers is alive: a state machine over all connections of one node. No sockets, no clock, no chance but a seed.
//!
//! ```text
//! heard ──silence──▶ pinged ──missed──▶ probed ──silence, or a closed port──▶ suspected ──▶ others are asked
//!   ▲                                                                            │
//!   └──────────────────────────── anything that arrives ◀────────────────────────┤
//!                                           others do not hear it either: down ◀─┤
//!                              others do: kept, and at last "out of reach" ◀─────┘
//! ```
//! A killed process's kernel sends no goodbye over UDP, and a broken link between two nodes is not a dead node (D3). What is
//! done here is to notice soon, and to ask others before a node is called down. Healthy connections are never touched.
//!
//! Time in which this node itself did not run (it comes to look at things late) counts for nobody: silence in it is forgiven, and
//! what others said of a suspect is no older for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rookery_protocol::{NodeId, NodeName};

use super::{
    DetectorSettings,
    limits::{
        ANSWER_AFTER, ASKED, BELIEVED, DOWN_AFTER_REFUSED, MAX_QUESTIONS, MISSED_AFTER, PING_AFTER, PING_AFTER_AT_MOST,
        PINGS_PER_SECOND, ROUND_TRIPS_PER_ANSWER, ROUND_TRIPS_PER_SUSPICION, TICK, UNREACHABLE_PART,
    },
};
use crate::mesh::arbiter::ConnectionNumber;

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Send something that is acknowledged.
    Ping(ConnectionNumber),
    /// Send something to its address that tells whether anybody listens there.
    Probe(ConnectionNumber),
    /// Ask that peer whether it hears the suspect.
    Ask { peer: ConnectionNumber, suspect: NodeId },
    /// Tell that peer how long ago the suspect was heard here; `None`: it is not connected.
    Answer { peer: ConnectionNumber, suspect: NodeId, ago: Option<Duration> },
    /// It is silent: for the log.
    Suspected { node: NodeId, silent: Duration },
    /// It is heard again: for the log.
    Heard { node: NodeId },
    /// Its connection is to be given up, for this reason.
    Down { number: ConnectionNumber, reason: String },
}

/// See the module.
pub(crate) struct Detector {
    peers: BTreeMap<ConnectionNumber, Peer>,
    /// What others want to know.
    questions: Vec<Question>,
    /// When this node was seen to run last.
    ran: Instant,
    times: DetectorSettings,
    /// After how long a silence QUIC gives a connection up.
    idle_timeout: Duration,
    /// Where asking goes on, so that not always the same are asked.
    next_asked: usize,
    /// A mistake that the simulation has to find.
    #[cfg(test)]
    pub(crate) planted: Option<Planted>,
}

/// Mistakes that the simulation has to find.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// Time in which this node did not run counts.
    OwnStarvation,
    /// Nobody is asked.
    AsksNobody,
    /// A suspect is kept for ever.
    NeverDown,
}

/// What is known of one connection.
struct Peer {
    node: NodeId,
    /// What had arrived when it was looked at last.
    arrived: u64,
    /// When something was seen to have arrived last. Shifted by the time in which this node did not run.
    heard: Instant,
    /// The same as it was: for others, who did run.
    truly_heard: Instant,
    /// When it was pinged first, and last, since then.
    pinged: Option<(Instant, Instant)>,
    /// The round trip, as QUIC measures it: on a machine that has no time it is long.
    round_trip: Duration,
    /// Its address has been probed since then.
    probed: bool,
    /// Nobody listens at its address.
    refused: bool,
    suspicion: Option<Suspicion>,
}

/// What others say of a suspect.
struct Suspicion {
    since: Instant,
    /// When they were asked last.
    asked: Instant,
    /// By name, what they say.
    answers: BTreeMap<NodeName, Opinion>,
}

/// What one who was asked says of a suspect.
#[derive(Default)]
struct Opinion {
    /// When it said last that it hears it.
    hears: Option<Instant>,
    /// It has said last that it does not.
    denies: bool,
    /// When it has heard it last, as far as it has said.
    heard: Option<Instant>,
}

/// Somebody wants to know.
struct Question {
    from: ConnectionNumber,
    suspect: NodeId,
    since: Instant,
}

impl Detector {
    pub(crate) fn new(now: Instant, idle_timeout: Duration, seed: u64) -> Self {
        Self {
            peers: BTreeMap::new(),
            questions: Vec::new(),
            ran: now,
            times: DetectorSettings::default(),
            idle_timeout,
            // Only where to begin.
            #[allow(clippy::cast_possible_truncation)]
            next_asked: seed as usize,
            #[cfg(test)]
            planted: None,
        }
    }

    /// As patient as that.
    pub(crate) fn with(mut self, times: DetectorSettings) -> Self {
        self.times = times;
        self
    }

    /// When a suspect is given up that others hear.
    fn unreachable_after(&self) -> Duration {
        self.idle_timeout.mul_f64(UNREACHABLE_PART).max(self.times.down_after)
    }

    /// When a suspect is down that nobody hears. Where round trips are so long that it becomes a suspect later, others have as
    /// much time to answer.
    fn down_after(&self, round_trip: Duration) -> Duration {
        let asking = self.times.down_after.saturating_sub(self.times.suspect_after);
        self.times.down_after.max(round_trip * ROUND_TRIPS_PER_SUSPICION + asking)
    }

    /// These connections stand, no others: what each has brought so far, and its round trip.
    pub(crate) fn tick(
        &mut self,
        now: Instant,
        connections: &[(ConnectionNumber, NodeId, u64, Duration)],
    ) -> Vec<Effect> {
        self.runs(now);
        let mut effects = Vec::new();
        let interval = Duration::from_secs(connections.len() as u64) / PINGS_PER_SECOND;
        let interval = interval.clamp(PING_AFTER, PING_AFTER_AT_MOST);
        let mut suspects = Vec::new();
        for (number, node, arrived, round_trip) in connections {
            let peer = self.peers.entry(*number).or_insert_with(|| Peer::new(node.clone(), *arrived, now));
            peer.round_trip = *round_trip;
            peer.look(*number, *arrived, now, interval, self.times.suspect_after, &mut effects);
            if peer.suspicion.is_some() {
                suspects.push(*number);
            }
        }
        // All that stand are known by now: if there are more, some of them are gone.
        if self.peers.len() > connections.len() {
            let standing: BTreeSet<ConnectionNumber> = connections.iter().map(|(number, ..)| *number).collect();
            self.peers.retain(|number, _| standing.contains(number));
        }
        for number in suspects {
            self.ask(number, now, &mut effects);
            self.judge(number, now, &mut effects);
        }
        self.answer(now, &mut effects);
        effects
    }

    #[cfg(test)]
    fn is_planted(&self, mistake: &str) -> bool {
        self.planted.is_some_and(|planted| format!("{planted:?}") == mistake)
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self)] // As in tests.
    fn is_planted(&self, _: &str) -> bool {
        false
    }

    /// This node runs now. Whoever was silent while it did not has lost nothing.
    fn runs(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.ran).saturating_sub(TICK);
        self.ran = now;
        if late < TICK || self.is_planted("OwnStarvation") {
            return;
        }
        for question in &mut self.questions {
            question.since += late;
        }
        for peer in self.peers.values_mut() {
            peer.heard += late;
            peer.pinged = peer.pinged.map(|(first, last)| (first + late, last + late));
            if let Some(suspicion) = &mut peer.suspicion {
                suspicion.since += late;
                for opinion in suspicion.answers.values_mut() {
                    opinion.hears = opinion.hears.map(|at| at + late);
                    opinion.heard = opinion.heard.map(|at| at + late);
                }
            }
        }
    }

    /// Nobody listens where this peer is reached: a hint, not a proof.
    pub(crate) fn refused(&mut self, number: ConnectionNumber) {
        if let Some(peer) = self.peers.get_mut(&number)
            && peer.pinged.is_some()
        {
            peer.refused = true;
        }
    }

    /// Peer `from` asks whether we hear `suspect`.
    pub(crate) fn asked(&mut self, from: ConnectionNumber, suspect: NodeId, now: Instant) -> Vec<Effect> {
        self.runs(now);
        let known = self.peers.iter_mut().find(|(_, peer)| peer.node == suspect);
        let Some((&number, peer)) = known else {
            return vec![Effect::Answer { peer: from, suspect, ago: None }];
        };
        if self.questions.len() >= MAX_QUESTIONS {
            return Vec::new();
        }
        peer.pinged.get_or_insert((now, now));
        self.questions.push(Question { from, suspect, since: now });
        vec![Effect::Ping(number)]
    }

    /// Peer `from` tells when it has heard `suspect` last.
    pub(crate) fn answered(&mut self, from: ConnectionNumber, suspect: &NodeId, ago: Option<Duration>, now: Instant) {
        self.runs(now);
        let Some(name) = self.peers.get(&from).map(|peer| peer.node.name().clone()) else { return };
        let suspicion =
            self.peers.values_mut().filter(|peer| peer.node == *suspect).find_map(|it| it.suspicion.as_mut());
        if let Some(suspicion) = suspicion
            && let Some(opinion) = suspicion.answers.get_mut(&name)
        {
            // Only what it has heard since it was a suspect: before, it may have lived. The answer may be one to an earlier
            // question than the last.
            let last = ago.and_then(|ago| now.checked_sub(ago));
            let heard = last.filter(|heard| *heard >= suspicion.since);
            opinion.denies = heard.is_none();
            opinion.hears = opinion.hears.max(heard);
            opinion.heard = opinion.heard.max(last);
        }
    }

    /// Asks others about a suspect, again and again while it is one.
    fn ask(&mut self, number: ConnectionNumber, now: Instant, effects: &mut Vec<Effect>) {
        if self.is_planted("AsksNobody") {
            return;
        }
        // Those who are suspects themselves would not answer.
        let able = |(other, peer): (&ConnectionNumber, &Peer)| {
            (*other != number && peer.suspicion.is_none()).then(|| (*other, peer.node.name().clone()))
        };
        let others: Vec<(ConnectionNumber, NodeName)> = self.peers.iter().filter_map(able).collect();
        let Some(peer) = self.peers.get_mut(&number) else { return };
        let Some(suspicion) = &mut peer.suspicion else { return };
        let again = (ANSWER_AFTER * 2).max(peer.round_trip * ROUND_TRIPS_PER_ANSWER);
        if !suspicion.answers.is_empty() && now.saturating_duration_since(suspicion.asked) < again {
            return;
        }
        suspicion.asked = now;
        suspicion.answers.retain(|name, _| others.iter().any(|(_, other)| other == name));
        for (other, name) in
            others.iter().cycle().skip(self.next_asked % others.len().max(1)).take(ASKED.min(others.len()))
        {
            suspicion.answers.entry(name.clone()).or_default();
            effects.push(Effect::Ask { peer: *other, suspect: peer.node.clone() });
        }
        self.next_asked = self.next_asked.wrapping_add(1);
    }

    /// Whether a suspect is to be given up.
    fn judge(&mut self, number: ConnectionNumber, now: Instant, effects: &mut Vec<Effect>) {
        let Some(peer) = self.peers.get(&number) else { return };
        let Some(suspicion) = &peer.suspicion else { return };
        if self.is_planted("NeverDown") {
            return;
        }
        let silent = now.saturating_duration_since(peer.heard);
        // An answer counts for a while, since the next may be lost.
        let hears = |opinion: &Opinion| opinion.hears.is_some_and(|at| now.saturating_duration_since(at) < BELIEVED);
        let heard_by: Vec<&str> =
            suspicion.answers.iter().filter(|(_, opinion)| hears(opinion)).map(|(name, _)| name.as_str()).collect();
        // One that runs slowly, and is cut off from here, has been silent for us alone before.
        let heard_last = suspicion.answers.values().filter_map(|opinion| opinion.heard).fold(peer.heard, Instant::max);
        let silent_for_all = now.saturating_duration_since(heard_last);
        let all_deny = suspicion.answers.values().all(|opinion| opinion.denies);
        let nobody_answers = !suspicion.answers.is_empty() && !suspicion.answers.values().any(|opinion| opinion.denies);
        let down_after = self.down_after(peer.round_trip);
        let ms = silent.as_millis();
        let reason = if !heard_by.is_empty() {
            let others = heard_by.join(", ");
            let text = format!("out of reach from here: silent for {ms} ms, while {others} hears it");
            (silent >= self.unreachable_after()).then_some(text)
        } else if peer.refused && all_deny && silent >= DOWN_AFTER_REFUSED {
            Some(format!("its process has ended: nobody listens at its address, and it has been silent for {ms} ms"))
        } else if nobody_answers {
            // Silence of all says something about the way to them, or about this node.
            let text = format!("silent for {ms} ms; nobody who was asked about it has answered");
            (silent_for_all >= down_after * 2).then_some(text)
        } else if silent_for_all >= down_after {
            let nobody_there = suspicion.answers.is_empty();
            let others = if nobody_there { "nobody else is there to ask" } else { "others do not hear it either" };
            Some(format!("silent for {ms} ms; {others}"))
        } else {
            None
        };
        if let Some(reason) = reason {
            self.peers.remove(&number);
            effects.push(Effect::Down { number, reason });
        }
    }

    /// Answers what others want to know, as soon as there is something to say.
    fn answer(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let peers = &self.peers;
        self.questions.retain(|question| {
            let suspect = peers.values().find(|peer| peer.node == question.suspect);
            let due = suspect.is_none_or(|peer| {
                let patience = ANSWER_AFTER.max(peer.round_trip * ROUND_TRIPS_PER_ANSWER);
                peer.heard > question.since || now.saturating_duration_since(question.since) >= patience
            });
            if due {
                let ago = suspect.map(|peer| now.saturating_duration_since(peer.truly_heard));
                effects.push(Effect::Answer { peer: question.from, suspect: question.suspect.clone(), ago });
            }
            !due
        });
    }
}

impl Peer {
    fn new(node: NodeId, arrived: u64, now: Instant) -> Self {
        let round_trip = Duration::ZERO;
        Self {
            node,
            arrived,
            heard: now,
            truly_heard: now,
            pinged: None,
            round_trip,
            probed: false,
            refused: false,
            suspicion: None,
        }
    }

    fn look(
        &mut self,
        number: ConnectionNumber,
        arrived: u64,
        now: Instant,
        interval: Duration,
        suspect_after: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let round_trip = self.round_trip;
        if arrived != self.arrived {
            (self.arrived, self.heard, self.pinged, self.probed, self.refused) = (arrived, now, None, false, false);
            self.truly_heard = now;
            if self.suspicion.take().is_some() {
                effects.push(Effect::Heard { node: self.node.clone() });
            }
            return;
        }
        let silent = now.saturating_duration_since(self.heard);
        let Some((first, last)) = self.pinged else {
            if silent >= interval {
                self.pinged = Some((now, now));
                effects.push(Effect::Ping(number));
            }
            return;
        };
        if now.saturating_duration_since(last) >= MISSED_AFTER.max(round_trip) {
            // One ping may have been lost, so it gets several where round trips are long, too.
            self.pinged = Some((first, now));
            effects.push(Effect::Ping(number));
        }
        if !self.probed && now.saturating_duration_since(first) >= MISSED_AFTER.max(round_trip * ROUND_TRIPS_PER_ANSWER)
        {
            self.probed = true;
            effects.push(Effect::Probe(number));
        }
        if self.suspicion.is_none()
            && self.probed
            && (self.refused || silent >= suspect_after.max(round_trip * ROUND_TRIPS_PER_SUSPICION))
        {
            self.suspicion = Some(Suspicion { since: now, asked: now, answers: BTreeMap::new() });
            effects.push(Effect::Suspected { node: self.node.clone(), silent });
        }
    }
}
