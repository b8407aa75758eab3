//! What ties one client's processes to processes elsewhere. Pure: it sees the signals that pass in both directions, and
//! says what is to be told when the client is lost, since the client cannot (L5, M4, A1). Processes of the client's own
//! node are told by the node itself; what is said to them here too is ignored as old news.
//!
//! **Invariant:** an edge stands from the signal that makes it until one that ends it, in either direction.

use std::collections::{HashMap, HashSet};

use rookery_protocol::{
    CallFailure, CallId, CreditNumber, Destination, ExitReason, NodeId, Pid, Recipient, Ref, ReplyRoute, Serial,
    Signal, SignalBody, request::ResponseBody,
};

use super::credits::CreditEdges;

/// Ties that one client may have at once, of all kinds. Beyond it the client is disconnected: it would cost the node more
/// than a client may.
pub(crate) const MAX_EDGES: usize = 100_000;

#[derive(Debug, Default)]
pub(crate) struct Edges {
    /// (client's process, other end).
    links: HashSet<(Serial, Pid)>,
    /// Monitors of the client's processes: (client's process, ref) to what is monitored.
    watching: HashMap<(Serial, Ref), Destination>,
    /// Monitors on the client's processes.
    watched: HashSet<(Pid, Ref, Serial)>,
    /// Calls to the client's processes that are not answered.
    calls: HashMap<ReplyRoute, Serial>,
    /// Calls and monitors of the client's processes that went to a cluster name, and whom it led to. The client does not
    /// know whose loss ends them.
    found: HashMap<(Serial, Awaited), Pid>,
    credits: CreditEdges,
    /// Spawns of the client's processes that are to be tied: (parent, link, monitor).
    spawns: HashMap<CallId, (Serial, bool, Option<Ref>)>,
}

/// What a process waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Awaited {
    Reply(CallId),
    Down(Ref),
}

impl Awaited {
    /// What the sender of `body` waits for from then on.
    fn by(body: &SignalBody) -> Option<Self> {
        match body {
            SignalBody::Message { reply: Some(route), .. } => Some(Self::Reply(route.call)),
            SignalBody::Monitor(monitor) => Some(Self::Down(*monitor)),
            _ => None,
        }
    }
}

impl Edges {
    pub(crate) fn len(&self) -> usize {
        let ties = self.links.len() + self.watching.len() + self.watched.len();
        ties + self.calls.len() + self.found.len() + self.spawns.len() + self.credits.len()
    }

    /// Where a signal to a cluster name goes: to its holder, which is to be remembered if an answer is awaited; what takes
    /// back a monitor goes to whom it was for.
    pub(crate) fn found(&mut self, signal: &mut Signal, holder: Option<Pid>) {
        if let SignalBody::Demonitor(monitor) = signal.body {
            if let Some(target) = self.watching.get(&(signal.from.serial(), monitor)) {
                signal.to = target.clone();
            }
            return;
        }
        let Some(holder) = holder else { return };
        signal.to = (&holder).into();
        if let Some(awaited) = Awaited::by(&signal.body) {
            self.found.insert((signal.from.serial(), awaited), holder);
        }
    }

    /// Whether the client may answer what it answers: a call that it was asked, a monitor on one of its processes. Answers
    /// to anything else come too late, or are forged; so are messages whose answers would go to somebody else's call.
    pub(crate) fn allows(&self, signal: &Signal) -> bool {
        // Sessions are numbered by each node: the same number elsewhere is another client.
        let own = |pid: &Pid| {
            let session = pid.serial().session();
            pid.node() == signal.from.node() && session.is_some() && session == signal.from.serial().session()
        };
        let to = match &signal.to.to {
            Recipient::Serial(serial) => Some(Pid::new(signal.to.node.clone(), *serial)),
            _ => None,
        };
        match (&signal.body, to) {
            (SignalBody::Reply { call, .. }, Some(to)) => self.calls.contains_key(&ReplyRoute { to, call: *call }),
            (SignalBody::Down { monitor, .. }, Some(to)) => {
                self.watched.contains(&(to, *monitor, signal.from.serial()))
            }
            (SignalBody::Credit { number, change }, Some(to)) => {
                self.credits.allows(to, *number, *change, signal.from.serial())
            }
            (SignalBody::Reply { .. } | SignalBody::Down { .. } | SignalBody::Credit { .. }, None) => false,
            (SignalBody::Message { reply: Some(route), .. }, _) => own(&route.to) || self.calls.contains_key(route),
            _ => true,
        }
    }

    /// A message goes to the client's process `own`, which answers it if it has a route, and counts it if it has a credit.
    pub(crate) fn message_passed(
        &mut self,
        own: Serial,
        from: &Pid,
        reply: Option<&ReplyRoute>,
        credit: Option<CreditNumber>,
    ) {
        if let Some(route) = reply {
            self.calls.insert(route.clone(), own);
        }
        if let Some(number) = credit {
            self.credits.message_passed(from, number, own);
        }
    }

    /// A call is out of the client's hands: it hands it on, or its handing on was refused, and so answered.
    pub(crate) fn let_go(&mut self, signal: &Signal) {
        if let SignalBody::Message { reply: Some(route), .. } = &signal.body {
            self.calls.remove(route);
        }
    }

    /// The client sends `signal`.
    pub(crate) fn sent(&mut self, signal: &Signal) {
        let own = signal.from.serial();
        match (&signal.body, &signal.to.to) {
            (SignalBody::Message { credit, .. }, _) => {
                self.let_go(signal);
                if let Some(number) = credit {
                    self.credits.message_sent(signal, *number);
                }
            }
            (SignalBody::Credit { number, change }, Recipient::Serial(serial)) => {
                let to = Pid::new(signal.to.node.clone(), *serial);
                self.credits.sent(to, *number, *change, own);
            }
            (SignalBody::Link, Recipient::Serial(serial)) => {
                self.links.insert((own, Pid::new(signal.to.node.clone(), *serial)));
            }
            (SignalBody::Unlink(_) | SignalBody::Exit { linked: true, .. }, Recipient::Serial(serial)) => {
                self.links.remove(&(own, Pid::new(signal.to.node.clone(), *serial)));
            }
            (SignalBody::Monitor(monitor), _) => {
                self.watching.insert((own, *monitor), signal.to.clone());
            }
            (SignalBody::Demonitor(monitor), _) => {
                self.watching.remove(&(own, *monitor));
                self.found.remove(&(own, Awaited::Down(*monitor)));
            }
            (SignalBody::Down { monitor, .. }, Recipient::Serial(serial)) => {
                self.watched.remove(&(Pid::new(signal.to.node.clone(), *serial), *monitor, own));
            }
            (SignalBody::Reply { call, .. }, Recipient::Serial(serial)) => {
                let to = Pid::new(signal.to.node.clone(), *serial);
                self.calls.remove(&ReplyRoute { to, call: *call });
            }
            (SignalBody::Request { call, body }, _) => {
                if let Some(spawn) = body.spawn()
                    && (spawn.link || spawn.monitor.is_some())
                {
                    self.spawns.insert(*call, (own, spawn.link, spawn.monitor));
                }
            }
            _ => {}
        }
    }

    /// `signal` goes to the client.
    pub(crate) fn passed(&mut self, signal: &Signal) {
        let Recipient::Serial(own) = signal.to.to else { return };
        match &signal.body {
            SignalBody::Message { reply, credit, .. } => {
                self.message_passed(own, &signal.from, reply.as_ref(), *credit);
            }
            SignalBody::Credit { number, change } => self.credits.passed(signal, *number, *change, own),
            SignalBody::Link => {
                self.links.insert((own, signal.from.clone()));
            }
            SignalBody::Unlink(_) | SignalBody::Exit { linked: true, .. } => {
                self.links.remove(&(own, signal.from.clone()));
            }
            SignalBody::Monitor(monitor) => {
                self.watched.insert((signal.from.clone(), *monitor, own));
            }
            SignalBody::Demonitor(monitor) => {
                self.watched.remove(&(signal.from.clone(), *monitor, own));
            }
            SignalBody::Down { monitor, .. } => {
                self.watching.remove(&(own, *monitor));
                self.found.remove(&(own, Awaited::Down(*monitor)));
            }
            SignalBody::Reply { call, .. } => {
                self.found.remove(&(own, Awaited::Reply(*call)));
            }
            SignalBody::Response { call, body } => {
                if let Some((parent, link, monitor)) = self.spawns.remove(call)
                    && let ResponseBody::Spawned(child) = &**body
                {
                    if link {
                        self.links.insert((parent, child.clone()));
                    }
                    if let Some(monitor) = monitor {
                        self.watching.insert((parent, monitor), child.into());
                    }
                }
            }
            _ => {}
        }
    }

    /// A node is lost: the client is told of it as a whole, and nothing is to be said to there. Gives what the client has to
    /// be told beside it, of processes that it knows by a cluster name; `home` is its node.
    pub(crate) fn node_lost(&mut self, node: &NodeId, home: &NodeId) -> Vec<Signal> {
        let lost: Vec<_> = self.found.iter().filter(|(_, pid)| pid.node() == node).map(|(key, _)| *key).collect();
        let told = lost.into_iter().filter_map(|(own, awaited)| {
            let from = self.found.remove(&(own, awaited))?;
            let body = match awaited {
                Awaited::Reply(call) => SignalBody::Reply { call, outcome: Err(CallFailure::NoConnection) },
                Awaited::Down(monitor) => SignalBody::Down { monitor, reason: ExitReason::NoConnection },
            };
            Some(Signal { from, to: Pid::new(home.clone(), own).into(), body })
        });
        let told = told.chain(self.credits.node_lost(node, home)).collect();
        self.links.retain(|(_, pid)| pid.node() != node);
        self.watching.retain(|_, target| target.node != *node);
        self.watched.retain(|(watcher, _, _)| watcher.node() != node);
        self.calls.retain(|route, _| route.to.node() != node);
        told
    }

    /// The client is lost: what is to be said in the name of its processes, which are `node`'s.
    pub(crate) fn lost(&mut self, node: &NodeId) -> Vec<Signal> {
        let edges = std::mem::take(self);
        let own = |serial: Serial| Pid::new(node.clone(), serial);
        let links = edges.links.into_iter().map(|(serial, pid)| Signal {
            from: own(serial),
            to: pid.into(),
            body: SignalBody::Exit { reason: ExitReason::NoConnection, linked: true },
        });
        let watching = edges.watching.into_iter().map(|((serial, monitor), target)| Signal {
            from: own(serial),
            to: target,
            body: SignalBody::Demonitor(monitor),
        });
        let watched = edges.watched.into_iter().map(|(watcher, monitor, serial)| Signal {
            from: own(serial),
            to: watcher.into(),
            body: SignalBody::Down { monitor, reason: ExitReason::NoConnection },
        });
        let calls = edges.calls.into_iter().map(|(route, serial)| Signal {
            from: own(serial),
            to: route.to.into(),
            body: SignalBody::Reply { call: route.call, outcome: Err(CallFailure::NoConnection) },
        });
        links.chain(watching).chain(watched).chain(calls).chain(edges.credits.lost(node)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)] // A test may stop where it fails.

    use rookery_protocol::{
        Incarnation, NodeName, Payload, SessionId, UnlinkId,
        request::{RequestBody, RequestError, SpawnRequest},
    };

    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(NodeName::new(name).unwrap(), Incarnation(1))
    }

    /// A process of the client, whose node is `home`.
    fn own(number: u32) -> Pid {
        Pid::new(node("home"), Serial::of_client(SessionId::new(1).unwrap(), number))
    }

    fn far(serial: u64) -> Pid {
        Pid::new(node("far"), Serial(serial))
    }

    fn signal(from: &Pid, to: &Pid, body: SignalBody) -> Signal {
        Signal { from: from.clone(), to: to.into(), body }
    }

    fn call(to: &Pid, call: u64) -> (ReplyRoute, SignalBody) {
        let route = ReplyRoute { to: to.clone(), call: CallId(call) };
        let body = SignalBody::Message {
            payload: Payload::json("1"),
            reply: Some(route.clone()),
            deadline_ms: None,
            credit: None,
            trace: None,
        };
        (route, body)
    }

    fn reply(call: u64) -> SignalBody {
        SignalBody::Reply { call: CallId(call), outcome: Ok(Payload::json("1")) }
    }

    fn down(monitor: u64) -> SignalBody {
        SignalBody::Down { monitor: Ref(monitor), reason: ExitReason::Normal }
    }

    /// What is said for a client that is lost, in an order that can be compared.
    fn said(mut edges: Edges) -> Vec<String> {
        let mut said: Vec<String> = edges
            .lost(&node("home"))
            .iter()
            .map(|signal| format!("{} {} {:?}", signal.from, signal.to, signal.body))
            .collect();
        assert_eq!(edges.len(), 0);
        said.sort();
        said
    }

    #[test]
    fn a_lost_client_ends_each_tie_once() {
        let mut edges = Edges::default();
        edges.sent(&signal(&own(1), &far(1), SignalBody::Link));
        // Both link: it is one link.
        edges.passed(&signal(&far(1), &own(1), SignalBody::Link));
        edges.sent(&signal(&own(1), &far(2), SignalBody::Monitor(Ref(7))));
        edges.passed(&signal(&far(3), &own(2), SignalBody::Monitor(Ref(8))));
        edges.passed(&signal(&far(4), &own(2), call(&far(4), 9).1));
        let no_connection = ExitReason::NoConnection;
        let mut expected = [
            signal(&own(1), &far(1), SignalBody::Exit { reason: no_connection.clone(), linked: true }),
            signal(&own(1), &far(2), SignalBody::Demonitor(Ref(7))),
            signal(&own(2), &far(3), SignalBody::Down { monitor: Ref(8), reason: no_connection }),
            signal(&own(2), &far(4), SignalBody::Reply { call: CallId(9), outcome: Err(CallFailure::NoConnection) }),
        ]
        .iter()
        .map(|signal| format!("{} {} {:?}", signal.from, signal.to, signal.body))
        .collect::<Vec<_>>();
        expected.sort();
        assert_eq!(said(edges), expected);
    }

    #[test]
    fn what_has_ended_is_not_told() {
        let mut edges = Edges::default();
        edges.sent(&signal(&own(1), &far(1), SignalBody::Link));
        edges.sent(&signal(&own(1), &far(1), SignalBody::Unlink(UnlinkId(1))));
        edges.passed(&signal(&far(2), &own(1), SignalBody::Link));
        edges.passed(&signal(&far(2), &own(1), SignalBody::Exit { reason: ExitReason::Normal, linked: true }));
        edges.sent(&signal(&own(1), &far(3), SignalBody::Monitor(Ref(1))));
        edges.sent(&signal(&own(1), &far(3), SignalBody::Demonitor(Ref(1))));
        edges.sent(&signal(&own(1), &far(3), SignalBody::Monitor(Ref(2))));
        edges.passed(&signal(&far(3), &own(1), down(2)));
        edges.passed(&signal(&far(4), &own(1), SignalBody::Monitor(Ref(3))));
        edges.passed(&signal(&far(4), &own(1), SignalBody::Demonitor(Ref(3))));
        edges.passed(&signal(&far(5), &own(1), call(&far(5), 4).1));
        edges.sent(&signal(&own(1), &far(5), reply(4)));
        assert_eq!(said(edges), Vec::<String>::new());
    }

    #[test]
    fn an_answer_is_allowed_once_and_to_who_asked() {
        let mut edges = Edges::default();
        let answers = [signal(&own(1), &far(1), reply(1)), signal(&own(1), &far(1), down(2))];
        assert!(answers.iter().all(|answer| !edges.allows(answer)), "nobody has asked");
        edges.passed(&signal(&far(1), &own(1), call(&far(1), 1).1));
        edges.passed(&signal(&far(1), &own(1), SignalBody::Monitor(Ref(2))));
        assert!(!edges.allows(&signal(&own(1), &far(2), reply(1))), "another one has asked");
        assert!(!edges.allows(&signal(&own(2), &far(1), down(2))), "another one is monitored");
        for answer in &answers {
            assert!(edges.allows(answer));
            edges.sent(answer);
            assert!(!edges.allows(answer), "it has been answered");
        }
    }

    /// Sessions are numbered by each node: the same number elsewhere is another client.
    #[test]
    fn an_answer_for_a_client_of_another_node_cannot_be_asked_for() {
        let edges = Edges::default();
        let elsewhere = Pid::new(node("far"), own(1).serial());
        assert!(edges.allows(&signal(&own(1), &far(2), call(&own(1), 1).1)));
        assert!(!edges.allows(&signal(&own(1), &far(2), call(&elsewhere, 1).1)));
    }

    /// Whoever a call is handed on to answers it from then on. So a client that hands on all it is asked keeps nothing of
    /// it, and its loss fails no call that another one is about to answer.
    #[test]
    fn a_call_that_is_handed_on_is_no_tie_of_the_client() {
        let mut edges = Edges::default();
        let (route, question) = call(&far(1), 1);
        let handed_on = signal(&own(1), &far(2), question.clone());
        assert!(!edges.allows(&handed_on), "a call of others that it was not asked");
        edges.passed(&signal(&far(1), &own(1), question));
        assert!(edges.allows(&handed_on));
        edges.sent(&handed_on);
        assert_eq!(edges.len(), 0, "{route:?} is still remembered");
        assert!(!edges.allows(&signal(&own(1), &far(1), reply(1))));
    }

    #[test]
    fn a_spawn_makes_its_ties_when_it_is_answered() {
        let spawn = || {
            let spawn = SpawnRequest {
                behaviour: "counter".try_into().unwrap(),
                arguments: Payload::json("null"),
                name: None,
                link: true,
                monitor: Some(Ref(5)),
            };
            SignalBody::Request { call: CallId(1), body: Box::new(RequestBody::Spawn(spawn)) }
        };
        let target = Pid::new(node("far"), Serial::NODE);
        let answer = |body| signal(&target, &own(1), SignalBody::Response { call: CallId(1), body: Box::new(body) });

        let mut edges = Edges::default();
        edges.sent(&signal(&own(1), &target, spawn()));
        edges.passed(&answer(ResponseBody::Failed(RequestError::Draining)));
        assert_eq!(said(edges), Vec::<String>::new());

        let mut edges = Edges::default();
        edges.sent(&signal(&own(1), &target, spawn()));
        edges.passed(&answer(ResponseBody::Spawned(far(9))));
        assert_eq!(said(edges).len(), 2, "the link and the monitor");
    }

    #[test]
    fn a_lost_node_is_told_nothing() {
        let mut edges = Edges::default();
        for (n, other) in [far(1), Pid::new(node("near"), Serial(1))].into_iter().enumerate() {
            let n = n as u64;
            edges.sent(&signal(&own(1), &other, SignalBody::Link));
            edges.sent(&signal(&own(1), &other, SignalBody::Monitor(Ref(n))));
            edges.passed(&signal(&other, &own(1), SignalBody::Monitor(Ref(n))));
            edges.passed(&signal(&other, &own(1), call(&other, n).1));
        }
        assert!(edges.node_lost(&node("far"), &node("home")).is_empty());
        let said = said(edges);
        assert!(said.len() == 4 && said.iter().all(|said| !said.contains("far")), "{said:#?}");
    }

    #[test]
    fn an_answer_goes_to_the_client_itself_or_to_who_asked_it() {
        let session = SessionId::new(7).unwrap();
        let process = |node: &str| Pid::new(node.parse().unwrap(), Serial::of_client(session, 1));
        let from = process("a.1");
        let asks_for = |to: Pid| {
            let reply = Some(ReplyRoute { to, call: CallId(1) });
            let body = SignalBody::Message {
                payload: Payload::json("null"),
                reply,
                deadline_ms: None,
                credit: None,
                trace: None,
            };
            Signal { from: from.clone(), to: (&"<b.1.9>".parse::<Pid>().unwrap()).into(), body }
        };
        let mut edges = Edges::default();
        assert!(edges.allows(&asks_for(from.clone())));
        assert!(!edges.allows(&asks_for(process("nobody.1"))), "a node that it made up");
        let asker: Pid = "<c.1.3>".parse().unwrap();
        assert!(!edges.allows(&asks_for(asker.clone())));
        edges.message_passed(from.serial(), &asker, Some(&ReplyRoute { to: asker.clone(), call: CallId(1) }), None);
        assert!(edges.allows(&asks_for(asker)), "it hands on what it was asked");
    }
}
