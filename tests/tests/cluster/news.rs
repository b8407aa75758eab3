//! What a process of a runtime is told of nodes (M5), kept in order for a test to look at.

use rookery_runtime::{Context, Event, NodeId, Received, Runtime};
use tokio::sync::watch;

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Up(NodeId),
    Down(NodeId),
}

/// All that was told, from when it is made on; nodes that are there already are told first.
pub(crate) struct News(watch::Receiver<Vec<Heard>>);

impl News {
    pub(crate) fn of(runtime: &Runtime) -> Self {
        let (told, news) = watch::channel(Vec::new());
        runtime
            .spawn(async move |mut context: Context<()>| {
                context.monitor_nodes(true);
                while !told.is_closed() {
                    match context.receive().await {
                        Received::Event(Event::NodeUp(node)) => told.send_modify(|news| news.push(Heard::Up(node))),
                        Received::Event(Event::NodeDown { node, .. }) => {
                            told.send_modify(|news| news.push(Heard::Down(node)));
                        }
                        _ => {}
                    }
                }
            })
            .unwrap();
        Self(news)
    }

    pub(crate) fn all(&self) -> Vec<Heard> {
        self.0.borrow().clone()
    }

    pub(crate) fn downs(&self) -> Vec<NodeId> {
        let down = |heard| match heard {
            Heard::Down(node) => Some(node),
            Heard::Up(_) => None,
        };
        self.all().into_iter().filter_map(down).collect()
    }
}
