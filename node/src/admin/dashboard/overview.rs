//! The first page: what this node does, the nodes of the cluster, and the links between them.

use std::time::Duration;

use rookery_runtime::NodeId;

use super::{
    MAX_NODES, Viewer,
    chart::{Chart, Line},
    history::{History, Sample},
    html::Html,
    layout::{Body, tile},
    locked,
    pages::Page,
    query::Link,
    silent,
};
use crate::{
    system::{NodeInfo, System},
    words::{self, bytes, count, span},
};

/// A round trip from which on a link is marked as slow: within a zone it is a hundredth of it.
const SLOW_RTT: Duration = Duration::from_millis(50);

pub(super) async fn body(viewer: &Viewer<'_>) -> Body {
    let all = viewer.nodes();
    let pages = all.len().div_ceil(MAX_NODES).max(1);
    let page = viewer.query.page(u32::try_from(pages).unwrap_or(u32::MAX)) as usize;
    let shown: Vec<NodeId> = all.iter().skip(page * MAX_NODES).take(MAX_NODES).cloned().collect();
    let answers = viewer.ask(&shown, System::Info).await;
    let infos: Vec<NodeInfo> = answers.answered.into_iter().map(|(_, info)| info).collect();
    let here = viewer.watched.runtime.node();
    let mut body = Body::new("Overview");
    body.notes.extend(silent(answers.silent));
    sums(&mut body.html, all.len(), &infos);
    body.html.put(
        "<section aria-labelledby=\"now\"><h2 id=\"now\">{} in the last two minutes</h2><div class=\"charts\">",
        &[here.name()],
    );
    charts(&mut body.html, &locked(&viewer.watched.dashboard.history));
    body.html.put("</div></section>", &[]);
    table(&mut body.html, here, &shown, &infos);
    turn(&mut body.html, viewer, page, pages);
    if shown.len() > 1 {
        links(&mut body.html, &shown, &infos);
    }
    body
}

fn sums(html: &mut Html, nodes: usize, infos: &[NodeInfo]) {
    let sum = |figure: fn(&NodeInfo) -> u64| count(infos.iter().map(figure).sum());
    html.put("<dl class=\"tiles\">", &[]);
    tile(html, "Nodes", &count(nodes as u64));
    tile(html, "Processes", &sum(|info| info.processes));
    tile(html, "Clients", &sum(|info| info.clients));
    tile(html, "Names in the cluster", &count(infos.first().map_or(0, |info| info.cluster_names)));
    tile(html, "Groups", &count(infos.first().map_or(0, |info| info.groups)));
    tile(html, "Dead letters", &sum(|info| info.dead_letters));
    tile(html, "Memory", &bytes(infos.iter().filter_map(|info| info.load.memory_bytes).sum()));
    html.put("</dl>", &[]);
}

fn charts(html: &mut Html, history: &History) {
    let line = |name, figure: fn(&Sample) -> Option<f64>| Line { name, values: history.line(figure) };
    let all = [
        Chart {
            title: "Messages",
            unit: "/s",
            lines: vec![
                line("received", |sample| Some(sample.messages[2])),
                line("sent", |sample| Some(sample.messages[1])),
                line("within the node", |sample| Some(sample.messages[0])),
            ],
        },
        Chart {
            title: "Calls",
            unit: "/s",
            lines: vec![
                line("received", |sample| Some(sample.calls[2])),
                line("to elsewhere", |sample| Some(sample.calls[1])),
                line("within the node", |sample| Some(sample.calls[0])),
            ],
        },
        Chart { title: "Waiting in mailboxes", unit: "", lines: vec![line("messages", |sample| sample.waiting)] },
        Chart {
            title: "Round trip to peers",
            unit: " ms",
            lines: vec![
                line("furthest", |sample| sample.rtt_ms.map(|[_, most]| most)),
                line("in the middle", |sample| sample.rtt_ms.map(|[middle, _]| middle)),
            ],
        },
        Chart { title: "Busy threads", unit: "", lines: vec![line("threads", |sample| Some(sample.busy))] },
    ];
    all.iter().for_each(|chart| chart.draw(html));
}

fn table(html: &mut Html, here: &NodeId, shown: &[NodeId], infos: &[NodeInfo]) {
    html.put(
        "<section aria-labelledby=\"nodes\"><h2 id=\"nodes\">Nodes</h2><table><thead><tr><th scope=\"col\">Node</th><th scope=\"col\">State</th>\
         <th scope=\"col\" class=\"number\">Processes</th><th scope=\"col\" class=\"number minor\">Clients</th><th scope=\"col\" class=\"number\">Memory</th>\
         <th scope=\"col\" class=\"number minor\">Peers</th><th scope=\"col\" class=\"number minor\">Up for</th><th scope=\"col\" class=\"minor\">Version</th></tr></thead><tbody>",
        &[],
    );
    for node in shown {
        let info = infos.iter().find(|info| info.node == *node);
        let of = |tell: &dyn Fn(&NodeInfo) -> String| info.map_or_else(|| "–".to_owned(), tell);
        let name = node.name();
        html.put("<tr><th scope=\"row\"><a href=\"{}\">{}</a>", &[&Link::to("node", "name", name), name]);
        if node == here {
            html.put(" <small>this node</small>", &[]);
        }
        let (class, state) = state(node, info, infos);
        html.put("</th><td><span class=\"state {}\">{}</span></td>", &[&class, &state]);
        html.put(
            "<td class=\"number\">{}</td><td class=\"number minor\">{}</td><td class=\"number\">{}</td><td class=\"number minor\">{}</td>\
             <td class=\"number minor\">{}</td><td class=\"minor\">{}</td></tr>",
            &[
                &of(&|info| count(info.processes)),
                &of(&|info| count(info.clients)),
                &of(&|info| info.load.memory_bytes.map_or_else(|| "–".to_owned(), bytes)),
                &of(&|info| count(info.peers.len() as u64)),
                &of(&|info| span(Duration::from_millis(info.uptime_ms))),
                &of(&|info| info.version.clone()),
            ],
        );
    }
    html.put("</tbody></table></section>", &[]);
}

/// How a node is, with the class that it is drawn by.
fn state(node: &NodeId, info: Option<&NodeInfo>, infos: &[NodeInfo]) -> (&'static str, String) {
    let heard = words::node_state(node, infos);
    match info {
        _ if heard != "up" => ("bad", heard),
        None => ("bad", "no answer".to_owned()),
        Some(info) if info.draining => ("warn", "leaving".to_owned()),
        Some(_) => ("good", heard),
    }
}

fn turn(html: &mut Html, viewer: &Viewer<'_>, page: usize, pages: usize) {
    if pages < 2 {
        return;
    }
    let to = |page: usize| viewer.query.with("page", &page.to_string()).link(Page::Overview.address());
    html.put("<nav class=\"pager\" aria-label=\"Pages of the list\">", &[]);
    if page > 0 {
        html.put("<a rel=\"prev\" href=\"{}\">Previous</a>", &[&to(page - 1)]);
    }
    html.put("<span>{} of {}</span>", &[&(page + 1), &pages]);
    if page + 1 < pages {
        html.put("<a rel=\"next\" href=\"{}\">Next</a>", &[&to(page + 1)]);
    }
    html.put("</nav>", &[]);
}

/// The round trip from each node to each other: a row is what its node says.
fn links(html: &mut Html, shown: &[NodeId], infos: &[NodeInfo]) {
    html.put(
        "<section aria-labelledby=\"links\"><h2 id=\"links\">Links</h2><p class=\"hint\">The round trip from the node of a row to that of a column, as QUIC measures it.</p>\
         <div class=\"scroll\" role=\"region\" aria-labelledby=\"links\" tabindex=\"0\"><table class=\"matrix\"><thead><tr><td></td>",
        &[],
    );
    for node in shown {
        html.put("<th scope=\"col\">{}</th>", &[node.name()]);
    }
    html.put("</tr></thead><tbody>", &[]);
    for row in shown {
        html.put("<tr><th scope=\"row\">{}</th>", &[row.name()]);
        let info = infos.iter().find(|info| info.node == *row);
        for column in shown {
            let peer = info.and_then(|info| info.peers.iter().find(|peer| peer.node == *column));
            match (info, peer) {
                _ if row == column => html.put("<td class=\"self\"><span aria-label=\"itself\">·</span></td>", &[]),
                (None, _) => html.put("<td><span aria-label=\"no answer\">–</span></td>", &[]),
                (Some(_), None) => html.put("<td class=\"bad\">no link</td>", &[]),
                (Some(_), Some(peer)) => match peer.silent_ms {
                    Some(ms) => html.put("<td class=\"bad\">silent {}</td>", &[&span(Duration::from_millis(ms))]),
                    None => {
                        let rtt = Duration::from_micros(peer.rtt_us);
                        let class = if rtt > SLOW_RTT { "warn" } else { "good" };
                        html.put("<td class=\"{}\">{}</td>", &[&class, &span(rtt)])
                    }
                },
            };
        }
        html.put("</tr>", &[]);
    }
    html.put("</tbody></table></div></section>", &[]);
}
