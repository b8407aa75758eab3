//! Counts what happened, to show that the faults are real and to tell what a node costs.

use super::dns::Kind;

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        #[derive(Debug, Default, Clone)]
        pub(super) struct Tally { $($(#[$doc])* pub(super) $name: u64),+ }

        impl Tally {
            pub(super) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }

            /// By name.
            pub(super) fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),+]
            }
        }
    };
}

tally! {
    events,
    packets,
    bytes,
    dropped,
    doubled,
    resent,
    pings,
    keep_alives,
    control,
    /// Faults.
    kills,
    leaves,
    starts,
    stops,
    moves,
    cuts,
    one_way_cuts,
    partitions,
    clocks_behind,
    dns_stale,
    dns_part,
    dns_empty,
    dns_failed,
    /// Connections.
    dials,
    simultaneous,
    replacing,
    duplicates,
    older,
    too_late,
    handshakes_over,
    established,
    replaced,
    /// Times that a peer was told of all others again.
    rounds,
    /// Who is alive.
    suspected,
    given_up,
    refused,
    downs,
    noticed,
    farewells,
    /// Messages.
    sent,
    delivered,
    for_nobody,
    tickets,
    held,
    bodies_first,
    no_credit,
    grants,
}

impl Tally {
    pub(super) fn answer(&mut self, kind: Kind) {
        match kind {
            Kind::Good => {}
            Kind::Stale => self.dns_stale += 1,
            Kind::Part => self.dns_part += 1,
            Kind::Empty => self.dns_empty += 1,
            Kind::Failed => self.dns_failed += 1,
        }
    }
}
