//! The clock, by what is known of others': certificates began in the past, and so did the nodes that answered, whose incarnation is
//! the time of their start.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rookery_node::{
    NodeConfig,
    tls::{CertificateSummary, rfc3339},
    words::span,
};

use super::{
    super::settings::IdentitySource,
    certificates::{self, SET_CLOCK},
    peers::Met,
    report::Report,
};

const CHECK: &str = "clock";

/// How far two clocks that are kept by NTP may differ, and more.
const TOLERANCE: Duration = Duration::from_secs(2);

pub(super) fn check(report: &mut Report, config: &NodeConfig, source: &IdentitySource, met: &[Met]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ahead = |began: Duration| began.checked_sub(now).filter(|ahead| *ahead > TOLERANCE);
    let before = report.findings.len();
    for (path, certificate) in
        certificates::files(source).iter().flat_map(|file| CertificateSummary::read(file)).flatten()
    {
        if let Some(ahead) = ahead(Duration::from_secs(certificate.not_before.as_secs())) {
            let from = rfc3339(certificate.not_before);
            let found =
                format!("a certificate in {} begins in {}, at {from}, by this clock", path.display(), span(ahead));
            report.failed(CHECK, found, SET_CLOCK);
        }
    }
    for other in met {
        if let Some(ahead) = ahead(Duration::from_micros(other.node.incarnation().0)) {
            let found = format!("by this clock, {} will only start in {}", other.node.name(), span(ahead));
            report.failed(CHECK, found, "this clock is behind, or that node's was ahead when it started: look at both, then start the node anew");
        }
    }
    if report.findings.len() == before {
        let others = met.iter().filter(|met| met.node.name() != &config.name).count();
        let nodes = if others == 0 { String::new() } else { format!(" and the starts of {others} other nodes") };
        report.ok(CHECK, format!("it fits the certificates{nodes}"));
    }
}
