//! A node whose log cannot be written, as on a full disk or when whoever reads it has gone: lines are lost, and nothing else.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
};

use rookery_client::{Client, ClientConfig};
use rookery_node::{ask::Ask, json::Json, stock::Echo, tls::Identity};
use rookery_tests::{
    eventually,
    program::{Certificates, Program, rookery},
    within,
};

/// Whatever is written there fails: no space left on device.
const FULL: &str = "/dev/full";

/// Ends with the test, whatever becomes of that.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

async fn serves(certificates: &Certificates, address: &str) {
    let identity = Identity::from_dir(&certificates.client("eve")).unwrap();
    let client = within("a client", Client::connect(ClientConfig::new(identity, [address.parse().unwrap()])));
    let client = client.await.unwrap();
    let echo = client.runtime().named::<Echo>("echo".parse().unwrap());
    let answer = within("an answer", echo.call(|reply| Echo::Echo(Ask::new(Json::from("hi"), reply)))).await;
    assert_eq!(answer.unwrap(), Json::from("hi"));
    // Each client that comes and goes is a line.
    client.close().await;
}

fn arguments(certificates: &Certificates) -> (Vec<String>, String) {
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().to_string();
    let identity = certificates.node("n-0").display().to_string();
    let arguments = ["start", "--name", "n-0", "--identity", &identity, "--listen", &free, "--admin", "none"];
    (arguments.map(str::to_owned).to_vec(), free)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_a_full_disk_starts_serves_and_leaves() {
    let certificates = Certificates::new("full");
    let (arguments, address) = arguments(&certificates);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut node = Program::start(Path::new(FULL), &arguments);
    for _ in 0..3 {
        serves(&certificates, &address).await;
    }
    assert_eq!(node.ended(), None);
    assert_eq!(node.terminate().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_log_nobody_reads_any_more_goes_on() {
    let certificates = Certificates::new("closed");
    let (arguments, address) = arguments(&certificates);
    let mut node = Command::new(rookery());
    let node = node.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut node = Running(node.unwrap());
    serves(&certificates, &address).await;
    drop(node.0.stderr.take());
    serves(&certificates, &address).await;
    serves(&certificates, &address).await;
    assert_eq!(node.0.try_wait().unwrap(), None);
    assert!(Command::new("kill").arg(node.0.id().to_string()).status().unwrap().success());
    let mut status = None;
    eventually("the node has ended", || {
        status = node.0.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert_eq!(status.unwrap().code(), Some(0));
}
