//! `rookery certs show`: what the certificates of a file or directory say, as aligned lines for
//! people or JSON for programs. Anything that can be read is shown, also what is expired, foreign or
//! useless here; for a directory it is also said whether a node or client could use it as it is.

use std::io::Write;
use std::path::{Path, PathBuf};

use rookery_runtime::tls::limits::SECONDS_A_DAY;
use rookery_runtime::tls::{CertificateRole, CertificateSummary, Identity, PeerIdentity, rfc3339};
use serde::Serialize;

use super::CertsError;

/// Seconds in an hour.
const SECONDS_AN_HOUR: u64 = 60 * 60;

/// What is shown, and the shape of the JSON.
#[derive(Serialize)]
struct Report {
    /// Could a node or client use the directory as its identity? Null for a file or a CA.
    usable: Option<bool>,
    /// Why not.
    problem: Option<String>,
    certificates: Vec<Shown>,
}

/// One certificate.
#[derive(Serialize)]
struct Shown {
    file: PathBuf,
    cluster: Option<String>,
    /// `node`, `client`, `ca`, or null if it says nothing of a Rookery cluster.
    role: Option<&'static str>,
    /// The client's name.
    client: Option<String>,
    dns_names: Vec<String>,
    valid_from: String,
    valid_to: String,
    /// Whole days until it expires; negative afterwards.
    days_left: i64,
    /// Is it valid at this moment?
    valid_now: bool,
    issuer: String,
    subject: String,
    key_type: String,
    serial: String,
    sha256: String,
    /// Why it identifies nobody here.
    problem: Option<String>,
    /// The validity in words.
    #[serde(skip)]
    time_left: String,
}

pub(super) fn show(path: &Path, json: bool, out: &mut dyn Write) -> Result<(), CertsError> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map(|since| since.as_secs())
        .unwrap_or_default();
    let report = report(path, now)?;
    if json {
        serde_json::to_writer_pretty(&mut *out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    for (index, certificate) in report.certificates.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        certificate.print(out)?;
    }
    match (report.usable, report.problem) {
        (Some(true), _) => {
            writeln!(out, "\nUsable as an identity: yes (key fits, chain leads to the CA, valid)")?;
        }
        (_, Some(problem)) => writeln!(out, "\nUsable as an identity: no: {problem}")?,
        _ => {}
    }
    Ok(())
}

fn report(path: &Path, now: u64) -> Result<Report, CertsError> {
    let certificates: Vec<Shown> =
        CertificateSummary::read(path)?.into_iter().map(|(file, summary)| Shown::new(file, summary, now)).collect();
    let is_identity = path.is_dir() && certificates.iter().any(|shown| shown.role != Some("ca"));
    let loaded = is_identity.then(|| Identity::from_dir(path));
    Ok(Report {
        usable: loaded.as_ref().map(Result::is_ok),
        problem: loaded.and_then(Result::err).map(|error| error.to_string()),
        certificates,
    })
}

impl Shown {
    fn new(file: PathBuf, summary: CertificateSummary, now: u64) -> Self {
        let (from, to) = (summary.not_before.as_secs(), summary.not_after.as_secs());
        let seconds_left = i128::from(to) - i128::from(now);
        let days_left = seconds_left.div_euclid(i128::from(SECONDS_A_DAY));
        let identity = PeerIdentity::of_summary(&summary);
        let (cluster, role, client, problem) = match (identity, summary.authority_of()) {
            (_, Some(cluster)) => (Some(cluster.to_string()), Some("ca"), None, None),
            // A CA that others made, which need not say whose it is.
            (Err(_), None) if summary.is_ca => (None, Some("ca"), None, None),
            (Err(error), None) => (None, None, None, Some(error.to_string())),
            (Ok(identity), None) => {
                let (role, client) = match identity.role {
                    CertificateRole::Node => ("node", None),
                    CertificateRole::Client { name } => ("client", Some(name.to_string())),
                };
                (Some(identity.cluster.to_string()), Some(role), client, None)
            }
        };
        Self {
            file,
            cluster,
            role,
            client,
            dns_names: summary.dns_names,
            valid_from: rfc3339(summary.not_before),
            valid_to: rfc3339(summary.not_after),
            days_left: i64::try_from(days_left).unwrap_or(i64::MAX),
            valid_now: (from..=to).contains(&now),
            issuer: summary.issuer,
            subject: summary.subject,
            key_type: summary.key_type,
            serial: summary.serial,
            sha256: summary.fingerprint.to_string(),
            problem,
            time_left: time_left(from, to, now),
        }
    }

    fn print(&self, out: &mut dyn Write) -> Result<(), CertsError> {
        let role = match (self.role, &self.client) {
            (Some("ca"), _) => "CA, issues certificates".to_owned(),
            (Some(role), Some(name)) => format!("{role} {name}"),
            (Some(role), None) => role.to_owned(),
            (None, _) => "none".to_owned(),
        };
        writeln!(out, "{}", self.file.display())?;
        let dns_names = self.dns_names.join(", ");
        let valid_to = format!("{} ({})", self.valid_to, self.time_left);
        let lines = [
            ("Cluster", self.cluster.as_deref().unwrap_or("not said")),
            ("Role", &role),
            ("DNS names", &dns_names),
            ("Valid from", &self.valid_from),
            ("Valid to", &valid_to),
            ("Subject", &self.subject),
            ("Issuer", &self.issuer),
            ("Key type", &self.key_type),
            ("Serial", &self.serial),
            ("SHA-256", &self.sha256),
            ("Problem", self.problem.as_deref().unwrap_or_default()),
        ];
        for (label, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
            // A certificate of others can hold any characters, also those that drive a terminal.
            let value: String = value.chars().flat_map(printable).collect();
            writeln!(out, "  {label:<11}{value}")?;
        }
        Ok(())
    }
}

fn printable(character: char) -> Vec<char> {
    if character.is_control() { character.escape_default().collect() } else { vec![character] }
}

/// The validity in words, as `364 days left`.
fn time_left(from: u64, to: u64, now: u64) -> String {
    let span = |seconds: u64| {
        let (count, unit) = match seconds {
            0..SECONDS_AN_HOUR => (seconds / 60, "minute"),
            SECONDS_AN_HOUR..SECONDS_A_DAY => (seconds / SECONDS_AN_HOUR, "hour"),
            _ => (seconds / SECONDS_A_DAY, "day"),
        };
        format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
    };
    if now > to {
        format!("EXPIRED {} ago", span(now - to))
    } else if now < from {
        format!("NOT VALID YET, begins in {}", span(from - now))
    } else {
        format!("{} left", span(to - now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_is_told_in_words() {
        let day = SECONDS_A_DAY;
        assert_eq!(time_left(0, 10 * day, day), "9 days left");
        assert_eq!(time_left(0, 10 * day, 9 * day), "1 day left");
        assert_eq!(time_left(0, 10 * day, 10 * day - 2 * SECONDS_AN_HOUR), "2 hours left");
        assert_eq!(time_left(0, 10 * day, 10 * day), "0 minutes left");
        assert_eq!(time_left(0, 10 * day, 13 * day), "EXPIRED 3 days ago");
        assert_eq!(time_left(10 * day, 20 * day, 0), "NOT VALID YET, begins in 10 days");
    }

    #[test]
    fn what_drives_a_terminal_is_shown_and_not_obeyed() {
        let shown: String = "a\u{1b}[2Jé\n".chars().flat_map(printable).collect();
        assert_eq!(shown, "a\\u{1b}[2Jé\\n");
    }
}
