//! A counter on one node, called from another: the example of the README, whose text is what stands between the markers.
//! `cargo run -p rookery-node --example counter` runs it, and so does `cargo test`, with two real nodes: a CA of its own,
//! UDP on loopback, mutual TLS.

#![allow(clippy::print_stdout, reason = "an example prints what it finds")]

use std::{error::Error, time::Duration};

use rookery_node::{
    Context, Node, NodeConfig, NodeName, ReplyTo,
    tls::{Authority, ClusterName, Identity},
};
use serde::{Deserialize, Serialize};

/// A process on `there`, called from `here`.
async fn count(here: &Node, there: &Node) -> Result<i64, Box<dyn Error>> {
    // README: begin
    #[derive(Serialize, Deserialize)]
    struct Add(i64, ReplyTo<i64>);

    let counter = there.spawn(async |mut context: Context<Add>| {
        let mut sum = 0;
        while let Some(Add(number, reply)) = context.message().await {
            sum += number;
            reply.answer(sum);
        }
    })?;
    let counter = here.address::<Add>(&counter); // the same process, from the other node
    let sum = counter.call(|reply| Add(5, reply)).await?;
    // README: end
    Ok(sum)
}

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
    let sum = count(&here, &there).await?;
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
