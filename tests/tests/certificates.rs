//! Certificates that change while nodes and clients run: what is new serves new connections within seconds, what cannot be used is
//! told and not used, and nothing that is connected notices.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quinn::{Endpoint, ServerConfig, TransportConfig};
use rookery_client::{Client, ClientConfig};
use rookery_node::{
    AdminConfig, Node, NodeConfig,
    tls::{Authority, ClusterName, Identity, IssuedPem, PeerIdentity, SERVER_NAME},
};
use rookery_runtime::{Address, Context, Event, Pid, Received, ReplyTo, Runtime};
use rookery_tests::{
    DEADLINE,
    cluster::{meshed, node_config},
    eventually,
    http::get,
    mounted::Mounted,
    program::{Certificates, Program},
    within,
};
use serde::{Deserialize, Serialize};

const DAY: Duration = Duration::from_secs(86_400);

const ANY: &str = "127.0.0.1:0";

fn authority() -> Authority {
    Authority::create(&ClusterName::try_from("shop").unwrap()).unwrap()
}

fn node_of(authority: &Authority, name: &str, valid: Duration) -> IssuedPem {
    authority.issue_node(name, &[], valid).unwrap()
}

fn config(name: &str, identity: Identity, peers: &[SocketAddr]) -> NodeConfig {
    let mut config = NodeConfig { identity, ..node_config(name, peers) };
    config.admin = Some(AdminConfig::new(ANY.parse().unwrap()));
    config.renew_within = Duration::from_secs(1);
    config
}

/// The certificate that the node at `address` shows to a client with this identity, if it lets that in.
async fn shown(address: SocketAddr, identity: &Identity) -> Option<PeerIdentity> {
    let endpoint = Endpoint::client(ANY.parse().unwrap()).unwrap();
    let tls = identity.quinn_client_config(Arc::new(TransportConfig::default())).unwrap();
    let connection = endpoint.connect_with(tls, address, SERVER_NAME).unwrap().await.ok()?;
    let identity = PeerIdentity::of_connection(&connection).unwrap();
    // Who is refused hears of it after its own handshake: a stream that is answered, or not closed, says that it is let in.
    let (mut send, mut receive) = connection.open_bi().await.ok()?;
    send.write_all(&[0]).await.ok()?;
    let refused = tokio::time::timeout(Duration::from_secs(1), receive.read(&mut [0])).await;
    let closed = matches!(connection.close_reason(), Some(quinn::ConnectionError::ConnectionClosed(_)));
    drop(refused);
    (!closed).then_some(identity)
}

/// Waits until whoever asks is shown this certificate.
async fn until_shown(node: &Node, by: &Identity, serial: &str) {
    let start = Instant::now();
    loop {
        if shown(node.listen_address(), by).await.is_some_and(|identity| identity.serial == serial) {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "the certificate {serial} is not shown");
    }
}

/// A server that notes who dials it, and lets nobody in.
struct Ear {
    address: SocketAddr,
    heard: Arc<Mutex<Option<PeerIdentity>>>,
}

impl Ear {
    fn open(identity: &Identity) -> Self {
        let tls: ServerConfig = identity.quinn_server_config(Arc::new(TransportConfig::default())).unwrap();
        let endpoint = Endpoint::server(tls, ANY.parse().unwrap()).unwrap();
        let (address, heard) = (endpoint.local_addr().unwrap(), Arc::new(Mutex::new(None)));
        let noted = heard.clone();
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let Ok(connection) = incoming.await else { continue };
                *noted.lock().unwrap() = Some(PeerIdentity::of_connection(&connection).unwrap());
                connection.close(1_u32.into(), b"only listening");
            }
        });
        Self { address, heard }
    }

    fn serial(&self) -> Option<String> {
        self.heard.lock().unwrap().as_ref().map(|identity| identity.serial.clone())
    }
}

#[derive(Serialize, Deserialize)]
enum Count {
    Next(ReplyTo<u64>),
}

fn counter(node: &Node) -> Pid {
    let counter = node.spawn(async |mut context: Context<Count>| {
        let mut number = 0;
        while let Some(Count::Next(reply)) = context.message().await {
            number += 1;
            reply.answer(number);
        }
    });
    counter.unwrap().pid().unwrap()
}

/// Calls without a pause, and watches nodes, until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    downs: Arc<Mutex<Vec<String>>>,
}

impl Load {
    fn new() -> Self {
        let (stop, answered) = (Arc::default(), Arc::default());
        Self { stop, answered, tasks: Vec::new(), downs: Arc::default() }
    }

    /// Calls the counter from there: each answer is the next number, or the load has failed.
    fn calls(&mut self, from: &Runtime, counter: &Pid) {
        let counter: Address<Count> = from.address(counter);
        let (stop, answered) = (self.stop.clone(), self.answered.clone());
        self.tasks.push(tokio::spawn(async move {
            let mut expected = 1;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(counter.call(Count::Next).await.expect("a call has failed"), expected);
                expected += 1;
                answered.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }));
    }

    /// Notes each node that is lost.
    fn watches(&self, on: &Runtime) {
        let downs = self.downs.clone();
        let watching = on.spawn(async move |mut context: Context<u8>| {
            context.monitor_nodes(true);
            loop {
                if let Received::Event(Event::NodeDown { node, reason, .. }) = context.receive().await {
                    downs.lock().unwrap().push(format!("{node}: {reason}"));
                }
            }
        });
        watching.unwrap();
    }

    /// Waits until so many more calls were answered.
    async fn goes_on(&self) {
        let until = self.answered.load(Ordering::Relaxed) + 50;
        eventually("calls go on", || {
            self.tasks.iter().any(|task| task.is_finished()) || self.answered.load(Ordering::Relaxed) >= until
        })
        .await;
    }

    /// No call has failed, and nobody was lost.
    async fn ends_well(self) {
        self.goes_on().await;
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            within("the last call", task).await.unwrap();
        }
        assert_eq!(*self.downs.lock().unwrap(), Vec::<String>::new());
    }
}

async fn expiry(node: &Node) -> u64 {
    let metrics = get(node.admin_address().unwrap(), "/metrics").await.body;
    let line =
        metrics.lines().find(|line| line.starts_with("rookery_certificate_expiry_timestamp_seconds{role=\"node\"}"));
    line.unwrap().split_whitespace().last().unwrap().parse::<f64>().unwrap() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificates_serve_new_connections_and_nothing_that_stands_notices() {
    let authority = authority();
    let names = ["node-0", "node-1", "node-2"];
    let mounts = names.map(|name| Mounted::new(&node_of(&authority, name, DAY)));
    let by = Mounted::new(&authority.issue_client("eve", DAY).unwrap());
    // Both dial it for ever.
    let ear = Ear::open(&Mounted::new(&node_of(&authority, "ear", DAY)).identity());
    let client_ear = Ear::open(&Mounted::new(&node_of(&authority, "ear", DAY)).identity());
    let mut nodes: Vec<Node> = Vec::new();
    for (name, mount) in names.iter().zip(&mounts) {
        let mut peers: Vec<SocketAddr> = nodes.iter().map(Node::listen_address).collect();
        if peers.is_empty() {
            peers.push(ear.address);
        }
        nodes.push(Node::start(config(name, mount.identity(), &peers)).await.unwrap());
    }
    meshed(&nodes.iter().collect::<Vec<_>>()).await;
    let server = |address: SocketAddr| rookery_client::Server::from(address);
    let client = Client::connect(ClientConfig::new(by.identity(), [server(nodes[0].listen_address())])).await.unwrap();
    let mut patient = ClientConfig::new(by.identity(), [server(client_ear.address)]);
    patient.connect_timeout = DEADLINE * 10;
    let dialling = tokio::spawn(Client::connect(patient));

    let mut load = Load::new();
    load.calls(nodes[0].runtime(), &counter(&nodes[1]));
    load.calls(nodes[2].runtime(), &counter(&nodes[0]));
    load.calls(&client.runtime(), &counter(&nodes[0]));
    load.calls(&client.runtime(), &counter(&nodes[2]));
    nodes.iter().for_each(|node| load.watches(node));
    load.watches(&client.runtime());
    load.goes_on().await;
    let client_pid = client.runtime().own_pid();
    eventually("both dial", || ear.serial().is_some() && client_ear.serial().is_some()).await;

    let asks = by.identity();
    for ((name, mount), node) in names.iter().zip(&mounts).zip(&nodes) {
        let before = node.identity().own().clone();
        until_shown(node, &asks, &before.serial).await;
        mount.swap(&node_of(&authority, name, 2 * DAY));
        let after = mount.identity().own().clone();
        assert_ne!(before.serial, after.serial);
        until_shown(node, &asks, &after.serial).await;
        assert_eq!(node.identity().own(), &after);
        assert_eq!(expiry(node).await, after.not_after.as_secs());
    }
    by.swap(&authority.issue_client("eve", 2 * DAY).unwrap());
    let (own, clients) = (mounts[0].identity().own().serial.clone(), by.identity().own().serial.clone());
    eventually("the node shows it to whom it dials", || ear.serial() == Some(own.clone())).await;
    eventually("the client does", || client_ear.serial() == Some(clients.clone())).await;
    dialling.abort();
    // What stands has gone over, too.
    eventually("nothing is old", || nodes.iter().all(|node| node.outdated() == 0)).await;

    // Who comes later meets all of them.
    let late =
        config("node-3", Mounted::new(&node_of(&authority, "node-3", DAY)).identity(), &[nodes[2].listen_address()]);
    nodes.push(Node::start(late).await.unwrap());
    meshed(&nodes.iter().collect::<Vec<_>>()).await;
    assert_eq!(client.runtime().own_pid(), client_pid, "the session is the same");
    load.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_takes_the_place_of_another() {
    let (old, new) = (authority(), authority());
    let with_ca = |issued: &IssuedPem, ca: &str| IssuedPem { ca: ca.to_owned(), ..issued.clone() };
    let both = format!("{}{}", old.ca_pem(), new.ca_pem());
    let names = ["node-0", "node-1"];
    let olds = names.map(|name| node_of(&old, name, DAY));
    let news = names.map(|name| node_of(&new, name, DAY));
    let mounts = [Mounted::new(&olds[0]), Mounted::new(&olds[1])];
    let first = Node::start(config(names[0], mounts[0].identity(), &[])).await.unwrap();
    let second = Node::start(config(names[1], mounts[1].identity(), &[first.listen_address()])).await.unwrap();
    meshed(&[&first, &second]).await;
    let mut load = Load::new();
    load.calls(first.runtime(), &counter(&second));
    load.watches(&first);
    load.watches(&second);

    let asks = |authority: &Authority| {
        let issued = authority.issue_client("eve", DAY).unwrap();
        Identity::from_pem(&both, &issued.cert, &issued.key).unwrap()
    };
    let (asks_old, asks_new) = (asks(&old), asks(&new));
    let serial =
        |issued: &IssuedPem| Identity::from_pem(&issued.ca, &issued.cert, &issued.key).unwrap().own().serial.clone();
    assert!(shown(first.listen_address(), &asks_new).await.is_none(), "the new CA is not trusted yet");

    // Both CAs are trusted everywhere, before anybody has a certificate of the new one.
    for ((mount, issued), node) in mounts.iter().zip(&olds).zip([&first, &second]) {
        mount.swap(&with_ca(issued, &both));
        until_shown(node, &asks_new, &serial(issued)).await;
        until_shown(node, &asks_old, &serial(issued)).await;
    }
    // Then certificates, node by node.
    for ((mount, issued), node) in mounts.iter().zip(&news).zip([&first, &second]) {
        mount.swap(&with_ca(issued, &both));
        until_shown(node, &asks_old, &serial(issued)).await;
    }
    // Then the old one goes.
    for ((mount, issued), node) in mounts.iter().zip(&news).zip([&first, &second]) {
        mount.swap(issued);
        let start = Instant::now();
        while shown(node.listen_address(), &asks_old).await.is_some() {
            assert!(start.elapsed() < DEADLINE, "the old CA is still trusted");
        }
        until_shown(node, &asks_new, &serial(issued)).await;
    }
    let late = Mounted::new(&node_of(&new, "node-2", DAY)).identity();
    let third = Node::start(config("node-2", late, &[second.listen_address()])).await.unwrap();
    meshed(&[&first, &second, &third]).await;
    load.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_refused_with_an_old_certificate_is_let_in_soon_after_it_is_renewed() {
    let authority = authority();
    let mount = Mounted::new(&node_of(&authority, "node-0", Duration::from_secs(2)));
    let peer = Mounted::new(&node_of(&authority, "node-1", DAY)).identity();
    // Only the first one dials, and only once its certificate has expired is somebody there.
    let socket = std::net::UdpSocket::bind(ANY).unwrap();
    let address = socket.local_addr().unwrap();
    let first = Node::start(config("node-0", mount.identity(), &[address])).await.unwrap();
    eventually("it has expired", || Identity::from_dir(mount.dir()).is_err()).await;
    drop(socket);
    let mut later = config("node-1", peer, &[]);
    later.listen = address;
    let second = Node::start(later).await.unwrap();
    let refused = "rookery_handshake_refusals_total{reason=\"tls\",by=\"us\"}";
    let start = Instant::now();
    while !get(second.admin_address().unwrap(), "/metrics").await.body.contains(refused) {
        assert!(start.elapsed() < DEADLINE, "it was not refused");
    }
    assert!(first.nodes().len() == 1 && second.nodes().len() == 1);
    mount.swap(&node_of(&authority, "node-0", DAY));
    // Strangers are dialled again after 24 s at the soonest, which is more than is waited here.
    meshed(&[&first, &second]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_told_once_and_not_used() {
    let certificates = Certificates::new("shop");
    let (authority, other) = (authority(), Authority::create(&ClusterName::try_from("else").unwrap()).unwrap());
    let good = node_of(&authority, "node-0", DAY);
    let mount = Mounted::new(&good);
    let identity = mount.dir().display().to_string();
    let arguments = ["start", "--name", "node-0", "--identity", &identity, "--listen", ANY, "--admin", ANY];
    let program = Program::start(&certificates.dir().join("log"), &arguments);
    let address: SocketAddr = program.listen_address().await.parse().unwrap();
    let mut admin = String::new();
    eventually("the admin port is open", || {
        let log = program.log();
        let found =
            log.lines().find(|line| line.contains("admin port open")).and_then(|line| line.split_once("address="));
        admin = found.map(|(_, rest)| rest.trim().to_owned()).unwrap_or_default();
        !admin.is_empty()
    })
    .await;
    let admin: SocketAddr = admin.parse().unwrap();
    let asks = authority.issue_client("eve", DAY).unwrap();
    let asks = Identity::from_pem(&asks.ca, &asks.cert, &asks.key).unwrap();
    let serial = mount.identity().own().serial.clone();

    let elsewhere = node_of(&authority, "node-9", DAY);
    let bad: [(IssuedPem, &str); 5] = [
        (IssuedPem { key: elsewhere.key.clone(), ..good.clone() }, "does not fit the certificate"),
        (IssuedPem { cert: good.cert[..good.cert.len() / 2].to_owned(), ..good.clone() }, "is not valid PEM"),
        (elsewhere, "not for a node named `node-0`"),
        (node_of(&other, "node-0", DAY), "of cluster `else`, and this node runs in `shop`"),
        (authority.issue_client("node-0", DAY).unwrap(), "cannot accept connections"),
    ];
    let told = |why: &str| {
        let log = program.log();
        log.lines().filter(|line| line.contains("cannot be used") && line.contains(why)).count()
    };
    for (content, why) in &bad {
        mount.swap(content);
        eventually(why, || told(why) > 0).await;
        let metrics = get(admin, "/metrics").await.body;
        assert!(metrics.contains("\nrookery_identity_refused 1\n"), "{metrics}");
        assert_eq!(shown(address, &asks).await.unwrap().serial, serial, "after {why}");
    }
    for (_, why) in &bad {
        assert_eq!(told(why), 1, "{why}: {}", program.log());
    }
    let renewed = node_of(&authority, "node-0", DAY);
    mount.swap(&renewed);
    let serial = mount.identity().own().serial.clone();
    eventually("the good one is told of", || {
        program
            .log()
            .lines()
            .any(|line| line.contains("have changed") && line.contains(&serial) && line.contains("until="))
    })
    .await;
    assert_eq!(shown(address, &asks).await.unwrap().serial, serial);
    let metrics = get(admin, "/metrics").await.body;
    assert!(metrics.contains("\nrookery_identity_refused 0\n"), "{metrics}");
}
