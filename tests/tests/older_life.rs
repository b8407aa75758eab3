//! P1 where clocks are wrong: a node that starts older than its last life, by what others know, is refused by them for ever. It is told
//! so and begins anew as one that is newer; but never where the newer one still runs, since then two have one name.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    future::Future,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rookery_node::{Context, Destination, Incarnation, Node, NodeConfig, NodeName, stock::Counter, tls::Identity};
use rookery_tests::{
    cluster::{impatient, meshed, node_config},
    eventually,
    placement::run,
    program::{self, Certificates},
    within,
};

/// How long anything may take here: what peers say is waited for for seconds.
const DEADLINE: Duration = Duration::from_secs(75);

/// What a clock says that is ahead by this.
fn ahead(by: Duration) -> Incarnation {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + by;
    Incarnation(u64::try_from(now.as_micros()).unwrap())
}

const HOUR: Duration = Duration::from_secs(3600);

async fn start(name: &str, incarnation: Option<Incarnation>, peers: &[&Node]) -> Node {
    let peers: Vec<SocketAddr> = peers.iter().map(|node| node.listen_address()).collect();
    let mut config = node_config(name, &peers);
    impatient(&mut config.connections);
    config.incarnation = incarnation;
    Node::start(config).await.unwrap()
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("waited {DEADLINE:?} in vain for {what}"))
}

#[test]
fn p1_a_node_that_is_older_than_its_last_life_is_told_and_begins_anew() {
    run(async {
        let (b, c) = (start("b", None, &[]).await, start("c", None, &[]).await);
        let last = start("a", Some(ahead(HOUR)), &[&b, &c]).await;
        meshed(&[&b, &c, &last]).await;
        let old = last.runtime().spawn(async |mut context: Context<()>| {
            context.message().await;
        });
        let old = old.unwrap().pid().unwrap();
        let told = last.runtime().node().incarnation();
        // As a crash: no goodbye.
        drop(last);

        let older = start("a", None, &[&b, &c]).await;
        let outlived = soon("it to be told", older.outlived()).await;
        assert_eq!(outlived.newest, told);
        assert!(["b", "c"].contains(&outlived.by.as_str()), "{outlived}");
        assert!(older.peers().is_empty(), "an older life never comes back");
        older.shut_down("it begins anew").await;

        let newer = start("a", Some(outlived.next()), &[&b, &c]).await;
        meshed(&[&b, &c, &newer]).await;
        assert!(newer.runtime().node().incarnation() > told);
        let nodes = [&b, &c].map(|node| node.nodes());
        assert!(
            nodes.iter().all(|nodes| !nodes.contains(old.node()) && nodes.len() == 3),
            "pids of lives before are dead"
        );
    });
}

#[test]
fn p1_of_two_nodes_with_one_name_the_older_begins_anew_only_when_the_newer_has_ended() {
    run(async {
        let b = start("b", None, &[]).await;
        let newer = start("a", Some(ahead(HOUR)), &[&b]).await;
        meshed(&[&b, &newer]).await;
        let older = start("a", None, &[&b]).await;

        let began = Instant::now();
        let ends = async {
            // Three times as long as it takes where the newer one has gone: seven or more refusals.
            tokio::time::sleep(Duration::from_secs(15)).await;
            drop(newer);
            Instant::now()
        };
        let (ended, (outlived, told)) = tokio::join!(ends, async {
            let outlived = soon("the older to be told", older.outlived()).await;
            (outlived, Instant::now())
        });
        assert!(told > ended, "told {:?} after it began, while the newer one ran", told - began);
        assert!(b.peers().is_empty(), "nobody has taken the older one");
        assert!(outlived.next() > outlived.newest);
    });
}

#[test]
fn a_node_is_not_told_by_one_that_says_what_no_clock_says() {
    run(async {
        // No honest node gets there, but nothing keeps a broken one from it.
        let b = start("b", None, &[]).await;
        let absurd = start("a", Some(Incarnation(u64::MAX - 1)), &[&b]).await;
        meshed(&[&b, &absurd]).await;
        drop(absurd);
        let c = start("c", None, &[]).await;
        let last = start("a", Some(ahead(HOUR)), &[&c]).await;
        meshed(&[&c, &last]).await;
        let outlived = {
            let known = last.runtime().node().incarnation();
            drop(last);
            let older = start("a", None, &[&b, &c]).await;
            let outlived = soon("it to be told by c", older.outlived()).await;
            assert_eq!((outlived.newest, outlived.by.as_str()), (known, "c"));
            outlived
        };
        assert!(outlived.next() < ahead(2 * HOUR), "numbers do not run out");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_rookery_start_begins_anew_by_itself_and_says_so() {
    let certificates = Certificates::new("older");
    let config = |name: &str| {
        let identity = Identity::from_dir(&certificates.node(name)).unwrap();
        let mut config = NodeConfig::new(NodeName::new(name).unwrap(), identity);
        config.listen = "127.0.0.1:0".parse().unwrap();
        impatient(&mut config.connections);
        config
    };
    let b = Node::start(config("b")).await.unwrap();
    let mut last = config("a");
    last.discovery.peers.push(b.listen_address().to_string().parse().unwrap());
    last.incarnation = Some(ahead(HOUR));
    let last = Node::start(last).await.unwrap();
    meshed(&[&b, &last]).await;
    let known = last.runtime().node().incarnation();
    drop(last);

    let peer = b.listen_address().to_string();
    let (mut program, _) = program::node(&certificates, "a", &["--admin", "127.0.0.1:0", "--peers", &peer]).await;
    let began = Instant::now();
    // The life before may not be missed yet.
    let newer = || b.peers().into_iter().map(|peer| peer.node).find(|node| node.incarnation() > known);
    while newer().is_none() {
        assert!(program.ended().is_none(), "{}", program.log());
        assert!(began.elapsed() < DEADLINE, "{}", program.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let now = newer().unwrap();
    assert_eq!((now.name().as_str(), now.incarnation()), ("a", Incarnation(known.0 + 1)));
    let log = program.log();
    assert!(log.contains("begins anew, with a larger incarnation"), "{log}");
    // It is a whole node: what it is to start of itself has been started again, under its name.
    let counter = Destination::name(now, "counter".parse().unwrap());
    assert_eq!(within("an answer", b.runtime().address::<Counter>(counter).call(Counter::Get)).await.unwrap(), 0);
    program.signal("TERM");
    eventually("it leaves in good order", || program.ended().is_some_and(|status| status.success())).await;
}
