//! A client behind the virtual address of a Kubernetes Service, as kube-proxy makes it: a DNAT rule of iptables, and an entry of
//! conntrack for each flow. The entry outlives its pod (kubernetes#96174, #126130): what is sent from the same local port goes
//! to an address that nobody has, as long as something is sent, whatever the rule says by then.
//!
//! ```text
//! client 10.88.3.2 ─▶ machine: 10.96.0.10:4370 is a (10.88.1.2), or b (10.88.2.2) ─▶ the pods, a namespace each
//! ```
//! So the promise is: a client goes on by itself, since each of its dials is from a fresh port. The test runs in namespaces of its
//! own, which end with it, and is root in them; where they cannot be had it says so on a line that begins with `SKIPPED`.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    io::Write,
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use rookery_client::{Client, ClientConfig, ClientState};
use rookery_node::stock::Counter;
use rookery_runtime::tls::Identity;
use rookery_tests::{
    DEADLINE, eventually, isolation, placement,
    program::{Certificates, Program, rookery},
    within,
};

const VIRTUAL: &str = "10.96.0.10:4370";

/// Within this after a node was killed calls go on at another one: five seconds of silence until the client knows, a wait of up to
/// 100 ms, a dial. The rest is for a machine that does much else.
const GOES_ON: Duration = Duration::from_secs(15);

/// The same where the rule names the dead node for longer: from when it names another one. A dial that is lost takes five seconds,
/// and the wait between two is up to 1.25 of what it was before, at most six seconds.
const GOES_ON_AFTER_A_LATE_RULE: Duration = Duration::from_secs(20);

/// How often, and for how long each, an old port is tried before it is called dead. Together less than an idle entry of conntrack lives.
const TRIES: u32 = 4;
const TRY: Duration = Duration::from_millis(500);

/// Runs `ip` or another tool, which is to succeed.
fn tool(line: &str) {
    let mut words = line.split_whitespace();
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let output = Command::new(words.next().unwrap()).args(words).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Joins a namespace with the machine's: the pod is 10.88.`number`.2, by default with no way to others but the machine.
fn plug(namespace: Option<&str>, number: u8) {
    let within = namespace.map(|name| format!("-n {name}")).unwrap_or_default();
    tool(&format!("ip {within} link set lo up"));
    tool(&format!("ip {within} link add pod type veth peer name pod{number} netns machine"));
    tool(&format!("ip {within} addr add 10.88.{number}.2/30 dev pod"));
    tool(&format!("ip {within} link set pod up"));
    tool(&format!("ip -n machine addr add 10.88.{number}.1/30 dev pod{number}"));
    tool(&format!("ip -n machine link set pod{number} up"));
    tool(&format!("ip {within} route add default via 10.88.{number}.1"));
}

/// A pod that runs a node. Its address goes with it.
struct Pod {
    name: &'static str,
    program: Program,
}

impl Pod {
    async fn start(certificates: &Certificates, name: &'static str, number: u8) -> Self {
        tool(&format!("ip netns add {name}"));
        plug(Some(name), number);
        let identity = certificates.node(name).display().to_string();
        let (log, program) = (certificates.dir().join(format!("{name}.log")), rookery().display().to_string());
        let inside = ["netns", "exec", name, &program, "start", "--name", name, "--identity", &identity];
        let settings = ["--listen", "0.0.0.0:4370", "--admin", "none", "--peers", "10.88.1.2,10.88.2.2"];
        let program = Program::start_of(Path::new("ip"), &log, &[&inside[..], &settings].concat());
        drop(program.listen_address().await);
        Self { name, program }
    }

    /// As when the machine of the pod is lost: nothing is said, and nobody has its address.
    fn kill(self) {
        self.program.signal("KILL");
        drop(self.program);
        tool(&format!("ip netns del {}", self.name));
    }
}

/// The Service, as kube-proxy writes it.
struct Service {
    backend: Option<u8>,
}

impl Service {
    fn lead_to(&mut self, number: u8) {
        let rule = |verb, number| {
            tool(&format!(
                "ip netns exec machine iptables -w -t nat {verb} PREROUTING -d 10.96.0.10/32 -p udp --dport 4370 \
                 -j DNAT --to-destination 10.88.{number}.2:4370"
            ));
        };
        rule("-A", number);
        if let Some(before) = self.backend.replace(number) {
            rule("-D", before);
        }
    }
}

/// A local port, and whether a node answers it through the virtual address: to a packet of a QUIC that nobody speaks each says
/// which it speaks (RFC 9000, 6.1).
struct Port(UdpSocket);

impl Port {
    fn fresh() -> Self {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(TRY)).unwrap();
        Self(socket)
    }

    fn is_answered(&self) -> bool {
        let mut packet = [0; 1200];
        packet[..15].copy_from_slice(&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
        let mut answer = [0; 1500];
        (0..TRIES).any(|_| {
            self.0.send_to(&packet, VIRTUAL).unwrap();
            self.0.recv_from(&mut answer).is_ok_and(|(length, from)| {
                from == VIRTUAL.parse::<SocketAddr>().unwrap() && length > 5 && answer[1..5] == [0; 4]
            })
        })
    }
}

/// Calls until one is answered, and gives by which node and after how long.
async fn answered_elsewhere(client: &Client, lost: &str, since: Instant) -> (String, Duration) {
    loop {
        let runtime = within("a session", client.connected()).await.unwrap();
        let counter = runtime.named::<Counter>("counter".parse().unwrap());
        match counter.call(Counter::Get).await {
            Ok(_) if runtime.node().name().as_str() != lost => {
                return (runtime.node().name().to_string(), since.elapsed());
            }
            _ => assert!(since.elapsed() < 3 * DEADLINE, "no call is answered"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn skip(why: &str) {
    let line =
        format!("SKIPPED: a client is not tried behind a Service's address with stale entries of conntrack: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

#[test]
fn a_client_behind_a_service_address_outlives_stale_entries_of_conntrack() {
    if !isolation::is_inside() {
        let name = "a_client_behind_a_service_address_outlives_stale_entries_of_conntrack";
        if let Err(why) = isolation::run_test(name) {
            skip(&why);
        }
        return;
    }
    if let Err(why) = isolation::can_translate_addresses() {
        return skip(&why);
    }
    placement::run(async {
        // `ip netns` keeps names there; this one ends with the namespaces.
        tool("mount -t tmpfs tmpfs /run");
        tool("ip netns add machine");
        tool("ip netns exec machine sysctl -qw net.ipv4.ip_forward=1");
        plug(None, 3);
        let certificates = Certificates::new("dnat");
        let a = Pod::start(&certificates, "a", 1).await;
        let b = Pod::start(&certificates, "b", 2).await;
        let mut service = Service { backend: None };
        service.lead_to(1);
        let old = Port::fresh();
        assert!(old.is_answered(), "the virtual address leads to a node");
        let identity = Identity::from_dir(&certificates.client("eve")).unwrap();
        let config = ClientConfig::new(identity, [VIRTUAL.parse().unwrap()]);
        let client = within("a client", Client::connect(config)).await.unwrap();
        let runtime = client.runtime();
        assert_eq!(runtime.node().name().as_str(), "a");
        runtime.named::<Counter>("counter".parse().unwrap()).call(Counter::Get).await.unwrap();

        // The rule is right already, and the entries are not.
        service.lead_to(2);
        assert!(old.is_answered(), "conntrack keeps the entry, and the node is there");
        let killed = Instant::now();
        a.kill();
        assert!(!old.is_answered(), "what is sent from the old port goes nowhere");
        assert!(Port::fresh().is_answered(), "and from a fresh one to the other node");
        let (at, took) = answered_elsewhere(&client, "a", killed).await;
        assert_eq!(at, "b");
        assert!(!old.is_answered(), "the entry is there still: it is not by its end that the client goes on");
        assert!(took < GOES_ON, "{took:?}");

        // The rule is late, as kube-proxy is when a machine is lost: dials are lost, too, and each leaves an entry.
        let a = Pod::start(&certificates, "a", 1).await;
        let middle = Port::fresh();
        assert!(middle.is_answered());
        b.kill();
        let mut state = client.state();
        let failed = |state: &ClientState| matches!(state, ClientState::Connecting { last: Some(last) } if last.starts_with(VIRTUAL));
        within("a dial fails", state.wait_for(failed)).await.unwrap();
        let corrected = Instant::now();
        service.lead_to(1);
        let (at, took) = answered_elsewhere(&client, "b", corrected).await;
        assert_eq!(at, "a");
        assert!(!middle.is_answered(), "an entry that leads nowhere is there still");
        assert!(took < GOES_ON_AFTER_A_LATE_RULE, "{took:?}");
        eventually("the last node is reachable by fresh ports", || Port::fresh().is_answered()).await;
        client.close().await;
        drop(a);
    });
}
