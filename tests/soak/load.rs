//! What keeps a fleet busy: a client of each node, whose callers go round all other nodes, so that what they send crosses the
//! mesh; and processes that do nothing but take CPU time.

use std::{
    collections::BTreeMap,
    error::Error,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rookery_client::{Client, ClientConfig, ClientState};
use rookery_node::{
    Address, Destination, NodeId, Runtime,
    ask::Ask,
    json::Json,
    stock::{Counter, Echo},
    tls::Identity,
};
use rookery_tests::fleet::Fleet;
use tokio::{sync::watch, task::JoinSet, time::timeout};

/// Counted for each call.
const SENDS_PER_CALL: u64 = 8;

/// Of so many calls one has a body that travels on a stream of its own.
const LARGE_EVERY: u64 = 64;
const LARGE_BYTES: usize = 128 * 1024;

/// As JSON it has its quotes.
const SMALL: &str = "fourteen bytes";

/// Far longer than a call takes on a machine that has no time: what fails is told as such, and not as slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Kinds of failures that are told apart.
const MAX_KINDS: usize = 8;

/// What has been carried so far.
#[derive(Default)]
pub(crate) struct Carried {
    /// Calls that were answered.
    pub(crate) calls: AtomicU64,
    /// Calls that were not.
    pub(crate) failed: AtomicU64,
    /// Messages that were sent and that nobody answers.
    pub(crate) sent: AtomicU64,
    /// Sessions of clients that were lost.
    pub(crate) sessions_lost: AtomicU64,
    /// How often calls failed for which reason.
    kinds: Mutex<BTreeMap<String, u64>>,
}

impl Carried {
    fn failed(&self, why: &str) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if kinds.len() < MAX_KINDS || kinds.contains_key(why) {
            *kinds.entry(why.to_owned()).or_default() += 1;
        }
    }

    /// Why calls failed.
    pub(crate) fn failures(&self) -> BTreeMap<String, u64> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// See the module.
pub(crate) struct Load {
    pub(crate) carried: Arc<Carried>,
    clients: Vec<Client>,
    nodes: Vec<NodeId>,
    callers: JoinSet<Vec<u32>>,
    stop: watch::Sender<bool>,
    burners: Vec<Burner>,
}

/// What a load has come to.
pub(crate) struct Outcome {
    /// How long calls took that were answered, in microseconds, sorted.
    pub(crate) latencies_us: Vec<u32>,
    /// How many of the messages that nobody answers have arrived; `None`: not all nodes could be asked.
    pub(crate) counted: Option<u64>,
}

impl Load {
    /// Connects a client to each node of a fleet.
    pub(crate) async fn connect(fleet: &Fleet) -> Result<Self, Box<dyn Error>> {
        let mut load = Self {
            carried: Arc::default(),
            clients: Vec::new(),
            nodes: fleet.members.iter().filter_map(|member| member.id.clone()).collect(),
            callers: JoinSet::new(),
            stop: watch::Sender::new(false),
            burners: Vec::new(),
        };
        for member in &fleet.members {
            let identity = Identity::from_dir(&fleet.client(&format!("at-{}", member.name)))?;
            let mut config = ClientConfig::new(identity, [member.address.into()]);
            config.connect_timeout = PATIENCE;
            let client = Client::connect(config).await?;
            load.watch(&client);
            load.clients.push(client);
        }
        Ok(load)
    }

    fn watch(&self, client: &Client) {
        let (mut state, carried, stop) = (client.state(), self.carried.clone(), self.stop.subscribe());
        tokio::spawn(async move {
            while state.changed().await.is_ok() {
                let lost = matches!(&*state.borrow_and_update(), ClientState::Connecting { .. });
                if lost && !*stop.borrow() {
                    carried.sessions_lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }

    /// Begins: so many callers a client, and so many burners beside them.
    pub(crate) fn begin(&mut self, callers: usize, burners: usize) -> Result<(), Box<dyn Error>> {
        for (number, client) in self.clients.iter().enumerate() {
            let own = self.nodes.get(number);
            let others: Vec<NodeId> = self.nodes.iter().filter(|node| Some(*node) != own).cloned().collect();
            for caller in 0..callers {
                let caller = Caller {
                    client: client.clone(),
                    others: others.clone(),
                    next: number + caller,
                    carried: self.carried.clone(),
                    stop: self.stop.subscribe(),
                };
                self.callers.spawn(caller.run());
            }
        }
        self.burners = (0..burners).map(|_| Burner::start()).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Ends it, waits for what is under way, and asks each node how much has arrived.
    pub(crate) async fn end(mut self) -> Outcome {
        self.burners.clear();
        self.stop.send_replace(true);
        let mut latencies_us: Vec<u32> = Vec::new();
        while let Some(ended) = self.callers.join_next().await {
            latencies_us.extend(ended.unwrap_or_default());
        }
        latencies_us.sort_unstable();
        let mut counted = Some(0);
        for (client, node) in self.clients.iter().zip(&self.nodes) {
            let arrived = match counter(&client.runtime(), node) {
                Some(counter) => counter.call_within(PATIENCE, Counter::Get).await.ok(),
                None => None,
            };
            counted = counted.zip(arrived.and_then(|count| u64::try_from(count).ok())).map(|(sum, more)| sum + more);
        }
        Outcome { latencies_us, counted }
    }
}

fn counter(runtime: &Runtime, node: &NodeId) -> Option<Address<Counter>> {
    Some(runtime.address(Destination::name(node.clone(), "counter".parse().ok()?)))
}

fn echo(runtime: &Runtime, node: &NodeId) -> Option<Address<Echo>> {
    Some(runtime.address(Destination::name(node.clone(), "echo".parse().ok()?)))
}

/// One after the other, it sends to each other node and calls it.
struct Caller {
    client: Client,
    others: Vec<NodeId>,
    /// Whose turn it is.
    next: usize,
    carried: Arc<Carried>,
    stop: watch::Receiver<bool>,
}

impl Caller {
    /// Until it is stopped. Gives how long its calls took, in microseconds.
    async fn run(mut self) -> Vec<u32> {
        let mut latencies = Vec::new();
        loop {
            // Waits for another session when one is lost.
            let runtime = tokio::select! {
                connected = self.client.connected() => connected,
                _ = self.stop.wait_for(|stop| *stop) => return latencies,
            };
            let Ok(runtime) = runtime else { return latencies };
            let there: Vec<_> =
                self.others.iter().filter_map(|node| counter(&runtime, node).zip(echo(&runtime, node))).collect();
            loop {
                if *self.stop.borrow() || there.is_empty() {
                    return latencies;
                }
                self.next = self.next.wrapping_add(1);
                let (counter, echo) = &there[self.next % there.len()];
                for _ in 0..SENDS_PER_CALL {
                    match timeout(PATIENCE, counter.send(Counter::Add(1))).await {
                        Ok(Ok(())) => drop(self.carried.sent.fetch_add(1, Ordering::Relaxed)),
                        // Nobody is there; the call tells why.
                        Ok(Err(_)) => {}
                        Err(_) => self.carried.failed("a message waited in vain for room"),
                    }
                }
                let large = (latencies.len() as u64).is_multiple_of(LARGE_EVERY);
                let body = if large { Json::from("x".repeat(LARGE_BYTES)) } else { Json::from(SMALL) };
                let since = Instant::now();
                match echo.call_within(PATIENCE, |reply| Echo::Echo(Ask::new(body, reply))).await {
                    Ok(_) => {
                        self.carried.calls.fetch_add(1, Ordering::Relaxed);
                        latencies.push(u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX));
                    }
                    Err(error) => {
                        self.carried.failed(&error.to_string());
                        break;
                    }
                }
            }
        }
    }
}

/// A process that takes all the CPU time that it gets. It ends with its owner.
struct Burner(Child);

impl Burner {
    fn start() -> std::io::Result<Self> {
        Command::new(std::env::current_exe()?).arg("--burn").stdin(Stdio::null()).spawn().map(Self)
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What a burner does: until whoever has started it is gone.
pub(crate) fn burn() {
    let parent = std::os::unix::process::parent_id();
    let mut number = 1_u64;
    while std::os::unix::process::parent_id() == parent {
        for _ in 0..10_000_000 {
            number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}
