//! `rookery nodes`: the nodes of the cluster, each as it tells of itself.

use std::time::Duration;

use rookery_node::{
    NodeId, PeerInfo,
    system::{NodeInfo, System},
    words,
};

use super::{
    connect::{CommandError, Session},
    out,
};

pub(crate) async fn run(session: &Session) -> Result<(), CommandError> {
    let here = session.info(session.runtime.node()).await?;
    let others: Vec<NodeId> = here.peers.iter().map(|peer| peer.node.clone()).collect();
    let mut answers = session.ask_each(&others, System::Info).await?;
    let mut infos: Vec<NodeInfo> = answers.answered.drain(..).map(|(_, info)| info).chain([here.clone()]).collect();
    infos.sort_by(|a, b| a.node.cmp(&b.node));
    if session.json {
        session.print_json(&infos)?;
    } else {
        out::table(&HEADINGS, &[4, 5, 6, 7, 8, 9], rows(&here, &infos))?;
    }
    answers.all()
}

const HEADINGS: [&str; 11] =
    ["NODE", "INCARNATION", "STATE", "ADDRESS", "RTT", "PEERS", "PROCESSES", "CLIENTS", "MEMORY", "UPTIME", "VERSION"];

/// A row for each node that the one connected to knows, also for one that has not answered: it is looked for first of all.
fn rows(here: &NodeInfo, infos: &[NodeInfo]) -> Vec<Vec<String>> {
    let mut nodes: Vec<&NodeId> = here.peers.iter().map(|peer| &peer.node).chain([&here.node]).collect();
    nodes.sort();
    let row = |node: &NodeId| {
        let peer = here.peers.iter().find(|peer| peer.node == *node);
        let info = infos.iter().find(|info| info.node == *node);
        let of_peer = |tell: &dyn Fn(&PeerInfo) -> String| peer.map_or(String::new(), tell);
        let of_info = |tell: &dyn Fn(&NodeInfo) -> String| info.map_or(String::new(), tell);
        let address = |peer: &PeerInfo| peer.addresses.last().map_or(String::new(), ToString::to_string);
        vec![
            node.name().to_string(),
            node.incarnation().to_string(),
            words::node_state(node, infos),
            peer.map_or("(connected to)".to_owned(), address),
            of_peer(&|peer| out::span(Duration::from_micros(peer.rtt_us))),
            of_info(&|info| info.peers.len().to_string()),
            of_info(&|info| info.processes.to_string()),
            of_info(&|info| info.clients.to_string()),
            of_info(&|info| info.load.memory_bytes.map_or(String::new(), out::bytes)),
            of_info(&|info| out::span(Duration::from_millis(info.uptime_ms))),
            of_info(&|info| info.version.clone()),
        ]
    };
    nodes.into_iter().map(row).collect()
}
