//! Names and groups: who is known by which name, and who belongs to which group.

use rookery_runtime::{Group, Pid, ProcessName};

use super::{
    ROWS, Viewer,
    html::Html,
    layout::{Body, filter, more, pid},
    query::Link,
    silent,
};
use crate::{
    ask::Ask,
    system::{NameQuery, System},
    words::count,
};

/// What is done about a list that is cut.
const FILTER: &str = "The filter finds them.";

pub(super) async fn names(viewer: &Viewer<'_>) -> Body {
    let (nodes, note) = viewer.asked();
    let query = NameQuery { limit: ROWS, filter: viewer.query.get("filter").unwrap_or_default().to_owned() };
    let known = viewer.watched.runtime.list_cluster_names(&query);
    let answers = viewer.ask(&nodes, move |reply| System::Names(Ask::new(query.clone(), reply))).await;
    let mut body = Body::new("Names");
    body.notes.extend(note);
    body.notes.extend(silent(answers.silent));
    filter(&mut body.html, "names", &viewer.query, &[], "Name has");
    body.html.put(" <button>Show</button></form><section aria-labelledby=\"cluster\"><h2 id=\"cluster\">In the cluster <small>{}</small></h2>", &[
        &count(known.total),
    ]);
    table(&mut body.html, &known.names);
    more(&mut body.html, known.matching.saturating_sub(known.names.len() as u64), FILTER);
    body.html.put("</section>", &[]);
    for (node, list) in answers.answered {
        body.html.put("<section><h2>On {} <small>{}</small></h2>", &[node.name(), &count(list.total)]);
        table(&mut body.html, &list.names);
        more(&mut body.html, list.matching.saturating_sub(list.names.len() as u64), FILTER);
        body.html.put("</section>", &[]);
    }
    body
}

fn table(html: &mut Html, names: &[(ProcessName, Pid)]) {
    if names.is_empty() {
        html.put("<p class=\"empty\">There is none here.</p>", &[]);
        return;
    }
    html.put(
        "<table class=\"two\"><thead><tr><th scope=\"col\">Name</th><th scope=\"col\">Process</th></tr></thead><tbody>",
        &[],
    );
    for (name, process) in names {
        html.put("<tr><th scope=\"row\">{}</th><td>", &[name]);
        pid(html, process);
        html.put("</td></tr>", &[]);
    }
    html.put("</tbody></table>", &[]);
}

pub(super) async fn groups(viewer: &Viewer<'_>) -> Body {
    let query = NameQuery { limit: ROWS, filter: viewer.query.get("filter").unwrap_or_default().to_owned() };
    let list = viewer.watched.runtime.list_groups(&query);
    let mut body = Body::new("Groups");
    let html = &mut body.html;
    filter(html, "groups", &viewer.query, &[], "Name has");
    html.put(" <button>Show</button></form>", &[]);
    if list.groups.is_empty() {
        html.put("<p class=\"empty\">There is none here.</p>", &[]);
        return body;
    }
    html.put(
        "<table><thead><tr><th scope=\"col\">Group</th><th scope=\"col\" class=\"number\">Members</th><th scope=\"col\">On</th></tr></thead><tbody>",
        &[],
    );
    for info in &list.groups {
        let nodes: Vec<String> = info.by_node.iter().map(|(node, members)| format!("{node} {members}")).collect();
        html.put(
            "<tr><th scope=\"row\"><a href=\"{}\">{}</a></th><td class=\"number\">{}</td><td>{}</td></tr>",
            &[&Link::to("group", "name", &info.group), &info.group, &count(info.members), &nodes.join(", ")],
        );
    }
    html.put("</tbody></table>", &[]);
    more(html, list.matching.saturating_sub(list.groups.len() as u64), FILTER);
    body
}

pub(super) async fn members(viewer: &Viewer<'_>) -> Body {
    let text = viewer.query.get("name").unwrap_or_default();
    let mut body = Body::new("Group");
    let Ok(group) = text.parse::<Group>() else {
        body.notes.push(format!("`{text}` is no group: one looks as `rooms`, or `chat#rooms`."));
        return body;
    };
    body.title = group.to_string();
    let mut members = match viewer.watched.runtime.members(&group).await {
        Ok(members) => members,
        Err(error) => {
            body.notes.push(error.to_string());
            return body;
        }
    };
    members.sort();
    body.html.put("<p class=\"hint\">Members: {}</p><ul class=\"words\">", &[&count(members.len() as u64)]);
    for member in members.iter().take(ROWS as usize) {
        body.html.put("<li>", &[]);
        pid(&mut body.html, member);
        body.html.put("</li>", &[]);
    }
    body.html.put("</ul>", &[]);
    more(&mut body.html, (members.len() as u64).saturating_sub(u64::from(ROWS)), "`rookery groups` tells all.");
    body
}
