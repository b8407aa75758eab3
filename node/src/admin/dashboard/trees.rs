//! The supervision trees of the cluster, across nodes.

use super::{
    PATIENCE, Viewer,
    html::Html,
    layout::{Body, pid},
    silent,
};
use crate::{
    ask::Ask,
    supervise::ChildStatus,
    system::System,
    trees::{self, Branch, SUPERVISOR},
    words,
};

/// Supervisors of one node that are asked.
const MAX_OF_NODE: u32 = 200;

/// Supervisors that are asked in all; so deep a tree can be at most.
const MAX_ASKED: usize = 500;

/// Children of one supervisor that are shown.
const MAX_CHILDREN: usize = 100;

pub(super) async fn body(viewer: &Viewer<'_>) -> Body {
    let (nodes, note) = viewer.asked();
    let query = trees::query(MAX_OF_NODE);
    let answers = viewer.ask(&nodes, move |reply| System::Processes(Ask::new(query.clone(), reply))).await;
    let (mut supervisors, mut left_out) = (Vec::new(), 0_u64);
    for (_, list) in answers.answered {
        left_out += list.matching.saturating_sub(list.processes.len() as u64);
        supervisors.extend(list.processes.into_iter().filter(|info| info.behaviour == SUPERVISOR));
    }
    left_out += supervisors.len().saturating_sub(MAX_ASKED) as u64;
    supervisors.truncate(MAX_ASKED);
    let told = trees::ask(supervisors, &viewer.watched.runtime, PATIENCE).await;
    let grown = trees::grow(told, MAX_CHILDREN, |_| None);
    let mut body = Body::new("Supervision trees");
    body.notes.extend(note);
    body.notes.extend(silent(answers.silent));
    if left_out > 0 {
        let left_out = words::count(left_out);
        body.notes.push(format!("{left_out} supervisors more are not shown; `rookery tree` tells them."));
    }
    if grown.is_empty() {
        body.html.put("<p class=\"empty\">No supervisor runs.</p>", &[]);
    }
    for tree in &grown {
        body.html.put("<ul class=\"tree\">", &[]);
        draw(&mut body.html, tree);
        body.html.put("</ul>", &[]);
    }
    body
}

fn draw(html: &mut Html, branch: &Branch) {
    html.put("<li>", &[]);
    if !branch.supervisor {
        line(html, branch);
        html.put("</li>", &[]);
        return;
    }
    html.put("<details open><summary>", &[]);
    line(html, branch);
    html.put("</summary><ul>", &[]);
    for child in &branch.children {
        draw(html, child);
    }
    if let Some(why) = &branch.unknown {
        html.put("<li class=\"bad\">{}</li>", &[why]);
    }
    if branch.left_out > 0 {
        html.put("<li class=\"more\">… and {} more</li>", &[&words::count(branch.left_out as u64)]);
    }
    html.put("</ul></details></li>", &[]);
}

fn line(html: &mut Html, branch: &Branch) {
    html.put("<span class=\"name\">{}</span> ", &[&branch.id.as_deref().unwrap_or(SUPERVISOR)]);
    if let Some(process) = &branch.pid {
        pid(html, process);
    }
    let status = match branch.status {
        Some(ChildStatus::Starting) => Some(("warn", "starting")),
        Some(ChildStatus::Restarting) => Some(("warn", "restarting")),
        Some(ChildStatus::Stopping) => Some(("warn", "stopping")),
        Some(ChildStatus::Stopped) => Some(("bad", "stopped")),
        Some(ChildStatus::Running) | None => None,
    };
    if let Some((class, word)) = status {
        html.put(" <span class=\"state {}\">{}</span>", &[&class, &word]);
    }
    match branch.restarts {
        0 => html,
        1 => html.put(" <small>restarted once</small>", &[]),
        times => html.put(" <small>restarted {} times</small>", &[&words::count(times)]),
    };
}
