//! Traces: what follows from one beginning is one trace, with the right parents, whichever nodes it crosses; and what is of none costs
//! and tells nothing. A real collector's end of OTLP takes them.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use rookery_client::Client;
use rookery_node::{AdminConfig, Node, NodeConfig};
use rookery_runtime::{
    Address, CallError, Context, Pid, ReplyTo, Runtime,
    trace::{self, TraceContext, Tracer, config::TraceConfig},
};
use rookery_tests::{
    cluster::{client_config, mesh},
    collector::{Collector, Told},
    eventually,
    http::get,
    program::{Certificates, Cli, node},
    within,
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

fn traces(collector: &Collector, ratio: f64, instance: &str) -> TraceConfig {
    let endpoint = collector.endpoint().parse().unwrap();
    TraceConfig { endpoint, ratio, service: "shop".to_owned(), instance: instance.to_owned() }
}

/// So many nodes that export to `collector`, of whose own calls such a part begins a trace.
async fn traced_mesh(count: usize, collector: &Collector, ratio: f64) -> Vec<Node> {
    mesh(count, |config: &mut NodeConfig| {
        config.traces = Some(traces(collector, ratio, config.name.as_str()));
        config.admin = Some(AdminConfig::new("127.0.0.1:0".parse().unwrap()));
    })
    .await
}

#[derive(Serialize, Deserialize)]
enum Order {
    /// Goes on to the next place, if there is one, and gives what comes back, and one more.
    Pass(String, ReplyTo<u32>),
    /// Sends a note to the next place, and answers.
    Note(ReplyTo<u32>),
    /// Answered by nobody.
    Lose(ReplyTo<u32>),
    /// Kept, and not answered.
    Keep(ReplyTo<u32>),
}

#[derive(Serialize, Deserialize)]
struct Noted(String);

/// A place that goes on to `next`.
fn place(on: &Runtime, next: Option<Address<Order>>, notes: Option<Address<Noted>>) -> Pid {
    let place = on.spawn(async move |mut context: Context<Order>| {
        let mut kept = Vec::new();
        while let Some(order) = context.message().await {
            match (order, &next) {
                (Order::Keep(reply), _) => kept.push(reply),
                (Order::Pass(text, reply), Some(next)) => {
                    let passed = next.call(|reply| Order::Pass(text, reply)).await;
                    passed.map_or_else(|error| panic!("{error}"), |number| reply.answer(number + 1));
                }
                (Order::Pass(_, reply), None) => reply.answer(1),
                (Order::Note(reply), _) => {
                    if let Some(notes) = &notes {
                        notes.send(Noted("well".to_owned())).await.unwrap();
                    }
                    reply.answer(0);
                }
                (Order::Lose(reply), _) => drop(reply),
            }
        }
    });
    place.unwrap().pid().unwrap()
}

fn kind(told: &Told) -> SpanKind {
    told.span.kind()
}

fn of<'a>(all: &'a [Told], instance: &str, wanted: SpanKind) -> Vec<&'a Told> {
    all.iter().filter(|told| told.instance == instance && kind(told) == wanted).collect()
}

fn one<'a>(all: &'a [Told], instance: &str, wanted: SpanKind) -> &'a Told {
    let found = of(all, instance, wanted);
    assert_eq!(found.len(), 1, "{wanted:?} of {instance} among {all:#?}");
    found[0]
}

fn is_within(inner: &Told, outer: &Told) {
    assert_eq!(inner.span.trace_id, outer.span.trace_id);
    assert_eq!(inner.span.parent_span_id, outer.span.span_id, "{inner:#?} in {outer:#?}");
    // Clocks of one machine; one end may be noted before the other.
    assert!(inner.span.start_time_unix_nano >= outer.span.start_time_unix_nano);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_across_three_nodes_is_one_trace() {
    let collector = Collector::open().await;
    let nodes = traced_mesh(3, &collector, 0.0).await;
    let [a, b, c] = &nodes[..] else { panic!() };
    let last = place(c, None, None);
    let middle = place(b, Some(b.address(&last)), None);
    // A short message, one that its receiver decodes, and one with a stream of its own.
    for (round, bytes) in [4, 4_000, 100_000].into_iter().enumerate() {
        let begin: Address<Order> = a.address(&middle);
        let (tell, told) = tokio::sync::oneshot::channel();
        let runtime = a.runtime().clone();
        a.spawn(async move |_: Context<u8>| {
            let call = begin.call(|reply| Order::Pass("x".repeat(bytes), reply));
            drop(tell.send(runtime.traced("checkout", call).await));
        })
        .unwrap();
        assert_eq!(within("the answer", told).await.unwrap().unwrap(), 2);
        let all = collector.spans(5 * (round + 1)).await.split_off(5 * round);
        let traces: BTreeSet<_> = all.iter().map(|told| told.span.trace_id.clone()).collect();
        assert_eq!((traces.len(), all.len()), (1, 5), "{all:#?}");
        let root = one(&all, "node-0", SpanKind::Internal);
        assert_eq!((root.span.name.as_str(), root.span.parent_span_id.len()), ("checkout", 0));
        assert_eq!((root.service.as_str(), root.span.trace_id.len(), root.span.span_id.len()), ("shop", 16, 8));
        let first_call = one(&all, "node-0", SpanKind::Client);
        is_within(first_call, root);
        assert_eq!(
            (first_call.span.name.as_str(), first_call.attribute("rookery.to")),
            ("call Order", middle.to_string())
        );
        let first = one(&all, "node-1", SpanKind::Server);
        is_within(first, first_call);
        assert_eq!((first.span.name.as_str(), first.attribute("rookery.process")), ("Order", middle.to_string()));
        let second_call = one(&all, "node-1", SpanKind::Client);
        is_within(second_call, first);
        let second = one(&all, "node-2", SpanKind::Server);
        is_within(second, second_call);
        assert_eq!(second.attribute("rookery.process"), last.to_string());
        assert!(all.iter().all(|told| told.span.status.is_none() && told.span.end_time_unix_nano > 0));
    }
    let metrics = get(b.admin_address().unwrap(), "/metrics").await.body;
    assert!(metrics.contains("rookery_trace_spans_total{outcome=\"exported\"} 6\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_ends_with_the_work_on_its_message_and_goes_on_with_what_was_sent() {
    let collector = Collector::open().await;
    let nodes = traced_mesh(2, &collector, 0.0).await;
    let [a, b] = &nodes[..] else { panic!() };
    let notes = b.spawn(async |mut context: Context<Noted>| while context.message().await.is_some() {}).unwrap();
    let notes_pid = notes.pid().unwrap();
    // Both on one node, and then the note on another.
    let place = place(a, None, Some(a.address(&notes_pid)));
    let place: Address<Order> = a.address(&place);
    let parent: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    trace::within(parent, place.call(Order::Note)).await.unwrap();
    // Of no trace: neither the same process nor this task goes on with the one before.
    assert_eq!(trace::current(), None);
    place.call(Order::Note).await.unwrap();
    let unrecorded: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-00".parse().unwrap();
    trace::within(unrecorded, place.call(Order::Note)).await.unwrap();
    let lost = trace::within(parent, place.call(Order::Lose)).await;
    assert!(matches!(lost, Err(CallError::Refused(_))), "{lost:?}");
    // What works on a message has ended once the next one is received.
    place.call(Order::Note).await.unwrap();
    b.address::<Noted>(&notes_pid).send(Noted("last".to_owned())).await.unwrap();

    let all = collector.spans(5).await;
    let id = parent.trace.0.get().to_be_bytes();
    assert!(all.iter().all(|told| told.span.trace_id == id), "{all:#?}");
    let calls = of(&all, "node-0", SpanKind::Client);
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call.span.parent_span_id == parent.span.0.get().to_be_bytes()));
    let failed: Vec<_> = calls.iter().filter_map(|call| call.span.status.as_ref()).collect();
    assert_eq!(failed.len(), 1);
    assert!(failed[0].code == 2 && failed[0].message.contains("without an answer"), "{failed:?}");
    let note = one(&all, "node-1", SpanKind::Consumer);
    assert_eq!((note.span.name.as_str(), note.attribute("rookery.process")), ("Noted", notes_pid.to_string()));
    let works = of(&all, "node-0", SpanKind::Server);
    let work = works.iter().find(|work| work.span.span_id == note.span.parent_span_id);
    let work = work.unwrap_or_else(|| panic!("{note:#?} of {works:#?}"));
    is_within(note, work);
    assert!(calls.iter().any(|call| call.span.span_id == work.span.parent_span_id));
    assert_eq!(all.len(), 5, "{all:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_begins_a_trace_or_its_node_does() {
    let collector = Collector::open().await;
    let nodes = traced_mesh(2, &collector, 1.0).await;
    let last = place(&nodes[1], None, None);
    let plain = Client::connect(client_config("plain", &[&nodes[0]])).await.unwrap();
    plain.runtime().address::<Order>(&last).call(|reply| Order::Pass(String::new(), reply)).await.unwrap();
    let all = collector.spans(2).await;
    let root = one(&all, "node-0", SpanKind::Internal);
    assert_eq!((root.span.name.as_str(), root.span.parent_span_id.len()), ("client plain", 0));
    is_within(one(&all, "node-1", SpanKind::Server), root);

    let mut config = client_config("traced", &[&nodes[0]]);
    config.tracer = Some(Tracer::start(traces(&collector, 1.0, "traced")).unwrap());
    let client = Client::connect(config).await.unwrap();
    client.runtime().address::<Order>(&last).call(|reply| Order::Pass(String::new(), reply)).await.unwrap();
    let all = collector.spans(4).await.split_off(2);
    let root = one(&all, "traced", SpanKind::Client);
    assert_eq!(root.span.parent_span_id.len(), 0);
    is_within(one(&all, "node-1", SpanKind::Server), root);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_gone_on_with_in_a_hundred_traces_a_second() {
    const CALLS: usize = 1_000;
    let collector = Collector::open().await;
    let nodes = traced_mesh(1, &collector, 0.0).await;
    let place = place(&nodes[0], None, None);
    let mut config = client_config("eager", &[&nodes[0]]);
    config.tracer = Some(Tracer::start(traces(&collector, 0.0, "eager")).unwrap());
    let client = Client::connect(config).await.unwrap();
    let tracer = nodes[0].runtime().tracer().unwrap().clone();
    for _ in 0..20 {
        let before = of(&collector.told(), "node-0", SpanKind::Server).len();
        let since = Instant::now();
        let mut calls = JoinSet::new();
        for number in 1..=CALLS {
            let address: Address<Order> = client.runtime().address(&place);
            let parent: TraceContext = format!("00-{:032x}-{number:016x}-01", number + 7).parse().unwrap();
            calls.spawn(trace::within(parent, async move { address.call(Order::Note).await }));
        }
        assert!(calls.join_all().await.into_iter().all(|answer| answer.is_ok()));
        let seconds = since.elapsed().as_secs() as usize + 1;
        // What it works at last ends with the next message, which is of no trace.
        nodes[0].address::<Order>(&place).call(Order::Note).await.unwrap();
        tracer.flush(Duration::from_secs(20)).await;
        let told = of(&collector.told(), "node-0", SpanKind::Server).len() - before;
        assert!(told >= 100, "{told} traces in {seconds} s");
        // A second that has begun before may end within.
        assert!(told <= 100 * (seconds + 1), "{told} traces in {seconds} s");
        if 100 * (seconds + 1) < CALLS {
            return;
        }
    }
    panic!("the machine is too slow to make so many calls in a few seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_span_of_a_call_that_was_given_up_has_failed() {
    let collector = Collector::open().await;
    let nodes = traced_mesh(2, &collector, 0.0).await;
    let place: Address<Order> = nodes[0].address(place(&nodes[1], None, None));
    let parent: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    let caller = {
        let place = place.clone();
        tokio::spawn(trace::within(parent, async move { place.call(Order::Keep).await }))
    };
    // It was asked once it works on the next message, which ends the span of the first.
    eventually_told(&collector, &place).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    let all = collector.spans(2).await;
    let call = one(&all, "node-0", SpanKind::Client);
    assert_eq!(call.span.parent_span_id, parent.span.0.get().to_be_bytes());
    let status = call.span.status.as_ref().unwrap();
    assert_eq!((status.code, status.message.as_str()), (2, "it was given up before an answer came"));
}

/// Waits until the place has been asked something that is of a trace.
async fn eventually_told(collector: &Collector, place: &Address<Order>) {
    let since = Instant::now();
    while collector.told().is_empty() {
        place.call(Order::Note).await.unwrap();
        assert!(since.elapsed() < Duration::from_secs(60), "nothing of the trace was told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_does_not_take_of_a_request_is_counted_as_refused() {
    let collector = Collector::open().await;
    collector.reject(3);
    let nodes = traced_mesh(1, &collector, 1.0).await;
    let place: Address<Order> = nodes[0].address(place(&nodes[0], None, None));
    for _ in 0..5 {
        place.call(Order::Note).await.unwrap();
    }
    let tracer = nodes[0].runtime().tracer().unwrap();
    tracer.flush(Duration::from_secs(20)).await;
    let (sent, counts) = (collector.told().len() as u64, tracer.counts());
    assert_eq!((counts.refused, counts.exported), (3 * collector.requests(), sent - 3 * collector.requests()));
    // More than there were: it has taken none.
    collector.reject(i64::MAX);
    place.call(Order::Note).await.unwrap();
    tracer.flush(Duration::from_secs(20)).await;
    let (now, more) = (tracer.counts(), collector.told().len() as u64 - sent);
    assert_eq!((now.exported, now.refused - counts.refused), (counts.exported, more));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_beginning_nothing_is_told_and_a_part_of_calls_begins() {
    let collector = Collector::open().await;
    let nodes = traced_mesh(1, &collector, 0.25).await;
    let place: Address<Order> = nodes[0].address(place(&nodes[0], None, None));
    for _ in 0..2_000 {
        place.call(Order::Note).await.unwrap();
    }
    let tracer = nodes[0].runtime().tracer().unwrap().clone();
    tracer.flush(Duration::from_secs(20)).await;
    // Two spans for each call that has begun one; the last may be at work.
    let told = collector.told().len();
    assert!((700..1_300).contains(&told), "{told} spans of 2,000 calls");
    let roots = collector.told().iter().filter(|told| told.span.parent_span_id.is_empty()).count();
    assert!(roots * 2 >= told && roots * 2 <= told + 1, "{roots} of {told}");

    let silent = traced_mesh(1, &collector, 0.0).await;
    let place: Address<Order> = silent[0].address(self::place(&silent[0], None, None));
    place.call(Order::Note).await.unwrap();
    silent[0].runtime().tracer().unwrap().flush(Duration::from_secs(20)).await;
    let more = collector.told().split_off(told);
    assert!(more.iter().all(|told| !told.span.parent_span_id.is_empty()), "{more:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_keeps_nobody_waiting_and_gets_what_there_was_room_for() {
    let gone = Collector::open().await;
    let (address, config) = (gone.endpoint(), traces(&gone, 1.0, "node-0"));
    drop(gone);
    let nodes = mesh(1, |node: &mut NodeConfig| node.traces = Some(config.clone())).await;
    let place: Address<Order> = nodes[0].address(place(&nodes[0], None, None));
    for _ in 0..4_000 {
        place.call(Order::Note).await.unwrap();
    }
    let tracer = nodes[0].runtime().tracer().unwrap();
    let counts = tracer.counts();
    assert_eq!((counts.exported, counts.refused), (0, 0));
    // Of 8,000 spans a queue and a batch have room.
    assert!((3_000..4_000).contains(&counts.dropped), "{counts:?}");
    let back = Collector::at(address.trim_start_matches("http://").parse().unwrap()).await;
    eventually("it has what there was room for", || tracer.counts().exported >= 4_096).await;
    assert!(back.told().len() >= 4_096 && back.requests() >= 8, "in batches: {}", back.requests());

    // One that is busy is asked again, one that does not want them is not.
    back.answer(503);
    let (before, asked) = (tracer.counts(), back.requests());
    place.call(Order::Note).await.unwrap();
    eventually("it is asked again", || back.requests() >= asked + 2).await;
    assert_eq!(tracer.counts().refused, before.refused);
    back.answer(400);
    eventually("it does not want them", || tracer.counts().refused > before.refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_traces_what_its_clients_begin() {
    let collector = Collector::open().await;
    let certificates = Certificates::new("shop");
    let endpoint = collector.endpoint();
    let more = ["--admin", "none", "--otlp-endpoint", &endpoint, "--trace-ratio", "1"];
    let (program, address) = node(&certificates, "node-0", &more).await;
    let cli = Cli { connect: address, identity: certificates.client("ops").display().to_string() };
    assert_eq!(cli.ok(&["call", "counter@node-0", "{\"Get\":null}"]), "0");
    // At the latest when it leaves.
    assert!(program.terminate().await.success());
    let all = collector.told();
    let root = all.iter().find(|told| {
        told.span.name == "client ops"
            && all.iter().any(|of| {
                of.span.parent_span_id == told.span.span_id && of.attribute("rookery.behaviour").contains("ounter")
            })
    });
    let root = root.unwrap_or_else(|| panic!("{all:#?}"));
    assert_eq!((root.service.as_str(), root.instance.as_str()), ("shop", "node-0"));
}
