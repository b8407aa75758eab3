//! `rookery doctor`, run as an operator does, on what is well and on what is really broken: it says what is wrong and what to do, and
//! harms nobody whom it looks at.

// Whatever fails here fails the test, and says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{net::UdpSocket, path::Path};

use rookery_node::devdns::{DevDns, Fault};
use rookery_tests::{
    eventually,
    program::{Certificates, node, run},
};
use serde_json::Value;

/// What it found: the exit status, and all that it printed.
struct Told {
    status: Option<i32>,
    text: String,
}

impl Told {
    /// The lines of a check, with what to do.
    fn has(&self, status: i32, texts: &[&str]) {
        assert_eq!(self.status, Some(status), "{}", self.text);
        for text in texts {
            assert!(self.text.contains(text), "`{text}` is not in: {}", self.text);
        }
    }
}

fn doctor(identity: &Path, name: &str, more: &[&str]) -> Told {
    let identity = identity.display().to_string();
    let arguments = ["doctor", "--name", name, "--identity", &identity, "--admin", "none", "--timeout-ms", "15000"];
    let output = run(&[&arguments, more].concat());
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    Told { status: output.status.code(), text }
}

const FREE: [&str; 2] = ["--listen", "127.0.0.1:0"];

/// Nodes without an admin port, which wait for whoever has little CPU time.
const PATIENT: [&str; 4] = ["--admin", "none", "--handshake-timeout-ms", "30s"];

/// The program asks, while this test's threads serve.
async fn beside(identity: std::path::PathBuf, name: &'static str, more: Vec<String>) -> Told {
    let ask = move || doctor(&identity, name, &more.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(ask).await.unwrap()
}

#[tokio::test]
async fn what_is_well_is_told_and_stays_as_it_is() {
    let certificates = Certificates::new("doctor-well");
    let (one, first) = node(&certificates, "one", &PATIENT).await;
    let (two, second) = node(&certificates, "two", &[&PATIENT[..], &["--peers", &first]].concat()).await;
    let meshed = || one.log().contains("node up") && two.log().contains("node up");
    eventually("the mesh has formed", meshed).await;
    let peers = format!("{first},{second}");
    for _ in 0..3 {
        let told = doctor(&certificates.dir().join("one"), "one", &["--listen", &first, "--peers", &peers]);
        told.has(
            0,
            &[
                "is taken by one.",
                "the node of these settings",
                "is this node itself",
                "two.",
                "answers at",
                "Nothing is wrong",
            ],
        );
        told.has(0, &["it fits the certificates and the starts of 1 other nodes", "datagrams of 1"]);
    }
    // Before it runs.
    let told = doctor(&certificates.node("three"), "three", &[&FREE[..], &["--peers", &peers]].concat());
    told.has(0, &["one.", "two.", "Nothing is wrong"]);
    // Nobody took it for a member, and nobody lost one.
    for log in [one.log(), two.log()] {
        assert_eq!(log.matches("node up").count(), 1, "{log}");
        assert!(!log.contains("node down") && !log.contains("three"), "{log}");
    }
}

#[tokio::test]
async fn a_node_of_its_own_that_is_alone_is_well() {
    let certificates = Certificates::new("doctor-alone");
    let told = doctor(&certificates.node("one"), "one", &FREE);
    told.has(0, &["ok       certificates", "skipped  dns", "cluster of one"]);
}

#[tokio::test]
async fn certificates_that_do_not_hold_are_told_by_what_is_wrong_with_them() {
    let certificates = Certificates::new("doctor-certificates");
    let expired = certificates.node_for("one", std::time::Duration::from_secs(1));
    let mut told = None;
    eventually("the certificate expires", || {
        let now = doctor(&expired, "one", &FREE);
        let is_expired = now.text.contains("expired at");
        told = Some(now);
        is_expired
    })
    .await;
    told.unwrap().has(1, &["FAILED   certificates", "expired at", "look at the clock", "skipped  peers"]);
    let two = certificates.node("two");
    doctor(&two, "one", &FREE).has(1, &["FAILED   certificates", "is for two, not for a node named `one`"]);
    let other = certificates.node("other");
    std::fs::copy(other.join("key.pem"), two.join("key.pem")).unwrap();
    doctor(&two, "two", &FREE).has(1, &["does not fit the certificate", "one Secret"]);
    let stranger = Certificates::new("doctor-stranger");
    let three = certificates.node("three");
    std::fs::copy(stranger.node("three").join("ca.pem"), three.join("ca.pem")).unwrap();
    doctor(&three, "three", &FREE).has(1, &["FAILED   certificates", "was not issued by a CA"]);
    doctor(&certificates.client("eve"), "eve", &FREE).has(1, &["is of the client \"eve\""]);
    doctor(&certificates.dir().join("nowhere"), "one", &FREE).has(1, &["does not exist"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dns_that_names_nobody_or_fails_is_told() {
    const SERVICE: &str = "orders.shop.svc.cluster.test";
    let certificates = Certificates::new("doctor-dns");
    let identity = certificates.node("one");
    let dns = DevDns::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let server = dns.addr().to_string();
    let more = ["--listen", "127.0.0.1:0", "--service", SERVICE, "--dns-server", &server].map(str::to_owned).to_vec();
    let told = beside(identity.clone(), "one", more.clone()).await;
    told.has(1, &["FAILED   dns", "has no addresses", "headless", "publishNotReadyAddresses"]);
    dns.set_fault(Fault::Silent);
    let told = beside(identity.clone(), "one", more.clone()).await;
    told.has(1, &["FAILED   dns", "port 53"]);
    // It names a pod, where nobody is.
    dns.set_fault(Fault::None);
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    dns.set(&format!("{SERVICE}."), vec![("orders-0".to_owned(), gone)]).unwrap();
    let told = beside(identity, "one", more).await;
    let named = format!("service {SERVICE} names {gone}");
    told.has(1, &["ok       dns", &named, "FAILED   peers", "the port is closed"]);
}

#[tokio::test]
async fn a_port_that_somebody_else_has_is_told() {
    let certificates = Certificates::new("doctor-port");
    let identity = certificates.node("one");
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    doctor(&identity, "one", &["--listen", &address])
        .has(1, &["FAILED   ports", "not by a node of this cluster", "ss -lunp"]);
    let (_two, second) = node(&certificates, "two", &PATIENT).await;
    doctor(&identity, "one", &["--listen", &second]).has(1, &["FAILED   ports", "is taken by two.", "another node"]);
    doctor(&identity, "one", &["--listen", "192.0.2.1:4370"]).has(1, &["FAILED   ports", "cannot be listened on"]);
}

#[tokio::test]
async fn a_peer_of_another_cluster_is_told() {
    let (certificates, strangers) = (Certificates::new("doctor-ours"), Certificates::new("doctor-theirs"));
    let (_stranger, address) = node(&strangers, "two", &PATIENT).await;
    let told = doctor(&certificates.node("one"), "one", &[&FREE[..], &["--peers", &address]].concat());
    told.has(1, &["FAILED   peers", &address, "CA", "same CA and cluster"]);
}

#[tokio::test]
async fn programs_read_it_as_json() {
    let certificates = Certificates::new("doctor-json");
    let identity = certificates.node("one");
    let read = |told: Told| serde_json::from_str::<Value>(&told.text).unwrap();
    let well = doctor(&identity, "one", &[&FREE[..], &["--json"]].concat());
    assert_eq!(well.status, Some(0));
    let well = read(well);
    assert!(
        well["ok"] == true && well["checks"].as_array().unwrap().iter().any(|check| check["check"] == "certificates"),
        "{well}"
    );
    let ill = doctor(&identity, "other", &[&FREE[..], &["--json"]].concat());
    assert_eq!(ill.status, Some(1));
    let ill = read(ill);
    let failed =
        |check: &Value| check["outcome"] == "failed" && check["found"].as_str().unwrap().contains("is for one");
    assert!(ill["ok"] == false && ill["checks"].as_array().unwrap().iter().any(failed), "{ill}");
    // What cannot even be read is the command line's fault, as with `start`.
    assert_eq!(doctor(&identity, "one", &["--listen", "nonsense"]).status, Some(2));
}
