//! Row S5 of the contract: a message that is larger than the receiver's node takes is refused at its sender; what just fits arrives whole.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use rookery_runtime::{CallError, Context, Payload, Received, ReplyTo, RequestError, Runtime, SendError, Start};
use rookery_tests::{
    Note, Puppet,
    cluster::{MAX_MESSAGE_BYTES, client, mesh},
    eventually, fence, within,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

rookery_tests::contract! {
    apart {
        s5_a_message_that_is_too_large_is_refused_at_the_sender,
        s5_a_reply_that_is_too_large_is_refused_on_both_sides,
        s5_what_just_fits_arrives_whole,
    }
}

const LONG: Duration = Duration::from_secs(3600);

/// One byte more than the limit, in whatever a message adds to its content.
fn too_large() -> Note {
    Note::Bytes(vec![7; MAX_MESSAGE_BYTES + 1])
}

async fn s5_a_message_that_is_too_large_is_refused_at_the_sender(a: &Runtime, b: &Runtime) {
    let mut far = Puppet::new(b);
    let to = a.address::<Note>(&far.pid);
    let error = to.send(too_large()).await.unwrap_err();
    let (SendError::TooLarge { bytes, limit, .. }, text) = (&error, error.to_string()) else { panic!("{error:?}") };
    assert!(*bytes > MAX_MESSAGE_BYTES && *limit == MAX_MESSAGE_BYTES, "{text}");
    assert!(text.contains("max_message_bytes") && text.contains(&MAX_MESSAGE_BYTES.to_string()), "{text}");
    let Note::Bytes(content) = error.into_message() else { panic!("it comes back as it was") };
    assert!(content.len() == MAX_MESSAGE_BYTES + 1 && content.iter().all(|&byte| byte == 7));
    assert!(matches!(to.try_send(too_large()), Err(SendError::TooLarge { .. })));

    let json = || Payload::json(format!("{{\"Text\":\"{}\"}}", "x".repeat(MAX_MESSAGE_BYTES)));
    let refused = a.send_payload(&(&far.pid).into(), json()).await;
    assert!(matches!(&refused, Err(CallError::Refused(text)) if text.contains("max_message_bytes")), "{refused:?}");
    let refused = within("an answer", a.call_payload(&(&far.pid).into(), json(), Duration::from_secs(3600))).await;
    assert!(matches!(&refused, Err(CallError::Refused(text)) if text.contains("max_message_bytes")), "{refused:?}");

    // A call is refused with the same words.
    let asking = a.address::<LongWinded>(&far.pid);
    let words = "x".repeat(MAX_MESSAGE_BYTES);
    let call = asking.call_within(Duration::from_secs(3600), |reply| LongWinded::Asks { words, reply });
    let refused = within("an answer", call).await;
    assert!(matches!(&refused, Err(CallError::Refused(text)) if text.contains("max_message_bytes")), "{refused:?}");

    fence(a, b).await;
    far.quiet().await;
    to.send(Note::Number(1)).await.unwrap();
    assert_eq!(far.number().await, 1, "the connection goes on");
}

#[derive(Debug, Serialize, Deserialize)]
enum LongWinded {
    Asks { words: String, reply: ReplyTo<u64> },
    AsksForWords(u64, ReplyTo<String>),
}

async fn s5_a_reply_that_is_too_large_is_refused_on_both_sides(a: &Runtime, b: &Runtime) {
    let (tell, told) = oneshot::channel();
    let far = b
        .spawn(async move |mut context: Context<LongWinded>| {
            let Received::Message(LongWinded::AsksForWords(count, reply)) = context.receive().await else {
                panic!("expected a question")
            };
            tell.send(reply.send("x".repeat(count as usize)).map_err(|error| error.to_string())).unwrap();
            drop(context.receive().await);
        })
        .unwrap();
    let (asking, count) = (a.address::<LongWinded>(far.pid().unwrap()), MAX_MESSAGE_BYTES as u64 + 1);
    let call = asking.call_within(Duration::from_secs(3600), |reply| LongWinded::AsksForWords(count, reply));
    let refused = within("an answer", call).await;
    assert!(matches!(&refused, Err(CallError::Refused(text)) if text.contains("max_message_bytes")), "{refused:?}");
    let error = within("the other side", told).await.unwrap().unwrap_err();
    assert!(error.contains("max_message_bytes"), "{error}");
}

async fn s5_what_just_fits_arrives_whole(a: &Runtime, b: &Runtime) {
    let mut far = Puppet::new(b);
    let to = a.address::<Note>(&far.pid);
    // Sizes around where bodies are handled in another way, and the largest.
    for size in [0, 1, 250, 251, 1_000, 1_024, 1_025, 16_383, 16_384, 16_385, 70_000, MAX_MESSAGE_BYTES - 16] {
        let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        to.send(Note::Bytes(content.clone())).await.unwrap();
        let Received::Message(Note::Bytes(arrived)) = far.next().await else { panic!("expected bytes") };
        assert!(arrived == content, "{size} bytes do not arrive as they were");
    }
}

/// Where one node takes less than another, and a client's node stands between.
#[test]
fn s5_what_is_too_large_for_a_node_ends_no_connection() {
    rookery_tests::placement::run(async {
        let nodes = mesh(2, |config| {
            if config.name.as_str() == "node-1" {
                config.connections.max_message_bytes = MAX_MESSAGE_BYTES / 4;
            }
        })
        .await;
        let client = client("client", &[&nodes[0]]).await;
        let runtime = client.runtime();
        eventually("the client knows the nodes", || runtime.nodes().len() == 2).await;
        let mut watcher = Puppet::new(&nodes[1]);
        watcher.run(|context| context.monitor_nodes(true)).await;
        for _ in 0..2 {
            watcher.next().await;
        }
        // Arguments of a child.
        let large = format!("\"{}\"", "x".repeat(MAX_MESSAGE_BYTES / 2));
        for runtime in [nodes[0].runtime(), &runtime] {
            let start = Start::json("counter".parse().unwrap(), large.clone());
            let started = within("an answer", runtime.start_on(nodes[1].node(), start)).await;
            assert!(matches!(started, Err(RequestError::Refused(_))), "{started:?}");
        }
        // A reply of a client's process, which knows the limit of its own node alone.
        let answers = runtime
            .spawn(async |mut context: Context<Question>| {
                while let Received::Message(Question(reply)) = context.receive().await {
                    drop(reply.send("x".repeat(MAX_MESSAGE_BYTES / 2)));
                }
            })
            .unwrap();
        let there = nodes[1].address::<Question>(&answers.pid().unwrap());
        let answer = within("an answer", there.call_within(LONG, Question)).await;
        assert!(matches!(answer, Err(CallError::Refused(_))), "{:?}", answer.map(|text| text.len()));
        fence(&nodes[0], &nodes[1]).await;
        watcher.quiet().await;
    });
}

#[derive(Serialize, Deserialize)]
struct Question(ReplyTo<String>);
