//! What all pages have in common: head, links to the others, what did not answer, and when it was asked.

use std::fmt::Display;

use rookery_runtime::{
    Pid,
    tls::{UnixTime, rfc3339},
};

use super::{
    html::Html,
    pages::{PAGES, Page},
    query::{Link, Query},
};

/// What a page shows.
#[derive(Debug, Default)]
pub(super) struct Body {
    /// Its heading.
    pub(super) title: String,
    /// What stands below.
    pub(super) html: Html,
    /// Nodes that did not answer, and what else has to be said first.
    pub(super) notes: Vec<String>,
}

impl Body {
    pub(super) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }
}

/// The whole page.
pub(super) fn whole(page: Page, cluster: &dyn Display, node: &dyn Display, body: &Body) -> String {
    let mut html = Html::default();
    html.put(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{} · {} · Rookery</title>\
         <link rel=\"icon\" href=\"icon.svg\" type=\"image/svg+xml\"><link rel=\"stylesheet\" href=\"style.css\"><script src=\"script.js\" defer></script></head>\n\
         <body><a class=\"skip\" href=\"#main\">Skip to the content</a>\
         <header><p class=\"brand\"><a href=\"./\">Rookery</a> <span>{}</span></p><nav aria-label=\"Pages\"><ul>",
        &[&body.title, node, cluster],
    );
    for (listed, name) in PAGES {
        if listed == page.section() {
            html.put("<li><a href=\"{}\" aria-current=\"page\">{}</a></li>", &[&listed.link(), &name]);
        } else {
            html.put("<li><a href=\"{}\">{}</a></li>", &[&listed.link(), &name]);
        }
    }
    html.put("</ul></nav></header>\n<main id=\"main\" tabindex=\"-1\"><h1>{}</h1>", &[&body.title]);
    if !body.notes.is_empty() {
        html.put("<div class=\"note\" role=\"status\">", &[]);
        for note in &body.notes {
            html.put("<p>{}</p>", &[note]);
        }
        html.put("</div>", &[]);
    }
    html.add(&body.html);
    let now = rfc3339(UnixTime::now());
    html.put(
        "</main>\n<footer><p>As seen from <a href=\"{}\">{}</a> at <time datetime=\"{}\">{}</time>. It can be looked at, and not changed, from here.</p></footer></body></html>\n",
        &[&Link::to("node", "name", node), node, &now, &now],
    );
    html.finish()
}

/// A pid, which leads to all that is known of its process; not a client's, which lives in the client.
pub(super) fn pid(html: &mut Html, pid: &Pid) {
    if pid.serial().session().is_some() {
        html.put("<code>{}</code>", &[pid]);
    } else {
        html.put("<a href=\"{}\"><code>{}</code></a>", &[&Link::to("process", "pid", pid), pid]);
    }
}

/// A box for a text that what is listed has to have, and what else the query has kept beside it.
pub(super) fn filter(html: &mut Html, page: &'static str, query: &Query, kept: &[&'static str], hint: &'static str) {
    html.put("<form class=\"filter\" method=\"get\" action=\"{}\" role=\"search\">", &[&page]);
    for key in kept {
        if let Some(value) = query.get(key) {
            html.put("<input type=\"hidden\" name=\"{}\" value=\"{}\">", &[key, &value]);
        }
    }
    html.put(
        "<label>{} <input type=\"search\" name=\"filter\" value=\"{}\" autocomplete=\"off\" spellcheck=\"false\"></label>",
        &[&hint, &query.get("filter").unwrap_or_default()],
    );
}

/// A figure with its name above.
pub(super) fn tile(html: &mut Html, name: &'static str, value: &dyn Display) {
    html.put("<div><dt>{}</dt><dd>{}</dd></div>", &[&name, value]);
}

/// How many of a list are not shown.
pub(super) fn more(html: &mut Html, left_out: u64, what_to_do: &'static str) {
    if left_out > 0 {
        html.put("<p class=\"more\">… and {} more. {}</p>", &[&crate::words::count(left_out), &what_to_do]);
    }
}
