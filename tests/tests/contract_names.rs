//! Rows N2, N3 and N4 of the contract, and what S1, A1, M2 and P5 say of cluster names: one holder, known everywhere, gone
//! before its end is told.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use rookery_node::Node;
use rookery_runtime::{
    CallError, Event, ExitReason, Pid, ProcessName, Received, RegisterError, Runtime, protocol::request::RequestError,
};
use rookery_tests::{
    Note, Puppet,
    cluster::{client_config, impatient, mesh, meshed, node_config},
    eventually, fence, placement,
    relay::Relay,
    watch, within,
};

rookery_tests::contract! {
    everywhere {
        n2_a_second_register_is_told_the_holder,
        n2_of_many_at_once_one_gets_it,
        n2_a_name_can_be_given_up_and_taken_by_another,
        n2_names_taken_in_a_row_are_soon_known_everywhere,
        n3_a_name_dies_with_its_process,
        n3_who_registered_reads_its_own_write,
        n3_a_name_can_be_taken_as_soon_as_its_holders_end_is_known,
        n3_who_hears_of_a_process_can_look_up_its_name,
        n3_the_dead_get_no_name,
        n4_whoever_is_ended_while_it_registers_leaves_no_name,
        p5_cluster_names_are_free_before_the_end_is_told,
        s1_pid_and_cluster_name_keep_one_order,
        s3_nobody_has_the_name,
        m2_monitoring_by_cluster_name,
    }
}

const LONG: Duration = Duration::from_secs(3600);

fn name(text: &str) -> ProcessName {
    ProcessName::new(text).unwrap()
}

async fn register(puppet: &Puppet, text: &str) -> Result<(), RequestError> {
    let name = name(text);
    let registered = puppet.run_async(move |context| Box::pin(async move { context.register_in_cluster(&name).await }));
    registered.await.map_err(|RegisterError(error)| error)
}

async fn unregister(puppet: &Puppet, text: &str) -> Result<(), RequestError> {
    let name = name(text);
    let given_up = puppet.run_async(move |context| Box::pin(async move { context.unregister_in_cluster(&name).await }));
    given_up.await.map_err(|RegisterError(error)| error)
}

/// Who has it, as `a` sees it now.
async fn holder(a: &Runtime, text: &str) -> Option<Pid> {
    within("a look-up", a.whereis_in_cluster(&name(text))).await.unwrap()
}

/// Waits until `a` sees this holder.
async fn seen(a: &Runtime, text: &str, expected: Option<&Pid>) {
    let look = async {
        while holder(a, text).await.as_ref() != expected {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(&format!("`{text}` to be seen with {expected:?}"), look).await;
}

async fn n2_a_second_register_is_told_the_holder(a: &Runtime, b: &Runtime) {
    let (first, second, near) = (Puppet::new(b), Puppet::new(b), Puppet::new(a));
    register(&first, "till").await.unwrap();
    register(&first, "till").await.unwrap();
    for other in [&second, &near] {
        let taken = register(other, "till").await.unwrap_err();
        assert_eq!(taken, RequestError::NameTaken { name: name("till"), holder: first.pid.clone() });
    }
    seen(a, "till", Some(&first.pid)).await;
    seen(b, "till", Some(&first.pid)).await;
    assert_eq!(b.whereis_in_cluster_all(&[name("no"), name("till")]).await.unwrap(), [None, Some(first.pid.clone())]);
}

async fn n2_of_many_at_once_one_gets_it(a: &Runtime, b: &Runtime) {
    for round in 0..10 {
        let text = format!("till-{round}");
        let puppets: Vec<Puppet> = (0..8).map(|n| Puppet::new(if n % 2 == 0 { a } else { b })).collect();
        let mut asking = Vec::new();
        for puppet in &puppets {
            let name = name(&text);
            asking.push(puppet.begin(move |context| {
                Box::pin(async move { context.register_in_cluster(&name).await.map_err(|RegisterError(error)| error) })
            }));
        }
        let mut winners = Vec::new();
        let mut told = Vec::new();
        for (puppet, answer) in puppets.iter().zip(asking) {
            match within("an answer", answer).await.unwrap() {
                Ok(()) => winners.push(puppet.pid.clone()),
                Err(RequestError::NameTaken { holder, .. }) => told.push(holder),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?} all have it");
        assert!(told.iter().all(|holder| *holder == winners[0]), "{told:?} were told, {winners:?} has it");
        seen(a, &text, winners.first()).await;
    }
}

async fn n2_a_name_can_be_given_up_and_taken_by_another(a: &Runtime, b: &Runtime) {
    let (first, second) = (Puppet::new(b), Puppet::new(a));
    register(&first, "till").await.unwrap();
    assert_eq!(unregister(&second, "till").await, Err(RequestError::NoProc(second.pid.clone())));
    unregister(&first, "till").await.unwrap();
    assert_eq!(unregister(&first, "till").await, Err(RequestError::NoProc(first.pid.clone())));
    fence(b, a).await;
    register(&second, "till").await.unwrap();
    seen(b, "till", Some(&second.pid)).await;
    // The end of who had it before takes nothing from who has it now.
    let end = watch(b, &first.pid).await;
    first.end(ExitReason::Normal);
    end.reason().await;
    fence(b, a).await;
    assert_eq!(holder(a, "till").await, Some(second.pid.clone()));
}

async fn n3_a_name_dies_with_its_process(a: &Runtime, b: &Runtime) {
    let puppet = Puppet::new(b);
    for text in ["till", "shop/till"] {
        register(&puppet, text).await.unwrap();
        seen(a, text, Some(&puppet.pid)).await;
    }
    puppet.end(ExitReason::Error("broken".to_owned()));
    for text in ["till", "shop/till"] {
        seen(a, text, None).await;
        seen(b, text, None).await;
    }
}

async fn p5_cluster_names_are_free_before_the_end_is_told(a: &Runtime, b: &Runtime) {
    for round in 0..20 {
        let (puppet, mut near) = (Puppet::new(b), Puppet::new(a));
        register(&puppet, "till").await.unwrap();
        let pid = puppet.pid.clone();
        if round % 2 == 0 {
            near.run(move |context| context.monitor(&pid)).await;
            fence(a, b).await;
            puppet.end(ExitReason::Normal);
            near.down().await;
        } else {
            near.run(|context| context.trap_exits(true)).await;
            near.run(move |context| context.link(&pid)).await;
            fence(a, b).await;
            puppet.end(ExitReason::Normal);
            near.exit().await;
        }
        assert_eq!(holder(a, "till").await, None, "round {round}");
    }
}

async fn n3_who_registered_reads_its_own_write(_: &Runtime, b: &Runtime) {
    let puppet = Puppet::new(b);
    for _ in 0..20 {
        register(&puppet, "till").await.unwrap();
        assert_eq!(holder(b, "till").await, Some(puppet.pid.clone()));
        unregister(&puppet, "till").await.unwrap();
        assert_eq!(holder(b, "till").await, None);
    }
}

async fn n3_a_name_can_be_taken_as_soon_as_its_holders_end_is_known(a: &Runtime, b: &Runtime) {
    for _ in 0..10 {
        let (puppet, mut near) = (Puppet::new(b), Puppet::new(a));
        register(&puppet, "till").await.unwrap();
        let pid = puppet.pid.clone();
        near.run(move |context| context.monitor(&pid)).await;
        puppet.end(ExitReason::Normal);
        near.down().await;
        register(&near, "till").await.unwrap();
        seen(b, "till", Some(&near.pid)).await;
        near.end(ExitReason::Normal);
        seen(a, "till", None).await;
        seen(b, "till", None).await;
    }
}

async fn n3_who_hears_of_a_process_can_look_up_its_name(a: &Runtime, b: &Runtime) {
    let mut near = Puppet::new(a);
    for number in 0..20 {
        let far = Puppet::new(b);
        // Several in a row, since these may be told of together.
        let names: Vec<String> = ["till", "desk", "door"].iter().map(|what| format!("{what}-{number}")).collect();
        let wanted: Vec<ProcessName> = names.iter().map(|text| name(text)).collect();
        let to = near.pid.clone();
        far.run_async(move |context| {
            let to = context.runtime().address::<Note>(&to);
            Box::pin(async move {
                for name in &wanted {
                    context.register_in_cluster(name).await.unwrap();
                }
                to.send(Note::Number(number)).await.unwrap();
            })
        })
        .await;
        assert_eq!(near.number().await, number);
        for text in &names {
            assert_eq!(holder(a, text).await, Some(far.pid.clone()));
        }
    }
}

async fn n2_names_taken_in_a_row_are_soon_known_everywhere(a: &Runtime, b: &Runtime) {
    for round in 0..5 {
        let far = Puppet::new(b);
        let names: Vec<String> = (0..50).map(|number| format!("till-{round}-{number}")).collect();
        let wanted: Vec<ProcessName> = names.iter().map(|text| name(text)).collect();
        far.run_async(move |context| {
            Box::pin(async move {
                for name in &wanted {
                    context.register_in_cluster(name).await.unwrap();
                }
            })
        })
        .await;
        for text in &names {
            seen(a, text, Some(&far.pid)).await;
        }
    }
}

async fn n3_the_dead_get_no_name(a: &Runtime, b: &Runtime) {
    let puppet = Puppet::new(b);
    let end = watch(b, &puppet.pid).await;
    puppet.end(ExitReason::Normal);
    end.reason().await;
    let RegisterError(refused) = b.register_in_cluster(&name("till"), &puppet.pid).await.unwrap_err();
    assert_eq!(refused, RequestError::NoProc(puppet.pid.clone()));
    assert_eq!(holder(a, "till").await, None);
}

async fn n4_whoever_is_ended_while_it_registers_leaves_no_name(a: &Runtime, b: &Runtime) {
    for number in 0..20 {
        let text = format!("till-{number}");
        let puppet = Puppet::new(b);
        let end = watch(b, &puppet.pid).await;
        let wanted = name(&text);
        drop(puppet.begin(move |context| Box::pin(async move { context.register_in_cluster(&wanted).await })));
        b.exit(&puppet.pid, ExitReason::Kill);
        assert_eq!(end.reason().await, ExitReason::Killed);
        fence(b, a).await;
        let other = Puppet::new(a);
        register(&other, &text).await.unwrap();
        seen(b, &text, Some(&other.pid)).await;
    }
}

async fn s1_pid_and_cluster_name_keep_one_order(a: &Runtime, b: &Runtime) {
    let (near, mut far) = (Puppet::new(a), Puppet::new(b));
    register(&far, "till").await.unwrap();
    seen(a, "till", Some(&far.pid)).await;
    let (by_pid, by_name) = (a.address::<Note>(&far.pid), a.cluster_named::<Note>(name("till")));
    near.run_async(move |_| {
        Box::pin(async move {
            for number in 0..200 {
                let to = if number % 3 == 0 { &by_pid } else { &by_name };
                to.send(Note::Number(number)).await.unwrap();
            }
        })
    })
    .await;
    for number in 0..200 {
        assert_eq!(far.number().await, number);
    }
    let by_name = a.cluster_named::<Note>(name("till"));
    let asked = near.begin(move |_| Box::pin(async move { by_name.call(Note::Ask).await }));
    let Received::Message(Note::Ask(reply)) = far.next().await else { panic!("no question came") };
    reply.send(7).unwrap();
    assert_eq!(within("an answer", asked).await.unwrap(), Ok(7));
}

async fn s3_nobody_has_the_name(a: &Runtime, _: &Runtime) {
    let nobody = a.cluster_named::<Note>(name("nobody"));
    nobody.send(Note::Number(1)).await.unwrap();
    assert_eq!(within("an answer", nobody.call_within(LONG, Note::Ask)).await, Err(CallError::NoProc));
    let payload = rookery_runtime::Payload::json("{}");
    let answer = within("an answer", a.call_payload(&nobody.destination(), payload, LONG)).await;
    assert_eq!(answer, Err(CallError::NoProc));
}

async fn m2_monitoring_by_cluster_name(a: &Runtime, b: &Runtime) {
    let (mut near, far) = (Puppet::new(a), Puppet::new(b));
    let till = a.cluster_named::<Note>(name("till")).destination();
    let target = till.clone();
    near.run(move |context| context.monitor(target)).await;
    assert_eq!(near.down().await.reason, ExitReason::NoProc, "nobody has it");
    register(&far, "till").await.unwrap();
    seen(a, "till", Some(&far.pid)).await;
    let target = till.clone();
    let monitor = near.run(move |context| context.monitor(target)).await;
    let dropped = near.run(move |context| context.monitor(till)).await;
    near.run(move |context| context.demonitor(dropped)).await;
    fence(a, b).await;
    far.end(ExitReason::Error("broken".to_owned()));
    let down = near.down().await;
    assert_eq!((down.monitor, down.reason), (monitor, ExitReason::Error("broken".to_owned())));
    fence(b, a).await;
    near.quiet().await;
}

/// Two nodes with a relay between them that leads nowhere yet.
async fn parted() -> (Node, Node, Relay) {
    let relay = Relay::start().await;
    let mut config = node_config("a", &[]);
    impatient(&mut config.connections);
    let a = Node::start(config).await.unwrap();
    let mut config = node_config("b", &[relay.address()]);
    impatient(&mut config.connections);
    let b = Node::start(config).await.unwrap();
    (a, b, relay)
}

#[test]
fn n2_after_a_partition_one_holder_is_known_and_the_losers_are_told() {
    placement::run(async {
        let (a, b, relay) = parted().await;
        let mut on_a = [Puppet::new(&a), Puppet::trapping(&a).await, Puppet::new(&a)];
        let mut on_b = [Puppet::new(&b), Puppet::trapping(&b).await, Puppet::new(&b)];
        // `first` and `third` are older on a, `second` on b: each node has some that keep their names, and one that ends.
        register(&on_a[2], "first").await.unwrap();
        register(&on_a[1], "third").await.unwrap();
        register(&on_b[2], "second").await.unwrap();
        register(&on_b[1], "first").await.unwrap();
        register(&on_b[0], "third").await.unwrap();
        register(&on_a[0], "second").await.unwrap();
        register(&on_a[0], "besides").await.unwrap();
        let ends = (watch(&a, &on_a[0].pid).await, watch(&b, &on_b[0].pid).await);
        relay.lead_to(a.listen_address());
        meshed(&[&a, &b]).await;
        // Who traps exits is told, and lives on.
        let Received::Event(Event::NameConflict { name: lost, holder: keeper }) = on_b[1].next().await else {
            panic!("no conflict was told")
        };
        assert_eq!((lost, keeper), (name("first"), on_a[2].pid.clone()));
        // Who does not ends. Its end frees what else it had.
        assert!(matches!(ends.0.reason().await, ExitReason::NameConflict(text) if text.contains("second")));
        assert!(matches!(ends.1.reason().await, ExitReason::NameConflict(text) if text.contains("third")));
        for node in [&a, &b] {
            seen(node, "first", Some(&on_a[2].pid)).await;
            seen(node, "second", Some(&on_b[2].pid)).await;
            seen(node, "third", Some(&on_a[1].pid)).await;
            seen(node, "besides", None).await;
        }
        on_b[1].quiet().await;
        on_a[1].quiet().await;
        unregister(&on_a[2], "first").await.unwrap();
        seen(&b, "first", None).await;
        register(&on_b[1], "first").await.unwrap();
        seen(&a, "first", Some(&on_b[1].pid)).await;
    });
}

/// What `former` has told of the name is lost on its way to the next one, and comes when that has the name from its arbiter.
#[test]
fn n2_a_former_holder_that_is_heard_of_late_takes_no_name_away() {
    placement::run(async {
        let relay = Relay::start().await;
        let a = Node::start(node_config("shop-0", &[])).await.unwrap();
        relay.lead_to(a.listen_address());
        let c = Node::start(node_config("shop-2", &[relay.address()])).await.unwrap();
        meshed(&[&a, &c]).await;
        // Of these three the arbiter of `till` (`arbiters_are_chosen_alike_for_ever`).
        let arbiter = Node::start(node_config("shop-1", &[a.listen_address(), c.listen_address()])).await.unwrap();
        meshed(&[&a, &arbiter, &c]).await;
        let (former, mut next) = (Puppet::new(&a), Puppet::trapping(&c).await);
        relay.cut();
        register(&former, "till").await.unwrap();
        unregister(&former, "till").await.unwrap();
        register(&next, "till").await.unwrap();
        assert_eq!(a.runtime().nodes().len(), 3, "the connection lives on");
        relay.lead_to(a.listen_address());
        fence(&a, &c).await;
        next.quiet().await;
        for node in [&a, &arbiter, &c] {
            seen(node, "till", Some(&next.pid)).await;
        }
    });
}

#[test]
fn n2_a_clients_process_that_loses_its_name_is_told() {
    placement::run(async {
        let (a, b, relay) = parted().await;
        let client = rookery_client::Client::connect(client_config("client", &[&b])).await.unwrap();
        let here = Puppet::new(&a);
        register(&here, "till").await.unwrap();
        let (mut told, ends) = (Puppet::trapping(&client.runtime()).await, Puppet::new(&client.runtime()));
        register(&told, "till").await.unwrap();
        register(&here, "stock").await.unwrap();
        register(&ends, "stock").await.unwrap();
        let end = watch(&client.runtime(), &ends.pid).await;
        relay.lead_to(a.listen_address());
        meshed(&[&a, &b]).await;
        let Received::Event(Event::NameConflict { holder, .. }) = told.next().await else { panic!("nothing was told") };
        assert_eq!(holder, here.pid);
        assert!(matches!(end.reason().await, ExitReason::NameConflict(_)));
        seen(&client.runtime(), "till", Some(&here.pid)).await;
    });
}

#[test]
fn n2_a_name_is_registered_once_at_a_time_for_a_clients_process() {
    placement::run(async {
        let relay = Relay::start().await;
        let node = Node::start(node_config("shop-0", &[])).await.unwrap();
        relay.lead_to(node.listen_address());
        // Of these two the arbiter of `till`.
        let arbiter = Node::start(node_config("shop-1", &[relay.address()])).await.unwrap();
        meshed(&[&node, &arbiter]).await;
        let client = rookery_client::Client::connect(client_config("client", &[&node])).await.unwrap();
        let puppet = Puppet::new(&client.runtime());
        relay.cut();
        let ask = || {
            let (runtime, pid) = (client.runtime(), puppet.pid.clone());
            Box::pin(async move { runtime.register_in_cluster(&name("till"), &pid).await })
        };
        let (mut one, mut other) = (ask(), ask());
        // Whichever comes second is refused at once, while the arbiter cannot be heard.
        let refused = within("a refusal", async {
            tokio::select! {
                first = &mut one => (first, other),
                second = &mut other => (second, one),
            }
        });
        let (refused, waits) = refused.await;
        let Err(RegisterError(RequestError::Refused(text))) = refused else { panic!("{refused:?}") };
        assert!(text.contains("`till` is being registered for"), "{text}");
        relay.lead_to(node.listen_address());
        within("the name", waits).await.unwrap();
        seen(&node, "till", Some(&puppet.pid)).await;
    });
}

#[test]
fn n3_a_name_dies_with_its_node() {
    placement::run(async {
        let mut nodes = mesh(3, |config| impatient(&mut config.connections)).await;
        let far = Puppet::new(&nodes[2]);
        register(&far, "till").await.unwrap();
        let mut near: Vec<Puppet> = Vec::new();
        for node in &nodes[..2] {
            seen(node, "till", Some(&far.pid)).await;
            let puppet = Puppet::new(node);
            let pid = far.pid.clone();
            puppet.run(move |context| context.monitor(&pid)).await;
            fence(node, &nodes[2]).await;
            near.push(puppet);
        }
        drop(nodes.pop());
        for (node, puppet) in nodes.iter().zip(&mut near) {
            assert_eq!(puppet.down().await.reason, ExitReason::NoConnection);
            assert_eq!(holder(node, "till").await, None, "a holder that is known to be lost");
        }
        register(&near[0], "till").await.unwrap();
        seen(&nodes[1], "till", Some(&near[0].pid)).await;
    });
}

#[test]
fn n3_a_name_dies_with_its_client() {
    placement::run(async {
        let nodes = mesh(2, |_| ()).await;
        let client = rookery_client::Client::connect(client_config("client", &[&nodes[0]])).await.unwrap();
        let far = Puppet::new(&client.runtime());
        register(&far, "till").await.unwrap();
        seen(&nodes[1], "till", Some(&far.pid)).await;
        client.close().await;
        seen(&nodes[0], "till", None).await;
        seen(&nodes[1], "till", None).await;
    });
}

#[test]
fn n4_a_lost_arbiter_holds_up_nobody_for_ever() {
    placement::run(async {
        let mut nodes = mesh(3, |config| impatient(&mut config.connections)).await;
        let puppet = Puppet::new(&nodes[0]);
        // As a crash: a third of the names have this arbiter, which answers nothing any more.
        drop(nodes.pop());
        for number in 0..30 {
            register(&puppet, &format!("till-{number}")).await.unwrap();
        }
        for number in 0..30 {
            seen(&nodes[1], &format!("till-{number}"), Some(&puppet.pid)).await;
        }
    });
}

#[test]
fn a1_a_client_that_calls_by_cluster_name_hears_of_the_loss_of_the_holders_node() {
    placement::run(async {
        let mut nodes = mesh(2, |config| impatient(&mut config.connections)).await;
        let client = rookery_client::Client::connect(client_config("client", &[&nodes[0]])).await.unwrap();
        let runtime = client.runtime();
        let mut far = Puppet::new(&nodes[1]);
        register(&far, "till").await.unwrap();
        seen(&runtime, "till", Some(&far.pid)).await;
        let mut near = Puppet::new(&runtime);
        let till = runtime.cluster_named::<Note>(name("till"));
        let target = till.destination();
        near.run(move |context| context.monitor(target)).await;
        let asked = near.begin(move |_| Box::pin(async move { till.call_within(LONG, Note::Ask).await }));
        let Received::Message(Note::Ask(_reply)) = far.next().await else { panic!("no question came") };
        drop(nodes.pop());
        assert_eq!(within("an answer", asked).await.unwrap(), Err(CallError::NoConnection));
        assert_eq!(near.down().await.reason, ExitReason::NoConnection);
        eventually("the loss is known", || runtime.nodes().len() == 1).await;
        near.quiet().await;
    });
}
