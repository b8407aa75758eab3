//! Lists processes, names and groups: the first so many of perhaps a million, in some order.
//!
//! It walks the table a few slots at a time and lets others run in between, keeps the best it has seen in a heap of the
//! size that is asked for, and looks closely at those alone. What comes or goes meanwhile may be in the list or not.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    sync::Arc,
};

use rookery_protocol::{Group, NodeName, Pid, ProcessName};
use serde::{Deserialize, Serialize};

use crate::{
    process::{
        AnyProcess,
        info::{ProcessDetails, ProcessInfo, some},
        table::Cursor,
    },
    runtime::Runtime,
};

/// How many processes one answer lists at most; more are counted only. An answer of so many is some megabytes.
pub const MAX_LISTED: u32 = 10_000;

/// How many slots of the table are looked at in one step: some tens of microseconds.
const SLOTS_A_STEP: usize = 512;

/// What a list of processes is sorted by. Figures go from the largest to the smallest, texts and pids upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SortBy {
    /// What waits in the mailbox.
    #[default]
    Mailbox,
    /// What was received so far.
    Handled,
    /// How often its code was run.
    Steps,
    /// Memory that is known.
    Memory,
    /// How long it has lived.
    Age,
    /// The behaviour's name.
    Behaviour,
    /// The number on its node, so by about when it was started.
    Pid,
}

/// Which processes are listed. In JSON each field may be left out: `{"sort":"handled","limit":10}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessQuery {
    /// The order.
    pub sort: SortBy,
    /// The other way round.
    pub reverse: bool,
    /// How many of the first are left out.
    pub offset: u32,
    /// How many are listed at most; with `offset` no more than [`MAX_LISTED`].
    pub limit: u32,
    /// Only those with this text, in either case, in pid, behaviour or a name; all, if it is empty.
    pub filter: String,
}

impl Default for ProcessQuery {
    fn default() -> Self {
        Self { sort: SortBy::default(), reverse: false, offset: 0, limit: 100, filter: String::new() }
    }
}

impl ProcessQuery {
    /// Sorts the lists of several nodes, put together, as each node has sorted its own.
    pub fn sort(&self, processes: &mut [ProcessInfo]) {
        match self.sort {
            SortBy::Mailbox => processes.sort_by_key(|info| Reverse(info.mailbox)),
            SortBy::Handled => processes.sort_by_key(|info| Reverse(info.handled)),
            SortBy::Steps => processes.sort_by_key(|info| Reverse(info.steps)),
            SortBy::Memory => processes.sort_by_key(|info| Reverse(info.memory_bytes)),
            SortBy::Age => processes.sort_by_key(|info| Reverse(info.age_ms)),
            SortBy::Behaviour => processes.sort_by(|a, b| a.behaviour.cmp(&b.behaviour)),
            SortBy::Pid => processes.sort_by(|a, b| a.pid.cmp(&b.pid)),
        }
        if self.reverse {
            processes.reverse();
        }
    }
}

/// Processes of a node, or of a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessList {
    /// How many there are.
    pub total: u64,
    /// How many of them the filter lets through.
    pub matching: u64,
    /// Those that are listed.
    pub processes: Vec<ProcessInfo>,
}

/// A process by what it is sorted by; the greater, the further in front.
struct Ranked {
    key: Key,
    reverse: bool,
    process: Arc<dyn AnyProcess>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Figure(u64),
    Text(Reverse<&'static str>),
}

impl Ranked {
    fn new(process: Arc<dyn AnyProcess>, query: &ProcessQuery, now_us: u64) -> Self {
        let key = match query.sort {
            SortBy::Mailbox => Key::Figure(process.mailbox_len() as u64),
            SortBy::Handled => Key::Figure(process.vitals().handled()),
            SortBy::Steps => Key::Figure(process.vitals().steps()),
            SortBy::Memory => Key::Figure(process.memory_bytes() as u64),
            SortBy::Age => Key::Figure(process.vitals().age_us(now_us)),
            SortBy::Behaviour => Key::Text(Reverse(process.label())),
            SortBy::Pid => Key::Figure(!process.pid().serial().0),
        };
        Self { key, reverse: query.reverse, process }
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_key = self.key.cmp(&other.key);
        let by_key = if self.reverse { by_key.reverse() } else { by_key };
        by_key.then_with(|| other.process.pid().serial().cmp(&self.process.pid().serial()))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

/// Whether the process has `text`, which is in lower case, in its pid, behaviour or a name.
fn has_text(process: &dyn AnyProcess, text: &str) -> bool {
    let has = |what: &str| what.to_lowercase().contains(text);
    has(process.label())
        || has(&process.pid().to_string())
        || process.info().names.iter().any(|name| has(name.as_str()))
        || process.runtime().directory().read().names.of(process.pid()).any(|name| has(name.as_str()))
}

impl Runtime {
    /// The processes that `query` names, of this node or this client. Waits now and then to let others run; of a million
    /// processes it takes some tenths of a second.
    pub async fn list_processes(&self, query: &ProcessQuery) -> ProcessList {
        let wanted = query.offset.saturating_add(query.limit).min(MAX_LISTED) as usize;
        let filter = query.filter.to_lowercase();
        let mut best: BinaryHeap<Reverse<Ranked>> = BinaryHeap::new();
        let (mut total, mut matching) = (0, 0);
        let mut cursor = Some(Cursor::default());
        // One moment for all, or ages could not be compared.
        let now_us = self.uptime_us();
        let mut page = Vec::with_capacity(SLOTS_A_STEP);
        while let Some(from) = cursor {
            cursor = self.table().page(from, SLOTS_A_STEP, &mut page);
            for process in page.drain(..) {
                total += 1;
                if !filter.is_empty() && !has_text(&*process, &filter) {
                    continue;
                }
                matching += 1;
                let ranked = Reverse(Ranked::new(process, query, now_us));
                if best.len() < wanted {
                    best.push(ranked);
                } else if let Some(mut last) = best.peek_mut()
                    && ranked < *last
                {
                    *last = ranked;
                }
            }
            tokio::task::yield_now().await;
        }
        let first = best.into_sorted_vec();
        let listed = first.iter().skip(query.offset as usize);
        let mut processes: Vec<ProcessInfo> = listed.map(|ranked| ranked.0.process.info()).collect();
        let directory = self.directory().read();
        for info in &mut processes {
            info.cluster_names = some(directory.names.of(&info.pid).cloned());
        }
        ProcessList { total, matching, processes }
    }

    /// Everything that is known of a process of this node, or of this client; `None` if it does not live here.
    #[must_use]
    pub fn inspect(&self, pid: &Pid) -> Option<ProcessDetails> {
        let details = self.process(pid)?.details();
        let directory = self.directory().read();
        let cluster_names = some(directory.names.of(pid).cloned());
        let groups = some(directory.groups.of(pid).cloned());
        Some(ProcessDetails { groups, info: ProcessInfo { cluster_names, ..details.info }, ..details })
    }
}

/// Which names or groups are listed. In JSON each field may be left out: `{"filter":"orders"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NameQuery {
    /// How many are listed at most, and no more than [`MAX_LISTED`].
    pub limit: u32,
    /// Only those with this text in them; all, if it is empty.
    pub filter: String,
}

impl Default for NameQuery {
    fn default() -> Self {
        Self { limit: 100, filter: String::new() }
    }
}

/// Names, the smallest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NameList {
    /// How many there are.
    pub total: u64,
    /// How many of them the filter lets through.
    pub matching: u64,
    /// Those that are listed, with who has them.
    pub names: Vec<(ProcessName, Pid)>,
}

/// A group of processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfo {
    /// Its name, with its scope.
    pub group: Group,
    /// How many processes are in it.
    pub members: u64,
    /// How many on each node.
    pub by_node: Vec<(NodeName, u64)>,
}

/// Groups, the smallest name first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupList {
    /// How many there are.
    pub total: u64,
    /// How many of them the filter lets through.
    pub matching: u64,
    /// Those that are listed.
    pub groups: Vec<GroupInfo>,
}

/// The smallest so many, in order, and how many there are. Keeps no more than these.
fn smallest<T: Ord>(all: impl Iterator<Item = T>, most: u32) -> (u64, Vec<T>) {
    let most = most.min(MAX_LISTED) as usize;
    let (mut count, mut best) = (0, BinaryHeap::new());
    for one in all {
        count += 1;
        if best.len() < most {
            best.push(one);
        } else if let Some(mut last) = best.peek_mut()
            && one < *last
        {
            *last = one;
        }
    }
    (count, best.into_sorted_vec())
}

/// Names and groups. Each is one walk, under the lock that changes of names, or of the directory, wait for.
impl Runtime {
    /// The names of this node.
    #[must_use]
    pub fn list_names(&self, query: &NameQuery) -> NameList {
        self.with_names_here(|names| names_of(names.len(), names.iter(), query))
    }

    /// The names of the cluster, as this node knows them; nothing in a client.
    #[must_use]
    pub fn list_cluster_names(&self, query: &NameQuery) -> NameList {
        let directory = self.directory().read();
        names_of(directory.names.len(), directory.names.all(), query)
    }

    /// The groups of the cluster, as this node knows them; nothing in a client.
    #[must_use]
    pub fn list_groups(&self, query: &NameQuery) -> GroupList {
        let directory = self.directory().read();
        let all = directory.groups.all().map(|(group, _)| group);
        let (matching, listed) = smallest(all.filter(|group| group.as_str().contains(&query.filter)), query.limit);
        let info = |group: &Group| {
            let members = directory.groups.members(group);
            GroupInfo {
                group: group.clone(),
                members: members.map_or(0, |members| members.len() as u64),
                by_node: members.map(|members| members.by_node(self.node())).unwrap_or_default(),
            }
        };
        let groups = listed.into_iter().map(info).collect();
        GroupList { total: directory.groups.len() as u64, matching, groups }
    }
}

fn names_of<'a>(total: usize, all: impl Iterator<Item = (&'a ProcessName, &'a Pid)>, query: &NameQuery) -> NameList {
    let (matching, listed) = smallest(all.filter(|(name, _)| name.as_str().contains(&query.filter)), query.limit);
    let names = listed.into_iter().map(|(name, pid)| (name.clone(), pid.clone())).collect();
    NameList { total: total as u64, matching, names }
}
