//! Rows C of the contract: clients. They are no members; their processes are processes; their policy decides what they
//! may; and whoever is tied to them is told when they are lost. That their processes keep the rest of the contract is
//! shown by its rows, each in the placements of clients.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use rookery_client::{Client, ClientConfig};
use rookery_node::{
    Node,
    session::policy::{Pattern, Policy},
};
use rookery_runtime::{
    CallError, Context, Destination, Event, ExitReason, ProcessName, Received, RegisterError, SpawnOptions, Start,
    protocol::request::RequestError,
};
use rookery_tests::{
    Note, Puppet,
    cluster::{client, client_config, impatient, mesh},
    eventually, fence, placement, watch, within,
};

const LONG: Duration = Duration::from_secs(3600);

fn name(text: &str) -> ProcessName {
    ProcessName::new(text).unwrap()
}

/// Two nodes, and a client of the first, which soon notice a loss.
async fn impatient_stage() -> (Vec<Node>, Client) {
    let nodes = mesh(2, |config| impatient(&mut config.connections)).await;
    let mut config: ClientConfig = client_config("client", &[&nodes[0]]);
    impatient(&mut config.connections);
    let client = Client::connect(config).await.unwrap();
    eventually("the client knows the nodes", || client.runtime().nodes().len() == 2).await;
    (nodes, client)
}

#[test]
fn c1_a_client_is_no_member() {
    placement::run(async {
        let nodes = mesh(2, |_| ()).await;
        let mut near = Puppet::new(&nodes[1]);
        near.run(|context| context.monitor_nodes(true)).await;
        for _ in 0..2 {
            near.next().await;
        }
        for _ in 0..3 {
            let client = client("client", &[&nodes[0]]).await;
            eventually("it is connected", || nodes[0].clients() == 1).await;
            eventually("it knows the nodes", || client.runtime().nodes() == nodes[0].nodes()).await;
            assert!(nodes.iter().all(|node| node.nodes().len() == 2 && node.peers().len() == 1));
            assert_eq!(nodes[1].clients(), 0);
            client.close().await;
            eventually("it is gone", || nodes[0].clients() == 0).await;
        }
        fence(&nodes[0], &nodes[1]).await;
        near.quiet().await;
    });
}

#[test]
fn c1_each_session_has_pids_of_its_own() {
    placement::run(async {
        let nodes = mesh(1, |_| ()).await;
        let first = client("client", &[&nodes[0]]).await;
        let old = Puppet::new(&first.runtime());
        first.close().await;
        let second = client("client", &[&nodes[0]]).await;
        let mut new = Puppet::new(&second.runtime());
        assert_ne!(old.pid, new.pid);
        let old = nodes[0].address::<Note>(&old.pid);
        assert_eq!(within("an answer", old.call_within(LONG, Note::Ask)).await, Err(CallError::NoProc));
        new.quiet().await;
    });
}

#[test]
fn c2_who_is_tied_to_a_lost_client_is_told() {
    placement::run(async {
        let (nodes, client) = impatient_stage().await;
        let far = Puppet::new(&client.runtime());
        let till = name("till");
        client.runtime().register(&till, &far.pid).await.unwrap();
        let mut watchers = Vec::new();
        for node in &nodes {
            let near = Puppet::trapping(node).await;
            let by_name = Destination::name(nodes[0].runtime().node().clone(), till.clone());
            let pid = far.pid.clone();
            near.run(move |context| {
                context.link(&pid);
                context.monitor(&pid);
                context.monitor(by_name);
            })
            .await;
            fence(node, &client.runtime()).await;
            watchers.push(near);
        }
        let held = far.hold(|_| ()).await;
        let mut asked = Vec::new();
        for node in &nodes {
            let to = node.address::<Note>(&far.pid);
            asked.push(tokio::spawn(async move { to.call_within(LONG, Note::Ask).await }));
        }
        let wait = || client.runtime().processes().iter().any(|info| info.pid == far.pid && info.mailbox == 2);
        eventually("the requests have arrived", wait).await;
        // Gone without a goodbye.
        let runtime = client.runtime();
        drop(client);
        for near in &mut watchers {
            let mut seen = (0, 0);
            for _ in 0..3 {
                match near.next().await {
                    Received::Event(Event::Exit { from, reason: ExitReason::NoConnection, linked: true }) => {
                        assert_eq!(from, far.pid);
                        seen.0 += 1;
                    }
                    Received::Event(Event::Down(down)) => {
                        assert_eq!(down.reason, ExitReason::NoConnection);
                        seen.1 += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(seen, (1, 2));
        }
        for asked in asked {
            assert_eq!(within("the outcome", asked).await.unwrap(), Err(CallError::NoConnection));
        }
        assert_eq!(nodes[0].whereis_here(&till), None, "its names are free");
        fence(&nodes[0], &nodes[1]).await;
        for near in &mut watchers {
            near.quiet().await;
        }
        drop((held, runtime));
    });
}

#[test]
fn c2_a_client_whose_node_is_lost_goes_on_at_another() {
    placement::run(async {
        let mut nodes = mesh(2, |config| impatient(&mut config.connections)).await;
        let mut config = client_config("client", &[&nodes[0], &nodes[1]]);
        impatient(&mut config.connections);
        let client = Client::connect(config).await.unwrap();
        let first = client.runtime();
        eventually("the client knows the nodes", || first.nodes().len() == 2).await;
        let at = nodes.iter().position(|node| node.runtime().node() == first.node()).unwrap();
        let far = Puppet::trapping(&first).await;
        let near = Puppet::new(&nodes[1 - at]);
        let held = near.hold(|_| ()).await;
        let to = first.address::<Note>(&near.pid);
        let asked = tokio::spawn(async move { to.call_within(LONG, Note::Ask).await });
        let waits = || nodes[1 - at].processes().iter().any(|info| info.pid == near.pid && info.mailbox == 1);
        eventually("the request has arrived", waits).await;
        let end = watch(&first, &far.pid).await;
        drop(nodes.remove(at));
        assert_eq!(within("the outcome", asked).await.unwrap(), Err(CallError::NoConnection));
        // Also who traps exits ends: its pid is dead.
        eventually("its processes end", || first.process_count() == 0).await;
        drop(end);
        let second = loop {
            let runtime = within("the next session", client.connected()).await.unwrap();
            if runtime.node() != first.node() {
                break runtime;
            }
            tokio::task::yield_now().await;
        };
        held.go().await;
        let sender = Puppet::new(&second);
        sender.send(&near.pid, Note::Number(7)).await;
        let mut near = near;
        assert!(matches!(near.next().await, Received::Message(Note::Ask(_))));
        assert_eq!(near.number().await, 7);
        let gone = first.address::<Note>(&near.pid);
        assert_eq!(within("an answer", gone.call_within(LONG, Note::Ask)).await, Err(CallError::NoConnection));
    });
}

#[test]
fn c2_a_client_that_is_lost_while_its_child_starts_leaves_no_orphan() {
    placement::run(async {
        let (nodes, client) = impatient_stage().await;
        let orphan = name("orphan");
        for node in &nodes {
            let near = Puppet::new(&client.runtime());
            let slow = Start::json("slow".parse().unwrap(), "2500").link().name(orphan.clone());
            let on = node.runtime().node().clone();
            drop(near.begin(move |context| {
                let runtime = context.runtime().clone();
                Box::pin(async move { runtime.start_on(&on, slow).await })
            }));
            eventually("it starts", || node.whereis_here(&orphan).is_some()).await;
        }
        drop(client);
        for node in &nodes {
            eventually("the child has ended", || node.whereis_here(&orphan).is_none()).await;
        }
    });
}

#[test]
fn c3_by_default_a_client_may_send_call_and_monitor() {
    placement::run(async {
        let nodes = mesh(2, |config| config.default_policy = Policy::new("*")).await;
        let client = client("client", &[&nodes[0]]).await;
        let runtime = client.runtime();
        eventually("the client knows the nodes", || runtime.nodes().len() == 2).await;
        for node in &nodes {
            let before = nodes[0].refused_to_clients();
            let (mut far, mut near) = (Puppet::new(node), Puppet::trapping(&runtime).await);
            let spare = Puppet::new(node);
            near.send(&far.pid, Note::Number(1)).await;
            assert_eq!(far.number().await, 1);
            let to = runtime.address::<Note>(&far.pid);
            let (asked, ()) = tokio::join!(to.call(Note::Ask), async {
                if let Received::Message(Note::Ask(reply)) = far.next().await {
                    reply.send(2).unwrap();
                }
            });
            assert_eq!(asked, Ok(2));
            let pid = spare.pid.clone();
            near.run(move |context| context.monitor(pid)).await;
            fence(&runtime, node).await;
            spare.end(ExitReason::Shutdown);
            assert_eq!(near.down().await.reason, ExitReason::Shutdown);

            // What is not allowed is answered.
            let pid = far.pid.clone();
            near.run(move |context| context.link(&pid)).await;
            let (from, reason, linked) = near.exit().await;
            assert!(
                (from, linked) == (far.pid.clone(), true) && matches!(reason, ExitReason::Refused(_)),
                "{reason:?}"
            );
            let pid = far.pid.clone();
            near.run(move |context| context.exit(&pid, ExitReason::Kill)).await;
            let Received::Event(Event::Refused(text)) = near.next().await else { panic!("expected a refusal") };
            assert!(text.contains("`client`"), "it names the client: {text}");
            let started = runtime.start_on(node.runtime().node(), Start::json("counter".parse().unwrap(), "1")).await;
            assert!(matches!(started, Err(RequestError::Refused(_))), "{started:?}");
            let RegisterError(error) = runtime.register(&name("till"), &near.pid).await.unwrap_err();
            assert!(matches!(error, RequestError::Refused(_)), "{error:?}");
            assert_eq!(nodes[0].refused_to_clients() - before, 4, "each is counted");
            fence(&runtime, node).await;
            assert_eq!(far.run(|_| 5).await, 5, "it lives");
            far.quiet().await;
        }
    });
}

#[test]
fn c3_a_vital_process_is_not_for_clients_to_end() {
    placement::run(async {
        // By policy, they may do everything.
        let nodes = mesh(2, |_| ()).await;
        let client = client("client", &[&nodes[0]]).await;
        let runtime = client.runtime();
        eventually("the client knows the nodes", || runtime.nodes().len() == 2).await;
        for node in &nodes {
            let (before, mut near) = (node.refused_to_clients(), Puppet::trapping(&runtime).await);
            let vital = async |mut context: Context<Note>| {
                while let Some(note) = context.message().await {
                    if let Note::Ask(reply) = note {
                        reply.answer(7);
                    }
                }
            };
            let vital = node.spawn_with(SpawnOptions::new().vital(), vital).unwrap().address.pid().unwrap();
            for reason in [ExitReason::Kill, ExitReason::Shutdown] {
                let pid = vital.clone();
                near.run(move |context| context.exit(&pid, reason)).await;
                let Received::Event(Event::Refused(text)) = near.next().await else { panic!("expected a refusal") };
                assert!(text.contains("not for clients to end"), "{text}");
            }
            let pid = vital.clone();
            near.run(move |context| context.link(&pid)).await;
            let (from, reason, linked) = near.exit().await;
            assert!((from, linked) == (vital.clone(), true) && matches!(reason, ExitReason::Refused(_)), "{reason:?}");
            near.end(ExitReason::Kill);
            fence(&runtime, node).await;
            assert_eq!(node.refused_to_clients() - before, 3, "each is counted");
            // It lives, and is called and monitored as any other; and members may end it.
            assert_eq!(runtime.address::<Note>(&vital).call(Note::Ask).await, Ok(7));
            let watch = watch(node, &vital).await;
            node.exit(&vital, ExitReason::Kill);
            assert_eq!(watch.reason().await, ExitReason::Killed);
        }
    });
}

#[test]
fn c3_a_policy_names_names_and_behaviours() {
    placement::run(async {
        let nodes = mesh(1, |config| {
            let clerk = Policy {
                send: vec![Pattern::new("till-*")],
                spawn: vec![Pattern::new("counter")],
                register: vec![Pattern::new("clerk-*")],
                ..Policy::new("clerk-*")
            };
            config.policies = vec![clerk];
        })
        .await;
        let client = client("clerk-7", &[&nodes[0]]).await;
        let runtime = client.runtime();
        let mut till = Puppet::new(&nodes[0]);
        for text in ["till-1", "safe"] {
            nodes[0].register_here(&name(text), &till.pid).unwrap();
        }
        let mut near = Puppet::new(&runtime);
        let send = async |near: &Puppet, text: &str, number: u64| {
            let to = runtime.named::<Note>(name(text));
            near.run_async(move |_: &mut Context<Note>| {
                Box::pin(async move { to.send(Note::Number(number)).await.unwrap() })
            })
            .await;
        };
        send(&near, "till-1", 1).await;
        assert_eq!(till.number().await, 1);
        send(&near, "safe", 2).await;
        assert!(matches!(near.next().await, Received::Event(Event::Refused(_))));
        let safe = runtime.named::<Note>(name("safe"));
        let asked = within("an answer", safe.call_within(LONG, Note::Ask)).await;
        assert!(matches!(asked, Err(CallError::Refused(_))), "{asked:?}");
        let by_pid = runtime.address::<Note>(&till.pid);
        let asked = within("an answer", by_pid.call_within(LONG, Note::Ask)).await;
        assert!(matches!(asked, Err(CallError::Refused(_))), "a pid is not among the names: {asked:?}");
        runtime.start(Start::json("counter".parse().unwrap(), "1")).await.unwrap();
        let started = runtime.start(Start::json("slow".parse().unwrap(), "1")).await;
        assert!(matches!(started, Err(RequestError::Refused(_))), "{started:?}");
        let named = Start::json("counter".parse().unwrap(), "1").name(name("safe-2"));
        assert!(matches!(runtime.start(named).await, Err(RequestError::Refused(_))));
        runtime.register(&name("clerk-7"), &near.pid).await.unwrap();
        assert!(runtime.register(&name("boss"), &near.pid).await.is_err());
        till.quiet().await;
    });
}

#[test]
fn c2_a_client_that_is_dropped_takes_its_processes_along() {
    placement::run(async {
        let nodes = mesh(1, |_| ()).await;
        let client = client("client", &[&nodes[0]]).await;
        let runtime = client.runtime();
        let waits = Puppet::new(&runtime);
        let near = Puppet::new(&nodes[0]);
        waits.run(|_| ()).await;
        drop(client);
        eventually("all have ended", || runtime.process_count() == 0).await;
        // Nothing waits for a connection that nobody serves.
        let there = runtime.address::<Note>(&near.pid);
        assert_eq!(within("an answer", there.call_within(LONG, Note::Ask)).await, Err(CallError::NoConnection));
    });
}

#[test]
fn a1_a_client_that_has_lost_its_node_does_not_say_that_a_process_is_dead() {
    placement::run(async {
        let (mut nodes, client) = impatient_stage().await;
        let runtime = client.runtime();
        let (there, elsewhere) = (Puppet::new(&nodes[0]), Puppet::new(&nodes[1]));
        let mut lost = client.state();
        nodes.remove(0).shut_down("a test").await;
        let gone = lost.wait_for(|state| !matches!(state, rookery_client::ClientState::Connected(_)));
        drop(within("the loss", gone).await.unwrap());
        for pid in [&there.pid, &elsewhere.pid] {
            let there = runtime.address::<Note>(pid);
            assert_eq!(within("an answer", there.call_within(LONG, Note::Ask)).await, Err(CallError::NoConnection));
        }
    });
}

#[test]
fn n3_a_client_s_process_that_ends_while_it_registers_leaves_no_name() {
    placement::run(async {
        let nodes = mesh(1, |_| ()).await;
        let client = client("client", &[&nodes[0]]).await;
        let hasty = Puppet::new(&client.runtime());
        let asked = hasty.begin(move |context| {
            Box::pin(async move {
                let name = name("hasty");
                let mut registering = std::pin::pin!(context.register(&name));
                // Asks, and does not wait for the answer.
                std::future::poll_fn(|cx| {
                    assert!(registering.as_mut().poll(cx).is_pending());
                    std::task::Poll::Ready(())
                })
                .await;
            })
        });
        within("the question", asked).await.unwrap();
        hasty.end(ExitReason::Normal);
        fence(&client.runtime(), &nodes[0]).await;
        assert_eq!(nodes[0].whereis_here(&name("hasty")), None);
        // Who waits gets it, and asking again takes it from nobody.
        let patient = Puppet::new(&client.runtime());
        for _ in 0..2 {
            patient.run_async(|context| Box::pin(async { context.register(&name("hasty")).await.unwrap() })).await;
        }
        fence(&client.runtime(), &nodes[0]).await;
        assert_eq!(nodes[0].whereis_here(&name("hasty")), Some(patient.pid.clone()));
    });
}
