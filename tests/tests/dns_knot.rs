//! Discovery against a foreign server: Knot DNS with a real zone file, as Debian's package `knot` has it.
//!
//! What our own development server and our own resolver agree on proves little about anybody else's.
//! Where `knotd` is not installed each test says so on standard error, on a line that begins with
//! `SKIPPED`.

// Tests say what they expect by failing, and a skipped one says so where it is seen.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rookery_node::discovery::{Discovery, DiscoveryConfig, DiscoveryEvent, Trouble};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);

/// A running `knotd`; killed when dropped.
struct Knot {
    child: Child,
    dir: TempDir,
    addr: SocketAddr,
}

impl Knot {
    /// `None`, and a line that says so, if there is no `knotd` on this machine.
    fn start(test: &str, zone: &str) -> Option<Self> {
        let knotd = ["/usr/sbin/knotd", "/usr/local/sbin/knotd", "/usr/bin/knotd"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let Some(knotd) = knotd else {
            // Past the test harness, which keeps the output of tests that pass to itself.
            let line = format!("SKIPPED: {test}: knotd is not installed (Debian: apt-get install -y knot)\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        write_zone(dir.path(), 1, zone);
        let addr = free_port();
        let root = dir.path().display();
        let config = format!(
            "server:\n    listen: {ip}@{port}\n    rundir: {root}\n    pidfile: {root}/knot.pid\n\
             database:\n    storage: {root}/db\n\
             log:\n  - target: {root}/knot.log\n    any: info\n\
             zone:\n  - domain: cluster.test\n    storage: {root}\n    file: zone\n    zonefile-load: whole\n",
            ip = addr.ip(),
            port = addr.port(),
        );
        let config_path = dir.path().join("knot.conf");
        std::fs::write(&config_path, config).unwrap();
        let child = Command::new(knotd)
            .arg("--config")
            .arg(&config_path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { child, dir, addr })
    }

    /// Puts another zone in place and tells the server, as an operator does.
    fn reload(&self, serial: u32, zone: &str) {
        write_zone(self.dir.path(), serial, zone);
        // By the shell, whose own `kill` is there where the program of that name is not.
        let signal = format!("kill -HUP {}", self.child.id());
        let status = Command::new("sh").args(["-c", &signal]).status();
        assert!(status.unwrap().success());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("knot.log")).unwrap_or_default()
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        // It may be dead already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_zone(dir: &Path, serial: u32, records: &str) {
    let zone = format!(
        "$ORIGIN cluster.test.\n$TTL 1\n\
         @ SOA ns.cluster.test. admin.cluster.test. {serial} 60 60 60 1\n@ NS ns\nns A 127.0.0.1\n{records}"
    );
    std::fs::write(dir.join("zone"), zone).unwrap();
}

/// A port that is free for UDP and TCP at this moment: `knotd` cannot be told to choose one.
fn free_port() -> SocketAddr {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = udp.local_addr().unwrap();
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}

fn start(server: SocketAddr, service: &str) -> (Discovery, mpsc::Receiver<DiscoveryEvent>) {
    let (sender, events) = mpsc::channel(16);
    let config = DiscoveryConfig {
        service: Some(service.to_owned()),
        dns_servers: vec![server],
        poll_min: Duration::from_millis(100),
        poll_max: Duration::from_millis(200),
        lookup_timeout: Duration::from_secs(1),
        ..DiscoveryConfig::new(4370)
    };
    (Discovery::start(config, 7, sender).unwrap(), events)
}

/// The next set that is told; what else is told before it is passed over.
async fn addresses(knot: &Knot, events: &mut mpsc::Receiver<DiscoveryEvent>) -> BTreeSet<SocketAddr> {
    loop {
        match timeout(DEADLINE, events.recv()).await {
            Ok(Some(DiscoveryEvent::Addresses { set, .. })) => return set,
            Ok(Some(_)) => {}
            other => panic!("{other:?}; the server's log:\n{}", knot.log()),
        }
    }
}

fn set(addresses: &[&str]) -> BTreeSet<SocketAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

#[tokio::test]
async fn knot_srv_is_followed_reloaded_and_its_death_takes_nothing_away() {
    let one = "_rookery._udp.orders SRV 0 100 7001 orders-0.orders\n\
               orders-0.orders A 10.0.0.1\norders-0.orders AAAA fd00::1\norders A 10.0.0.1\n";
    let two = format!(
        "{one}_rookery._udp.orders SRV 0 100 7002 orders-1.orders\norders-1.orders CNAME host\nhost A 10.0.0.2\n"
    );
    let test = "knot_srv_is_followed_reloaded_and_its_death_takes_nothing_away";
    let Some(mut knot) = Knot::start(test, one) else {
        return;
    };
    let (_discovery, mut events) = start(knot.addr, "orders.cluster.test.");
    assert_eq!(addresses(&knot, &mut events).await, set(&["10.0.0.1:7001", "[fd00::1]:7001"]));

    knot.reload(2, &two);
    let both = set(&["10.0.0.1:7001", "[fd00::1]:7001", "10.0.0.2:7002"]);
    assert_eq!(addresses(&knot, &mut events).await, both);

    knot.kill();
    match timeout(DEADLINE, events.recv()).await.unwrap().unwrap() {
        DiscoveryEvent::Trouble { reason: Trouble::Failed(_), .. } => {}
        other => panic!("expected trouble, got {other:?}"),
    }
}

#[tokio::test]
async fn knot_without_srv_gives_the_default_port() {
    let zone = "orders A 10.0.0.1\norders A 10.0.0.2\norders AAAA fd00::1\n";
    let Some(knot) = Knot::start("knot_without_srv_gives_the_default_port", zone) else {
        return;
    };
    let (_discovery, mut events) = start(knot.addr, "orders.cluster.test.");
    let expected = set(&["10.0.0.1:4370", "10.0.0.2:4370", "[fd00::1]:4370"]);
    assert_eq!(addresses(&knot, &mut events).await, expected);
}

#[tokio::test]
async fn knot_answer_larger_than_a_datagram_arrives_whole() {
    use std::fmt::Write;
    let mut zone = String::new();
    for n in 0..200 {
        writeln!(zone, "_rookery._udp.orders SRV 0 100 {} orders-{n}.orders", 7000 + n).unwrap();
        writeln!(zone, "orders-{n}.orders A 10.0.0.{n}").unwrap();
    }
    let Some(knot) = Knot::start("knot_answer_larger_than_a_datagram_arrives_whole", &zone) else {
        return;
    };
    let (_discovery, mut events) = start(knot.addr, "orders.cluster.test.");
    let expected: BTreeSet<SocketAddr> =
        (0..200).map(|n| format!("10.0.0.{n}:{}", 7000 + n).parse().unwrap()).collect();
    assert_eq!(addresses(&knot, &mut events).await, expected);
}
