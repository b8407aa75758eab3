//! `rookery tree`: the supervision trees of the cluster, across nodes, drawn as `tree` does.

use clap::Args;
use rookery_node::{
    ask::Ask,
    supervise::ChildStatus,
    system::{MAX_LISTED, System},
    trees::{self, Branch, SUPERVISOR},
};

use super::{
    connect::{CommandError, Session},
    out,
    target::Target,
};

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
    let query = trees::query(MAX_LISTED);
    let mut answers = session.ask_each(&nodes, move |reply| System::Processes(Ask::new(query.clone(), reply))).await?;
    let listed = answers.answered.drain(..).flat_map(|(_, list)| list.processes);
    let supervisors =
        trees::ask(listed.filter(|info| info.behaviour == SUPERVISOR).collect(), &session.runtime, session.timeout)
            .await;
    if let Some(top) = &top
        && !supervisors.iter().any(|supervisor| supervisor.info.pid == *top)
    {
        return Err(CommandError::NotDone(format!("{top} is no supervisor that lives; `rookery tree` shows all")));
    }
    let trees = trees::grow(supervisors, args.limit, |info| match (&top, &on) {
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
    use rookery_node::{
        CallError,
        supervise::ChildInfo,
        system::{ProcessInfo, ProcessState},
        trees::{Supervisor, grow},
    };

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
        let trees = trees::grow(world(), 100, |_| None);
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
        let trees = trees::grow(vec![one, other], 100, |info| Some(info.pid.to_string() == "<a.1.1>"));
        assert_eq!(drawn(&trees), ["supervisor  <a.1.1>", "└─ other  <a.1.2>", "   └─ one  <a.1.1>"]);
    }
}
