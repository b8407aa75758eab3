//! The cluster's directory on this node: cluster names and process groups, replicated to every node.
//!
//! ```text
//! own process registers, joins, ends ─▶ tables ─▶ an update to every peer, as a signal of that process
//! update of a peer's process ─────────▶ tables ─▶ watchers, contests for a name
//! peer up: it is told all that own processes have         peer lost: all that its processes had goes
//! ```
//! What decides is in `names.rs` and `groups.rs`; this is the lock around them, and what has to be told. Who loses a name is found out
//! in `contests.rs`.
//!
//! **Invariant:** an update is queued under the directory's lock and as its process's own signal. So peers hear of one
//! process's changes in their order, before its end (P5), and a new peer misses none.

mod arbiter;
mod asking;
mod claiming;
mod contests;
mod groups;
mod names;
#[cfg(test)]
mod simulation;
mod telling;
mod watchers;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, RwLock, RwLockReadGuard},
    time::{SystemTime, UNIX_EPOCH},
};

use rookery_protocol::{
    Destination, DirectoryUpdate, Group, GroupChange, NodeId, Pid, ProcessName, Recipient, Serial, SessionId, Signal,
    SignalBody, limits::MAX_PIDS_BYTES, request::RequestError,
};

use crate::{
    directory::{
        arbiter::arbiter_of,
        contests::Contests,
        groups::GroupTable,
        names::NameTable,
        telling::{Pace, tell_peer},
        watchers::Watchers,
    },
    net::outbound::Outbound,
    process::event::Event,
    runtime::Runtime,
    sync::{read, write},
};

/// See the module. A client's is empty: it asks its node.
pub(crate) struct Directory(RwLock<State>);

pub(crate) struct State {
    pub(crate) names: NameTable,
    pub(crate) groups: GroupTable,
    watchers: Watchers,
    /// The peers that are told.
    peers: Vec<Arc<Outbound>>,
    /// When they are told of names.
    pace: Pace,
    /// Names that are being asked for, by the process that they are for.
    asked: HashSet<(ProcessName, Pid)>,
    /// Names that two seem to have.
    contests: Contests,
    /// The processes of each client that have, or had, something here.
    sessions: HashMap<SessionId, HashSet<Pid>>,
    /// Processes of clients for whom names are being asked for, and which; true once they have ended meanwhile.
    claiming: HashMap<Pid, (HashSet<ProcessName>, bool)>,
}

/// Processes that one client may have in the directory: every node keeps what they have.
const MAX_PROCESSES_PER_CLIENT: usize = 10_000;

/// Names, groups and watches that one process of a client may have.
const MAX_ENTRIES_PER_CLIENT_PROCESS: usize = 1_000;

impl Directory {
    pub(crate) fn new(own: &NodeId) -> Self {
        Self(RwLock::new(State {
            names: NameTable::new(own.clone()),
            groups: GroupTable::new(own.clone()),
            watchers: Watchers::default(),
            peers: Vec::new(),
            pace: Pace::default(),
            asked: HashSet::new(),
            contests: Contests::default(),
            sessions: HashMap::new(),
            claiming: HashMap::new(),
        }))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        read(&self.0)
    }
}

impl State {
    /// Who decides about a name, as the node `own` sees it now.
    fn arbiter(&self, name: &ProcessName, own: &NodeId) -> NodeId {
        let members = self.peers.iter().map(|peer| peer.peer()).chain([own]);
        arbiter_of(name, members).unwrap_or(own).clone()
    }
}

/// The wall clock in microseconds, for stamps.
fn wall_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// What happens to the processes of this node. Nothing here waits.
impl Runtime {
    /// `pid`, a process of this node or of one of its clients, is about to have something; its end will be told to the
    /// directory.
    fn enters_directory(&self, state: &mut State, pid: &Pid) -> Result<(), RequestError> {
        let Some(session) = pid.serial().session() else {
            let lives = self.process(pid).is_some_and(|process| process.enter_directory());
            return if lives { Ok(()) } else { Err(RequestError::NoProc(pid.clone())) };
        };
        if state.claiming.get(pid).is_some_and(|(_, ended)| *ended) {
            return Err(RequestError::NoProc(pid.clone()));
        }
        let entries = state.names.count(pid) + state.groups.count(pid) + state.watchers.count(pid);
        if entries >= MAX_ENTRIES_PER_CLIENT_PROCESS {
            let text = format!("{pid} has {entries} names, groups and watches, as many as a client's process may have");
            return Err(RequestError::Refused(text));
        }
        let processes = state.sessions.entry(session).or_default();
        if processes.len() >= MAX_PROCESSES_PER_CLIENT && !processes.contains(pid) {
            let text =
                format!("{MAX_PROCESSES_PER_CLIENT} processes of one client have names, groups or watches already");
            return Err(RequestError::Refused(text));
        }
        processes.insert(pid.clone());
        Ok(())
    }

    /// `pid` takes a name that its arbiter has granted; or does not, since it has ended.
    fn take_name(&self, name: &ProcessName, pid: &Pid) -> Result<(), RequestError> {
        let mut state = write(&self.directory().0);
        if let Err(error) = self.enters_directory(&mut state, pid) {
            state.names.release(name, pid);
            return Err(error);
        }
        match state.names.take(name, pid, wall_clock()) {
            Ok(Some(stamp)) => self.tell_soon(&mut state, pid, &DirectoryUpdate::Hold { name: name.clone(), stamp }),
            Ok(None) => {}
            Err(holder) => {
                state.names.release(name, pid);
                return Err(RequestError::NameTaken { name: name.clone(), holder });
            }
        }
        Ok(())
    }

    /// `pid` gives up a name; false if it does not have it. Of one that is being asked for it is not told: the arbiter would take it
    /// for the answer to its grant.
    fn release_in_cluster(&self, name: &ProcessName, pid: &Pid) -> bool {
        let mut state = write(&self.directory().0);
        let held = state.names.has(name, pid) && state.names.release(name, pid);
        if held {
            state.tell(pid, &DirectoryUpdate::Release { name: name.clone() });
        }
        held
    }

    /// `pid` takes a name behind `of`, its holder. Whether that holds it.
    fn take_name_behind(&self, name: &ProcessName, pid: &Pid, of: &Pid) -> Result<bool, RequestError> {
        let mut state = write(&self.directory().0);
        self.enters_directory(&mut state, pid)?;
        let Some((stamp, contests)) = state.names.succeed(name, pid, of) else { return Ok(false) };
        state.tell(pid, &DirectoryUpdate::Hold { name: name.clone(), stamp });
        for contest in contests {
            self.contest(&mut state.contests, contest);
        }
        Ok(true)
    }

    /// `pid` gives up all names that it has in the cluster.
    pub(crate) fn leave_names(&self, pid: &Pid) {
        let mut state = write(&self.directory().0);
        let names: Vec<ProcessName> = state.names.of(pid).cloned().collect();
        for name in names {
            state.names.release(&name, pid);
            state.tell(pid, &DirectoryUpdate::Release { name });
        }
    }

    /// The processes of a client's session give up the names that they have in the cluster: another session takes its place.
    pub fn leave_names_of(&self, session: SessionId) {
        let pids = read(&self.directory().0).sessions.get(&session).cloned().unwrap_or_default();
        pids.iter().for_each(|pid| self.leave_names(pid));
    }

    /// As the arbiter of `name`.
    fn grant_name(&self, name: &ProcessName, pid: &Pid) -> Result<(), Pid> {
        write(&self.directory().0).names.grant(name, pid)
    }

    fn join_here(&self, group: &Group, pid: &Pid) -> Result<(), RequestError> {
        let mut state = write(&self.directory().0);
        self.enters_directory(&mut state, pid)?;
        if let Some(change) = state.groups.join(group, pid, 1) {
            state.tell(pid, &DirectoryUpdate::Join { group: group.clone(), times: 1 });
            self.tell_watchers(&state, &change);
        }
        Ok(())
    }

    fn leave_here(&self, group: &Group, pid: &Pid) -> bool {
        let mut state = write(&self.directory().0);
        let Some(change) = state.groups.leave(group, pid, 1) else { return false };
        state.tell(pid, &DirectoryUpdate::Leave { group: group.clone(), times: 1 });
        self.tell_watchers(&state, &change);
        true
    }

    /// From now on `pid` is told what changes in the group, its present members first; or is not told any more.
    fn watch_here(&self, group: &Group, pid: &Pid, tell: bool) -> Result<(), RequestError> {
        let mut state = write(&self.directory().0);
        if !tell {
            state.watchers.remove(group, pid);
            return Ok(());
        }
        self.enters_directory(&mut state, pid)?;
        if state.watchers.add(group, pid) {
            let joined = state.groups.members(group).into_iter().flat_map(groups::Members::iter).cloned().collect();
            self.tell_watcher(pid, &GroupChange { group: group.clone(), joined, left: Vec::new() });
        }
        Ok(())
    }

    /// A process of this node, or of one of its clients, has ended: all that it has goes. Before anybody is told of its
    /// end (P5).
    pub(crate) fn gone_from_directory(&self, pid: &Pid) {
        if self.session().is_some() {
            let to = Destination { node: self.node().clone(), to: Recipient::Serial(Serial::NODE) };
            let body = SignalBody::Directory(DirectoryUpdate::Gone);
            return self.signal(Signal { from: pid.clone(), to, body });
        }
        self.ended_here(&mut write(&self.directory().0), pid);
    }

    fn ended_here(&self, state: &mut State, pid: &Pid) {
        if let Some((_, ended)) = state.claiming.get_mut(pid) {
            *ended = true;
        }
        if let Some(processes) = pid.serial().session().and_then(|session| state.sessions.get_mut(&session)) {
            processes.remove(pid);
        }
        state.watchers.gone(pid);
        let (named, changes) = (state.names.gone(pid), state.groups.gone(pid));
        if named || !changes.is_empty() {
            state.tell(pid, &DirectoryUpdate::Gone);
        }
        changes.iter().for_each(|change| self.tell_watchers(state, change));
    }

    /// A client of this node is gone, and all that its processes had.
    pub(crate) fn session_gone_from_directory(&self, session: SessionId) {
        let mut state = write(&self.directory().0);
        let mut pids = state.sessions.remove(&session).unwrap_or_default();
        pids.extend(state.claiming.keys().filter(|pid| pid.serial().session() == Some(session)).cloned());
        pids.iter().for_each(|pid| self.ended_here(&mut state, pid));
    }

    /// A name is asked for in the name of a client's process: should that end meanwhile, it shall not get it. False if it is being
    /// asked for already.
    fn claim_begins(&self, pid: &Pid, name: &ProcessName) -> bool {
        write(&self.directory().0).claiming.entry(pid.clone()).or_default().0.insert(name.clone())
    }

    fn claim_ends(&self, pid: &Pid, name: &ProcessName) {
        let mut state = write(&self.directory().0);
        let Some((names, _)) = state.claiming.get_mut(pid) else { return };
        names.remove(name);
        if names.is_empty() {
            state.claiming.remove(pid);
        }
    }
}

/// What happens to peers.
impl Runtime {
    /// A peer that takes part in the directory is connected: it is told all that the processes of this node have, before
    /// anything that these send to it. Call it before the connection can be used.
    pub fn directory_peer_up(&self, peer: &Arc<Outbound>) {
        let mut state = write(&self.directory().0);
        for (pid, name, stamp) in state.names.own() {
            tell_peer(peer, pid, DirectoryUpdate::Hold { name: name.clone(), stamp });
        }
        for (pid, group, times) in state.groups.own() {
            tell_peer(peer, pid, DirectoryUpdate::Join { group: group.clone(), times });
        }
        state.peers.push(peer.clone());
    }

    /// The nodes that share the directory, as this one sees them.
    fn directory_members(&self) -> Vec<NodeId> {
        let state = self.directory().read();
        state.peers.iter().map(|peer| peer.peer().clone()).chain([self.node().clone()]).collect()
    }

    /// A node is lost: all that its processes had goes, before anybody is told of the loss (N3, G1).
    pub(crate) fn node_gone_from_directory(&self, node: &NodeId) {
        let mut state = write(&self.directory().0);
        state.peers.retain(|peer| peer.peer() != node);
        state.names.node_lost(node);
        let changes = state.groups.node_lost(node);
        changes.iter().for_each(|change| self.tell_watchers(&state, change));
    }

    /// What `from` has has changed: a process of a peer, or of a client of this node.
    pub(crate) fn directory_update(&self, from: &Pid, update: DirectoryUpdate) {
        let mut state = write(&self.directory().0);
        if from.node() == self.node() {
            // A client may say that its process has ended, and asks for everything else.
            if update == DirectoryUpdate::Gone {
                self.ended_here(&mut state, from);
            }
            return;
        }
        match update {
            DirectoryUpdate::Hold { name, stamp } => {
                for contest in state.names.hold(&name, from, stamp) {
                    self.contest(&mut state.contests, contest);
                }
            }
            DirectoryUpdate::Release { name } => drop(state.names.release(&name, from)),
            DirectoryUpdate::Join { group, times } => {
                if let Some(change) = state.groups.join(&group, from, times) {
                    self.tell_watchers(&state, &change);
                }
            }
            DirectoryUpdate::Leave { group, times } => {
                if let Some(change) = state.groups.leave(&group, from, times) {
                    self.tell_watchers(&state, &change);
                }
            }
            DirectoryUpdate::Gone => {
                state.names.gone(from);
                let changes = state.groups.gone(from);
                changes.iter().for_each(|change| self.tell_watchers(&state, change));
            }
        }
    }

    fn tell_watchers(&self, state: &State, change: &GroupChange) {
        for watcher in state.watchers.of(&change.group) {
            self.tell_watcher(watcher, change);
        }
    }

    fn tell_watcher(&self, watcher: &Pid, change: &GroupChange) {
        if change.joined.is_empty() && change.left.is_empty() {
            return;
        }
        if watcher.serial().session().is_none() {
            if let Some(process) = self.process(watcher) {
                process.event(Event::Group(change.clone()));
            }
            return;
        }
        // A change has to fit a frame.
        let per_frame = MAX_PIDS_BYTES / bytes_of_pids_of(change.joined.iter().chain(&change.left));
        let of = |joined: &[Pid], left: &[Pid]| GroupChange {
            group: change.group.clone(),
            joined: joined.to_vec(),
            left: left.to_vec(),
        };
        let joined = change.joined.chunks(per_frame).map(|part| of(part, &[]));
        let left = change.left.chunks(per_frame).map(|part| of(&[], part));
        for part in joined.chain(left) {
            let body = SignalBody::GroupChange(part);
            self.signal(Signal { from: self.own_pid(), to: watcher.into(), body });
        }
    }
}

/// What the largest of these pids takes in a frame, at most.
fn bytes_of_pids_of<'a>(pids: impl Iterator<Item = &'a Pid>) -> usize {
    pids.map(|pid| pid.node().name().as_str().len()).max().unwrap_or_default() + 3 + 2 * 9
}
