//! Who is connected to the admin port, and who has to go for a newcomer. Decides, and does nothing: `serving.rs` opens and
//! closes.
//!
//! The newcomer is always let in, since it may be the kubelet. The oldest connection of the address that has the most goes:
//! so a client that opens many, and says nothing on them, gets in its own way and in nobody else's.

use std::{collections::HashMap, net::IpAddr};

/// A connection to the admin port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Door(u64);

/// See the module.
#[derive(Debug)]
pub(super) struct Doors {
    /// Oldest first; never more than `most`.
    open: Vec<(Door, IpAddr)>,
    /// How many may be open.
    most: usize,
    /// The next one's number.
    next: u64,
}

impl Doors {
    /// At most so many; at least one.
    pub(super) fn new(most: usize) -> Self {
        Self { open: Vec::new(), most: most.max(1), next: 0 }
    }

    /// Somebody comes. Gives the connection's number, and that of the one to close for it.
    pub(super) fn handle_come(&mut self, from: IpAddr) -> (Door, Option<Door>) {
        let evicted = if self.open.len() < self.most { None } else { self.evict() };
        let door = Door(self.next);
        self.next += 1;
        self.open.push((door, from));
        (door, evicted)
    }

    /// A connection has ended, or was told to.
    pub(super) fn handle_gone(&mut self, gone: Door) {
        self.open.retain(|(door, _)| *door != gone);
    }

    fn evict(&mut self) -> Option<Door> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for (_, from) in &self.open {
            *counts.entry(*from).or_default() += 1;
        }
        let most = counts.values().copied().max()?;
        let at = self.open.iter().position(|(_, from)| counts.get(from) == Some(&most))?;
        Some(self.open.remove(at).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn the_oldest_of_whoever_has_most_goes_for_a_newcomer() {
        let mut doors = Doors::new(4);
        let (kubelet, none) = doors.handle_come(ip(1));
        assert_eq!(none, None);
        let greedy: Vec<Door> = (0..3).map(|_| doors.handle_come(ip(2)).0).collect();
        for &own in &greedy {
            assert_eq!(doors.handle_come(ip(2)).1, Some(own));
        }
        let (_, evicted) = doors.handle_come(ip(3));
        assert!(evicted.is_some_and(|door| door != kubelet));
        assert_eq!(doors.open.len(), 4);
        assert!(doors.open.iter().any(|(door, _)| *door == kubelet));
    }

    #[test]
    fn a_connection_that_is_gone_makes_room() {
        let mut doors = Doors::new(1);
        let (first, _) = doors.handle_come(ip(1));
        doors.handle_gone(first);
        assert_eq!(doors.handle_come(ip(1)).1, None);
    }
}
