//! Three nodes as processes of the operating system, found by DNS alone, while one of them is killed (SIGKILL) and started
//! again, over and over. Two clients, each at one of the others, see each death and each new life, once and in order; what
//! lived in a former life is dead for ever (P1).
//!
//! The processes are the program `rookery`, which stands beside this test once the workspace is built
//! (`cargo build --workspace`).

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rookery_client::{Client, ClientConfig};
use rookery_node::{devdns::DevDns, stock::Counter};
use rookery_runtime::{CallError, ExitReason, NodeId, Start, tls::Identity};
use rookery_tests::{
    eventually,
    program::{Certificates, Program},
    watch, within,
};

#[path = "cluster/news.rs"]
mod news;
use news::{Heard, News};

const SERVICE: &str = "orders.shop.svc.cluster.test";

const LIVES: usize = 5;

/// Which of the three is killed.
const VICTIM: usize = 2;

const NAMES: [&str; 3] = ["orders-0", "orders-1", "orders-2"];

const POLICY: &str = r#"[[client]]
name = "observer"
spawn = ["*"]
register = ["*"]
"#;

/// Three names, whose processes come and go.
struct Cluster {
    certificates: Certificates,
    dns: DevDns,
    running: [Option<(Program, SocketAddr)>; 3],
}

impl Cluster {
    async fn start() -> Self {
        let certificates = Certificates::new("kill");
        fs::write(certificates.dir().join("rookery.toml"), POLICY).unwrap();
        let dns = DevDns::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        dns.set_ttl(Duration::ZERO);
        let mut cluster = Self { certificates, dns, running: [None, None, None] };
        for number in 0..NAMES.len() {
            cluster.start_node(number).await;
        }
        cluster
    }

    /// Starts one at a new address, which DNS then names in place of its former one.
    async fn start_node(&mut self, number: usize) {
        let name = NAMES[number];
        let directory = self.certificates.dir().to_owned();
        let identity = self.certificates.node(name);
        let (config, dns) = (directory.join("rookery.toml"), self.dns.addr().to_string());
        let program = Program::start(
            &directory.join(format!("{name}.log")),
            &[
                &["start", "--name", name, "--listen", "127.0.0.1:0", "--boot", "none"][..],
                &["--identity", identity.to_str().unwrap(), "--config", config.to_str().unwrap()],
                &["--service", SERVICE, "--dns-server", &dns, "--poll-min-ms", "100", "--poll-max-ms", "200"],
                &["--keep-alive-ms", "200", "--idle-timeout-ms", "1500", "--down-after-ms", "1200"],
                &["--worker-threads", "1", "--log-format", "text", "--log-color", "never"],
            ]
            .concat(),
        );
        let address = program.listen_address().await.parse().unwrap();
        self.running[number] = Some((program, address));
        let running = NAMES.iter().zip(&self.running);
        let pods = running.filter_map(|(name, running)| Some(((*name).to_owned(), running.as_ref()?.1)));
        self.dns.set(SERVICE, pods.collect()).unwrap();
    }

    /// SIGKILL.
    fn kill(&mut self, number: usize) {
        self.running[number] = None;
    }

    async fn client(&self, number: usize) -> Client {
        let identity = Identity::from_dir(&self.certificates.client("observer")).unwrap();
        let address = self.running[number].as_ref().unwrap().1;
        Client::connect(ClientConfig::new(identity, [address.into()])).await.unwrap()
    }
}

/// What was told of this name.
fn of_name(news: &News, name: &str) -> Vec<Heard> {
    let about = |heard: &Heard| match heard {
        Heard::Up(node) | Heard::Down(node) => node.name().as_str() == name,
    };
    news.all().into_iter().filter(about).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_under_kill_9_and_restart() {
    let mut cluster = Cluster::start().await;
    let clients = [cluster.client(0).await, cluster.client(1).await];
    let runtimes = [clients[0].runtime(), clients[1].runtime()];
    let news = [News::of(&runtimes[0]), News::of(&runtimes[1])];
    eventually("each client knows of three nodes", || runtimes.iter().all(|client| client.nodes().len() == 3)).await;
    let mut expected: Vec<Heard> = vec![Heard::Up(runtimes[0].node_named(NAMES[VICTIM]).unwrap())];
    let mut dead = Vec::new();

    for life in 0..LIVES {
        let victim: NodeId = runtimes[0].node_named(NAMES[VICTIM]).unwrap();
        let start = Start::json("counter".parse().unwrap(), "1").name("counter".parse().unwrap());
        let pid = within("a counter", runtimes[0].start_on(&victim, start)).await.unwrap().pid;
        assert_eq!(pid.node(), &victim);
        let counter = runtimes[1].address::<Counter>(&pid);
        counter.send(Counter::Add(5)).await.unwrap();
        assert_eq!(counter.call(Counter::Get).await.unwrap(), 6);
        let watches = [watch(&runtimes[0], &pid).await, watch(&runtimes[1], &pid).await];

        let killed = Instant::now();
        cluster.kill(VICTIM);
        expected.push(Heard::Down(victim.clone()));
        // Either the silence tells, or the next life does, whichever is first.
        let at_once = life % 2 == 0;
        if !at_once {
            eventually("its death is known", || news.iter().all(|news| news.downs().last() == Some(&victim))).await;
            eprintln!("life {life}: known to be dead {:?} after SIGKILL", killed.elapsed());
        }
        cluster.start_node(VICTIM).await;
        for watch in watches {
            assert_eq!(within("the monitor fires", watch.reason()).await, ExitReason::NoConnection);
        }
        let is_new = |node: &NodeId| node.name() == victim.name() && node.incarnation() > victim.incarnation();
        eventually("its next life is known", || runtimes.iter().all(|client| client.nodes().iter().any(is_new))).await;
        eprintln!("life {life}: back {:?} after SIGKILL", killed.elapsed());
        expected.push(Heard::Up(runtimes[0].node_named(NAMES[VICTIM]).unwrap()));
        for news in &news {
            eventually("the news is told", || of_name(news, NAMES[VICTIM]).len() >= expected.len()).await;
            assert_eq!(of_name(news, NAMES[VICTIM]), expected);
        }

        dead.push(pid);
        for (client, pid) in runtimes.iter().flat_map(|client| dead.iter().map(move |pid| (client, pid))) {
            let outcome = within("an answer", client.address::<Counter>(pid).call(Counter::Get)).await;
            assert!(matches!(outcome, Err(CallError::NoProc | CallError::NoConnection)), "{outcome:?} of {pid}");
        }
    }
    for (news, name) in news.iter().flat_map(|news| NAMES[..VICTIM].iter().map(move |name| (news, name))) {
        assert!(matches!(of_name(news, name)[..], [Heard::Up(_)]), "{name} was lost: {:?}", news.all());
    }
    for client in clients {
        client.close().await;
    }
}
