//! A client that goes away while its node stands still: the node gives it up when it has been silent for twice its idle timeout, and not
//! after three of the longest round trips, of which it measures one as long as it stood.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use rookery_client::{Client, ClientConfig, Context};
use rookery_node::{ProcessName, ask::Ask, json::Json, stock::Echo, tls::Identity};
use rookery_tests::{
    program::{self, Certificates},
    within,
};
use tokio::task::JoinSet;

/// How long the node stands still: longer than its clients wait, which is 5 s.
const STILL: Duration = Duration::from_secs(15);

/// Twice that, and what a busy machine takes. Three round trips of [`STILL`] and their variance would be 50 s.
const GIVEN_UP: Duration = Duration::from_secs(25);

async fn connect(certificates: &Certificates, address: &str) -> Client {
    let identity = Identity::from_dir(&certificates.client("ops")).unwrap();
    let client = Client::connect(ClientConfig::new(identity, [address.parse().unwrap()]));
    within("a client", client).await.unwrap()
}

/// Whether QUIC's timeout or the round trips come first is chance, for each client.
const CLIENTS: usize = 24;

fn name(client: usize) -> ProcessName {
    ProcessName::new(format!("ghost-{client}")).unwrap()
}

/// A client that has a name, and keeps its node so busy that something is under way whenever that is stopped.
async fn busy(certificates: &Certificates, address: &str, number: usize) -> JoinSet<()> {
    let client = connect(certificates, address).await;
    let (has_it, named) = tokio::sync::oneshot::channel();
    let holder = client.runtime().spawn(async move |mut context: Context<()>| {
        has_it.send(context.register_in_cluster(&name(number)).await).unwrap();
        context.message().await;
    });
    within("a name", named).await.unwrap().unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let (client, holder) = (client.clone(), holder.clone());
        callers.spawn(async move {
            let echo = client.runtime().named::<Echo>("echo".parse().unwrap());
            while echo.call(|reply| Echo::Echo(Ask::new(Json::from(1), reply))).await.is_ok() {}
            drop(holder);
        });
    }
    callers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_left_a_node_that_stood_still_is_given_up_in_time() {
    let certificates = Certificates::new("ghosts");
    let (node, address) = program::node(&certificates, "n-0", &["--admin", "none"]).await;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(busy(&certificates, &address, number).await);
    }
    node.signal("STOP");
    let stopped = Instant::now();
    for callers in clients {
        // They end when the client has given its node up, and it ends with them.
        within("a client to lose its node", callers.join_all()).await;
    }
    tokio::time::sleep(STILL.saturating_sub(stopped.elapsed())).await;
    node.signal("CONT");
    let woken = Instant::now();
    let other = connect(&certificates, &address).await;
    let names: Vec<ProcessName> = (0..CLIENTS).map(name).collect();
    loop {
        let holders = other.runtime().whereis_in_cluster_all(&names).await.unwrap();
        let held = holders.iter().flatten().count();
        if held == 0 {
            return;
        }
        assert!(woken.elapsed() < GIVEN_UP, "{held} names are still held after {:?}", woken.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
