//! A world is played to its end, and judged there: all are connected with all, once, and all that was sent has arrived.

use std::time::Duration;

use super::{
    chance::Chance,
    connection::Stage,
    contract::Checked,
    network::Network,
    planted::Mistake,
    schedule::{EndId, Event},
    story::Story,
    tally::Tally,
    world::World,
};

/// Within how long all that was sent arrives, and whoever waits for credit has it.
const DELIVERED_WITHIN: Duration = Duration::from_secs(20);

impl World {
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
