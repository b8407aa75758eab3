//! A rolling restart of a cluster of real `rookery` processes, while clients write (D6): no call fails beyond the documented
//! retry, no acknowledged write is lost, a name never has two owners who both answer, and no call pauses for a second. And
//! one from an older release to this one (D5).
//!
//! Aimed at 1,000 calls a second, since the tests of a debug build share two cores; `ROOKERY_RATE=5000` makes it more. `rookery demo rolling`
//! aims at 5,000, and tells what happens second by second.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    io::Write,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rookery_client::{Client, ClientConfig};
use rookery_node::{
    ask::Ask,
    json::Json,
    stock::{Entry, Kv},
    supervise::SupervisorMessage,
};
use rookery_runtime::{CallError, ProcessName, Runtime, tls::Identity};
use rookery_tests::{
    eventually, placement,
    program::{Certificates, Program, rookery},
    within,
};
use tokio::task::JoinHandle;

const NODES: usize = 3;
const CALLERS: u32 = 24;

/// As is promised; on a machine that stops for longer than that by itself the test says so, and judges what else there is.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

fn config() -> String {
    let mut config = String::from(
        "[[client]]\nname = \"eve\"\n\n[[supervisor]]\nname = \"shop\"\ncluster = true\n\n[[supervisor.children]]\n\
         id = \"store\"\nbehaviour = \"kv\"\ncluster_name = \"prices\"\nplacement = \"spread\"\n",
    );
    for number in 0..5 {
        config += &format!(
            "\n[[supervisor.children]]\nid = \"c{number}\"\nbehaviour = \"counter\"\ncluster_name = \"c{number}\"\n\
             placement = \"spread\"\n"
        );
    }
    config
}

struct Cluster {
    certificates: Certificates,
    addresses: Vec<SocketAddr>,
    nodes: Vec<Option<Program>>,
    /// How often each was started.
    lives: Vec<u32>,
}

impl Cluster {
    async fn start(program: &Path) -> Self {
        let certificates = Certificates::new("rolling");
        std::fs::write(certificates.dir().join("rookery.toml"), config()).unwrap();
        drop(certificates.client("eve"));
        let sockets: Vec<UdpSocket> = (0..NODES).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let addresses = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        drop(sockets);
        let mut cluster =
            Self { certificates, addresses, nodes: (0..NODES).map(|_| None).collect(), lives: vec![0; NODES] };
        for index in 0..NODES {
            cluster.start_node(program, index);
        }
        for index in 0..NODES {
            cluster.meshed(index).await;
        }
        cluster
    }

    fn start_node(&mut self, program: &Path, index: usize) {
        let name = format!("n-{index}");
        let identity = self.certificates.node(&name).display().to_string();
        let config = self.certificates.dir().join("rookery.toml").display().to_string();
        self.lives[index] += 1;
        let log = self.certificates.dir().join(format!("{name}.{}.log", self.lives[index]));
        let address = self.addresses[index].to_string();
        let mut arguments = vec!["start", "--name", &name, "--identity", &identity, "--config", &config];
        arguments.extend(["--listen", &address, "--boot", "none", "--worker-threads", "2"]);
        let others: Vec<String> =
            self.addresses.iter().map(SocketAddr::to_string).filter(|other| *other != address).collect();
        for other in &others {
            arguments.extend(["--peers", other]);
        }
        if *program == rookery() {
            arguments.extend(["--admin", "none"]);
        }
        self.nodes[index] = Some(Program::start_of(program, &log, &arguments));
    }

    /// Waits until the node with this index has found all others.
    async fn meshed(&self, index: usize) {
        let node = self.nodes[index].as_ref().unwrap();
        eventually("a node has found the others", || node.log().matches("node up").count() >= NODES - 1).await;
    }

    async fn client(&self, first: usize) -> Client {
        let identity = Identity::from_dir(&self.certificates.dir().join("eve")).unwrap();
        let servers = (0..NODES).map(|offset| self.addresses[(first + offset) % NODES].to_string().parse().unwrap());
        within("a client", Client::connect(ClientConfig::new(identity, servers.collect::<Vec<_>>()))).await.unwrap()
    }
}

fn name(text: &str) -> ProcessName {
    text.parse().unwrap()
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    retried: AtomicU64,
    longest_us: AtomicU64,
    stop: AtomicBool,
}

struct Caller {
    client: Client,
    counts: Arc<Counts>,
    key: String,
    /// Whether any failure is made good by another try: while nodes are of a release that hands nothing over.
    lenient: bool,
}

impl Caller {
    /// Writes, and reads what it has written, until it is told to stop. Gives what was acknowledged last.
    async fn run(self, every: Duration) -> (String, u64) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut number = 0;
        while !self.counts.stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            number += 1;
            let begin = Instant::now();
            self.again(begin, |runtime| {
                let entry = Entry { key: self.key.clone(), value: Json::from(number) };
                async move {
                    runtime.cluster_named::<Kv>(name("prices")).call(|reply| Kv::Put(Ask::new(entry, reply))).await
                }
            })
            .await;
            if number % 4 == 0 {
                let read = self.again(Instant::now(), |runtime| {
                    let key = self.key.clone();
                    async move {
                        runtime.cluster_named::<Kv>(name("prices")).call(|reply| Kv::Get(Ask::new(key, reply))).await
                    }
                });
                let read = read.await;
                assert!(self.lenient || read == Some(Json::from(number)), "{} is {read:?}, not {number}", self.key);
            }
        }
        (self.key, number)
    }

    async fn again<T, F>(&self, begin: Instant, call: impl Fn(Runtime) -> F) -> T
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            match call(self.client.runtime()).await {
                Ok(answer) => {
                    let took = u64::try_from(begin.elapsed().as_micros()).unwrap();
                    self.counts.longest_us.fetch_max(took, Ordering::Relaxed);
                    self.counts.answered.fetch_add(1, Ordering::Relaxed);
                    self.counts.retried.fetch_add(u64::from(tries > 1), Ordering::Relaxed);
                    return answer;
                }
                Err(error) if error == CallError::NoConnection || self.lenient => {
                    assert!(begin.elapsed() < Duration::from_secs(20), "{}: {error}", self.key);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    within("a node for the client", self.client.connected()).await.unwrap();
                }
                Err(error) => panic!("{} failed after {:?}: {error}", self.key, begin.elapsed()),
            }
        }
    }
}

struct Load {
    clients: Vec<Client>,
    counts: Arc<Counts>,
    callers: Vec<JoinHandle<(String, u64)>>,
}

impl Load {
    async fn start(cluster: &Cluster, lenient: bool) -> Self {
        let rate = std::env::var("ROOKERY_RATE").ok().map_or(1_000, |rate| rate.parse().unwrap());
        let mut clients = Vec::new();
        for first in 0..NODES {
            clients.push(cluster.client(first).await);
        }
        let counts = Arc::new(Counts::default());
        let callers = (0..CALLERS)
            .map(|number| {
                let client = clients[number as usize % NODES].clone();
                let caller = Caller { client, counts: counts.clone(), key: format!("key-{number}"), lenient };
                tokio::spawn(caller.run(Duration::from_secs(1) * CALLERS / rate))
            })
            .collect();
        Self { clients, counts, callers }
    }

    fn check(&self) {
        assert!(!self.callers.iter().any(JoinHandle::is_finished), "a caller has failed");
    }

    /// Waits until so many more calls were answered.
    async fn more(&self, calls: u64) {
        let until = self.counts.answered.load(Ordering::Relaxed) + calls;
        eventually("calls are answered", || {
            self.check();
            self.counts.answered.load(Ordering::Relaxed) >= until
        })
        .await;
    }
}

/// How long this machine stood still at most, as a thread sees it that does nothing.
fn stalls(stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Duration> {
    std::thread::spawn(move || {
        let mut longest = Duration::ZERO;
        while !stop.load(Ordering::Relaxed) {
            let begin = Instant::now();
            std::thread::sleep(Duration::from_millis(5));
            longest = longest.max(begin.elapsed());
        }
        longest
    })
}

/// Restarts each node in turn with `program`, under load.
async fn roll(cluster: &mut Cluster, program: &Path, load: &Load) {
    load.more(200).await;
    for index in 0..NODES {
        let node = cluster.nodes[index].take().unwrap();
        let status = within("the node leaves", node.terminate()).await;
        assert!(status.success(), "{status}");
        load.check();
        cluster.start_node(program, index);
        cluster.meshed(index).await;
        load.more(200).await;
    }
}

/// Waits until the tree has been the same for a second: nodes that start at once each begin one, until they have met.
async fn settled(runtime: &Runtime) {
    let (mut last, mut since) = (Vec::new(), Instant::now());
    while last.len() < 6 || since.elapsed() < Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let shop = runtime.cluster_named::<SupervisorMessage>(name("shop"));
        let children = shop.call(SupervisorMessage::Children).await.unwrap_or_default();
        let now: Vec<_> = children.into_iter().filter_map(|child| child.pid).collect();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

async fn kept(client: &Client, key: String) -> Option<Json> {
    let store = client.runtime().cluster_named::<Kv>(name("prices"));
    within("a read", store.call(|reply| Kv::Get(Ask::new(key, reply)))).await.unwrap()
}

#[test]
fn d6_a_rolling_restart_loses_nothing() {
    placement::run(async {
        let mut cluster = Cluster::start(&rookery()).await;
        let client = cluster.client(0).await;
        let runtime = client.runtime();
        within("the tree is one", settled(&runtime)).await;
        client.close().await;
        let stop = Arc::new(AtomicBool::new(false));
        let stalls = stalls(stop.clone());
        let load = Load::start(&cluster, false).await;
        roll(&mut cluster, &rookery(), &load).await;
        load.counts.stop.store(true, Ordering::Relaxed);
        let mut acknowledged = BTreeMap::new();
        for caller in load.callers {
            let (key, value) = within("a caller", caller).await.unwrap();
            acknowledged.insert(key, value);
        }
        stop.store(true, Ordering::Relaxed);
        let stalled = stalls.join().unwrap();
        for (key, value) in &acknowledged {
            assert_eq!(kept(&load.clients[0], key.clone()).await, Some(Json::from(*value)), "{key}");
        }
        // One tree, whose children have never been restarted.
        let shop = load.clients[0].runtime().cluster_named::<SupervisorMessage>(name("shop"));
        let children = within("the children", shop.call(SupervisorMessage::Children)).await.unwrap();
        assert_eq!(children.len(), 6);
        assert!(children.iter().all(|child| child.restarts == 0 && child.pid.is_some()), "{children:?}");
        let (answered, retried) = (&load.counts.answered, &load.counts.retried);
        let longest = Duration::from_micros(load.counts.longest_us.load(Ordering::Relaxed));
        let text = format!(
            "{answered:?} calls, {retried:?} of them again, the longest took {longest:?}; the machine stood still for {stalled:?}\n"
        );
        drop(std::io::stderr().write_all(text.as_bytes()));
        assert!(longest < LONGEST_PAUSE + stalled, "{text}");
        for client in load.clients {
            client.close().await;
        }
    });
}

/// Where `tests/older/build` puts it; `None`, loudly, if it has not run.
fn older() -> Option<PathBuf> {
    let older = rookery().parent()?.parent()?.join("older/rookery");
    if older.exists() {
        return Some(older);
    }
    drop(std::io::stderr().write_all(b"SKIPPED d5: `tests/older/build` makes the older program\n"));
    None
}

/// The older release hands nothing over; what it says and is told harms nobody, and the store works at the end.
#[test]
fn d5_a_rolling_update_from_an_older_release_ends_with_all_of_this_one() {
    let Some(older) = older() else { return };
    placement::run(async move {
        let mut cluster = Cluster::start(&older).await;
        let load = Load::start(&cluster, true).await;
        roll(&mut cluster, &rookery(), &load).await;
        load.counts.stop.store(true, Ordering::Relaxed);
        for caller in load.callers {
            within("a caller", caller).await.unwrap();
        }
        // From now on nothing is lost.
        let client = &load.clients[0];
        let store = client.runtime().cluster_named::<Kv>(name("prices"));
        let entry = Entry { key: "tea".to_owned(), value: Json::from(7) };
        within("a write", store.call(|reply| Kv::Put(Ask::new(entry, reply)))).await.unwrap();
        let leaves = within("a look", client.runtime().whereis_in_cluster(&name("prices"))).await.unwrap().unwrap();
        let index = (0..NODES).find(|index| format!("n-{index}") == leaves.node().name().as_str()).unwrap();
        let status = within("it leaves", cluster.nodes[index].take().unwrap().terminate()).await;
        assert!(status.success(), "{status}");
        within("a node for the client", client.connected()).await.unwrap();
        assert_eq!(kept(client, "tea".to_owned()).await, Some(Json::from(7)));
    });
}
