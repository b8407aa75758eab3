//! The shortest way through everything: two nodes, a client, one call each way.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)] // A test may stop where it fails.

use std::time::Duration;

use rookery_client::{Client, ClientConfig};
use rookery_node::{
    Behaviours, Context, ExitReason, Node, NodeConfig, NodeName, ReplyTo, Server, Start,
    session::policy::Policy,
    tls::{Authority, ClusterName, Identity},
};
use serde::{Deserialize, Serialize};

struct Counter(i64);

#[derive(Serialize, Deserialize)]
enum CounterMessage {
    Add(i64),
    Get(ReplyTo<i64>),
}

impl Server for Counter {
    type Message = CounterMessage;
    type Arguments = Option<i64>;

    async fn init(start: Option<i64>, _: &mut Context<CounterMessage>) -> Result<Self, ExitReason> {
        Ok(Self(start.unwrap_or(0)))
    }

    async fn handle(&mut self, message: CounterMessage, _: &mut Context<CounterMessage>) -> Result<(), ExitReason> {
        match message {
            CounterMessage::Add(n) => self.0 += n,
            CounterMessage::Get(reply) => reply.send(self.0).map_err(|error| ExitReason::Error(error.to_string()))?,
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_and_a_client_take_part_in_one_system() {
    let authority = Authority::create(&ClusterName::try_from("smoke").unwrap()).unwrap();
    let day = Duration::from_secs(86_400);
    let node = async |name: &str, peers: Vec<String>| {
        let pem = authority.issue_node(name, &[], day).unwrap();
        let identity = Identity::from_pem(&pem.ca, &pem.cert, &pem.key).unwrap();
        let mut config = NodeConfig::new(NodeName::new(name).unwrap(), identity);
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.behaviours = Behaviours::new().server::<Counter>("counter").unwrap();
        config.policies = vec![Policy::all("*")];
        config.discovery.peers = peers.iter().map(|peer| peer.parse().unwrap()).collect();
        Node::start(config).await.unwrap()
    };
    let a = node("a", Vec::new()).await;
    let b = node("b", vec![a.listen_address().to_string()]).await;
    let meshed = async {
        while a.nodes().len() < 2 || b.nodes().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), meshed).await.unwrap();

    let start = Start::json("counter".parse().unwrap(), "7").name("c".parse().unwrap());
    let started = a.start_on(b.node(), start).await.unwrap();
    let counter = a.address::<CounterMessage>(&started.pid);
    counter.send(CounterMessage::Add(5)).await.unwrap();
    assert_eq!(counter.call(CounterMessage::Get).await.unwrap(), 12);

    let pem = authority.issue_client("eve", day).unwrap();
    let identity = Identity::from_pem(&pem.ca, &pem.cert, &pem.key).unwrap();
    let client = Client::connect(ClientConfig::new(identity, [a.listen_address().into()])).await.unwrap();
    let far = client.runtime().address::<CounterMessage>(&started.pid);
    far.send(CounterMessage::Add(1)).await.unwrap();
    assert_eq!(far.call(CounterMessage::Get).await.unwrap(), 13);
    client.close().await;
    b.shut_down("test over").await;
    let left = async {
        while a.nodes().len() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(2), left).await.unwrap();
    a.shut_down("test over").await;
}
