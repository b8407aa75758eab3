//! Discovery against real DNS servers over real sockets: the development server, with every fault it
//! knows, and Knot DNS where it is installed.
//!
//! Contract row D1, as far as DNS goes: an empty or failed answer takes nothing away and is told once,
//! a changed answer is seen within one poll.

// Tests say what they expect by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rookery_node::devdns::{DevDns, Fault};
use rookery_node::discovery::{Discovery, DiscoveryConfig, DiscoveryError, DiscoveryEvent, Source, Trouble};
use tokio::sync::mpsc;
use tokio::time::timeout;

const SERVICE: &str = "orders.default.svc.cluster.test.";
const DEFAULT_PORT: u16 = 4370;

/// Longer than any wait here may take on a busy machine; a test that works never waits this long.
const DEADLINE: Duration = Duration::from_secs(20);

/// The look-up time where a test waits for it to run out: still far above a question's true time.
const SHORT_LOOKUP: Duration = Duration::from_secs(1);

/// Discovery with short times, and what it tells.
struct Watched {
    discovery: Discovery,
    events: mpsc::Receiver<DiscoveryEvent>,
}

impl Watched {
    fn start(config: DiscoveryConfig) -> Self {
        let (sender, events) = mpsc::channel(16);
        let discovery = Discovery::start(config, 7, sender).unwrap();
        Self { discovery, events }
    }

    async fn event(&mut self) -> DiscoveryEvent {
        timeout(DEADLINE, self.events.recv()).await.unwrap().unwrap()
    }

    async fn addresses(&mut self) -> BTreeSet<SocketAddr> {
        match self.event().await {
            DiscoveryEvent::Addresses { set, .. } => set,
            other => panic!("expected addresses, got {other:?}"),
        }
    }

    async fn trouble(&mut self) -> Trouble {
        match self.event().await {
            DiscoveryEvent::Trouble { reason, .. } => reason,
            other => panic!("expected trouble, got {other:?}"),
        }
    }
}

fn config(server: SocketAddr) -> DiscoveryConfig {
    DiscoveryConfig {
        service: Some(SERVICE.to_owned()),
        dns_servers: vec![server],
        poll_min: Duration::from_millis(50),
        poll_max: Duration::from_millis(100),
        lookup_timeout: Duration::from_secs(5),
        ..DiscoveryConfig::new(DEFAULT_PORT)
    }
}

fn impatient(server: SocketAddr) -> DiscoveryConfig {
    DiscoveryConfig { lookup_timeout: SHORT_LOOKUP, ..config(server) }
}

async fn dns() -> DevDns {
    DevDns::start("127.0.0.1:0".parse().unwrap()).await.unwrap()
}

fn pods(addresses: &[&str]) -> Vec<(String, SocketAddr)> {
    addresses.iter().enumerate().map(|(index, address)| (format!("orders-{index}"), address.parse().unwrap())).collect()
}

fn set(addresses: &[&str]) -> BTreeSet<SocketAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

/// A few more polls happen: nothing that was going to be told is still to come.
async fn polls(dns: &DevDns, questions: u64) {
    timeout(DEADLINE, dns.queried(dns.queries() + questions)).await.unwrap();
}

#[tokio::test]
async fn srv_tells_the_ports_in_both_families() {
    let dns = dns().await;
    let members = ["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.2:7001", "[::1]:7003"];
    dns.set(SERVICE, pods(&members)).unwrap();
    let mut watched = Watched::start(config(dns.addr()));
    assert_eq!(watched.addresses().await, set(&members));
}

#[tokio::test]
async fn srv_targets_are_looked_up_when_no_additional_records_come() {
    let dns = dns().await;
    dns.set_additionals(false);
    let members = ["127.0.0.1:7001", "127.0.0.1:7002", "[::1]:7003"];
    dns.set(SERVICE, pods(&members)).unwrap();
    let mut watched = Watched::start(config(dns.addr()));
    assert_eq!(watched.addresses().await, set(&members));
    // SRV, then A and AAAA of three pods.
    assert!(dns.queries() >= 7);
}

#[tokio::test]
async fn without_srv_a_and_aaaa_are_used_with_the_default_port() {
    for fault in [Fault::NoSrv, Fault::SrvFails] {
        let dns = dns().await;
        dns.set_fault(fault);
        dns.set(SERVICE, pods(&["10.0.0.1:7001", "10.0.0.2:7002", "[fd00::1]:7003"])).unwrap();
        let mut watched = Watched::start(config(dns.addr()));
        let expected = set(&["10.0.0.1:4370", "10.0.0.2:4370", "[fd00::1]:4370"]);
        assert_eq!(watched.addresses().await, expected, "{fault:?}");
    }
}

#[tokio::test]
async fn srv_alone_is_enough() {
    let dns = dns().await;
    dns.set_fault(Fault::SrvOnly);
    dns.set(SERVICE, pods(&["10.0.0.1:7001"])).unwrap();
    let mut watched = Watched::start(config(dns.addr()));
    assert_eq!(watched.addresses().await, set(&["10.0.0.1:7001"]));
}

#[tokio::test]
async fn once_srv_has_answered_its_failure_is_no_reason_to_guess_ports() {
    let dns = dns().await;
    dns.set(SERVICE, pods(&["10.0.0.1:7001"])).unwrap();
    let mut watched = Watched::start(config(dns.addr()));
    watched.addresses().await;
    dns.set_fault(Fault::SrvFails);
    assert!(matches!(watched.trouble().await, Trouble::Failed(_)));
    polls(&dns, 6).await;
    assert!(watched.events.try_recv().is_err());
}

#[tokio::test]
async fn more_records_than_a_datagram_holds_all_arrive() {
    let dns = dns().await;
    let members: Vec<String> = (0..300).map(|n| format!("10.0.{}.{}:7001", n / 100, n % 100)).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    dns.set(SERVICE, pods(&members)).unwrap();
    let mut watched = Watched::start(config(dns.addr()));
    assert_eq!(watched.addresses().await, set(&members));
}

#[tokio::test]
async fn no_more_than_the_limit_is_taken_from_one_answer_and_the_excess_is_told() {
    let dns = dns().await;
    let limit = rookery_node::discovery::limits::ADDRESSES_PER_ANSWER;
    let members: Vec<String> = (0..limit + 5).map(|n| format!("10.0.{}.{}:7001", n / 250, n % 250)).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    dns.set_fault(Fault::NoSrv);
    dns.set(SERVICE, pods(&members)).unwrap();
    let mut watched = Watched::start(DiscoveryConfig { lookup_timeout: DEADLINE, ..config(dns.addr()) });
    match watched.event().await {
        DiscoveryEvent::Addresses { set, excess, .. } => {
            assert_eq!((set.len(), excess), (limit, 5))
        }
        other => panic!("expected addresses, got {other:?}"),
    }
}

#[tokio::test]
async fn records_that_come_late_are_seen_and_changes_within_a_poll() {
    let dns = dns().await;
    let mut watched = Watched::start(config(dns.addr()));
    assert_eq!(watched.trouble().await, Trouble::Empty);
    dns.set(SERVICE, pods(&["10.0.0.1:7001"])).unwrap();
    assert!(matches!(watched.event().await, DiscoveryEvent::Recovered { .. }));
    assert_eq!(watched.addresses().await, set(&["10.0.0.1:7001"]));

    let before = dns.queries();
    dns.set(SERVICE, pods(&["10.0.0.1:7001", "10.0.0.2:7001"])).unwrap();
    assert_eq!(watched.addresses().await, set(&["10.0.0.1:7001", "10.0.0.2:7001"]));
    // The poll that was under way when it changed, at most, and the next one: one SRV question each.
    assert!(dns.queries() <= before + 2, "{} questions", dns.queries() - before);

    dns.set(SERVICE, pods(&["10.0.0.2:7001"])).unwrap();
    assert_eq!(watched.addresses().await, set(&["10.0.0.2:7001"]));
}

#[tokio::test]
async fn d1_every_kind_of_bad_answer_keeps_the_last_good_set_and_is_told_once() {
    for fault in [Fault::Empty, Fault::NxDomain, Fault::ServFail, Fault::Silent] {
        let dns = dns().await;
        dns.set(SERVICE, pods(&["10.0.0.1:7001"])).unwrap();
        let mut watched = Watched::start(impatient(dns.addr()));
        assert_eq!(watched.addresses().await, set(&["10.0.0.1:7001"]));

        dns.set_fault(fault);
        let trouble = watched.trouble().await;
        let expect_empty = matches!(fault, Fault::Empty | Fault::NxDomain);
        assert_eq!(trouble == Trouble::Empty, expect_empty, "{fault:?} gave {trouble:?}");
        polls(&dns, 5).await;
        assert!(watched.events.try_recv().is_err(), "{fault:?} was told more than once");

        // The same set again is no change: had it been lost, it would be told as new.
        dns.set_fault(Fault::None);
        assert!(matches!(watched.event().await, DiscoveryEvent::Recovered { .. }), "{fault:?}");
        polls(&dns, 3).await;
        assert!(watched.events.try_recv().is_err(), "{fault:?}: the set was lost");
    }
}

#[tokio::test]
async fn a_failure_says_what_was_asked_and_what_came() {
    for (fault, expect) in [(Fault::ServFail, "Server Failure"), (Fault::Silent, "no answer from DNS")] {
        let dns = dns().await;
        dns.set_fault(fault);
        let mut watched = Watched::start(impatient(dns.addr()));
        let reason = watched.trouble().await.to_string();
        assert!(reason.contains(expect) && reason.contains(SERVICE), "{fault:?} gave {reason:?}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_slowly_but_in_time_counts() {
    let dns = dns().await;
    dns.set_fault(Fault::Slow(Duration::from_millis(200)));
    dns.set(SERVICE, pods(&["10.0.0.1:7001"])).unwrap();
    let mut watched = Watched::start(config(dns.addr()));
    assert_eq!(watched.addresses().await, set(&["10.0.0.1:7001"]));
}

#[tokio::test]
async fn half_an_answer_is_not_half_a_cluster() {
    let dns = dns().await;
    dns.set_additionals(false);
    dns.set(SERVICE, pods(&["10.0.0.1:7001", "10.0.0.2:7001"])).unwrap();
    let mut watched = Watched::start(config(dns.addr()));
    assert_eq!(watched.addresses().await, set(&["10.0.0.1:7001", "10.0.0.2:7001"]));
    // SRV goes on naming both, and the first pod's own name fails to resolve: its address is kept, and
    // the news of the second is taken.
    dns.set_fault(Fault::PodsFail(1));
    polls(&dns, 15).await;
    assert!(watched.events.try_recv().is_err(), "half an answer was told");
    dns.set(SERVICE, pods(&["10.0.0.1:7001", "10.0.0.9:7001"])).unwrap();
    assert_eq!(watched.addresses().await, set(&["10.0.0.1:7001", "10.0.0.9:7001"]));
    // With neither resolving there is no answer at all.
    dns.set_fault(Fault::PodsFail(2));
    assert!(matches!(watched.trouble().await, Trouble::Failed(_)));
}

#[tokio::test]
async fn polls_keep_to_the_ttl_within_the_bounds() {
    // The bounds are 200 ms and 400 ms: a TTL of 0 counts as the one, a TTL of an hour as the other.
    for (ttl, shortest) in [(0, Duration::from_millis(180)), (3_600, Duration::from_millis(360))] {
        let dns = dns().await;
        dns.set_ttl(Duration::from_secs(ttl));
        dns.set(SERVICE, pods(&["10.0.0.1:7001"])).unwrap();
        let mut watched = Watched::start(DiscoveryConfig {
            poll_min: Duration::from_millis(200),
            poll_max: Duration::from_millis(400),
            ..config(dns.addr())
        });
        watched.addresses().await;
        let start = Instant::now();
        polls(&dns, 5).await;
        let took = start.elapsed();
        assert!(took >= shortest * 4, "TTL {ttl}: 5 polls in {took:?}");
        // Each poll asks the server: an answer kept from an earlier one would hide what is new. With a
        // cache, which counts in whole seconds, five questions would take five seconds or more.
        assert!(took < Duration::from_millis(4_500), "TTL {ttl}: 5 polls in {took:?}");
    }
}

#[tokio::test]
async fn a_name_with_a_dot_at_its_end_is_absolute_and_others_use_the_search_list() {
    let dns = dns().await;
    dns.set(SERVICE, pods(&["10.0.0.1:7001"])).unwrap();
    let searching = |service: &str| DiscoveryConfig {
        service: Some(service.to_owned()),
        search_domains: vec!["default.svc.cluster.test.".to_owned()],
        ..config(dns.addr())
    };
    let mut relative = Watched::start(searching("orders"));
    assert_eq!(relative.addresses().await, set(&["10.0.0.1:7001"]));
    let mut absolute = Watched::start(searching("orders."));
    assert_eq!(absolute.trouble().await, Trouble::Empty);
}

#[tokio::test]
async fn static_peers_are_told_at_once_and_their_names_are_resolved_on_each_poll() {
    let dns = dns().await;
    dns.set(SERVICE, pods(&["10.0.0.1:7001"])).unwrap();
    let host = format!("orders-0.{SERVICE}");
    let mut watched = Watched::start(DiscoveryConfig {
        service: None,
        peers: ["10.9.9.9", "[fd00::9]:1", &format!("{host}:99")].map(|p| p.parse().unwrap()).into(),
        ..config(dns.addr())
    });
    let mut told = BTreeSet::new();
    for _ in 0..3 {
        told.extend(watched.addresses().await);
    }
    assert_eq!(told, set(&["10.9.9.9:4370", "[fd00::9]:1", "10.0.0.1:99"]));
    dns.set(SERVICE, pods(&["10.0.0.8:7001"])).unwrap();
    match watched.event().await {
        DiscoveryEvent::Addresses { source: Source::Peer(peer), set: now, .. } => {
            assert_eq!(&*peer, format!("{host}:99"));
            assert_eq!(now, set(&["10.0.0.8:99"]));
        }
        other => panic!("expected the peer's new address, got {other:?}"),
    }
}

#[tokio::test]
async fn one_source_in_trouble_says_nothing_of_the_others() {
    let (good, silent) = (dns().await, dns().await);
    silent.set_fault(Fault::Silent);
    good.set(SERVICE, pods(&["10.0.0.1:7001"])).unwrap();
    let mut watched = Watched::start(DiscoveryConfig {
        peers: vec!["nobody.test.:1".parse().unwrap()],
        dns_servers: vec![good.addr()],
        ..config(good.addr())
    });
    let mut seen = (false, false);
    while seen != (true, true) {
        match watched.event().await {
            DiscoveryEvent::Addresses { source: Source::Service(_), .. } => seen.0 = true,
            DiscoveryEvent::Trouble { source: Source::Peer(_), .. } => seen.1 = true,
            other => panic!("unexpected {other:?}"),
        }
    }
    // With a silent server beside it, the good one's answers still come.
    let mut both =
        Watched::start(DiscoveryConfig { dns_servers: vec![silent.addr(), good.addr()], ..config(good.addr()) });
    assert_eq!(both.addresses().await, set(&["10.0.0.1:7001"]));
}

#[tokio::test]
async fn dropping_the_handle_or_the_receiver_ends_the_polls() {
    let dns = dns().await;
    let (sender, mut events) = mpsc::channel(16);
    let discovery = Discovery::start(config(dns.addr()), 7, sender).unwrap();
    timeout(DEADLINE, events.recv()).await.unwrap().unwrap();
    drop(discovery);
    // The channel closes when the last task has let go of its sender.
    assert_eq!(timeout(DEADLINE, events.recv()).await.unwrap(), None);

    let mut watched = Watched::start(config(dns.addr()));
    watched.event().await;
    drop(watched.events);
    let end = Instant::now() + DEADLINE;
    while watched.discovery.running() > 0 {
        assert!(Instant::now() < end, "the task goes on without a receiver");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_cluster_of_one_starts_and_a_configuration_that_cannot_work_is_refused() {
    let (sender, _events) = mpsc::channel(1);
    let start = |config| Discovery::start(config, 7, sender.clone());
    let one = DiscoveryConfig::new(DEFAULT_PORT);
    assert_eq!(start(one.clone()).unwrap().running(), 0);

    let service = |name: &str| DiscoveryConfig { service: Some(name.to_owned()), ..one.clone() };
    for name in ["", ".", "a..b", "orders:4370", "10.0.0.1", "::1", "with space"] {
        let error = start(service(name)).unwrap_err();
        assert!(matches!(error, DiscoveryError::ServiceName { .. }), "{name:?} gave {error}");
    }
    let peers = vec!["h".parse().unwrap(); 257];
    let error = start(DiscoveryConfig { peers, ..one.clone() }).unwrap_err();
    assert_eq!(error, DiscoveryError::TooManyPeers(257));
    let error = start(DiscoveryConfig { poll_min: Duration::from_secs(9), ..one }).unwrap_err();
    assert_eq!(error, DiscoveryError::Times);
}

#[tokio::test]
async fn the_server_stops_when_dropped_and_can_be_changed_from_threads() {
    let dns = std::sync::Arc::new(dns().await);
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let dns = dns.clone();
            std::thread::spawn(move || {
                for port in 1..50 {
                    let pod = (format!("orders-{thread}"), SocketAddr::from(([10, 0, 0, thread], port)));
                    dns.set(&format!("service-{thread}.test."), vec![pod]).unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let addr = dns.addr();
    let mut watched = Watched::start(DiscoveryConfig { service: Some("service-3.test.".to_owned()), ..config(addr) });
    assert_eq!(watched.addresses().await, set(&["10.0.0.3:49"]));
    drop(dns);
    assert!(matches!(watched.trouble().await, Trouble::Failed(_)));
    // Its port is free again.
    let end = Instant::now() + DEADLINE;
    while DevDns::start(addr).await.is_err() {
        assert!(Instant::now() < end, "{addr} is still taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
