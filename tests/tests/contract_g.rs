//! Rows G of the contract: groups. Who is a member is known everywhere, who watches is told, and a message goes once to each
//! node.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeSet, time::Duration};

use rookery_node::{Node, session::policy::Pattern};
use rookery_runtime::{
    Context, Event, ExitReason, Group, GroupChange, Pid, Received, RequestError, Runtime, SendError,
};
use rookery_tests::{
    Note, Puppet,
    cluster::{MAX_MESSAGE_BYTES, client_config, impatient, mesh},
    fence, placement, within,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

rookery_tests::contract! {
    everywhere {
        g1_members_join_and_leave,
        g1_a_process_that_joins_twice_leaves_twice,
        g1_the_dead_are_no_members,
        g2_views_are_the_same_soon,
        g2_scopes_are_independent,
        g3_a_watcher_is_told_each_join_and_leave,
        g3_who_stops_to_watch_is_told_nothing,
        g4_a_message_reaches_each_member_once,
        p5_groups_are_left_before_the_end_is_told,
        s1_pid_and_group_keep_one_order,
        s5_a_message_too_large_for_a_members_node_is_refused,
    }
}

fn group(text: &str) -> Group {
    text.parse().unwrap()
}

async fn join(puppet: &Puppet, text: &str) -> Result<(), RequestError> {
    let group = group(text);
    puppet.run_async(move |context| Box::pin(async move { context.join(&group).await })).await
}

async fn leave(puppet: &Puppet, text: &str) -> Result<(), RequestError> {
    let group = group(text);
    puppet.run_async(move |context| Box::pin(async move { context.leave(&group).await })).await
}

async fn watch_group(puppet: &Puppet, text: &str, tell: bool) {
    let group = group(text);
    puppet.run_async(move |context| Box::pin(async move { context.watch_group(&group, tell).await })).await.unwrap();
}

/// The members, as `a` sees them now.
async fn members(a: &Runtime, text: &str) -> BTreeSet<Pid> {
    within("the members", a.members(&group(text))).await.unwrap().into_iter().collect()
}

/// Waits until `a` sees these members and no others.
async fn seen(a: &Runtime, text: &str, expected: &[&Pid]) {
    let expected: BTreeSet<Pid> = expected.iter().map(|pid| (*pid).clone()).collect();
    let look = async {
        while members(a, text).await != expected {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(&format!("group {text} to be {expected:?}"), look).await;
}

async fn change(puppet: &mut Puppet) -> GroupChange {
    match puppet.next().await {
        Received::Event(Event::Group(change)) => change,
        other => panic!("expected a change of a group, got {other:?}"),
    }
}

async fn g1_members_join_and_leave(a: &Runtime, b: &Runtime) {
    let (near, far) = (Puppet::new(a), Puppet::new(b));
    join(&near, "rooms").await.unwrap();
    join(&far, "rooms").await.unwrap();
    for runtime in [a, b] {
        seen(runtime, "rooms", &[&near.pid, &far.pid]).await;
    }
    if b.session().is_none() {
        let local = b.local_members(&group("rooms"));
        assert!(local.contains(&far.pid));
        assert_eq!(local.contains(&near.pid), near.pid.node() == b.node(), "local and remote are apart");
    }
    leave(&near, "rooms").await.unwrap();
    let no_member = RequestError::NoMember { group: group("rooms"), pid: near.pid.clone() };
    assert_eq!(leave(&near, "rooms").await, Err(no_member));
    for runtime in [a, b] {
        seen(runtime, "rooms", &[&far.pid]).await;
    }
}

async fn g1_a_process_that_joins_twice_leaves_twice(a: &Runtime, b: &Runtime) {
    let far = Puppet::new(b);
    for _ in 0..2 {
        join(&far, "rooms").await.unwrap();
    }
    seen(a, "rooms", &[&far.pid]).await;
    leave(&far, "rooms").await.unwrap();
    fence(b, a).await;
    assert_eq!(members(a, "rooms").await.len(), 1);
    leave(&far, "rooms").await.unwrap();
    seen(a, "rooms", &[]).await;
    assert!(leave(&far, "rooms").await.is_err());
}

async fn g1_the_dead_are_no_members(a: &Runtime, b: &Runtime) {
    let far = Puppet::new(b);
    let end = rookery_tests::watch(b, &far.pid).await;
    far.end(ExitReason::Normal);
    end.reason().await;
    assert_eq!(b.join(&group("rooms"), &far.pid).await, Err(RequestError::NoProc(far.pid.clone())));
    assert!(members(a, "rooms").await.is_empty());
}

async fn p5_groups_are_left_before_the_end_is_told(a: &Runtime, b: &Runtime) {
    for _ in 0..20 {
        let (far, mut near) = (Puppet::new(b), Puppet::new(a));
        join(&far, "rooms").await.unwrap();
        join(&far, "chat#rooms").await.unwrap();
        let pid = far.pid.clone();
        near.run(move |context| context.monitor(&pid)).await;
        fence(a, b).await;
        far.end(ExitReason::Normal);
        near.down().await;
        assert!(members(a, "rooms").await.is_empty() && members(a, "chat#rooms").await.is_empty());
    }
}

async fn g2_views_are_the_same_soon(a: &Runtime, b: &Runtime) {
    let puppets: Vec<Puppet> = (0..40).map(|n| Puppet::new(if n % 2 == 0 { a } else { b })).collect();
    for (number, puppet) in puppets.iter().enumerate() {
        join(puppet, &format!("rooms-{}", number % 5)).await.unwrap();
    }
    for (number, puppet) in puppets.iter().enumerate().filter(|(number, _)| number % 3 == 0) {
        leave(puppet, &format!("rooms-{}", number % 5)).await.unwrap();
    }
    for room in 0..5 {
        let expected: Vec<&Pid> = puppets
            .iter()
            .enumerate()
            .filter(|(number, _)| number % 5 == room && number % 3 != 0)
            .map(|(_, puppet)| &puppet.pid)
            .collect();
        for runtime in [a, b] {
            seen(runtime, &format!("rooms-{room}"), &expected).await;
        }
    }
}

async fn g2_scopes_are_independent(a: &Runtime, b: &Runtime) {
    let (near, far) = (Puppet::new(a), Puppet::new(b));
    join(&near, "one#rooms").await.unwrap();
    join(&far, "two#rooms").await.unwrap();
    seen(a, "one#rooms", &[&near.pid]).await;
    seen(a, "two#rooms", &[&far.pid]).await;
    seen(a, "rooms", &[]).await;
}

async fn g3_a_watcher_is_told_each_join_and_leave(a: &Runtime, b: &Runtime) {
    let (mut near, old, far) = (Puppet::new(a), Puppet::new(b), Puppet::new(b));
    let told = |joined: &[&Pid], left: &[&Pid]| GroupChange {
        group: group("rooms"),
        joined: joined.iter().map(|pid| (*pid).clone()).collect(),
        left: left.iter().map(|pid| (*pid).clone()).collect(),
    };
    join(&old, "rooms").await.unwrap();
    seen(a, "rooms", &[&old.pid]).await;
    watch_group(&near, "rooms", true).await;
    watch_group(&near, "rooms", true).await;
    assert_eq!(change(&mut near).await, told(&[&old.pid], &[]), "those that were there before");
    join(&far, "rooms").await.unwrap();
    assert_eq!(change(&mut near).await, told(&[&far.pid], &[]));
    join(&far, "rooms").await.unwrap();
    assert_eq!(change(&mut near).await, told(&[&far.pid], &[]));
    leave(&far, "rooms").await.unwrap();
    assert_eq!(change(&mut near).await, told(&[], &[&far.pid]));
    join(&far, "other").await.unwrap();
    far.end(ExitReason::Normal);
    assert_eq!(change(&mut near).await, told(&[], &[&far.pid]), "its end");
    leave(&old, "rooms").await.unwrap();
    assert_eq!(change(&mut near).await, told(&[], &[&old.pid]));
    fence(b, a).await;
    near.quiet().await;
}

async fn g3_who_stops_to_watch_is_told_nothing(a: &Runtime, b: &Runtime) {
    let (mut near, far) = (Puppet::new(a), Puppet::new(b));
    watch_group(&near, "rooms", true).await;
    watch_group(&near, "rooms", false).await;
    join(&far, "rooms").await.unwrap();
    seen(a, "rooms", &[&far.pid]).await;
    fence(b, a).await;
    near.quiet().await;
}

/// Reports whatever it gets to `to`.
fn member(runtime: &Runtime, to: &mpsc::UnboundedSender<String>) -> rookery_runtime::Address<Said> {
    let to = to.clone();
    runtime
        .spawn(async move |mut context: Context<Said>| {
            loop {
                if let Received::Message(Said(text)) = context.receive().await {
                    drop(to.send(text));
                }
            }
        })
        .unwrap()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Said(String);

async fn g4_a_message_reaches_each_member_once(a: &Runtime, b: &Runtime) {
    let (report, mut told) = mpsc::unbounded_channel();
    let mut pids = Vec::new();
    for number in 0..20 {
        let runtime = if number % 2 == 0 { a } else { b };
        let pid = member(runtime, &report).pid().unwrap();
        // Twice a member is one receiver.
        runtime.join(&group("rooms"), &pid).await.unwrap();
        runtime.join(&group("rooms"), &pid).await.unwrap();
        pids.push(pid);
    }
    seen(a, "rooms", &pids.iter().collect::<Vec<_>>()).await;
    seen(b, "rooms", &pids.iter().collect::<Vec<_>>()).await;
    let rooms = a.group::<Said>(group("rooms"));
    for round in 0..5 {
        rooms.send(Said(format!("round {round}"))).await.unwrap();
    }
    for _ in 0..100 {
        assert!(within("a message", told.recv()).await.unwrap().starts_with("round "));
    }
    fence(a, b).await;
    fence(b, a).await;
    assert!(told.try_recv().is_err(), "a message came twice");
    let mut picked = BTreeSet::new();
    for _ in 0..20 {
        picked.insert(within("a member", rooms.next()).await.unwrap().unwrap().pid().unwrap());
    }
    assert_eq!(picked.len(), 20, "each has its turn");
    assert!(pids.contains(&within("a member", rooms.pick()).await.unwrap().unwrap().pid().unwrap()));
    assert!(a.group::<Said>(group("nobody")).pick().await.unwrap().is_none());
    a.group::<Said>(group("nobody")).send(Said(String::new())).await.unwrap();
}

async fn s1_pid_and_group_keep_one_order(a: &Runtime, b: &Runtime) {
    let (report, mut told) = mpsc::unbounded_channel();
    let by_pid = member(b, &report);
    let pid = by_pid.pid().unwrap();
    b.join(&group("rooms"), &pid).await.unwrap();
    seen(a, "rooms", &[&pid]).await;
    let (by_pid, rooms) = (a.address::<Said>(&pid), a.group::<Said>(group("rooms")));
    let near = Puppet::new(a);
    near.run_async(move |_| {
        Box::pin(async move {
            for number in 0..200 {
                let said = Said(number.to_string());
                if number % 3 == 0 {
                    by_pid.send(said).await.unwrap();
                } else {
                    rooms.send(said).await.unwrap();
                }
            }
        })
    })
    .await;
    for number in 0..200 {
        assert_eq!(within("a message", told.recv()).await.unwrap(), number.to_string());
    }
}

async fn s5_a_message_too_large_for_a_members_node_is_refused(a: &Runtime, b: &Runtime) {
    let (report, mut told) = mpsc::unbounded_channel();
    let pid = member(b, &report).pid().unwrap();
    b.join(&group("rooms"), &pid).await.unwrap();
    seen(a, "rooms", &[&pid]).await;
    let rooms = a.group::<Said>(group("rooms"));
    let sent = rooms.send(Said("x".repeat(MAX_MESSAGE_BYTES + 1))).await;
    if a.node() == b.node() && a.session().is_none() && b.session().is_none() {
        sent.unwrap();
        assert!(within("a message", told.recv()).await.is_some(), "nothing is encoded within a node");
    } else if a.session().is_some() || a.node() != b.node() {
        assert!(matches!(sent, Err(SendError::TooLarge { limit, .. }) if limit == MAX_MESSAGE_BYTES), "{sent:?}");
    }
}

#[test]
fn g1_a_lost_node_takes_its_members_at_once() {
    placement::run(async {
        let mut nodes: Vec<Node> = mesh(3, |config| impatient(&mut config.connections)).await;
        let (far, mut near, other) = (Puppet::new(&nodes[2]), Puppet::new(&nodes[0]), Puppet::new(&nodes[1]));
        join(&far, "rooms").await.unwrap();
        join(&other, "rooms").await.unwrap();
        seen(&nodes[0], "rooms", &[&far.pid, &other.pid]).await;
        let pid = far.pid.clone();
        near.run(move |context| context.monitor(&pid)).await;
        fence(&nodes[0], &nodes[2]).await;
        watch_group(&near, "rooms", true).await;
        change(&mut near).await;
        drop(nodes.pop());
        assert_eq!(change(&mut near).await.left, std::slice::from_ref(&far.pid), "before the monitor fires");
        near.down().await;
        assert_eq!(members(&nodes[0], "rooms").await, BTreeSet::from([other.pid.clone()]));
    });
}

#[test]
fn g1_a_lost_client_takes_its_members_and_watches() {
    placement::run(async {
        let nodes = mesh(2, |_| ()).await;
        let client = rookery_client::Client::connect(client_config("client", &[&nodes[0]])).await.unwrap();
        let far = Puppet::new(&client.runtime());
        join(&far, "rooms").await.unwrap();
        watch_group(&far, "rooms", true).await;
        seen(&nodes[1], "rooms", &[&far.pid]).await;
        client.close().await;
        seen(&nodes[0], "rooms", &[]).await;
        seen(&nodes[1], "rooms", &[]).await;
    });
}

#[test]
fn g1_a_large_group_is_listed_for_a_client_in_several_steps() {
    placement::run(async {
        let nodes = mesh(2, |_| ()).await;
        let client = rookery_client::Client::connect(client_config("client", &[&nodes[0]])).await.unwrap();
        let watcher = Puppet::new(&client.runtime());
        let mut pids = BTreeSet::new();
        for number in 0..600 {
            let node = &nodes[number % 2];
            let member = node.spawn(async |mut context: Context<Note>| drop(context.receive().await)).unwrap();
            let pid = member.pid().unwrap();
            node.join(&group("crowd"), &pid).await.unwrap();
            pids.insert(pid);
        }
        seen(&client.runtime(), "crowd", &pids.iter().collect::<Vec<_>>()).await;
        watch_group(&watcher, "crowd", true).await;
        let (mut watcher, mut told) = (watcher, BTreeSet::new());
        while told.len() < pids.len() {
            told.extend(change(&mut watcher).await.joined);
        }
        assert_eq!(told, pids);
    });
}

#[test]
fn c3_a_client_joins_what_its_policy_allows() {
    placement::run(async {
        let nodes = mesh(1, |config| config.default_policy.join = vec![Pattern::new("chat#*")]).await;
        let client = rookery_client::Client::connect(client_config("client", &[&nodes[0]])).await.unwrap();
        let far = Puppet::new(&client.runtime());
        join(&far, "chat#lobby").await.unwrap();
        let refused = join(&far, "rooms").await.unwrap_err();
        assert!(matches!(&refused, RequestError::Refused(why) if why.contains("join group rooms")), "{refused}");
        assert_eq!(nodes[0].refused_to_clients(), 1);
        assert!(nodes[0].local_members(&group("rooms")).is_empty());
    });
}

#[test]
fn g4_a_message_goes_once_to_each_node() {
    placement::run(async {
        let nodes = mesh(3, |_| ()).await;
        let (report, mut told) = mpsc::unbounded_channel();
        let mut pids = Vec::new();
        for number in 0..300 {
            let node = &nodes[number % 3];
            let pid = member(node, &report).pid().unwrap();
            node.join(&group("crowd"), &pid).await.unwrap();
            pids.push(pid);
        }
        seen(&nodes[0], "crowd", &pids.iter().collect::<Vec<_>>()).await;
        let sent = || nodes[0].peers().iter().map(|peer| peer.sent().signals).sum::<u64>();
        let before = sent();
        nodes[0].group::<Said>(group("crowd")).send(Said("hello".to_owned())).await.unwrap();
        for _ in 0..300 {
            within("a message", told.recv()).await.unwrap();
        }
        assert!(sent() - before < 20, "{} signals for 200 members on two nodes", sent() - before);
    });
}
