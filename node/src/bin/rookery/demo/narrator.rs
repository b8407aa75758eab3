//! Tells the story: one line a step, with the time since the beginning and the time that the step took.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use super::cluster::{Cluster, GROUP, SERVICE};
use crate::out;

/// See the module.
pub(crate) struct Narrator {
    begin: Instant,
    colour: bool,
    /// What stands in the summary.
    measured: Vec<(String, Duration)>,
}

impl Narrator {
    pub(super) fn new() -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { begin: Instant::now(), colour, measured: Vec::new() }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn tell(&self, mark: &str, text: &str) -> io::Result<()> {
        let at = self.paint("2", &format!("{:6.2} s", self.begin.elapsed().as_secs_f64()));
        out::line(&format!("{at}  {mark} {text}"))
    }

    /// A chapter of the story.
    pub(super) fn chapter(&self, text: &str) -> io::Result<()> {
        out::line(&format!("\n{}", self.paint("1", text)))
    }

    /// What is done now.
    pub(super) fn says(&self, text: &str) -> io::Result<()> {
        self.tell(" ", text)
    }

    /// What has happened, as it should.
    pub(super) fn done(&self, text: &str) -> io::Result<()> {
        self.tell(&self.paint("32", "✓"), text)
    }

    /// What has happened, and how long it took; stands in the summary as `what`.
    pub(super) fn measured(&mut self, what: &str, took: Duration, text: &str) -> io::Result<()> {
        self.measured.push((what.to_owned(), took));
        self.done(&format!("{text}  {}", self.paint("36", &out::span(took))))
    }

    pub(super) fn failure(&self, text: &str) -> io::Result<()> {
        self.tell(&self.paint("31", "✗"), &self.paint("31", text))
    }

    pub(super) fn hint(&self, text: &str) -> io::Result<()> {
        self.tell(" ", text)
    }

    pub(super) fn summary(&self) -> io::Result<()> {
        self.chapter("Summary")?;
        let width = self.measured.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
        for (what, took) in &self.measured {
            out::line(&format!("  {what:width$}  {:>9}", out::span(*took)))?;
        }
        let all = out::span(self.begin.elapsed());
        out::line(&format!("\nEverything went as it should, in {all}."))
    }

    /// What can be tried while the cluster is kept.
    pub(super) fn commands(&self, cluster: &Cluster) -> io::Result<()> {
        let program = Cluster::program();
        self.chapter("The cluster is left running. Try, in another terminal:")?;
        // Several, so that the commands work on when one of them is killed.
        let connect = cluster.nodes.iter().take(3).map(|node| node.address.to_string()).collect::<Vec<_>>().join(",");
        for text in [
            format!("export ROOKERY_CONNECT={connect} ROOKERY_IDENTITY={}", cluster.client_dir().display()),
            format!("{program} nodes"),
            format!("{program} tree"),
            format!("{program} top"),
            format!("{program} send '#{GROUP}' '{{\"Echo\":\"hi\"}}'    # to every member of the group"),
            format!("{program} spawn counter 7 --node node-2 --cluster-name mine"),
            format!("{program} call mine '{{\"Get\":null}}'"),
            format!("{program} kill mine"),
        ] {
            out::line(&format!("  {text}"))?;
        }
        let dns = cluster.dns_address();
        out::line(&format!("\n  DNS: dig @{} -p {} _rookery._udp.{SERVICE} SRV", dns.ip(), dns.port()))?;
        for node in &cluster.nodes {
            let pid = node.os_pid().map(|pid| pid.to_string()).unwrap_or_default();
            out::line(&format!(
                "  {} is process {pid} at {}: kill -9 {pid}, and look what `nodes` says",
                node.name, node.address
            ))?;
        }
        out::line(&"\nCtrl-C ends it.")
    }
}
