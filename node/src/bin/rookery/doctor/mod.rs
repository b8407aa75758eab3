//! `rookery doctor`: looks, from where a node runs or is to run, at all that it needs, and tells in words what is wrong and what to do.
//!
//! It takes the settings of `rookery start`, and looks with the code that a node uses. Each check has a deadline. It joins nothing: to other nodes
//! it gives up the handshake before its end, so no node takes it for a member.
//!
//! ```text
//! settings ─▶ certificates ─▶ ports ─▶ dns ─▶ peers ─▶ versions, mtu, clock
//! ```

mod certificates;
mod clock;
mod dns;
mod mtu;
mod peers;
mod ports;
mod report;

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use rookery_node::NodeConfig;

use super::{
    settings::{Loaded, SettingsArgs},
    start, status,
};
use report::Report;

/// Arguments of `rookery doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The same flags as `rookery start`.
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// How long each check may take, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    timeout_ms: u64,
    /// Print one JSON object: {"ok", "checks": [{"check", "outcome", "found", "advice"}]}.
    #[arg(long)]
    json: bool,
}

/// Looks at everything, and gives the exit status.
///
/// # Errors
/// Those of the operating system, and of writing.
pub(crate) fn run(args: &DoctorArgs, loaded: Loaded) -> std::io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(look(loaded, Duration::from_millis(args.timeout_ms)));
    // What is still under way at a deadline, as a look-up of names, is not waited for.
    runtime.shutdown_background();
    report.print(args.json)?;
    Ok(if report.is_well() { status::DONE } else { status::NOT_DONE })
}

async fn look(loaded: Loaded, deadline: Duration) -> Report {
    let mut report = Report::default();
    match loaded.warnings.as_slice() {
        [] => report.ok("settings", format!("node `{}`, UDP {}", loaded.settings.name, loaded.settings.listen)),
        warnings => warnings.iter().for_each(|warning| {
            report.warning("settings", warning, "`rookery config check` shows each setting and where it is from");
        }),
    }
    let settings = loaded.settings;
    let config = match start::node_config(settings.clone()) {
        Ok(config) => config,
        Err(error) => {
            certificates::failed(&mut report, &error);
            for check in ["ports", "dns", "peers"] {
                report.skipped(check, "needs an identity first");
            }
            return report;
        }
    };
    certificates::check(&mut report, &config, &settings.identity);
    let own = ports::check(&mut report, &config, deadline).await;
    let found = dns::check(&mut report, &config, deadline).await;
    let mut met = peers::check(&mut report, &config, &found, own.as_ref(), deadline).await;
    met.extend(own);
    mtu::check(&mut report, &met);
    clock::check(&mut report, &config, &settings.identity, &met);
    report
}

/// Where the node that these settings are of could be asked on this machine.
fn own_address(config: &NodeConfig) -> SocketAddr {
    at_home(config.listen)
}

/// An address that is listened on, as one dials it from this machine.
fn at_home(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        // A socket at `::` takes IPv4, too, and not every machine has a loopback of IPv6.
        listen.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    listen
}
