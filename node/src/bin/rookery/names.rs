//! `rookery names` and `rookery groups`: who is known by which name, and who belongs to which group.

use clap::Args;
use rookery_node::{
    Group, NodeId, Pid, ProcessName,
    ask::Ask,
    system::{MAX_LISTED, NameList, NameQuery, System},
};
use serde::Serialize;

use super::{
    connect::{CommandError, Session},
    out,
};

#[derive(Debug, Args)]
pub(crate) struct NamesArgs {
    /// Only those of this node, and none of the cluster.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    #[command(flatten)]
    part: Part,
}

#[derive(Debug, Args)]
pub(crate) struct GroupsArgs {
    /// Tell the members of this group: name, or scope#name.
    group: Option<Group>,
    #[command(flatten)]
    part: Part,
}

/// Which part of a list.
#[derive(Debug, Args)]
struct Part {
    /// Only those with this text in them.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// At most so many; of names, of each node.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LISTED)))]
    limit: u32,
}

impl Part {
    fn query(&self) -> NameQuery {
        NameQuery { limit: self.limit, filter: self.filter.clone() }
    }
}

/// A name and who has it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Named {
    name: ProcessName,
    /// The node that it is a name on; none for a name of the cluster.
    node: Option<String>,
    pid: Pid,
}

pub(crate) async fn names(args: &NamesArgs, session: &Session) -> Result<(), CommandError> {
    let nodes = match &args.node {
        Some(name) => vec![session.node(Some(name)).await?],
        None => session.nodes().await?,
    };
    let query = args.part.query();
    let ask = query.clone();
    let mut answers = session.ask_each(&nodes, move |reply| System::Names(Ask::new(ask.clone(), reply))).await?;
    let mut all = Vec::new();
    let mut left_out = 0;
    let mut add = |list: NameList, node: Option<&NodeId>| {
        left_out += list.matching - list.names.len() as u64;
        let node = node.map(|node| node.name().to_string());
        all.extend(list.names.into_iter().map(|(name, pid)| Named { name, node: node.clone(), pid }));
    };
    for (node, list) in answers.answered.drain(..) {
        add(list, Some(&node));
    }
    if args.node.is_none() {
        let here = [session.runtime.node().clone()];
        let mut known =
            session.ask_each(&here, move |reply| System::ClusterNames(Ask::new(query.clone(), reply))).await?;
        for (_, list) in known.answered.drain(..) {
            add(list, None);
        }
        answers.silent.extend(known.silent.into_iter().map(|why| format!("{why} (names of the cluster)")));
    }
    all.sort();
    if session.json {
        session.print_json(&all)?;
    } else {
        let rows = all.iter().map(|named| {
            let of = named.node.clone().unwrap_or_else(|| "cluster".to_owned());
            vec![named.name.to_string(), of, named.pid.to_string()]
        });
        out::table(&["NAME", "OF", "PID"], &[], rows.collect())?;
        more(left_out)?;
    }
    answers.all()
}

pub(crate) async fn groups(args: &GroupsArgs, session: &Session) -> Result<(), CommandError> {
    if let Some(group) = &args.group {
        return members(group, session).await;
    }
    let (query, here) = (args.part.query(), [session.runtime.node().clone()]);
    let mut answers = session.ask_each(&here, move |reply| System::Groups(Ask::new(query.clone(), reply))).await?;
    for (_, list) in answers.answered.drain(..) {
        if session.json {
            session.print_json(&list.groups)?;
            continue;
        }
        let rows = list.groups.iter().map(|info| {
            let nodes = info.by_node.iter().map(|(node, count)| format!("{node} {count}"));
            vec![info.group.to_string(), info.members.to_string(), nodes.collect::<Vec<_>>().join(", ")]
        });
        out::table(&["GROUP", "MEMBERS", "NODES"], &[1], rows.collect())?;
        more(list.matching - list.groups.len() as u64)?;
    }
    answers.all()
}

async fn members(group: &Group, session: &Session) -> Result<(), CommandError> {
    let asked = tokio::time::timeout(session.timeout, session.runtime.members(group)).await;
    let mut members = match asked {
        Ok(Ok(members)) => members,
        Ok(Err(error)) => return Err(CommandError::NotDone(format!("{group}: {error}"))),
        Err(_) => return Err(CommandError::NotDone(format!("{group}: no answer within {:?}", session.timeout))),
    };
    members.sort();
    if session.json {
        session.print_json(&members)?;
    } else {
        for pid in &members {
            out::line(pid)?;
        }
    }
    match members.is_empty() {
        false => Ok(()),
        true => Err(CommandError::NotDone(format!(
            "the group {group} has no members; `rookery groups` lists those that have"
        ))),
    }
}

fn more(left_out: u64) -> Result<(), CommandError> {
    if left_out > 0 {
        out::line(&format!("… and {left_out} more; --limit shows them, --filter finds them"))?;
    }
    Ok(())
}
