//! Row D5 of the contract: nodes of two releases work together. The older one is the program that `tests/older/build`
//! makes of this repository's history; it knows nothing of bulk streams, credit and the detector.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{io::Write, path::PathBuf, time::Duration};

use rookery_client::{Client, ClientConfig};
use rookery_node::{
    ask::Ask,
    json::Json,
    stock::{Counter, Echo},
};
use rookery_runtime::{Context, Event, ExitReason, ProcessName, Received, Runtime, Start, tls::Identity};
use rookery_tests::{
    Note, eventually,
    placement::run,
    program::{Certificates, Program, rookery},
    watch, within,
};
use tokio::sync::mpsc;

const POLICY: &str = "[[client]]\nname = \"ops\"\nspawn = [\"*\"]\nregister = [\"*\"]\nlink = true\nexit = true\n";

/// Where `tests/older/build` puts it; `None`, loudly, if it has not run.
fn older() -> Option<PathBuf> {
    let older = rookery().parent()?.parent()?.join("older/rookery");
    if older.exists() {
        return Some(older);
    }
    let text = format!("SKIPPED d5: {} is missing: `tests/older/build` makes it\n", older.display());
    drop(std::io::stderr().write_all(text.as_bytes()));
    None
}

struct Pair {
    certificates: Certificates,
    _programs: Vec<Program>,
    addresses: Vec<String>,
}

/// A node of each release.
async fn pair(older: PathBuf) -> Pair {
    let certificates = Certificates::new("releases");
    let (mut programs, mut addresses) = (Vec::new(), Vec::<String>::new());
    for (name, program) in [("old", older), ("new", rookery())] {
        let identity = certificates.node(name).display().to_string();
        let config = certificates.dir().join(format!("{name}.toml"));
        std::fs::write(&config, POLICY).unwrap();
        let config = config.display().to_string();
        let mut arguments = vec!["start", "--name", name, "--identity", &identity, "--config", &config];
        arguments.extend(["--listen", "127.0.0.1:0", "--worker-threads", "1", "--boot", "none"]);
        let peer = addresses.first().cloned();
        if let Some(peer) = &peer {
            arguments.extend(["--peers", peer]);
        }
        let program = Program::start_of(&program, &certificates.dir().join(format!("{name}.log")), &arguments);
        addresses.push(program.listen_address().await);
        programs.push(program);
    }
    Pair { certificates, _programs: programs, addresses }
}

async fn client(pair: &Pair, node: usize) -> Client {
    let identity = Identity::from_dir(&pair.certificates.client("ops")).unwrap();
    let server = pair.addresses[node].parse().unwrap();
    within("a client", Client::connect(ClientConfig::new(identity, [server]))).await.unwrap()
}

async fn start(runtime: &Runtime, node: &str, behaviour: &str) -> rookery_runtime::Pid {
    let node = runtime.node_named(node).unwrap();
    let start = Start::json(behaviour.parse().unwrap(), "null");
    within("a process", runtime.start_on(&node, start)).await.unwrap().pid
}

#[test]
fn d5_nodes_of_two_releases_form_a_mesh_and_do_all_that_both_know() {
    let Some(older) = older() else { return };
    run(async {
        let mut pair = pair(older).await;
        for at in [0, 1] {
            let client = client(&pair, at).await;
            let runtime = client.runtime();
            eventually("the client knows both nodes", || runtime.nodes().len() == 2).await;
            let (tell, mut told) = mpsc::unbounded_channel();
            runtime
                .spawn(async move |mut context: Context<Note>| {
                    context.monitor_nodes(true);
                    while let Received::Event(event) = context.receive().await {
                        tell.send(event).ok();
                    }
                })
                .unwrap();
            for node in ["old", "new"] {
                // Start, send, call, by pid and by name; a body that goes on a lane, and one that goes apart where both can.
                let counter = runtime.address::<Counter>(start(&runtime, node, "counter").await);
                counter.send(Counter::Add(5)).await.unwrap();
                // More than is sent before it is known whether the receiver counts: an older one cannot be asked.
                for _ in 0..500 {
                    within("room", counter.send(Counter::Add(1))).await.unwrap();
                }
                assert_eq!(counter.call(Counter::Get).await.unwrap(), 505);
                let name = ProcessName::new(format!("echo-{node}-{at}")).unwrap();
                let start = Start::json("echo".parse().unwrap(), "null").cluster_name(name.clone());
                let there = runtime.node_named(node).unwrap();
                within("a named process", runtime.start_on(&there, start)).await.unwrap();
                let echo = runtime.cluster_named::<Echo>(name);
                for size in [10, 5_000, 300_000] {
                    let text = Json(serde_json::Value::String("x".repeat(size)));
                    let asked = text.clone();
                    let got = echo.call(|reply| Echo::Echo(Ask::new(asked, reply))).await.unwrap();
                    assert!(got == text, "{size} bytes");
                }
                // Monitor, and exit.
                let pid = counter.pid().unwrap();
                let gone = watch(&runtime, &pid).await;
                runtime.exit(&pid, ExitReason::Kill);
                assert_eq!(within("the monitor fires", gone.reason()).await, ExitReason::Killed);
            }
            // Nobody takes the other for lost: longer than the detector of the new one needs.
            tokio::time::sleep(Duration::from_secs(4)).await;
            while let Ok(event) = told.try_recv() {
                assert!(matches!(event, Event::NodeUp(_)), "{event:?}");
            }
            client.close().await;
        }
        // The loss of the old one is told by silence alone.
        let client = client(&pair, 1).await;
        let runtime = client.runtime();
        eventually("the client knows both nodes", || runtime.nodes().len() == 2).await;
        drop(pair._programs.remove(0));
        eventually("the loss of the older node is told", || runtime.nodes().len() == 1).await;
        client.close().await;
    });
}
