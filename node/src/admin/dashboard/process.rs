//! Everything that is known of one process.

use std::{fmt::Display, time::Duration};

use rookery_runtime::Pid;

use super::{
    Viewer,
    html::Html,
    layout::{self, Body, tile},
    query::Link,
    silent,
};
use crate::{
    ask::Ask,
    system::{ProcessDetails, System},
    words::{self, bytes, count, span},
};

/// Ties of one kind that are shown one by one.
const MAX_TIES: usize = 100;

pub(super) async fn body(viewer: &Viewer<'_>) -> Body {
    let text = viewer.query.get("pid").unwrap_or_default();
    let mut body = Body::new("Process");
    let Ok(pid) = text.parse::<Pid>() else {
        body.notes.push(format!("`{text}` is no pid: one looks as <orders-0.1f3a.42>."));
        return body;
    };
    if viewer.node(pid.node().name().as_str()).as_ref() != Some(pid.node()) {
        body.notes.push(format!("{pid} is of a node, or of a life of it, that is not up."));
        return body;
    }
    let asked = pid.clone();
    let mut answers = viewer
        .ask(std::slice::from_ref(pid.node()), move |reply| System::Inspect(Ask::new(asked.clone(), reply)))
        .await;
    body.notes.extend(silent(std::mem::take(&mut answers.silent)));
    match answers.answered.pop() {
        Some((_, Some(details))) => {
            let names = words::names(&details.info);
            body.title = if names.is_empty() { words::short(&details.info.behaviour).to_owned() } else { names };
            facts(&mut body.html, &details);
        }
        Some((_, None)) => body.notes.push(format!("There is no process {pid}: it has ended, or never was.")),
        None => {}
    }
    body
}

fn facts(html: &mut Html, details: &ProcessDetails) {
    let info = &details.info;
    html.put("<p class=\"hint\"><code>{}</code></p><dl class=\"tiles\">", &[&info.pid]);
    tile(html, "State", &words::state(info));
    let limit = if details.mailbox_limit == 0 { String::new() } else { format!(" of {}", details.mailbox_limit) };
    tile(html, "Mailbox", &format!("{}{limit}", count(info.mailbox)));
    tile(html, "Handled", &count(info.handled));
    tile(html, "Steps", &count(info.steps));
    tile(html, "Memory", &bytes(info.memory_bytes));
    tile(html, "Age", &span(Duration::from_millis(info.age_ms)));
    html.put("</dl><dl class=\"facts\">", &[]);
    let mut fact = |what: &'static str, value: &dyn Display| {
        html.put("<div><dt>{}</dt><dd>{}</dd></div>", &[&what, value]);
    };
    fact("Behaviour", &info.behaviour);
    fact("Messages", &details.message);
    fact("Traps exits", &yes(info.traps_exits));
    fact("Members only", &yes(details.members_only));
    if let Some(call) = &info.call {
        fact("Waits for", &format!("{}, for {}", call.to, span(Duration::from_millis(call.for_ms))));
    }
    if let Some(parent) = &info.parent {
        html.put("<div><dt>Started by</dt><dd>", &[]);
        layout::pid(html, parent);
        html.put("</dd></div>", &[]);
    }
    html.put("</dl>", &[]);
    if !details.groups.is_empty() {
        html.put("<section><h2>Groups</h2><ul class=\"words\">", &[]);
        for group in details.groups.iter().take(MAX_TIES) {
            html.put("<li><a href=\"{}\">{}</a></li>", &[&Link::to("group", "name", group), group]);
        }
        html.put("</ul></section>", &[]);
    }
    let pids = |pids: &[Pid]| pids.iter().take(MAX_TIES).map(ToString::to_string).collect::<Vec<_>>();
    ties(html, "Links", info.links, &pids(&details.linked));
    let monitored: Vec<String> = details.monitored.iter().take(MAX_TIES).cloned().collect();
    ties(html, "Monitors", info.monitors, &monitored);
    ties(html, "Monitored by", info.watchers, &pids(&details.watched_by));
}

/// The other ends, which lead to their processes where they are pids.
fn ties(html: &mut Html, what: &'static str, total: u64, shown: &[String]) {
    html.put("<section><h2>{} <small>{}</small></h2><ul class=\"words\">", &[&what, &count(total)]);
    for one in shown {
        html.put("<li>", &[]);
        match one.parse::<Pid>() {
            Ok(pid) => layout::pid(html, &pid),
            Err(_) => drop(html.put("<code>{}</code>", &[one])),
        }
        html.put("</li>", &[]);
    }
    html.put("</ul>", &[]);
    layout::more(html, total.saturating_sub(shown.len() as u64), "");
    html.put("</section>", &[]);
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}
