//! The identity: readable, chain, key, cluster, role and names, as the node and its peers will judge them, and for how long it holds.

use std::{path::PathBuf, time::Duration};

use rookery_node::{
    NodeConfig,
    tls::{CertificateSummary, LoadError, UnixTime, rfc3339},
    words::span,
};

use super::{
    super::{settings::IdentitySource, start::RunError},
    report::Report,
};

const CHECK: &str = "certificates";

/// With less than this part of its life left, a certificate should have been renewed: cert-manager does after two thirds.
const LATE: u32 = 10;

/// What to do about a clock.
pub(super) const SET_CLOCK: &str =
    "set this machine's clock (in Kubernetes, that of the machine that the pod runs on: chrony, systemd-timesyncd)";

/// No identity could be made of the settings.
pub(super) fn failed(report: &mut Report, error: &RunError) {
    let advice = match error {
        RunError::Identity(LoadError::Expired { .. }) => {
            "a node does not start with it, and peers refuse it; if the time looks wrong, look at the clock"
        }
        RunError::Identity(LoadError::NotYetValid { .. }) => SET_CLOCK,
        RunError::Identity(LoadError::KeyMismatch { .. }) => {
            "in Kubernetes, both stand in one Secret: restart the pod, or have cert-manager issue it again"
        }
        _ => "",
    };
    report.failed(CHECK, error, advice);
}

/// The files of an identity that hold certificates: the own one, and the CA's.
pub(super) fn files(source: &IdentitySource) -> Vec<PathBuf> {
    match source {
        IdentitySource::Directory(dir) => vec![dir.clone()],
        IdentitySource::Files { ca, cert, .. } => vec![cert.clone(), ca.clone()],
    }
}

pub(super) fn check(report: &mut Report, config: &NodeConfig, source: &IdentitySource) {
    if let Err(error) = config.check() {
        report.failed(CHECK, error, "");
    }
    let own = config.identity.own();
    report.ok(CHECK, format!("{own}; chain, key and purpose are good"));
    let now = UnixTime::now();
    for file in files(source) {
        let Ok(certificates) = CertificateSummary::read(&file) else { continue };
        for (path, certificate) in certificates {
            let end = certificate.not_after;
            let left = Duration::from_secs(end.as_secs().saturating_sub(now.as_secs()));
            let life = Duration::from_secs(end.as_secs().saturating_sub(certificate.not_before.as_secs()));
            let what = if certificate.is_ca { "a CA" } else { "the certificate" };
            if left.is_zero() {
                let found = format!("{what} in {} has expired, at {}", path.display(), rfc3339(end));
                report.failed(
                    CHECK,
                    found,
                    "issue a new one, and give it to all nodes before the old one is taken away",
                );
            } else if left < life / LATE {
                let found = format!("{what} in {} expires in {}, at {}", path.display(), span(left), rfc3339(end));
                report.warning(
                    CHECK,
                    found,
                    "renew it: with cert-manager, look at the Certificate's events; else `rookery certs issue`",
                );
            }
        }
    }
}
