//! Supervision trees across nodes. Each node tells which of its processes are supervisors, each supervisor tells its children, and
//! what is whose child makes the trees. For the command line and the dashboard.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use rookery_runtime::{CallError, Pid, Runtime};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    supervise::{ChildInfo, ChildStatus, SupervisorMessage},
    system::{MAX_LISTED, ProcessInfo, ProcessQuery, SortBy},
    words,
};

/// What supervisors are labelled as.
pub const SUPERVISOR: &str = "supervisor";

/// How many supervisors are asked at once.
const ASKED_AT_ONCE: usize = 256;

/// What a node is asked for its supervisors, of which `limit` are listed at most; what else has the word in its names is to be left out.
#[must_use]
pub fn query(limit: u32) -> ProcessQuery {
    ProcessQuery {
        sort: SortBy::Pid,
        limit: limit.min(MAX_LISTED),
        filter: SUPERVISOR.to_owned(),
        ..ProcessQuery::default()
    }
}

/// A supervisor that was asked.
#[derive(Debug)]
pub struct Supervisor {
    /// What its node tells of it.
    pub info: ProcessInfo,
    /// What it tells of its children.
    pub children: Result<Vec<ChildInfo>, CallError>,
}

/// A place in a tree.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Branch {
    /// What its supervisor calls it; of the top, its name.
    pub id: Option<String>,
    /// Its process, while it has one.
    pub pid: Option<Pid>,
    /// Whether it is a supervisor that was asked.
    pub supervisor: bool,
    /// What it does; none of the top, which nobody tells.
    pub status: Option<ChildStatus>,
    /// How often it was started again.
    pub restarts: u64,
    /// Why its children are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// How many children are left out.
    pub left_out: usize,
    /// What is below it.
    pub children: Vec<Branch>,
}

/// Asks each for its children; who is silent costs `timeout` once for all that are asked with it.
pub async fn ask(infos: Vec<ProcessInfo>, runtime: &Runtime, timeout: Duration) -> Vec<Supervisor> {
    let mut supervisors = Vec::with_capacity(infos.len());
    for some in infos.chunks(ASKED_AT_ONCE) {
        let mut asked = JoinSet::new();
        for info in some {
            let address = runtime.address::<SupervisorMessage>(&info.pid);
            let info = info.clone();
            asked.spawn(async move {
                let children = address.call_within(timeout, SupervisorMessage::Children).await;
                Supervisor { info, children }
            });
        }
        supervisors.extend(asked.join_all().await);
    }
    supervisors.sort_by(|a, b| a.info.pid.cmp(&b.info.pid));
    supervisors
}

/// Makes trees of what is whose child. `is_top` says that a supervisor is one, or is not; where it says neither, it is one
/// if it is nobody's child.
#[must_use]
pub fn grow(supervisors: Vec<Supervisor>, limit: usize, is_top: impl Fn(&ProcessInfo) -> Option<bool>) -> Vec<Branch> {
    let children = supervisors.iter().flat_map(|supervisor| supervisor.children.iter().flatten());
    let born: HashSet<Pid> = children.filter_map(|child| child.pid.clone()).collect();
    let tops = supervisors.iter().map(|supervisor| &supervisor.info);
    let tops: Vec<Pid> =
        tops.filter(|info| is_top(info).unwrap_or(!born.contains(&info.pid))).map(|info| info.pid.clone()).collect();
    let mut left: HashMap<Pid, Supervisor> = supervisors.into_iter().map(|it| (it.info.pid.clone(), it)).collect();
    tops.into_iter().filter_map(|pid| left.remove(&pid).map(|top| branch(None, top, limit, &mut left))).collect()
}

/// A supervisor with all below it. Each is taken out of `left`, so that answers that contradict each other, since they are
/// of different moments, make no circle.
fn branch(child: Option<&ChildInfo>, of: Supervisor, limit: usize, left: &mut HashMap<Pid, Supervisor>) -> Branch {
    let mut branch = match child {
        Some(child) => leaf(child),
        None => Branch {
            id: Some(words::names(&of.info)).filter(|names| !names.is_empty()),
            pid: Some(of.info.pid),
            supervisor: true,
            status: None,
            restarts: 0,
            unknown: None,
            left_out: 0,
            children: Vec::new(),
        },
    };
    branch.supervisor = true;
    match of.children {
        Ok(children) => {
            branch.left_out = children.len().saturating_sub(limit);
            for child in children.iter().take(limit) {
                let below = child.pid.as_ref().and_then(|pid| left.remove(pid));
                branch.children.push(match below {
                    Some(below) => self::branch(Some(child), below, limit, left),
                    None => leaf(child),
                });
            }
        }
        Err(CallError::Refused(why)) => branch.unknown = Some(format!("does not tell its children: {why}")),
        Err(error) => branch.unknown = Some(error.to_string()),
    }
    branch
}

fn leaf(child: &ChildInfo) -> Branch {
    Branch {
        id: Some(child.id.to_string()),
        pid: child.pid.clone(),
        supervisor: false,
        status: Some(child.status),
        restarts: child.restarts,
        unknown: None,
        left_out: 0,
        children: Vec::new(),
    }
}
