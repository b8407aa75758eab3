//! A café on two nodes, of the behaviours that OTP's users look for: the till is a server, the coffee machine a state
//! machine, sales are events, and the guests, on the other node, are tasks.
//!
//! ```text
//! guests (tasks) ── call ──▶ till (server) ── hands the request on ──▶ coffee machine (state machine)
//!      ▲                        └─ sale ─▶ event manager ─▶ takings        │
//!      └──────────────────────────── the cup ──────────────────────────────┘
//! ```
//! `cargo run -p rookery-node --example cafe` runs it, and so does `cargo test`.

#![allow(clippy::print_stdout, reason = "an example prints what it finds")]

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rookery_node::{
    Address, Context, EventManager, ExitReason, Next, Node, NodeConfig, NodeName, ReplyTo, Runtime, Server,
    SpawnOptions, StateEvent, StateMachine, TaskSupervisor, Timeouts, Transition,
    tls::{Authority, ClusterName, Identity},
};
use serde::{Deserialize, Serialize};

const GUESTS: u32 = 10;
const BREWING: Duration = Duration::from_millis(10);

/// What a guest gets.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Cup(String);

/// Brews one cup after the other. Who orders meanwhile waits: the order is postponed until the machine is idle again.
#[derive(Default)]
struct CoffeeMachine {
    ordered: Option<Order>,
}

#[derive(Clone, Copy, PartialEq)]
enum Brewing {
    Idle,
    Busy,
}

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    drink: String,
    to: ReplyTo<Cup>,
}

impl StateMachine for CoffeeMachine {
    type State = Brewing;
    type Message = Order;
    type Arguments = ();

    async fn init((): (), _: &mut Context<Order>) -> Result<(Self, Brewing), ExitReason> {
        Ok((Self::default(), Brewing::Idle))
    }

    async fn handle(
        &mut self,
        state: &Brewing,
        event: StateEvent<Order>,
        _: &mut Context<Order>,
    ) -> Result<Transition<Brewing, Order>, ExitReason> {
        Ok(match (state, event) {
            (Brewing::Idle, StateEvent::Message(order)) => {
                self.ordered = Some(order);
                Transition::to(Brewing::Busy).timeouts(Timeouts::new().state(BREWING))
            }
            (Brewing::Busy, StateEvent::StateTimeout) => {
                if let Some(Order { drink, to }) = self.ordered.take() {
                    // A guest who has left gets nothing; that is no error of the machine's.
                    drop(to.send(Cup(drink)));
                }
                Transition::to(Brewing::Idle)
            }
            (_, event) => Transition::keep().postpone(event),
        })
    }
}

/// Takes orders once it has counted its change, and closes when nobody has come for a while.
struct Till {
    open: bool,
    machine: Address<Order>,
    sales: EventManager<u32>,
}

#[derive(Serialize, Deserialize)]
enum TillMessage {
    /// The answer comes from the coffee machine, to which the order is handed on.
    Order(Order),
}

fn failed(error: impl Error) -> ExitReason {
    ExitReason::Error(error.to_string())
}

impl Server for Till {
    type Message = TillMessage;
    type Arguments = ();

    async fn init((): (), context: &mut Context<TillMessage>) -> Result<Self, ExitReason> {
        let runtime = context.runtime().clone();
        // Linked: without its machine there is no till, and its supervisor, if it had one, would start both anew.
        let linked = SpawnOptions::new().link_to(context.pid());
        let machine = runtime.start_state_machine::<CoffeeMachine>((), linked).await.map_err(failed)?;
        let name = "sales".parse().map_err(failed)?;
        Ok(Self { open: false, machine, sales: EventManager::at(runtime.named(name)) })
    }

    fn next(&self) -> Next {
        if self.open { Next::ReceiveWithin(Duration::from_secs(60)) } else { Next::Continue }
    }

    async fn handle_continue(&mut self, _: &mut Context<TillMessage>) -> Result<(), ExitReason> {
        self.open = true;
        Ok(())
    }

    async fn handle(
        &mut self,
        TillMessage::Order(order): TillMessage,
        context: &mut Context<TillMessage>,
    ) -> Result<(), ExitReason> {
        println!("{}: {} is ordered, to be had within {:?}", context.pid(), order.drink, context.time_left());
        drop(self.sales.notify(3).await);
        drop(self.machine.send(order).await);
        Ok(())
    }

    async fn handle_timeout(&mut self, _: &mut Context<TillMessage>) -> Result<(), ExitReason> {
        Err(ExitReason::Normal)
    }
}

/// Gives where sales are told, and what has been taken so far.
async fn open_cafe(runtime: &Runtime) -> Result<(EventManager<u32>, Arc<AtomicU32>), Box<dyn Error>> {
    let takings = Arc::new(AtomicU32::new(0));
    let sales = EventManager::<u32>::start(runtime, SpawnOptions::new().name("sales".parse()?)).await?;
    let counted = takings.clone();
    let count = move |price: &u32| {
        counted.fetch_add(*price, Ordering::Relaxed);
    };
    sales.add(count).await?;
    runtime.start_server::<Till>((), SpawnOptions::new().name("till".parse()?)).await?;
    Ok((sales, takings))
}

/// All guests, four of them at the till at a time; gives how many cups were served.
async fn visit(runtime: &Runtime, till: &Address<TillMessage>) -> Result<usize, Box<dyn Error>> {
    let guests = TaskSupervisor::start(runtime, 100, SpawnOptions::new()).await?;
    let cups = guests.map_concurrent(0..GUESTS, 4, |guest| {
        let till = till.clone();
        async move {
            let drink = format!("coffee {guest}");
            till.call(|to| TillMessage::Order(Order { drink, to })).await
        }
    });
    Ok(cups.await.into_iter().filter(|cup| matches!(cup, Ok(Ok(Cup(_))))).count())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let authority = Authority::create(&ClusterName::try_from("example")?)?;
    let cafe = start(&authority, "cafe", &[]).await?;
    let street = start(&authority, "street", &[cafe.listen_address().to_string()]).await?;
    let meshed = async {
        while street.nodes().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), meshed).await?;
    let (sales, takings) = open_cafe(cafe.runtime()).await?;
    let till = street.address(rookery_node::Destination::name(cafe.node().clone(), "till".parse()?));
    let served = visit(street.runtime(), &till).await?;
    // Events are not waited for; this one is, and all before it have been counted by then.
    sales.sync_notify(0).await?;
    let takings = takings.load(Ordering::Relaxed);
    println!("{served} cups served, {takings} taken");
    street.shut_down("the example is over").await;
    cafe.shut_down("the example is over").await;
    let expected = (GUESTS as usize, GUESTS * 3);
    if (served, takings) == expected { Ok(()) } else { Err(format!("{expected:?} were expected").into()) }
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
    fn every_guest_gets_a_cup() -> Result<(), Box<dyn std::error::Error>> {
        super::main()
    }
}
