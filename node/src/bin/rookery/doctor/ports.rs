//! The ports: free, or taken by the very node that the settings are of, as in its own pod; or by somebody else.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    time::Duration,
};

use rookery_node::NodeConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    at_home, own_address,
    peers::{self, Met},
    report::Report,
};

const CHECK: &str = "ports";

/// What is read of an answer by HTTP.
const MAX_ANSWER_BYTES: u64 = 256 * 1024;

/// Looks at both ports. Gives the node that runs here by these settings, if one does.
pub(super) async fn check(report: &mut Report, config: &NodeConfig, deadline: Duration) -> Option<Met> {
    let own = udp(report, config, deadline).await;
    if let Some(admin) = config.admin {
        match TcpListener::bind(admin.listen).map(drop) {
            Ok(()) => report.ok(CHECK, format!("TCP {} is free, for the admin port", admin.listen)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                taken_admin(report, at_home(admin.listen), admin.required, deadline).await;
            }
            Err(error) => report.failed(CHECK, format!("TCP {} cannot be listened on: {error}", admin.listen), ADDRESS),
        }
    }
    own
}

const ADDRESS: &str = "name an address that this machine has, and a port above 1023, or the right to use one below";

async fn udp(report: &mut Report, config: &NodeConfig, deadline: Duration) -> Option<Met> {
    let listen = config.listen;
    match UdpSocket::bind(listen).map(drop) {
        Ok(()) => report.ok(CHECK, format!("UDP {listen} is free; no node runs there now")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let met = peers::meet(config, own_address(config), None, deadline).await;
            match met {
                Ok(met) if met.node.name() == &config.name => {
                    report.ok(CHECK, format!("UDP {listen} is taken by {}, the node of these settings", met.node));
                    return Some(met);
                }
                Ok(met) => {
                    report.failed(CHECK, format!("UDP {listen} is taken by {}, another node", met.node), OTHER_PORT)
                }
                Err(error) => {
                    report.failed(
                        CHECK,
                        format!("UDP {listen} is taken, not by a node of this cluster: {error}"),
                        OTHER_PORT,
                    );
                }
            }
        }
        Err(error) => report.failed(CHECK, format!("UDP {listen} cannot be listened on: {error}"), ADDRESS),
    }
    None
}

const OTHER_PORT: &str = "end what runs there (`ss -lunp` names it), or give this node another port by `listen`";

async fn taken_admin(report: &mut Report, address: SocketAddr, is_required: bool, deadline: Duration) {
    let told = get(address, "/metrics", deadline).await.unwrap_or_default();
    let Some(version) = version(&told) else {
        let found = format!("TCP {address} is taken by another program, so there would be no admin port");
        let advice = "end what runs there (`ss -ltnp` names it), or give another address by `admin`";
        return match is_required {
            true => report.failed(CHECK, found, advice),
            false => report.warning(CHECK, found, advice),
        };
    };
    report.ok(CHECK, format!("TCP {address} is the admin port of a node that runs"));
    let own = env!("CARGO_PKG_VERSION");
    match version == own {
        true => report.ok("versions", format!("the node that runs here and this program are both {own}")),
        false => report.warning(
            "versions",
            format!("the node that runs here is {version}, this program is {own}"),
            "look with the program of the same image",
        ),
    }
}

/// The version in `rookery_node_info{…,version="0.1.0"} 1`.
fn version(metrics: &str) -> Option<&str> {
    let line = metrics.lines().find(|line| line.starts_with("rookery_node_info{"))?;
    line.split_once("version=\"")?.1.split('"').next()
}

/// The answer to a question by HTTP, head and all.
async fn get(address: SocketAddr, path: &str, deadline: Duration) -> io::Result<String> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let question = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(question.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(deadline, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_metrics() {
        let metrics = "# HELP x\nrookery_node_info{node=\"a\",cluster=\"b\",version=\"1.2.3\"} 1\n";
        assert_eq!(version(metrics), Some("1.2.3"));
        assert_eq!(version("rookery_node_info{}"), None);
    }
}
