//! The load of the rolling restart: callers in three clients, each of which writes a key of its own, in turn with reads that
//! must give what it wrote last. A call that the loss of the client's node ends (`NoConnection`) is made again, as the
//! documentation says; any other failure counts.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rookery_client::{CallError, Client, ClientConfig, ProcessName, Runtime};
use rookery_node::{
    ask::Ask,
    json::Json,
    stock::{Entry, Kv},
};
use tokio::{task::JoinHandle, time::MissedTickBehavior};

use super::{
    Unexpected,
    cluster::{Cluster, STORE},
};

/// Callers of all clients together: each waits for its answer before it calls again.
const CALLERS: u32 = 48;

/// How long a call is made again, before it has failed.
const TRIED_FOR: Duration = Duration::from_secs(5);

/// How soon it is, if the client has a node again.
const AGAIN: Duration = Duration::from_millis(5);

/// What happened in a second.
pub(super) struct Second {
    pub(super) answered: u64,
    pub(super) retried: u64,
    pub(super) failed: u64,
    pub(super) longest: Duration,
}

/// What is counted, since the beginning.
#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    retried: AtomicU64,
    failed: AtomicU64,
    stale: AtomicU64,
    /// The longest call of this second, in microseconds, and of all.
    longest_us: AtomicU64,
    longest_of_all_us: AtomicU64,
    first_failure: Mutex<Option<String>>,
    stop: AtomicBool,
}

/// See the module.
pub(super) struct Load {
    clients: Vec<Client>,
    counts: Arc<Counts>,
    callers: Vec<JoinHandle<(String, u64)>>,
    /// The last second that was told, and what had been counted by then.
    told: (Instant, u64, u64, u64),
}

/// What came of it all.
pub(super) struct Outcome {
    pub(super) answered: u64,
    pub(super) retried: u64,
    pub(super) failed: u64,
    /// Reads that gave something else than their caller had written last.
    pub(super) stale: u64,
    pub(super) longest: Duration,
    pub(super) first_failure: Option<String>,
    /// Each caller's key, and what of it was acknowledged last.
    acknowledged: Vec<(String, u64)>,
}

impl Load {
    /// Starts calling.
    pub(super) async fn start(cluster: &Cluster, calls_per_s: u32) -> Result<Self, Unexpected> {
        let identity = cluster.client_identity()?;
        let mut clients = Vec::new();
        for first in 0..cluster.nodes.len().min(3) {
            // Each begins with a node of its own.
            let mut servers = Vec::new();
            for offset in 0..cluster.nodes.len() {
                let address = cluster.nodes[(first + offset) % cluster.nodes.len()].address.to_string();
                servers.push(address.parse().map_err(|error| Unexpected::new(format!("{address}: {error}")))?);
            }
            let client = Client::connect(ClientConfig::new(identity.clone(), servers)).await;
            clients.push(client.map_err(|error| Unexpected::new(format!("a client cannot connect: {error}")))?);
        }
        let store: ProcessName = STORE.parse().map_err(|error| Unexpected::new(format!("{error}")))?;
        let counts = Arc::new(Counts::default());
        let every = Duration::from_secs(1) * CALLERS / calls_per_s.max(1);
        let callers = (0..CALLERS as usize)
            .map(|number| {
                let client = clients[number % clients.len()].clone();
                let caller =
                    Caller { client, store: store.clone(), counts: counts.clone(), key: format!("key-{number}") };
                tokio::spawn(caller.run(every))
            })
            .collect();
        Ok(Self { clients, counts, callers, told: (Instant::now(), 0, 0, 0) })
    }

    /// One of the clients.
    pub(super) fn client(&self) -> Client {
        self.clients[0].clone()
    }

    /// What has happened in the last second, when one is over.
    pub(super) fn second(&mut self) -> Option<Second> {
        let (since, answered, retried, failed) = self.told;
        if since.elapsed() < Duration::from_secs(1) {
            return None;
        }
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        self.told = (Instant::now(), now(&counts.answered), now(&counts.retried), now(&counts.failed));
        Some(Second {
            answered: self.told.1 - answered,
            retried: self.told.2 - retried,
            failed: self.told.3 - failed,
            longest: Duration::from_micros(counts.longest_us.swap(0, Ordering::Relaxed)),
        })
    }

    /// Calls no more, and waits for what is under way.
    pub(super) async fn stop(self) -> Result<Outcome, Unexpected> {
        self.counts.stop.store(true, Ordering::Relaxed);
        let mut acknowledged = Vec::new();
        for caller in self.callers {
            acknowledged.push(caller.await.map_err(|error| Unexpected::new(format!("a caller has ended: {error}")))?);
        }
        for client in self.clients {
            client.close().await;
        }
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        Ok(Outcome {
            answered: now(&counts.answered),
            retried: now(&counts.retried),
            failed: now(&counts.failed),
            stale: now(&counts.stale),
            longest: Duration::from_micros(now(&counts.longest_of_all_us)),
            first_failure: counts.first_failure.lock().unwrap_or_else(PoisonError::into_inner).take(),
            acknowledged,
        })
    }
}

impl Outcome {
    /// How many keys do not have what was acknowledged last.
    pub(super) async fn lost(&self, runtime: &Runtime) -> Result<u64, Unexpected> {
        let store: ProcessName = STORE.parse().map_err(|error| Unexpected::new(format!("{error}")))?;
        let store = runtime.cluster_named::<Kv>(store);
        let mut lost = 0;
        for (key, value) in &self.acknowledged {
            match store.call(|reply| Kv::Get(Ask::new(key.clone(), reply))).await {
                Ok(Some(kept)) if kept == Json::from(*value) => {}
                Ok(_) => lost += 1,
                Err(error) => return Err(Unexpected::new(format!("the store does not answer: {error}"))),
            }
        }
        Ok(lost)
    }
}

struct Caller {
    client: Client,
    store: ProcessName,
    counts: Arc<Counts>,
    key: String,
}

impl Caller {
    async fn run(self, every: Duration) -> (String, u64) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last, mut number) = (0, 0);
        while !self.counts.stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            number += 1;
            // One read for each three writes.
            if number % 4 == 0 && last > 0 {
                let read = self.again(|runtime| {
                    let (key, store) = (self.key.clone(), runtime.cluster_named::<Kv>(self.store.clone()));
                    async move { store.call(|reply| Kv::Get(Ask::new(key, reply))).await }
                });
                if let Some(value) = read.await
                    && value != Some(Json::from(last))
                {
                    self.counts.stale.fetch_add(1, Ordering::Relaxed);
                }
                continue;
            }
            let written = self.again(|runtime| {
                let entry = Entry { key: self.key.clone(), value: Json::from(number) };
                let store = runtime.cluster_named::<Kv>(self.store.clone());
                async move { store.call(|reply| Kv::Put(Ask::new(entry, reply))).await }
            });
            if written.await.is_some() {
                last = number;
            }
        }
        (self.key, last)
    }

    /// Makes a call, again where the client has lost its node.
    async fn again<T, F>(&self, call: impl Fn(Runtime) -> F) -> Option<T>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let begin = Instant::now();
        let mut tries = 0;
        let failure = loop {
            tries += 1;
            match call(self.client.runtime()).await {
                Ok(answer) => {
                    let took = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
                    self.counts.longest_us.fetch_max(took, Ordering::Relaxed);
                    self.counts.longest_of_all_us.fetch_max(took, Ordering::Relaxed);
                    self.counts.answered.fetch_add(1, Ordering::Relaxed);
                    self.counts.retried.fetch_add(u64::from(tries > 1), Ordering::Relaxed);
                    return Some(answer);
                }
                Err(CallError::NoConnection) if begin.elapsed() < TRIED_FOR => {
                    tokio::time::sleep(AGAIN).await;
                    drop(tokio::time::timeout(TRIED_FOR, self.client.connected()).await);
                }
                Err(error) => break error,
            }
        };
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        let mut first = self.counts.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| failure.to_string());
        None
    }
}
