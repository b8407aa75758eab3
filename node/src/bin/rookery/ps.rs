//! `rookery ps`: the processes of the cluster, or of one node.

use clap::Args;
use rookery_node::{ask::Ask, system::System};

use super::{
    connect::{CommandError, Session, system_of},
    out,
};

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Only those of this node.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// At most so many of each node, longest mailbox first.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

pub(crate) async fn run(args: &PsArgs, session: &Session) -> Result<(), CommandError> {
    let nodes = match &args.node {
        Some(name) => vec![session.node(Some(name)).await?],
        None => session.nodes().await?,
    };
    let (mut processes, mut total, mut silent) = (Vec::new(), 0, Vec::new());
    for node in &nodes {
        let system = session.runtime.address::<System>(system_of(node)?);
        let asked = system.call_within(session.timeout, |reply| System::Processes(Ask::new(args.limit, reply))).await;
        match asked {
            Ok(list) => {
                total += list.total;
                processes.extend(list.processes);
            }
            Err(error) => silent.push(format!("{}: {error}", node.name())),
        }
    }
    let listed = processes.len() as u64;
    if session.json {
        session.print_json(&processes)?;
    } else {
        let rows = processes.iter().map(|process| {
            vec![
                process.pid.to_string(),
                process.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
                process.behaviour.rsplit("::").next().unwrap_or_default().to_owned(),
                process.mailbox.to_string(),
                process.links.to_string(),
                process.monitors.to_string(),
                process.watchers.to_string(),
            ]
        });
        let headings = ["PID", "NAMES", "BEHAVIOUR", "MAILBOX", "LINKS", "MONITORS", "MONITORED"];
        out::table(&headings, &[3, 4, 5, 6], rows.collect())?;
        if listed < total {
            out::line(&format!("… {listed} of {total}; --limit shows more"))?;
        }
    }
    match silent.is_empty() {
        true => Ok(()),
        false => Err(CommandError::NotDone(format!("did not answer: {}", silent.join("; ")))),
    }
}
