//! A counter on one node, called from another: the example of the README, whose text is what stands between the markers.
//! `cargo run -p rookery-node --example counter` runs it, and so does `cargo test`, with two real nodes: a CA of its own,
//! UDP on loopback, mutual TLS.

#![allow(clippy::print_stdout, reason = "an example prints what it finds")]

use std::{error::Error, time::Duration};

use rookery_node::{
    Context, Node, NodeConfig, NodeName, Received, ReplyTo,
    tls::{Authority, ClusterName, Identity},
};
use serde::{Deserialize, Serialize};

// README: begin
#[derive(Serialize, Deserialize)]
enum Counter {
    Add(i64),
    Get(ReplyTo<i64>),
}

async fn count(mut context: Context<Counter>) {
    let mut sum = 0;
    while let Received::Message(message) = context.receive().await {
        match message {
            Counter::Add(number) => sum += number,
            Counter::Get(reply) => drop(reply.send(sum)),
        }
    }
}

async fn from_another_node(here: &Node, there: &Node) -> Result<i64, Box<dyn Error>> {
    let counter = there.spawn(count)?;
    let counter = here.address::<Counter>(counter.destination());
    counter.send(Counter::Add(5)).await?;
    Ok(counter.call(Counter::Get).await?)
}
// README: end

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let authority = Authority::create(&ClusterName::try_from("example")?)?;
    let here = start(&authority, "here", &[]).await?;
    let there = start(&authority, "there", &[here.listen_address().to_string()]).await?;
    let meshed = async {
        while here.nodes().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), meshed).await?;
    let sum = from_another_node(&here, &there).await?;
    println!("{} counted to {sum}", there.node());
    there.shut_down("the example is over").await;
    here.shut_down("the example is over").await;
    if sum == 5 { Ok(()) } else { Err(format!("the counter says {sum}, not 5").into()) }
}

/// Starts a node with a certificate of `authority`, which looks for the nodes at `peers`.
async fn start(authority: &Authority, name: &str, peers: &[String]) -> Result<Node, Box<dyn Error>> {
    let pem = authority.issue_node(name, &[], Duration::from_secs(60 * 60 * 24))?;
    let mut config = NodeConfig::new(NodeName::new(name)?, Identity::from_pem(&pem.ca, &pem.cert, &pem.key)?);
    config.listen = "127.0.0.1:0".parse()?;
    config.discovery.peers = peers.iter().map(|peer| peer.parse()).collect::<Result<_, _>>()?;
    Ok(Node::start(config).await?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_does_what_the_readme_says() -> Result<(), Box<dyn std::error::Error>> {
        super::main()
    }
}
