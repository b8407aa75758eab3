//! `rookery ps`: the processes of the cluster, or of one node, each node's sorted and cut there.

use std::time::Duration;

use clap::{Args, ValueEnum};
use rookery_node::{
    ask::Ask,
    system::{MAX_LISTED, ProcessInfo, ProcessQuery, SortBy, System},
};

pub(crate) use rookery_node::words::{names, short, state};

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
    query.sort(&mut processes);
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
