//! Mistakes that the simulator has to find. Those of machines in this crate are made in them, by switches that only tests
//! have. Those of reassembly and credit, which are another crate's, are made where what they give is taken: the same as if
//! they had given it.

use crate::{
    discovery::reconcile::Planted as InBook, membership::detector::Planted as InDetector,
    mesh::arbiter::Planted as InArbiter,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mistake {
    Arbiter(InArbiter),
    Detector(InDetector),
    Book(InBook),
    /// Reassembly lets everything pass that has no ticket, whatever is under way between the two.
    Overtakes,
    /// The receiver gives back twice what was taken.
    GivesTwice,
    /// The asker goes on with its credit when the connection was lost.
    CreditOutlivesConnection,
}
