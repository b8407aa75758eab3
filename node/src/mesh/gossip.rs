//! Who is told where others are, so that one good address is enough (D1). Pure.
//!
//! - A peer that comes up is told of others at once, and a few of them are told of it. It dials the others itself, who tell it
//!   of more; that they dial it as well, if it has not done so after half a second or a second, helps where it cannot reach them. Where two
//!   meshes meet, most pairs are told of each other by others, and wait for each other so long.
//! - Now and then one peer in turn is told of all others again. Two that could not reach each other for long forget what
//!   they had on hearsay, and others have to tell them.

use std::time::Duration;

use rookery_protocol::limits::MAX_PEERS_PER_FRAME;

use super::arbiter::ConnectionNumber;
use crate::discovery::Jitter;

/// How many are told of a peer that comes up. Were it all, a mesh of 1,000 nodes would tell each node of others half a million
/// times while it forms.
const TOLD_OF_NEWCOMER: usize = 16;

/// Of how many a peer that comes up is told: as many as go into one frame. Each of these tells it of others, so it hears of
/// all; were it told of all by each, that would take a node of 1,000 as long as all its handshakes.
const NEWCOMER_IS_TOLD_OF: usize = MAX_PEERS_PER_FRAME;

/// How often one peer is told of all others. All peers of a lost pair do so, and so the pair hears of itself the sooner the
/// larger the mesh; of 1,000 it is 4 KB a second.
pub(crate) const ROUND: Duration = Duration::from_secs(10);

/// Spreads the rounds of many nodes.
const SPREAD: f64 = 0.2;

/// Those of the others who are told of the peer that has come up by this connection: others each time.
pub(crate) fn told_of_newcomer<T>(others: &[T], number: ConnectionNumber) -> impl Iterator<Item = &T> {
    some(others, number, TOLD_OF_NEWCOMER)
}

/// Those of the others that it is told of: others each time.
pub(crate) fn newcomer_is_told_of<T>(others: &[T], number: ConnectionNumber) -> impl Iterator<Item = &T> {
    some(others, number, NEWCOMER_IS_TOLD_OF)
}

fn some<T>(others: &[T], number: ConnectionNumber, limit: usize) -> impl Iterator<Item = &T> {
    let length = others.len().max(1) as u64;
    let first = number.0.wrapping_mul(limit as u64) % length;
    // Below the length, which is one of memory.
    #[allow(clippy::cast_possible_truncation)]
    others.iter().cycle().skip(first as usize).take(others.len().min(limit))
}

/// Whose turn it is to be told of all others.
#[derive(Debug)]
pub(crate) struct Rounds {
    jitter: Jitter,
    /// When the next is told.
    due: Duration,
    /// Who: it is counted on for ever.
    turn: usize,
}

impl Rounds {
    pub(crate) fn new(mut jitter: Jitter, now: Duration) -> Self {
        let due = now + jitter.around(ROUND, SPREAD);
        Self { jitter, due, turn: 0 }
    }

    /// Of so many peers, which one is to be told now.
    pub(crate) fn poll(&mut self, now: Duration, peers: usize) -> Option<usize> {
        if now < self.due {
            return None;
        }
        self.due = now + self.jitter.around(ROUND, SPREAD);
        self.turn = self.turn.wrapping_add(1);
        // With one there is nobody to tell it of.
        (peers > 1).then(|| self.turn % peers)
    }

    /// When to ask again.
    pub(crate) fn due(&self) -> Duration {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_told_of_a_newcomer_and_it_of_few_and_all_come_to_it() {
        let others: Vec<usize> = (0..100).collect();
        let mut told = vec![[0, 0]; 100];
        for number in (0..100).map(ConnectionNumber) {
            told_of_newcomer(&others, number).for_each(|one| told[*one][0] += 1);
            newcomer_is_told_of(&others, number).for_each(|one| told[*one][1] += 1);
        }
        assert!(told.iter().flatten().all(|times| *times > 0), "{told:?}");
        let all = told.iter().fold([0, 0], |all, one| [all[0] + one[0], all[1] + one[1]]);
        assert_eq!(all, [100 * TOLD_OF_NEWCOMER, 100 * NEWCOMER_IS_TOLD_OF]);
        assert_eq!(told_of_newcomer(&others[..3], ConnectionNumber(7)).count(), 3, "all of few");
        assert_eq!(told_of_newcomer(&others[..0], ConnectionNumber(7)).count(), 0);
    }

    #[test]
    fn each_peer_has_its_turn_and_one_alone_has_none() {
        let mut rounds = Rounds::new(Jitter::new(1), Duration::ZERO);
        let mut turns = Vec::new();
        while turns.len() < 4 {
            let now = rounds.due();
            assert_eq!(rounds.poll(now.saturating_sub(Duration::from_millis(1)), 4), None);
            turns.extend(rounds.poll(now, 4));
        }
        turns.sort_unstable();
        assert_eq!(turns, [0, 1, 2, 3]);
        assert_eq!(rounds.poll(rounds.due(), 1), None);
    }
}
