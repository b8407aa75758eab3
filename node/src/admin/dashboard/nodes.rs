//! One node: what it is, what it does, and its links.

use std::time::Duration;

use super::{
    Viewer,
    html::Html,
    layout::{Body, tile},
    query::{Link, Query},
    silent,
};
use crate::{
    PeerInfo,
    system::{NodeInfo, System},
    words::{bytes, count, span},
};

/// Labels, behaviours and lanes that are shown one by one: a node may tell any number.
const MAX_SHOWN: usize = 200;

pub(super) async fn body(viewer: &Viewer<'_>) -> Body {
    let name = viewer.query.get("name").unwrap_or_default();
    let Some(node) = viewer.node(name) else {
        let mut body = Body::new("No such node");
        body.notes.push(format!("No node `{name}` is up, as far as this one sees."));
        return body;
    };
    let mut answers = viewer.ask(&[node], System::Info).await;
    let mut body = Body::new(name);
    body.notes.extend(silent(std::mem::take(&mut answers.silent)));
    if let Some((_, info)) = answers.answered.pop() {
        figures(&mut body.html, &info);
        peers(&mut body.html, &info.peers);
        words(&mut body.html, &info);
    }
    body
}

fn figures(html: &mut Html, info: &NodeInfo) {
    html.put(
        "<p class=\"hint\"><code>{}</code>, version {}{}</p><dl class=\"tiles\">",
        &[&info.node, &info.version, &if info.draining { ", leaving: it takes no new processes" } else { "" }],
    );
    tile(html, "Up for", &span(Duration::from_millis(info.uptime_ms)));
    tile(html, "Processes", &count(info.processes));
    tile(html, "At most", &count(info.max_processes));
    tile(html, "Clients", &count(info.clients));
    tile(html, "Threads", &info.load.workers);
    tile(html, "Runnable", &count(info.load.queued));
    tile(html, "Memory", &info.load.memory_bytes.map_or_else(|| "–".to_owned(), bytes));
    tile(html, "CPU time", &info.load.cpu_ms.map_or_else(|| "–".to_owned(), |ms| span(Duration::from_millis(ms))));
    tile(html, "Names", &count(info.names));
    tile(html, "Dead letters", &count(info.dead_letters));
    tile(html, "Refused to clients", &count(info.refused_to_clients));
    html.put("</dl>", &[]);
    let processes = Query::default().with("node", info.node.name().as_str()).link("processes");
    html.put("<p><a href=\"{}\">Its processes</a></p>", &[&processes]);
}

fn peers(html: &mut Html, peers: &[PeerInfo]) {
    html.put("<section aria-labelledby=\"peers\"><h2 id=\"peers\">Links to other nodes</h2>", &[]);
    if peers.is_empty() {
        html.put("<p class=\"empty\">It is alone.</p></section>", &[]);
        return;
    }
    html.put(
        "<table><thead><tr><th scope=\"col\">Node</th><th scope=\"col\" class=\"minor\">Address</th><th scope=\"col\" class=\"number\">Round trip</th>\
         <th scope=\"col\" class=\"number minor\">Connected for</th><th scope=\"col\" class=\"number\">Waits</th><th scope=\"col\" class=\"number minor\">Sent</th>\
         <th scope=\"col\" class=\"number minor\">Received</th><th scope=\"col\" class=\"number\">Lost packets</th></tr></thead><tbody>",
        &[],
    );
    for peer in peers.iter().take(MAX_SHOWN) {
        let name = peer.node.name();
        let address = peer.addresses.last().map_or_else(|| "–".to_owned(), ToString::to_string);
        html.put(
            "<tr><th scope=\"row\"><a href=\"{}\">{}</a></th><td class=\"minor\"><code>{}</code></td>",
            &[&Link::to("node", "name", name), name, &address],
        );
        match peer.silent_ms {
            Some(ms) => html.put("<td class=\"number bad\">silent {}</td>", &[&span(Duration::from_millis(ms))]),
            None => html.put("<td class=\"number\">{}</td>", &[&span(Duration::from_micros(peer.rtt_us))]),
        };
        html.put(
            "<td class=\"number minor\">{}</td><td class=\"number\">{}</td><td class=\"number minor\">{}</td><td class=\"number minor\">{}</td>\
             <td class=\"number\">{} of {}</td></tr>",
            &[
                &span(Duration::from_millis(peer.connected_ms)),
                &bytes(peer.queued_bytes),
                &bytes(peer.sent().bytes),
                &bytes(peer.received.bytes),
                &count(peer.lost_packets),
                &count(peer.sent_packets),
            ],
        );
    }
    html.put("</tbody></table></section>", &[]);
}

fn words(html: &mut Html, info: &NodeInfo) {
    html.put(
        "<section aria-labelledby=\"labels\"><h2 id=\"labels\">Labels and behaviours</h2><ul class=\"words\">",
        &[],
    );
    for (name, value) in info.labels.iter().take(MAX_SHOWN) {
        html.put("<li><code>{}={}</code></li>", &[name, value]);
    }
    for behaviour in info.behaviours.iter().take(MAX_SHOWN) {
        html.put("<li><code>{}</code></li>", &[behaviour]);
    }
    html.put("</ul></section>", &[]);
}
