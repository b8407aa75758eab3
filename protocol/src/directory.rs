//! What nodes tell each other of the cluster's directory: its names and groups.
//!
//! Each node is the authority for its own processes, and tells its peers what these have. An update is a signal of the
//! process that it speaks of, so it keeps its order with that process's other signals: who hears of a process's end has
//! heard before that its names are free (P5), and who gets a message can look up what its sender had registered before.
//! A new connection begins with all that the node's processes have; its loss takes it all away. So there is nothing to
//! number, to repair or to forget by a timer.

use serde::{Deserialize, Serialize};

use crate::{
    group::Group,
    id::{Pid, ProcessName},
};

/// When a name was taken: the wall clock in microseconds, but later than every stamp that its node had seen. Decides
/// between two holders, alike on every node: the older one keeps the name. A name that one process hands over to another has the
/// next stamp after the former one: it is as old as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp(pub u64);

/// A change of what the sending process has. Numbers are the variants' order, so new ones are added at the end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DirectoryUpdate {
    /// It holds a cluster name.
    Hold {
        /// The name.
        name: ProcessName,
        /// Since when.
        stamp: Stamp,
    },
    /// It gives the name up, or does not take what it was granted.
    Release {
        /// The name.
        name: ProcessName,
    },
    /// It joins a group.
    Join {
        /// The group.
        group: Group,
        /// So many times.
        times: u32,
    },
    /// It leaves a group.
    Leave {
        /// The group.
        group: Group,
        /// So many times.
        times: u32,
    },
    /// It has ended: all that it had is gone.
    Gone,
}

/// What has changed in a group, told to a process that watches it (G3). A process that joins twice is named twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GroupChange {
    /// The group.
    pub group: Group,
    /// Who has joined.
    pub joined: Vec<Pid>,
    /// Who has left, or ended, or whose node is lost.
    pub left: Vec<Pid>,
}
