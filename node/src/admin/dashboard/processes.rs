//! The processes of the cluster, or of a node, sorted; a hundred on a page. Each node sorts and cuts its own.

use std::time::Duration;

use super::{
    ROWS, Viewer,
    html::Html,
    layout::{Body, filter, pid},
    query::Query,
    silent,
};
use crate::{
    ask::Ask,
    system::{ProcessInfo, ProcessList, ProcessQuery, SortBy, System},
    words::{self, bytes, count, span},
};

/// Pages of a list: each node is asked for all rows up to the end of the page.
const MAX_PAGES: u32 = 10;

/// The address of the page.
const PAGE: &str = "processes";

/// A column by which the list can be sorted: its word in the query, its heading, its class.
const COLUMNS: [(SortBy, &str, &str, &str); 6] = [
    (SortBy::Behaviour, "behaviour", "Process", ""),
    (SortBy::Mailbox, "mailbox", "Mailbox", "number"),
    (SortBy::Handled, "handled", "Handled", "number minor"),
    (SortBy::Steps, "steps", "Steps", "number minor"),
    (SortBy::Memory, "memory", "Memory", "number"),
    (SortBy::Age, "age", "Age", "number minor"),
];

pub(super) async fn body(viewer: &Viewer<'_>) -> Body {
    let (nodes, note) = match viewer.query.get("node") {
        Some(name) => match viewer.node(name) {
            Some(node) => (vec![node], None),
            None => (Vec::new(), Some(format!("No node `{name}` is up, as far as this one sees."))),
        },
        None => viewer.asked(),
    };
    let page = viewer.query.page(MAX_PAGES);
    let sort = viewer.query.get("sort").unwrap_or("mailbox");
    let query = ProcessQuery {
        sort: COLUMNS.iter().find(|(_, word, ..)| *word == sort).map(|(sort, ..)| *sort).unwrap_or_default(),
        reverse: viewer.query.get("reverse").is_some(),
        offset: 0,
        limit: (page + 1) * ROWS,
        filter: viewer.query.get("filter").unwrap_or_default().to_owned(),
    };
    let asked = query.clone();
    let answers = viewer.ask(&nodes, move |reply| System::Processes(Ask::new(asked.clone(), reply))).await;
    let (mut processes, mut matching) = (Vec::new(), 0_u64);
    for (_, ProcessList { matching: more, processes: some, .. }) in answers.answered {
        matching = matching.saturating_add(more);
        processes.extend(some);
    }
    query.sort(&mut processes);
    let first = (page * ROWS) as usize;
    let shown: Vec<ProcessInfo> = processes.into_iter().skip(first).take(ROWS as usize).collect();
    let mut body = Body::new("Processes");
    body.notes.extend(note);
    body.notes.extend(silent(answers.silent));
    form(&mut body.html, viewer);
    table(&mut body.html, &viewer.query, &query, &shown);
    pager(&mut body.html, &viewer.query, page, shown.len(), matching);
    body
}

fn form(html: &mut Html, viewer: &Viewer<'_>) {
    filter(html, PAGE, &viewer.query, &["sort", "reverse"], "Name, behaviour or pid has");
    html.put(" <label>Node <select name=\"node\"><option value=\"\">all</option>", &[]);
    let chosen = viewer.query.get("node").unwrap_or_default();
    for node in viewer.nodes() {
        let name = node.name().as_str();
        if name == chosen {
            html.put("<option selected>{}</option>", &[&name]);
        } else {
            html.put("<option>{}</option>", &[&name]);
        }
    }
    html.put("</select></label> <button>Show</button></form>", &[]);
}

fn table(html: &mut Html, query: &Query, asked: &ProcessQuery, shown: &[ProcessInfo]) {
    html.put("<table><thead><tr>", &[]);
    for (sort, word, heading, class) in COLUMNS {
        let is_sorted = sort == asked.sort;
        // The same column again is the other way round.
        let reverse = if is_sorted && !asked.reverse { "1" } else { "" };
        let link = query.with("sort", word).with("reverse", reverse).with("page", "").link(PAGE);
        // Figures begin with the largest, texts with the first of the alphabet.
        let is_up = (sort == SortBy::Behaviour) != asked.reverse;
        let order = match (is_sorted, is_up) {
            (false, _) => "none",
            (true, true) => "ascending",
            (true, false) => "descending",
        };
        html.put(
            "<th scope=\"col\" class=\"{}\" aria-sort=\"{}\"><a href=\"{}\">{}</a></th>",
            &[&class, &order, &link, &heading],
        );
        if sort == SortBy::Behaviour {
            html.put("<th scope=\"col\">State</th>", &[]);
        }
    }
    html.put("</tr></thead><tbody>", &[]);
    for info in shown {
        let names = words::names(info);
        let name = if names.is_empty() { words::short(&info.behaviour) } else { &names };
        html.put("<tr><th scope=\"row\"><span class=\"name\">{}</span> ", &[&name]);
        pid(html, &info.pid);
        let class = if info.mailbox > 0 { "number waits" } else { "number" };
        html.put(
            "</th><td>{}</td><td class=\"{}\">{}</td><td class=\"number minor\">{}</td><td class=\"number minor\">{}</td>\
             <td class=\"number\">{}</td><td class=\"number minor\">{}</td></tr>",
            &[
                &words::state(info),
                &class,
                &count(info.mailbox),
                &count(info.handled),
                &count(info.steps),
                &bytes(info.memory_bytes),
                &span(Duration::from_millis(info.age_ms)),
            ],
        );
    }
    html.put("</tbody></table>", &[]);
}

fn pager(html: &mut Html, query: &Query, page: u32, shown: usize, matching: u64) {
    if shown == 0 {
        html.put("<p class=\"empty\">There is none here.</p>", &[]);
        return;
    }
    let first = u64::from(page * ROWS);
    let last = first + shown as u64;
    html.put("<nav class=\"pager\" aria-label=\"Pages of the list\">", &[]);
    let to = |page: u32| query.with("page", &page.to_string()).link(PAGE);
    if page > 0 {
        html.put("<a rel=\"prev\" href=\"{}\">Previous</a>", &[&to(page - 1)]);
    }
    html.put("<span>{}–{} of {}</span>", &[&count(first + 1), &count(last), &count(matching)]);
    if last < matching && page + 1 < MAX_PAGES {
        html.put("<a rel=\"next\" href=\"{}\">Next</a>", &[&to(page + 1)]);
    } else if last < matching {
        html.put("<span>Filter or sort to see others.</span>", &[]);
    }
    html.put("</nav>", &[]);
}
