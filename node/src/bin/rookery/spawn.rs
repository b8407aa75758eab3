//! `rookery spawn`: starts a behaviour on a node.

use clap::Args;
use rookery_node::{BehaviourName, Group, ProcessName, Start};

use super::{
    connect::{CommandError, Session},
    out,
};

#[derive(Debug, Args)]
pub(crate) struct SpawnArgs {
    /// What to start: a behaviour that the node has, as `counter`.
    behaviour: BehaviourName,
    /// Its arguments, as JSON.
    #[arg(default_value = "null", value_parser = json)]
    arguments: String,
    /// Register it under this name on its node.
    #[arg(long, value_name = "NAME")]
    name: Option<ProcessName>,
    /// Register it under this name in the cluster; if another process has it, nothing is started.
    #[arg(long, value_name = "NAME")]
    cluster_name: Option<ProcessName>,
    /// Let it join this group, as rooms or chat#rooms; may be given several times.
    #[arg(long, value_name = "GROUP")]
    join: Vec<Group>,
    /// Start it on this node; otherwise on the one that is connected to.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

/// Checks that a text is JSON, and leaves it as it is.
pub(crate) fn json(text: &str) -> Result<String, String> {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("not JSON ({error}); text needs its own quotes, as '\"hello\"'")),
    }
}

pub(crate) async fn run(args: SpawnArgs, session: &Session) -> Result<(), CommandError> {
    let node = session.node(args.node.as_deref()).await?;
    let mut start = Start::json(args.behaviour, args.arguments);
    if let Some(name) = args.name {
        start = start.name(name);
    }
    if let Some(name) = args.cluster_name {
        start = start.cluster_name(name);
    }
    start = args.join.into_iter().fold(start, Start::join);
    let started = session.runtime.start_on(&node, start).await;
    let pid = started.map_err(|error| CommandError::NotDone(format!("{}: {error}", node.name())))?.pid;
    if session.json {
        session.print_json(&serde_json::json!({ "pid": pid }))?;
    } else {
        out::line(&pid)?;
    }
    Ok(())
}
