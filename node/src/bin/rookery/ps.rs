//! `rookery ps`: the processes of the cluster, or of one node, each node's sorted and cut there.

use std::{cmp::Reverse, time::Duration};

use clap::{Args, ValueEnum};
use rookery_node::{
    ask::Ask,
    system::{MAX_LISTED, ProcessInfo, ProcessQuery, SortBy, System},
};

use super::{
    connect::{CommandError, Session},
    out,
};

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Only those of this node.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// What to sort by.
    #[arg(long, value_enum, default_value_t = Sort::Mailbox)]
    sort: Sort,
    /// Sort the other way round.
    #[arg(long)]
    reverse: bool,
    /// Only those with this text, in either case, in their pid, behaviour or a name.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LISTED)))]
    limit: u32,
}

/// [`SortBy`], as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// Longest mailbox first.
    Mailbox,
    /// Most messages received first.
    Handled,
    /// Most often run first.
    Steps,
    /// Most memory first.
    Memory,
    /// Oldest first.
    Age,
    /// By the behaviour's name.
    Behaviour,
    /// By node and number.
    Pid,
}

impl From<Sort> for SortBy {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Mailbox => Self::Mailbox,
            Sort::Handled => Self::Handled,
            Sort::Steps => Self::Steps,
            Sort::Memory => Self::Memory,
            Sort::Age => Self::Age,
            Sort::Behaviour => Self::Behaviour,
            Sort::Pid => Self::Pid,
        }
    }
}

/// Sorts the lists of several nodes as each node has sorted its own.
pub(crate) fn sort(processes: &mut [ProcessInfo], sort: SortBy, reverse: bool) {
    match sort {
        SortBy::Mailbox => processes.sort_by_key(|info| Reverse(info.mailbox)),
        SortBy::Handled => processes.sort_by_key(|info| Reverse(info.handled)),
        SortBy::Steps => processes.sort_by_key(|info| Reverse(info.steps)),
        SortBy::Memory => processes.sort_by_key(|info| Reverse(info.memory_bytes)),
        SortBy::Age => processes.sort_by_key(|info| Reverse(info.age_ms)),
        SortBy::Behaviour => processes.sort_by(|a, b| a.behaviour.cmp(&b.behaviour)),
        SortBy::Pid => processes.sort_by(|a, b| a.pid.cmp(&b.pid)),
    }
    if reverse {
        processes.reverse();
    }
}

pub(crate) async fn run(args: &PsArgs, session: &Session) -> Result<(), CommandError> {
    let nodes = match &args.node {
        Some(name) => vec![session.node(Some(name)).await?],
        None => session.nodes().await?,
    };
    let query = ProcessQuery {
        sort: args.sort.into(),
        reverse: args.reverse,
        offset: 0,
        limit: args.limit,
        filter: args.filter.clone(),
    };
    let ask = query.clone();
    let mut answers = session.ask_each(&nodes, move |reply| System::Processes(Ask::new(ask.clone(), reply))).await?;
    let (mut processes, mut matching) = (Vec::new(), 0);
    for (_, list) in answers.answered.drain(..) {
        matching += list.matching;
        processes.extend(list.processes);
    }
    sort(&mut processes, query.sort, query.reverse);
    processes.truncate(args.limit as usize);
    if session.json {
        session.print_json(&processes)?;
    } else {
        let headings = ["PID", "NAMES", "BEHAVIOUR", "STATE", "MAILBOX", "HANDLED", "MEMORY", "AGE", "TIES"];
        out::table(&headings, &[4, 5, 6, 7, 8], processes.iter().map(row).collect())?;
        if (processes.len() as u64) < matching {
            out::line(&format!("… {} of {matching}; --limit shows more", processes.len()))?;
        }
    }
    answers.all()
}

fn row(info: &ProcessInfo) -> Vec<String> {
    vec![
        info.pid.to_string(),
        names(info),
        short(&info.behaviour).to_owned(),
        state(info),
        info.mailbox.to_string(),
        info.handled.to_string(),
        out::bytes(info.memory_bytes),
        out::span(Duration::from_millis(info.age_ms)),
        (info.links + info.monitors + info.watchers).to_string(),
    ]
}

pub(crate) fn names(info: &ProcessInfo) -> String {
    info.names.iter().chain(&info.cluster_names).map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// A behaviour without its path.
pub(crate) fn short(behaviour: &str) -> &str {
    // The path ends where type parameters begin.
    let path = behaviour.split('<').next().unwrap_or_default();
    path.rfind("::").map_or(behaviour, |at| &behaviour[at + 2..])
}

/// What the process does; a call that it waits for says more than that it waits.
pub(crate) fn state(info: &ProcessInfo) -> String {
    match &info.call {
        Some(_) => format!("{} (call)", info.state.as_str()),
        None => info.state.as_str().to_owned(),
    }
}
