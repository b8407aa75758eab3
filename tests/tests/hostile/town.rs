//! What is attacked: a node that a friendly node is meshed with, and the check that both, and a good client, are served as
//! before, and that nothing has stayed behind.

use std::time::Duration;

use rookery_client::{Client, ClientConfig};
use rookery_node::{
    ConnectionSettings, Context, Event, ExitReason, Node, NodeConfig, NodeId, NodeName, Pid, Received, ReplyTo, Server,
    session::policy::Policy,
    tls::{Authority, ClusterName, Identity, IssuedPem},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::raw::soon;

pub(crate) const CLUSTER: &str = "town";

pub(crate) struct Echo;

#[derive(Serialize, Deserialize)]
pub(crate) enum EchoMessage {
    Say(u64, ReplyTo<u64>),
}

impl Server for Echo {
    type Message = EchoMessage;
    type Arguments = ();

    async fn init((): (), _: &mut Context<EchoMessage>) -> Result<Self, ExitReason> {
        Ok(Self)
    }

    async fn handle(&mut self, message: EchoMessage, _: &mut Context<EchoMessage>) -> Result<(), ExitReason> {
        let EchoMessage::Say(n, reply) = message;
        // Whoever asked may be gone.
        drop(reply.send(n));
        Ok(())
    }
}

pub(crate) struct Town {
    pub(crate) authority: Authority,
    pub(crate) victim: Node,
    pub(crate) friend: Node,
    /// An [`Echo`] on the victim.
    pub(crate) echo: Pid,
    processes: usize,
    /// Nodes that the victim's processes were told are down.
    downs: watch::Receiver<Vec<NodeId>>,
}

pub(crate) fn authority(cluster: &str) -> Authority {
    Authority::create(&ClusterName::try_from(cluster).unwrap()).unwrap()
}

pub(crate) fn identity(pem: &IssuedPem) -> Identity {
    Identity::from_pem(&pem.ca, &pem.cert, &pem.key).unwrap()
}

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

impl Town {
    pub(crate) async fn new() -> Self {
        // Short, so that silence is seen soon; long enough for who is slow on a busy machine.
        Self::with(|settings| settings.handshake_timeout = Duration::from_millis(1500)).await
    }

    pub(crate) async fn with(change: impl Fn(&mut ConnectionSettings)) -> Self {
        let authority = authority(CLUSTER);
        let node = async |name: &str, peers: Vec<String>| {
            let identity = identity(&authority.issue_node(name, &[], DAY).unwrap());
            let mut config = NodeConfig::new(NodeName::new(name).unwrap(), identity);
            config.listen = "127.0.0.1:0".parse().unwrap();
            config.discovery.peers = peers.iter().map(|peer| peer.parse().unwrap()).collect();
            config.policies = vec![Policy { send: Vec::new(), monitor: false, ..Policy::new("nobody") }];
            change(&mut config.connections);
            Node::start(config).await.unwrap()
        };
        let victim = node("victim", Vec::new()).await;
        let friend = node("friend", vec![victim.listen_address().to_string()]).await;
        let echo = victim.start_server::<Echo>((), rookery_node::SpawnOptions::new()).await.unwrap().pid().unwrap();
        let (told, downs) = watch::channel(Vec::new());
        victim
            .spawn(async move |mut context: Context<()>| {
                context.monitor_nodes(true);
                while !told.is_closed() {
                    if let Received::Event(Event::NodeDown { node, .. }) = context.receive().await {
                        told.send_modify(|nodes| nodes.push(node));
                    }
                }
            })
            .unwrap();
        soon("the mesh", async {
            while victim.peers().is_empty() || friend.peers().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let processes = victim.process_count();
        Self { authority, victim, friend, echo, processes, downs }
    }

    pub(crate) fn client(&self, name: &str) -> Identity {
        identity(&self.authority.issue_client(name, DAY).unwrap())
    }

    pub(crate) fn node(&self, name: &str) -> Identity {
        identity(&self.authority.issue_node(name, &[], DAY).unwrap())
    }

    /// The victim serves its friend and a new client, and nothing of the attack has stayed behind.
    pub(crate) async fn still_serves(&self) {
        let there = self.friend.address::<EchoMessage>(&self.echo);
        assert_eq!(there.call(|reply| EchoMessage::Say(7, reply)).await.unwrap(), 7);
        let config = ClientConfig::new(self.client("good"), [self.victim.listen_address().into()]);
        let client = Client::connect(config).await.unwrap();
        let there = client.runtime().address::<EchoMessage>(&self.echo);
        assert_eq!(there.call(|reply| EchoMessage::Say(8, reply)).await.unwrap(), 8);
        client.close().await;
        soon("everybody but the friend is gone", async {
            while self.victim.clients() > 0
                || self.victim.peers().len() != 1
                || self.victim.process_count() != self.processes
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert!(!self.downs.borrow().contains(self.friend.node()), "the friend was lost for a moment");
    }
}
