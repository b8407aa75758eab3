//! The values that the golden vectors are made of: every kind of frame, every variant of every enum in one.

use bytes::Bytes;
use rookery_protocol::{
    CallFailure, CallId, Codec, ControlFrame, CreditChange, CreditNumber, Destination, DirectoryUpdate, ExitReason,
    Group, GroupChange, Incarnation, NodeId, Payload, Pid, Recipient, Ref, ReplyRoute, Serial, SessionId, Signal,
    SignalBody, Stamp, Tag, Ticket, TicketNumber, UnlinkId,
    control::{Goodbye, Heard, PeerAddresses},
    handshake::{Features, Hello, NewerLife, Refusal, RefusalCode, RenewedSession, Role, Welcome},
    request::{RequestBody, RequestError, ResponseBody, SpawnRequest},
};

/// The sending end of the lane vectors.
pub const SENDER: &str = "orders-0.18f3a2b4c5d";
/// The receiving end.
pub const RECEIVER: &str = "billing-1.2a";

/// What one vector carries.
pub enum Content {
    /// A frame of a control stream.
    Control(Box<ControlFrame>),
    /// The first frame of a lane.
    Open(u8),
    /// A signal, with the definitions of the nodes that it names.
    Signal(Box<Signal>),
    /// Signals behind each other, with the definitions of the types that they name by number.
    Brief(Vec<Signal>),
    /// The same, where both ends know of runs.
    Run(Vec<Signal>),
    /// One, but its body comes on a stream of its own.
    Ticketed(Box<Signal>, Ticket),
    /// The beginning of such a stream.
    Bulk(TicketNumber),
}

/// One golden vector.
pub struct Vector {
    pub name: String,
    pub description: String,
    pub content: Content,
}

pub fn all() -> Vec<Vector> {
    let mut list = List(Vec::new());
    list.control_frames();
    list.add("lane_open", "The first frame of a lane: its number.", Content::Open(3));
    list.addresses();
    list.messages();
    list.replies();
    list.links_and_monitors();
    list.reasons();
    list.requests();
    list.responses();
    list.told_to_clients();
    list.directory();
    list.bulk();
    list.membership();
    list.credit();
    list.types();
    list.traces();
    list.renewal();
    list.0
}

fn node(text: &str) -> NodeId {
    text.parse().unwrap()
}

fn pid(text: &str) -> Pid {
    text.parse().unwrap()
}

fn own(serial: u64) -> Pid {
    Pid::new(node(SENDER), Serial(serial))
}

fn peers(serial: u64) -> Pid {
    Pid::new(node(RECEIVER), Serial(serial))
}

fn payload(tag: &'static str, codec: Codec, body: &'static [u8]) -> Payload {
    Payload { tag: Tag::from_static(tag), codec, body: Bytes::from_static(body) }
}

fn message(payload: Payload, reply: Option<ReplyRoute>, deadline_ms: Option<u32>) -> SignalBody {
    SignalBody::Message { payload, reply, deadline_ms, credit: None, trace: None }
}

struct List(Vec<Vector>);

impl List {
    fn add(&mut self, name: &str, description: &str, content: Content) {
        self.0.push(Vector { name: name.into(), description: description.into(), content });
    }

    fn control(&mut self, name: &str, description: &str, frame: ControlFrame) {
        self.add(name, description, Content::Control(Box::new(frame)));
    }

    fn between(&mut self, name: &str, description: &str, from: Pid, to: impl Into<Destination>, body: SignalBody) {
        self.add(name, description, Content::Signal(Box::new(Signal { from, to: to.into(), body })));
    }

    fn signal(&mut self, name: &str, description: &str, body: SignalBody) {
        self.between(name, description, own(42), peers(7), body);
    }

    fn control_frames(&mut self) {
        let hello = Hello {
            versions: (1, 1),
            features: Features(0),
            cluster: "shop".parse().unwrap(),
            role: Role::Node,
            node: node(SENDER),
            listen_port: 7400,
            advertised: Vec::new(),
            max_message_bytes: 16 * 1024 * 1024,
            lanes: 4,
            replace: false,
            extensions: Vec::new(),
        };
        self.control("hello_node", "A node introduces itself.", ControlFrame::Hello(hello.clone()));
        let client = Hello { role: Role::Client, node: node("web.1"), listen_port: 0, lanes: 1, ..hello.clone() };
        self.control("hello_client", "A client introduces itself.", ControlFrame::Hello(client));
        let future = Hello {
            versions: (1, 9),
            features: Features(u64::MAX),
            advertised: vec!["10.1.2.3:7400".parse().unwrap(), "[2001:db8::7]:7401".parse().unwrap()],
            replace: true,
            extensions: vec![("compression".into(), vec![1, 2, 255]), ("empty".into(), Vec::new())],
            ..hello
        };
        let text = "A newer node: more versions, features and extensions than version 1 knows. It is accepted.";
        self.control("hello_of_a_newer_node", text, ControlFrame::Hello(future));

        let welcome = Welcome {
            version: 1,
            features: Features(0),
            node: node(RECEIVER),
            advertised: vec!["10.1.2.4:7400".parse().unwrap()],
            max_message_bytes: 1024,
            lanes: 64,
            session: None,
            extensions: Vec::new(),
        };
        self.control("welcome_node", "A node is taken.", ControlFrame::Welcome(welcome.clone()));
        let session = SessionId::new(70_000);
        let client = Welcome { session, extensions: vec![("x".into(), vec![9])], ..welcome };
        self.control("welcome_client", "A client is taken, and gets its session.", ControlFrame::Welcome(client));

        for number in 0..=10_u8 {
            let code = RefusalCode::from(number);
            let refusal = Refusal { code, text: "what happened".into(), by: Some(node(RECEIVER)), newer_life: None };
            let name = format!("refuse_{}", code.name());
            self.control(&name, "The acceptor does not take the dialler.", ControlFrame::Refuse(refusal));
        }
        let refusal =
            Refusal { code: RefusalCode::Other(200), text: "something new".into(), by: None, newer_life: None };
        let text = "A code that version 1 does not know, of one who does not say who it is.";
        self.control("refuse_by_a_newer_node", text, ControlFrame::Refuse(refusal));
        self.control("confirm", "The dialler uses this connection. No body.", ControlFrame::Confirm);
        let refusal = Refusal {
            code: RefusalCode::Duplicate,
            text: "kept the other".into(),
            by: Some(node(SENDER)),
            newer_life: None,
        };
        self.control("abort", "The dialler does not.", ControlFrame::Abort(refusal));
        let goodbye = Goodbye { reason: "shutting down".into() };
        self.control("goodbye", "An orderly end.", ControlFrame::Goodbye(goodbye));
        self.control("peers_none", "An empty list of addresses.", ControlFrame::Peers(Vec::new()));
        let peer = |id, addresses: &[&str]| PeerAddresses {
            node: node(id),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        let list =
            vec![peer("stock-0.9", &["10.0.0.9:7400", "[fd00::9]:65535"]), peer("stock-1.ffffffffffffffff", &[])];
        self.control("peers", "Addresses of two nodes: IPv4 and IPv6; none.", ControlFrame::Peers(list));
    }

    fn addresses(&mut self) {
        let to_name = Destination::name(node(RECEIVER), "shop/orders:eu-west-1_4.2".parse().unwrap());
        self.between("link_by_name", "The recipient is given by name: flag 0x01.", own(42), to_name, SignalBody::Link);
        let session = SessionId::new(5).unwrap();
        let client = Pid::new(node(SENDER), Serial::of_client(session, 3));
        self.between(
            "link_of_a_client",
            "A client's process: bit 63, session 5, number 3.",
            client,
            peers(7),
            SignalBody::Link,
        );
        let text = "Sender and recipient are of two other nodes: each gets a number by a NodeDef first.";
        self.between("link_relayed", text, pid("<stock-0.9.1>"), pid("<web.1.2>"), SignalBody::Link);
        let text =
            "The recipient lives on the sending node: number 0 is its own on each side, so it is defined as well.";
        self.between("link_back", text, own(42), own(43), SignalBody::Link);
        let largest = pid("<a.ffffffffffffffff.18446744073709551615>");
        self.between(
            "link_largest_numbers",
            "The largest incarnation and serial.",
            largest,
            peers(u64::MAX),
            SignalBody::Link,
        );
    }

    fn messages(&mut self) {
        for (name, codec, body) in [
            ("bincode", Codec::Bincode, &[1, 10][..]),
            ("message_pack", Codec::MessagePack, &[0x81, 0xa3, b'A', b'd', b'd', 5]),
            ("json", Codec::Json, br#"{"Add":5}"#),
            ("raw", Codec::Raw, &[0, 255]),
        ] {
            let text = format!("A message in the codec {name}.");
            self.signal(&format!("message_{name}"), &text, message(payload("Counter", codec, body), None, None));
        }
        let empty = || payload("", Codec::Json, b"");
        self.signal(
            "message_empty",
            "No tag: whatever the receiver understands. No body.",
            message(empty(), None, None),
        );
        let get = || payload("Counter", Codec::Json, br#"{"Get":null}"#);
        let route = |to| Some(ReplyRoute { to, call: CallId(77) });
        let text = "An answer is awaited by the sender: flag 0x02.";
        self.signal("message_call", text, message(get(), route(own(42)), None));
        let text = "A call with a deadline, as the command line sends it: by name, flags 0x07.";
        let to = Destination::name(node(RECEIVER), "counter".parse().unwrap());
        self.between("message_call_by_name", text, own(0), to, message(get(), route(own(0)), Some(5000)));
        let text = "The answer goes to a process of a third node, which is defined first.";
        self.signal("message_reply_elsewhere", text, message(get(), route(pid("<stock-0.9.12>")), Some(u32::MAX)));
        let text = "A deadline without an answer: flag 0x04. The tag is not ASCII.";
        self.signal("message_deadline", text, message(payload("Zähler", Codec::Raw, b"x"), None, Some(0)));
    }

    fn replies(&mut self) {
        let reply = |outcome| SignalBody::Reply { call: CallId(77), outcome };
        self.signal("reply", "The answer.", reply(Ok(payload("i64", Codec::Bincode, &[10]))));
        let unsupported =
            CallFailure::Unsupported { tag: Tag::from_static("Counter"), detail: "no such variant".into() };
        for (name, failure) in [
            ("no_proc", CallFailure::NoProc),
            ("exited", CallFailure::Exited(ExitReason::Panic("index out of bounds".into()))),
            ("unsupported", unsupported),
            ("refused", CallFailure::Refused("not in the policy".into())),
            ("no_connection", CallFailure::NoConnection),
        ] {
            self.signal(&format!("reply_{name}"), "No answer, and why.", reply(Err(failure)));
        }
    }

    fn links_and_monitors(&mut self) {
        self.signal("link", "Makes a link.", SignalBody::Link);
        self.signal("unlink", "Removes it.", SignalBody::Unlink(UnlinkId(1)));
        self.signal("unlink_ack", "Acknowledges that.", SignalBody::UnlinkAck(UnlinkId(u64::MAX)));
        self.signal("monitor", "Starts to monitor.", SignalBody::Monitor(Ref(258)));
        let to = Destination::name(node(RECEIVER), "counter".parse().unwrap());
        self.between("monitor_by_name", "Monitors whoever has a name.", own(42), to, SignalBody::Monitor(Ref(259)));
        self.signal("demonitor", "Stops to monitor.", SignalBody::Demonitor(Ref(258)));
    }

    fn reasons(&mut self) {
        for (name, reason) in [
            ("normal", ExitReason::Normal),
            ("shutdown", ExitReason::Shutdown),
            ("shutdown_with", ExitReason::ShutdownWith("rolling update".into())),
            ("kill", ExitReason::Kill),
            ("killed", ExitReason::Killed),
            ("no_proc", ExitReason::NoProc),
            ("no_connection", ExitReason::NoConnection),
            ("panic", ExitReason::Panic("schlägt fehl".into())),
            ("error", ExitReason::Error("disk full".into())),
            ("refused", ExitReason::Refused("policy".into())),
            ("name_conflict", ExitReason::NameConflict("shop/till is held by another".into())),
            ("other", ExitReason::Other(200, "of a newer version".into())),
        ] {
            let exit = SignalBody::Exit { reason: reason.clone(), linked: false };
            self.signal(&format!("exit_{name}"), "An exit signal that a process sent.", exit);
            let down = SignalBody::Down { monitor: Ref(258), reason };
            self.signal(&format!("down_{name}"), "What was monitored is down.", down);
        }
        let exit = SignalBody::Exit { reason: ExitReason::Kill, linked: true };
        self.signal("exit_linked", "An exit signal that comes from a link: flag 0x02.", exit);
    }

    fn requests(&mut self) {
        let group = || "chat#rooms".parse().unwrap();
        let name = || "counter".parse().unwrap();
        let spawn = SpawnRequest {
            behaviour: "counter".parse().unwrap(),
            arguments: payload("", Codec::Json, b"null"),
            name: None,
            link: false,
            monitor: None,
        };
        let full = SpawnRequest {
            arguments: payload("Settings", Codec::MessagePack, &[0x80]),
            name: Some(name()),
            link: true,
            monitor: Some(Ref(300)),
            ..spawn.clone()
        };
        let in_cluster =
            RequestBody::SpawnInCluster { spawn: spawn.clone(), name: Some(name()), groups: vec![group()] };
        for (suffix, body) in [
            ("spawn_in_cluster", in_cluster),
            ("spawn", RequestBody::Spawn(spawn)),
            ("spawn_named_linked_monitored", RequestBody::Spawn(full)),
            ("register", RequestBody::Register { name: name(), pid: own(42) }),
            ("unregister", RequestBody::Unregister { name: name(), pid: own(42) }),
            ("where_is", RequestBody::WhereIs { name: name() }),
            ("claim", RequestBody::Claim { name: name(), pid: own(42) }),
            ("register_in_cluster", RequestBody::RegisterInCluster { name: name(), pid: own(42) }),
            ("unregister_in_cluster", RequestBody::UnregisterInCluster { name: name(), pid: own(42) }),
            ("where_in_cluster", RequestBody::WhereInCluster { names: vec![name(), "shop/till".parse().unwrap()] }),
            ("join", RequestBody::Join { group: group(), pid: own(42) }),
            ("leave", RequestBody::Leave { group: group(), pid: own(42) }),
            ("watch", RequestBody::Watch { group: group(), pid: own(42), tell: true }),
            ("members", RequestBody::Members { group: group(), after: None }),
            ("members_after", RequestBody::Members { group: group(), after: Some(own(42)) }),
        ] {
            let body = SignalBody::Request { call: CallId(9), body: Box::new(body) };
            self.between(
                &format!("request_{suffix}"),
                "Asks a node: the recipient's serial is 0.",
                own(42),
                peers(0),
                body,
            );
        }
    }

    fn responses(&mut self) {
        let name = || "counter".parse().unwrap();
        let behaviour = || "counter".parse().unwrap();
        let failed = ResponseBody::Failed;
        for (suffix, body) in [
            ("spawned", ResponseBody::Spawned(peers(8))),
            ("done", ResponseBody::Done),
            ("found", ResponseBody::Found(Some(peers(8)))),
            ("found_none", ResponseBody::Found(None)),
            (
                "unknown_behaviour",
                failed(RequestError::UnknownBehaviour { name: behaviour(), known: "echo, kv".into() }),
            ),
            ("bad_arguments", failed(RequestError::BadArguments { name: behaviour(), detail: "no number".into() })),
            ("init_failed", failed(RequestError::InitFailed(ExitReason::Error("no such file".into())))),
            ("draining", failed(RequestError::Draining)),
            ("too_many_processes", failed(RequestError::TooManyProcesses)),
            ("name_taken", failed(RequestError::NameTaken { name: name(), holder: peers(8) })),
            ("no_proc", failed(RequestError::NoProc(peers(8)))),
            ("refused", failed(RequestError::Refused("not in the policy".into()))),
            ("unsupported", failed(RequestError::Unsupported)),
            ("no_connection", failed(RequestError::NoConnection)),
            ("timeout", failed(RequestError::Timeout)),
            ("no_member", failed(RequestError::NoMember { group: "chat#rooms".parse().unwrap(), pid: own(42) })),
            ("holders", ResponseBody::Holders(vec![Some(peers(8)), None])),
            ("members", ResponseBody::Members { pids: vec![own(1), peers(8)], more: true }),
        ] {
            let body = SignalBody::Response { call: CallId(9), body: Box::new(body) };
            self.between(&format!("response_{suffix}"), "The node answers: its serial is 0.", own(0), peers(7), body);
        }
    }

    fn directory(&mut self) {
        let (name, group) = (|| "shop/till".parse().unwrap(), || "chat#rooms".parse::<Group>().unwrap());
        for (suffix, text, update) in [
            (
                "hold",
                "The sender holds a cluster name.",
                DirectoryUpdate::Hold { name: name(), stamp: Stamp(u64::MAX) },
            ),
            ("release", "It gives it up.", DirectoryUpdate::Release { name: name() }),
            ("join", "It joins a group, once.", DirectoryUpdate::Join { group: group(), times: 1 }),
            ("leave", "It leaves it, thrice.", DirectoryUpdate::Leave { group: group(), times: 300 }),
            ("gone", "It has ended.", DirectoryUpdate::Gone),
        ] {
            self.between(&format!("directory_{suffix}"), text, own(42), peers(0), SignalBody::Directory(update));
        }
        let here = |to| Destination { node: node(RECEIVER), to };
        let (call, to) = (Some(ReplyRoute { to: own(0), call: CallId(77) }), here(Recipient::ClusterName(name())));
        let text = "The recipient is given by its name in the cluster: flag 0x08.";
        self.between("message_by_cluster_name", text, own(0), to, message(payload("", Codec::Json, b"1"), call, None));
        let to = here(Recipient::Group(group()));
        let text = "To every member that a group has on the node: flag 0x10.";
        self.between("message_to_group", text, own(42), to, message(payload("", Codec::Json, b"1"), None, None));
        let change = GroupChange { group: group(), joined: vec![own(1), own(1)], left: vec![pid("<stock-0.9.1>")] };
        let text = "What has changed in a group, told to a client's process. May be skipped.";
        self.signal("group_change", text, SignalBody::GroupChange(change));
        let conflict = SignalBody::NameConflict { name: name(), holder: pid("<stock-0.9.1>") };
        self.signal("name_conflict", "A client's process has lost a cluster name. May be skipped.", conflict);
    }

    fn told_to_clients(&mut self) {
        self.signal("node_up", "A node is up. May be skipped.", SignalBody::NodeUp(node("stock-0.9")));
        let down = SignalBody::NodeDown { node: node("stock-0.9"), reason: "idle for 5 s".into() };
        self.signal("node_down", "A node is down. May be skipped.", down);
        let refused = SignalBody::Refused { detail: "send to `admin`: not in the policy".into() };
        self.signal("refused", "What was sent is not allowed. May be skipped.", refused);
    }

    fn renewal(&mut self) {
        self.control("renew", "A client is to dial its node anew. No body. May be skipped.", ControlFrame::Renew);
        let hello = Hello {
            versions: (1, 1),
            features: Features::RENEW_SESSION,
            cluster: "shop".parse().unwrap(),
            role: Role::Client,
            node: node("web.1"),
            listen_port: 0,
            advertised: Vec::new(),
            max_message_bytes: 16 * 1024 * 1024,
            lanes: 1,
            replace: false,
            extensions: Vec::new(),
        };
        let proof = std::array::from_fn(|at| u8::try_from(at).unwrap() + 0x40);
        let renewed = RenewedSession { session: SessionId::new(70_000).unwrap(), proof };
        let text = "A client's session is to go on over this connection.";
        self.control("hello_client_renews", text, ControlFrame::Hello(hello.with_session(&renewed)));
    }

    fn membership(&mut self) {
        let node = node("stock-0.9");
        let asks = ControlFrame::HaveYouHeard(node.clone());
        self.control("have_you_heard", "Asks whether a node is heard. May be skipped.", asks);
        for (name, description, ms_ago) in [
            ("heard", "A node was heard 1.5 s ago. May be skipped.", Some(1_500)),
            ("heard_not", "There is no connection with it. May be skipped.", None),
        ] {
            let heard = Heard { node: node.clone(), ms_ago };
            self.control(name, description, ControlFrame::Heard(heard));
        }
        let leaves = ControlFrame::Leaving(Goodbye { reason: "SIGTERM".into() });
        self.control("leaving", "A node is about to leave, told to its client. May be skipped.", leaves);
        for (name, description, runs) in [
            ("newer_life", "A newer life of the peer's name runs; a refusal follows. May be skipped.", true),
            ("newer_life_gone", "A newer life of the peer's name was here, and has gone. May be skipped.", false),
        ] {
            let newer = NewerLife { incarnation: Incarnation(0x0006_6115_9464_b1df), runs };
            self.control(name, description, ControlFrame::NewerLife(newer));
        }
    }

    fn bulk(&mut self) {
        let ticket = Ticket { number: TicketNumber(0x0102_0304_0506), body_bytes: 1 << 20 };
        let route = Some(ReplyRoute { to: own(42), call: CallId(7) });
        let plain = message(payload("Image", Codec::Bincode, b""), None, None);
        let called = message(payload("Image", Codec::Raw, b""), route, Some(1_500));
        let answer = SignalBody::Reply { call: CallId(9), outcome: Ok(payload("Image", Codec::Json, b"")) };
        for (name, description, body) in [
            ("message_ticket", "A message whose body comes on a bulk stream.", plain),
            ("message_ticket_called", "The same, with an answer awaited within 1.5 s.", called),
            ("reply_ticket", "An answer whose body comes on a bulk stream.", answer),
        ] {
            let signal = Signal { from: own(42), to: peers(7).into(), body };
            self.add(name, description, Content::Ticketed(Box::new(signal), ticket));
        }
        self.add("bulk_open", "The beginning of a bulk stream; its body follows.", Content::Bulk(ticket.number));
    }

    fn types(&mut self) {
        let brief = |tag, codec, body| Signal {
            from: own(42),
            to: peers(7).into(),
            body: message(payload(tag, codec, body), None, None),
        };
        let (first, other) = (brief("Order", Codec::Bincode, b"\x01"), brief("Order", Codec::Json, b"2"));
        let named = Signal {
            to: Destination { node: node(RECEIVER), to: Recipient::Name("till".parse().unwrap()) },
            ..first.clone()
        };
        let signals = vec![first.clone(), other, named, Signal { from: own(43), to: peers(8).into(), ..first.clone() }];
        let text =
            "Types by number, each defined before; the third message names its own, since its recipient has a name.";
        self.add("brief", text, Content::Brief(signals));
        let long = Signal { body: message(payload("Order", Codec::Bincode, &[7; 130]), None, None), ..first.clone() };
        let signals = vec![first.clone(), long, first.clone(), Signal { to: peers(8).into(), ..first }];
        let text = "Three messages of one process to another share a frame; the second's length takes two bytes. The fourth is for another.";
        self.add("run", text, Content::Run(signals));
    }

    fn traces(&mut self) {
        let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
        let (trace, payload) = (Some(Box::new(context)), payload("Order", Codec::Bincode, b"\x01"));
        let sent = SignalBody::Message {
            payload: payload.clone(),
            reply: None,
            deadline_ms: None,
            credit: None,
            trace: trace.clone(),
        };
        self.signal("message_traced", "A message of a trace that is recorded: flag 0x40.", sent);
        let (reply, credit) = (Some(ReplyRoute { to: own(42), call: CallId(7) }), Some(CreditNumber(0x0102_0304)));
        let called = SignalBody::Message { payload, reply, deadline_ms: Some(1_500), credit, trace };
        self.signal("message_traced_called", "The same, with all that may stand before it.", called);
    }

    fn credit(&mut self) {
        let credit = Some(CreditNumber(0x0102_0304));
        let payload = payload("Order", Codec::Bincode, b"\x01");
        let counted =
            SignalBody::Message { payload: payload.clone(), reply: None, deadline_ms: None, credit, trace: None };
        self.signal("message_credit", "A message that took, or asks for, a credit: flag 0x20.", counted);
        let reply = Some(ReplyRoute { to: own(42), call: CallId(7) });
        let called = SignalBody::Message { payload, reply, deadline_ms: Some(1_500), credit, trace: None };
        self.signal("message_credit_called", "The same, with an answer awaited within 1.5 s.", called);
        let number = CreditNumber(0x0102_0304);
        for (suffix, text, change) in [
            ("more", "A bounded process lets the other node send 300 more. May be skipped.", CreditChange::More(300)),
            ("unlimited", "It has no limit, or has ended.", CreditChange::Unlimited),
        ] {
            let body = SignalBody::Credit { number, change };
            self.between(&format!("credit_{suffix}"), text, own(42), peers(0), body);
        }
        let forget = SignalBody::Credit { number, change: CreditChange::Forget };
        let client = Pid::new(node(SENDER), Serial::of_client(SessionId::new(3).unwrap(), 0));
        self.between(
            "credit_forget",
            "A client is lost: it sends no more under this number.",
            client,
            peers(7),
            forget,
        );
    }
}
