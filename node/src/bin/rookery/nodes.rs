//! `rookery nodes`: the nodes of the cluster, each as it tells of itself.

use std::time::Duration;

use rookery_node::{
    NodeId,
    system::{NodeInfo, System},
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
        let rows = infos.iter().map(|info| {
            let peer = here.peers.iter().find(|peer| peer.node == info.node);
            let address =
                peer.and_then(|peer| peer.addresses.last()).map_or("(connected to)".to_owned(), ToString::to_string);
            let rtt = peer.map_or(String::new(), |peer| out::span(Duration::from_micros(peer.rtt_us)));
            vec![
                info.node.name().to_string(),
                info.node.incarnation().to_string(),
                address,
                rtt,
                info.peers.len().to_string(),
                info.processes.to_string(),
                info.clients.to_string(),
                info.load.memory_bytes.map_or(String::new(), out::bytes),
                out::span(Duration::from_millis(info.uptime_ms)),
                info.version.clone(),
            ]
        });
        let headings =
            ["NODE", "INCARNATION", "ADDRESS", "RTT", "PEERS", "PROCESSES", "CLIENTS", "MEMORY", "UPTIME", "VERSION"];
        out::table(&headings, &[3, 4, 5, 6, 7, 8], rows.collect())?;
    }
    answers.all()
}
