//! How others are found: each source is asked once, by the code that a node asks with.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use rookery_node::{
    NodeConfig,
    discovery::{Discovery, DiscoveryEvent, Source, Trouble},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::report::Report;

const CHECK: &str = "dns";

/// Addresses that are told one by one.
const MAX_TOLD: usize = 5;

/// Asks all sources. Gives the addresses that they name.
pub(super) async fn check(report: &mut Report, config: &NodeConfig, deadline: Duration) -> BTreeSet<SocketAddr> {
    let discovery = &config.discovery;
    let sources = usize::from(discovery.service.is_some()) + discovery.peers.len();
    let mut found = BTreeSet::new();
    if sources == 0 {
        report.skipped(
            CHECK,
            "neither `service` nor `peers` is set: this node looks for nobody, and is a cluster of one",
        );
        return found;
    }
    let (events, mut told) = mpsc::channel(64);
    // Its jitter plays no part in the first look-up.
    let _asking = match Discovery::start(discovery.clone(), 1, events) {
        Ok(asking) => asking,
        Err(error) => {
            report.failed(CHECK, error, "");
            return found;
        }
    };
    let (until, mut heard) = (Instant::now() + deadline, BTreeSet::new());
    while heard.len() < sources {
        let Ok(Some(event)) = timeout_at(until, told.recv()).await else { break };
        match event {
            DiscoveryEvent::Addresses { source, set, .. } => {
                report.ok(CHECK, format!("{source} names {}", list(&set)));
                found.extend(set);
                heard.insert(source);
            }
            DiscoveryEvent::Trouble { source, reason } => {
                report.failed(CHECK, format!("{source}: {reason}"), advice(&source, &reason));
                heard.insert(source);
            }
            DiscoveryEvent::Recovered { .. } => {}
        }
    }
    if heard.len() < sources {
        let silent = sources - heard.len();
        report.failed(CHECK, format!("{silent} of {sources} sources gave no answer within {deadline:?}"), SILENT);
    }
    found
}

const SILENT: &str =
    "no DNS server answers: look at /etc/resolv.conf or `dns_server`, and at network policies for UDP port 53";

fn advice(source: &Source, reason: &Trouble) -> &'static str {
    match (source, reason) {
        (Source::Service(_), Trouble::Empty) => {
            "look at its name (SERVICE.NAMESPACE.svc.cluster.local), that it is headless (clusterIP: None) with \
             publishNotReadyAddresses and a UDP port named `rookery`, and that its selector fits the pods"
        }
        (Source::Peer(_), Trouble::Empty) => "look at its name: DNS knows no such host",
        (_, Trouble::Failed(_)) => SILENT,
    }
}

fn list(set: &BTreeSet<SocketAddr>) -> String {
    let first: Vec<String> = set.iter().take(MAX_TOLD).map(ToString::to_string).collect();
    let rest = set.len().saturating_sub(MAX_TOLD);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{}{more}", first.join(", "))
}
