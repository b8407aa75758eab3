//! `rookery tree`: the supervision trees of the cluster. Each node tells which of its processes are supervisors, each
//! supervisor tells its children, and what is whose child makes the trees, across nodes.

use std::collections::{HashMap, HashSet};

use clap::Args;
use rookery_node::{
    CallError, Pid,
    ask::Ask,
    supervise::{ChildInfo, ChildStatus, SupervisorMessage},
    system::{MAX_LISTED, ProcessInfo, ProcessQuery, SortBy, System},
};
use serde::Serialize;
use tokio::task::JoinSet;

use super::{
    connect::{CommandError, Session},
    out, ps,
    target::Target,
};

/// What supervisors are labelled as.
const SUPERVISOR: &str = "supervisor";

/// How many supervisors are asked at once.
const ASKED_AT_ONCE: usize = 256;

#[derive(Debug, Args)]
pub(crate) struct TreeArgs {
    /// Only what is below this supervisor: a pid as '<orders-0.1f3a.42>', a name, or name@node.
    target: Option<Target>,
    /// Only trees whose top lives on this node.
    #[arg(long, value_name = "NAME", conflicts_with = "target")]
    node: Option<String>,
    /// At most so many children of each supervisor.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

/// A supervisor that was asked.
struct Supervisor {
    info: ProcessInfo,
    children: Result<Vec<ChildInfo>, CallError>,
}

/// A place in a tree.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Branch {
    /// What its supervisor calls it; of the top, its name.
    id: Option<String>,
    /// Its process, while it has one.
    pid: Option<Pid>,
    supervisor: bool,
    /// What it does; none of the top, which nobody tells.
    status: Option<ChildStatus>,
    restarts: u64,
    /// Why its children are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
    /// How many children are left out.
    left_out: usize,
    children: Vec<Branch>,
}

pub(crate) async fn run(args: &TreeArgs, session: &Session) -> Result<(), CommandError> {
    let top = match &args.target {
        Some(target) => Some(target.pid(session).await?),
        None => None,
    };
    let on = match &args.node {
        Some(name) => Some(session.node(Some(name)).await?),
        None => None,
    };
    let nodes = session.nodes().await?;
    let query =
        ProcessQuery { sort: SortBy::Pid, limit: MAX_LISTED, filter: SUPERVISOR.to_owned(), ..ProcessQuery::default() };
    let mut answers = session.ask_each(&nodes, move |reply| System::Processes(Ask::new(query.clone(), reply))).await?;
    let listed = answers.answered.drain(..).flat_map(|(_, list)| list.processes);
    let supervisors = ask(listed.filter(|info| info.behaviour == SUPERVISOR).collect(), session).await;
    if let Some(top) = &top
        && !supervisors.iter().any(|supervisor| supervisor.info.pid == *top)
    {
        return Err(CommandError::NotDone(format!("{top} is no supervisor that lives; `rookery tree` shows all")));
    }
    let trees = grow(supervisors, args.limit, |info| match (&top, &on) {
        (Some(top), _) => Some(info.pid == *top),
        (None, Some(node)) => (info.pid.node() != node).then_some(false),
        (None, None) => None,
    });
    if session.json {
        session.print_json(&trees)?;
    } else {
        for tree in &trees {
            let mut lines = Vec::new();
            draw(tree, "", "", &mut lines);
            for line in lines {
                out::line(&line)?;
            }
        }
    }
    answers.all()
}

/// Asks each for its children.
async fn ask(infos: Vec<ProcessInfo>, session: &Session) -> Vec<Supervisor> {
    let mut supervisors = Vec::with_capacity(infos.len());
    for some in infos.chunks(ASKED_AT_ONCE) {
        let mut asked = JoinSet::new();
        for info in some {
            let (address, timeout) = (session.runtime.address::<SupervisorMessage>(&info.pid), session.timeout);
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
fn grow(supervisors: Vec<Supervisor>, limit: usize, is_top: impl Fn(&ProcessInfo) -> Option<bool>) -> Vec<Branch> {
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
            id: Some(ps::names(&of.info)).filter(|names| !names.is_empty()),
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

/// Draws a branch as `tree` does: `first` stands before its own line, `rest` before those below it.
fn draw(branch: &Branch, first: &str, rest: &str, lines: &mut Vec<String>) {
    lines.push(format!("{first}{}", text(branch)));
    let more = match (branch.left_out, &branch.unknown) {
        (0, None) => None,
        (0, Some(why)) => Some(format!("({why})")),
        (left_out, _) => Some(format!("… {left_out} more; --limit shows them")),
    };
    for (at, child) in branch.children.iter().enumerate() {
        let last = at + 1 == branch.children.len() && more.is_none();
        let (line, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        draw(child, &format!("{rest}{line}"), &format!("{rest}{below}"), lines);
    }
    if let Some(more) = more {
        lines.push(format!("{rest}└─ {more}"));
    }
}

fn text(branch: &Branch) -> String {
    let mut text = branch.id.clone().unwrap_or_else(|| SUPERVISOR.to_owned());
    if let Some(pid) = &branch.pid {
        text = format!("{text}  {pid}");
    }
    let status = match branch.status {
        Some(ChildStatus::Starting) => "  starting",
        Some(ChildStatus::Restarting) => "  restarting",
        Some(ChildStatus::Stopping) => "  stopping",
        Some(ChildStatus::Stopped) => "  stopped",
        Some(ChildStatus::Running) | None => "",
    };
    let restarts = match branch.restarts {
        0 => String::new(),
        1 => "  restarted once".to_owned(),
        times => format!("  restarted {times} times"),
    };
    format!("{text}{status}{restarts}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]
    use rookery_node::system::ProcessState;

    use super::*;

    fn supervisor(pid: &str, names: &[&str], children: Result<Vec<ChildInfo>, CallError>) -> Supervisor {
        let info = ProcessInfo {
            pid: pid.parse().unwrap(),
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            cluster_names: Vec::new(),
            behaviour: SUPERVISOR.to_owned(),
            state: ProcessState::Waiting,
            mailbox: 0,
            handled: 0,
            steps: 0,
            memory_bytes: 0,
            age_ms: 0,
            parent: None,
            call: None,
            links: 0,
            monitors: 0,
            watchers: 0,
            traps_exits: true,
        };
        Supervisor { info, children }
    }

    fn child(id: &str, pid: &str, status: &str, restarts: u64) -> ChildInfo {
        let pid = if pid.is_empty() { serde_json::Value::Null } else { pid.into() };
        serde_json::from_value(serde_json::json!({
            "id": id, "pid": pid, "node": null, "status": status, "type": "worker", "significant": false,
            "restart": "permanent", "restarts": restarts, "last_end": null,
        }))
        .unwrap()
    }

    fn drawn(trees: &[Branch]) -> Vec<String> {
        let mut lines = Vec::new();
        for tree in trees {
            draw(tree, "", "", &mut lines);
        }
        lines
    }

    #[test]
    fn trees_grow_across_nodes_and_are_drawn_as_by_tree() {
        let world = || {
            let below = vec![child("room-1", "<b.1.3>", "running", 0), child("room-2", "", "restarting", 3)];
            vec![
                supervisor("<b.1.2>", &[], Ok(below)),
                supervisor(
                    "<a.1.1>",
                    &["boot"],
                    Ok(vec![child("rooms", "<b.1.2>", "running", 1), child("counter", "<a.1.2>", "running", 0)]),
                ),
                supervisor("<a.1.9>", &[], Err(CallError::Refused("clients may not".to_owned()))),
            ]
        };
        let trees = grow(world(), 100, |_| None);
        let expected = [
            "boot  <a.1.1>",
            "├─ rooms  <b.1.2>  restarted once",
            "│  ├─ room-1  <b.1.3>",
            "│  └─ room-2  restarting  restarted 3 times",
            "└─ counter  <a.1.2>",
            "supervisor  <a.1.9>",
            "└─ (does not tell its children: clients may not)",
        ];
        assert_eq!(drawn(&trees), expected);
        assert!(trees[0].children[0].supervisor && !trees[0].children[1].supervisor);
        let below = grow(world(), 1, |info| Some(info.pid.to_string() == "<b.1.2>"));
        assert_eq!(drawn(&below), ["supervisor  <b.1.2>", "├─ room-1  <b.1.3>", "└─ … 1 more; --limit shows them"]);
    }

    #[test]
    fn supervisors_that_each_tell_the_other_as_a_child_make_no_circle() {
        let one = supervisor("<a.1.1>", &[], Ok(vec![child("other", "<a.1.2>", "running", 0)]));
        let other = supervisor("<a.1.2>", &[], Ok(vec![child("one", "<a.1.1>", "running", 0)]));
        let trees = grow(vec![one, other], 100, |info| Some(info.pid.to_string() == "<a.1.1>"));
        assert_eq!(drawn(&trees), ["supervisor  <a.1.1>", "└─ other  <a.1.2>", "   └─ one  <a.1.1>"]);
    }
}
