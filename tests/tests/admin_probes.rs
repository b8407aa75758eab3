//! The probes of the admin port, asked as a kubelet does: what each waits for, and what it says of a node that is stuck, alone,
//! or about to leave. And that nobody can keep it from answering.

// Whatever fails here fails the test, and says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rookery_node::{AdminConfig, Incarnation, Node, NodeConfig, StartError};
use rookery_runtime::{Context, Event, Received};
use rookery_tests::{
    DEADLINE,
    cluster::{impatient, mesh, meshed, node_config},
    eventually,
    http::{Answer, get, request},
    program::{Certificates, Program, node_of},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const FREE_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn with_admin(mut config: NodeConfig) -> NodeConfig {
    config.admin = Some(AdminConfig::new(FREE_PORT));
    config
}

/// A node with an admin port, and that.
async fn watched(config: NodeConfig) -> (Node, SocketAddr) {
    let node = Node::start(with_admin(config)).await.unwrap();
    let admin = node.admin_address().unwrap();
    (node, admin)
}

/// Asks until the status is this one.
async fn until(status: u16, admin: SocketAddr, path: &str) -> Answer {
    let start = Instant::now();
    loop {
        let answer = get(admin, path).await;
        if answer.status == status {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "{path} does not come to {status}: {}", answer.body);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_node_that_looks_for_nobody_is_well_alone() {
    let (_node, admin) = watched(node_config("alone", &[])).await;
    get(admin, "/livez").await.has(200, &["live\n"]);
    get(admin, "/readyz").await.has(200, &["ready\n"]);
    get(admin, "/startupz").await.has(200, &["started\n"]);
    let told = get(admin, "/readyz?verbose").await;
    told.has(200, &["ok      joined: alone", "ok      processes: a process answered within", "ok      io:"]);
    assert!(told.head.to_lowercase().contains("content-type: text/plain"), "{}", told.head);
    get(admin, "/nothing").await.has(404, &["/livez"]);
    let posted =
        request(admin, "POST /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(posted.status, 405);
}

#[tokio::test]
async fn a_node_is_ready_once_it_has_found_another_and_stays_so() {
    // A port that nobody has, until the other node takes it.
    let taken = std::net::UdpSocket::bind(FREE_PORT).unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    let (_node, admin) = watched(node_config("first", &[address])).await;
    get(admin, "/readyz").await.has(503, &["not ready\n", "failed  joined: no other node"]);
    get(admin, "/livez").await.has(200, &[]);
    let mut config = node_config("second", &[]);
    config.listen = address;
    let other = Node::start(config).await.unwrap();
    until(200, admin, "/readyz").await;
    get(admin, "/readyz?verbose").await.has(200, &["joined: connected with other nodes: 1"]);
    other.shut_down("the test says so").await;
    let start = Instant::now();
    while !get(admin, "/readyz?verbose").await.body.contains("no other node now, but it was") {
        assert!(start.elapsed() < DEADLINE, "the loss is not told");
    }
    get(admin, "/readyz").await.has(200, &[]);
}

/// All threads that run processes are taken by one that does not let go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_processes_do_not_run_is_not_live_and_says_so() {
    let (let_go, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let (told, started) = mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let node = runtime.block_on(async { Node::start(with_admin(node_config("stuck", &[]))).await.unwrap() });
        told.send(node.admin_address().unwrap()).unwrap();
        runtime.block_on(async {
            // One for each thread that runs processes: the first waits, and those behind it wait for it.
            for _ in 0..node.load().workers {
                let held = held.clone();
                let hog = node.spawn(async move |mut context: Context<()>| {
                    context.message().await;
                    let _ = held.lock().unwrap().recv();
                });
                hog.unwrap().send(()).await.unwrap();
            }
            drop(stopped.await);
        });
    });
    let admin = tokio::task::spawn_blocking(move || started.recv().unwrap()).await.unwrap();
    let told = until(503, admin, "/livez").await;
    told.has(503, &["not live\n", "failed  processes: not within 2s"]);
    assert!(!told.body.contains("failed  io"), "{}", told.body);
    get(admin, "/readyz").await.has(503, &["failed  processes"]);
    get(admin, "/startupz").await.has(200, &[]);
    // Metrics are had all the same, and tell of it.
    get(admin, "/metrics").await.has(200, &["rookery_runtime_lag_seconds_bucket{thread=\"processes\",le=\"2\"} "]);
    drop(let_go);
    until(200, admin, "/livez").await;
    stop.send(()).unwrap();
    tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_node_that_leaves_is_live_to_its_end_and_not_ready() {
    let (node, admin) = watched(node_config("leaver", &[])).await;
    let (let_go, held) = tokio::sync::oneshot::channel::<()>();
    let slow = node.spawn(async move |mut context: Context<()>| {
        context.trap_exits(true);
        while !matches!(context.receive().await, Received::Event(Event::Exit { .. })) {}
        drop(held.await);
    });
    drop(slow.unwrap());
    get(admin, "/readyz").await.has(200, &[]);
    let leaving = tokio::spawn(async move { node.shut_down("the test says so").await });
    until(503, admin, "/readyz").await.has(503, &["failed  draining: the node is leaving"]);
    // Its own process that answers has ended by now, and that is no reason to end it at once.
    let start = Instant::now();
    while !get(admin, "/livez?verbose").await.body.contains("ok      processes: ended, as the node is leaving") {
        assert!(start.elapsed() < DEADLINE, "a node that leaves is not live");
    }
    let_go.send(()).unwrap();
    within("the node has left", leaving).await.unwrap();
    assert!(TcpStream::connect(admin).await.is_err(), "the port outlives its node");
}

#[tokio::test]
async fn startup_waits_for_what_the_program_starts() {
    let mut config = node_config("booting", &[]);
    config.admin = Some(AdminConfig { waits_for_boot: true, ..AdminConfig::new(FREE_PORT) });
    let node = Node::start(config).await.unwrap();
    let admin = node.admin_address().unwrap();
    get(admin, "/startupz").await.has(503, &["failed  boot"]);
    get(admin, "/readyz").await.has(503, &["failed  boot"]);
    node.booted();
    get(admin, "/startupz").await.has(200, &[]);
    get(admin, "/readyz").await.has(200, &[]);
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_start_only_if_it_was_asked_for() {
    let taken = std::net::TcpListener::bind(FREE_PORT).unwrap();
    let listen = taken.local_addr().unwrap();
    let mut config = node_config("taken", &[]);
    config.admin = Some(AdminConfig::new(listen));
    let error = Node::start(config).await.unwrap_err();
    assert!(matches!(&error, StartError::Admin { address, .. } if *address == listen), "{error}");
    assert!(error.to_string().contains("--admin"), "{error}");
    let mut config = node_config("taken", &[]);
    config.admin = Some(AdminConfig { required: false, ..AdminConfig::new(listen) });
    let node = Node::start(config).await.unwrap();
    assert_eq!(node.admin_address(), None);
}

#[tokio::test]
async fn whoever_opens_many_connections_and_says_little_holds_nobody_up() {
    let (_node, admin) = watched(node_config("slow", &[])).await;
    let mut open = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(admin).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: ").await.unwrap();
        open.push(stream);
    }
    let asked = Instant::now();
    get(admin, "/livez").await.has(200, &[]);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    // For each that came when there were enough, the oldest went.
    let gone = tokio::time::timeout(Duration::from_secs(2), open[0].read(&mut [0; 16])).await;
    assert!(matches!(gone, Ok(Ok(0) | Err(_))), "{gone:?}");
    // The port lets go of them by itself, also of those that are not in anybody's way.
    let mut rest = Vec::new();
    for stream in &mut open {
        drop(within("the port closes a connection that says nothing", stream.read_to_end(&mut rest)).await);
    }
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let (_node, admin) = watched(node_config("head", &[])).await;
    let large = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n", "a".repeat(64 * 1024));
    let mut stream = TcpStream::connect(admin).await.unwrap();
    // It may close before all is written.
    drop(stream.write_all(large.as_bytes()).await);
    let mut came = Vec::new();
    drop(within("the port closes", stream.read_to_end(&mut came)).await);
    assert!(!came.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&came));
    let many: String = (0..200).map(|number| format!("X-{number}: a\r\n")).collect();
    let answer = request(admin, &format!("GET /livez HTTP/1.1\r\nHost: x\r\n{many}\r\n")).await;
    assert_eq!(answer.status, 431);
    get(admin, "/livez").await.has(200, &[]);
}

/// Where the program says that its admin port is.
async fn admin_of(program: &Program) -> SocketAddr {
    let mut admin = None;
    eventually("the program says where its admin port is", || {
        let log = program.log();
        let line = log.lines().find(|line| line.contains("admin port open")).unwrap_or_default();
        admin = line.split_once("address=").and_then(|(_, at)| at.split_whitespace().next()?.parse().ok());
        admin.is_some()
    })
    .await;
    admin.unwrap()
}

/// A child for a node that does not come, and enough others that starting them takes a while.
fn much_to_start() -> String {
    let mut tree = "[[supervisor]]\nname = \"shop\"\n".to_owned();
    for number in 0..1_000 {
        tree.push_str(&format!("[[supervisor.children]]\nid = \"till-{number}\"\nbehaviour = \"kv\"\n"));
    }
    tree.push_str("placement = { label = { zone = \"west\" } }\n");
    tree
}

#[tokio::test]
async fn the_program_opens_it_and_has_started_once_its_tree_has() {
    let certificates = Certificates::new("shop");
    let (program, _) = node_of(&much_to_start(), &certificates, "shop-0", &["--admin", "127.0.0.1:0"]).await;
    let admin = admin_of(&program).await;
    until(200, admin, "/startupz").await;
    // Looked at after the answer: what was started then is in the log, and nobody waits for the child that has no node.
    assert!(program.log().contains("started under their own names"), "{}", program.log());
    get(admin, "/readyz").await.has(200, &[]);
    get(admin, "/livez").await.has(200, &[]);
}

/// As where a clock was ahead when the node was started the time before.
#[tokio::test]
async fn a_node_that_is_refused_as_older_than_its_last_life_says_so_as_long_as_it_is() {
    let mut config = node_config("judge", &[]);
    impatient(&mut config.connections);
    let judge = Node::start(config).await.unwrap();
    let life = |incarnation| {
        let mut config = node_config("late", &[judge.listen_address()]);
        impatient(&mut config.connections);
        config.incarnation = incarnation;
        config
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ahead = u64::try_from((now + Duration::from_secs(3_600)).as_micros()).unwrap();
    let last = Node::start(life(Some(Incarnation(ahead)))).await.unwrap();
    meshed(&[&judge, &last]).await;
    // As a crash: whether it runs is not known for a moment.
    drop(last);
    let (older, admin) = watched(life(None)).await;
    let start = Instant::now();
    let told = loop {
        let told = get(admin, "/readyz").await;
        if told.body.contains("has gone") {
            break told;
        }
        assert!(start.elapsed() < DEADLINE, "{}", told.body);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    told.has(503, &["not ready\n", "failed  life: judge refuses it, since it has known a newer life", "rookery start"]);
    get(admin, "/livez").await.has(200, &[]);
    older.shut_down("it begins anew").await;
    let (_newer, admin) = watched(life(Some(Incarnation(ahead + 1)))).await;
    until(200, admin, "/readyz").await;
    get(admin, "/readyz?verbose").await.has(200, &["ok      life: nobody has known a newer one"]);
}

#[tokio::test]
async fn nodes_of_a_mesh_are_ready() {
    let nodes = mesh(3, |config| config.admin = Some(AdminConfig::new(FREE_PORT))).await;
    for node in &nodes {
        let told = get(node.admin_address().unwrap(), "/readyz?verbose").await;
        told.has(200, &["joined: connected with other nodes: 2"]);
    }
}
