//! Any value that the wire can carry.

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*, sample::select};
use rookery_protocol::{
    CallFailure, CallId, Codec, ControlFrame, CreditChange, CreditNumber, Destination, DirectoryUpdate, ExitReason,
    Group, GroupChange, Incarnation, NodeId, NodeName, Payload, Pid, ProcessName, Recipient, Ref, ReplyRoute, Serial,
    SessionId, Signal, SignalBody, SpanId, Stamp, Tag, TraceContext, TraceId, UnlinkId,
    control::{Goodbye, PeerAddresses},
    handshake::{Features, Hello, NewerLife, Refusal, RefusalCode, Role, Welcome},
    request::{RequestBody, RequestError, ResponseBody, SpawnRequest},
};

/// The sending end of a lane.
pub fn sender() -> NodeId {
    "orders-0.1f3a".parse().unwrap()
}

/// The receiving end.
pub fn receiver() -> NodeId {
    "billing-1.2a".parse().unwrap()
}

pub fn node_name() -> impl Strategy<Value = NodeName> {
    prop_oneof![9 => "[a-zA-Z0-9._-]{1,30}", 1 => "[a-zA-Z0-9._-]{253}"].prop_map(|text| text.parse().unwrap())
}

pub fn process_name() -> impl Strategy<Value = ProcessName> {
    prop_oneof![9 => "[a-zA-Z0-9._:/-]{1,30}", 1 => "[a-zA-Z0-9._:/-]{255}"].prop_map(|text| text.parse().unwrap())
}

pub fn group() -> impl Strategy<Value = Group> {
    "([a-z0-9._:/-]{1,20}#)?[a-zA-Z0-9._:/-]{1,30}".prop_map(|text| text.parse().unwrap())
}

fn update() -> impl Strategy<Value = DirectoryUpdate> {
    prop_oneof![
        (process_name(), any::<u64>()).prop_map(|(name, stamp)| DirectoryUpdate::Hold { name, stamp: Stamp(stamp) }),
        process_name().prop_map(|name| DirectoryUpdate::Release { name }),
        (group(), any::<u32>()).prop_map(|(group, times)| DirectoryUpdate::Join { group, times }),
        (group(), any::<u32>()).prop_map(|(group, times)| DirectoryUpdate::Leave { group, times }),
        Just(DirectoryUpdate::Gone),
    ]
}

pub fn node_id() -> impl Strategy<Value = NodeId> {
    (node_name(), any::<u64>()).prop_map(|(name, incarnation)| NodeId::new(name, Incarnation(incarnation)))
}

/// A node of a lane: often one of its ends.
fn lane_node() -> impl Strategy<Value = NodeId> {
    prop_oneof![3 => Just(sender()), 3 => Just(receiver()), 1 => Just("a.1".parse().unwrap()), 2 => node_id()]
}

pub fn pid() -> impl Strategy<Value = Pid> {
    (lane_node(), any::<u64>()).prop_map(|(node, serial)| Pid::new(node, Serial(serial)))
}

pub fn session() -> impl Strategy<Value = SessionId> {
    (0..=SessionId::MAX).prop_map(|number| SessionId::new(number).unwrap())
}

/// Any text of at most 200 bytes.
fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..50).prop_map(|chars| chars.into_iter().collect())
}

pub fn reason() -> impl Strategy<Value = ExitReason> {
    prop_oneof![
        select(vec![
            ExitReason::Normal,
            ExitReason::Shutdown,
            ExitReason::Kill,
            ExitReason::Killed,
            ExitReason::NoProc,
            ExitReason::NoConnection,
        ]),
        text().prop_map(ExitReason::ShutdownWith),
        text().prop_map(ExitReason::Panic),
        text().prop_map(ExitReason::Error),
        text().prop_map(ExitReason::Refused),
        text().prop_map(ExitReason::NameConflict),
        (11_u8.., text()).prop_map(|(number, text)| ExitReason::Other(number, text)),
    ]
}

pub fn codec() -> impl Strategy<Value = Codec> {
    select(vec![Codec::Bincode, Codec::MessagePack, Codec::Json, Codec::Raw])
}

pub fn payload() -> impl Strategy<Value = Payload> {
    (text(), codec(), vec(any::<u8>(), 0..300)).prop_map(|(tag, codec, body)| Payload {
        tag: Tag::new(Bytes::from(tag)).unwrap(),
        codec,
        body: Bytes::from(body),
    })
}

fn failure() -> impl Strategy<Value = CallFailure> {
    prop_oneof![
        Just(CallFailure::NoProc),
        Just(CallFailure::NoConnection),
        reason().prop_map(CallFailure::Exited),
        (payload(), text()).prop_map(|(payload, detail)| CallFailure::Unsupported { tag: payload.tag, detail }),
        text().prop_map(CallFailure::Refused),
    ]
}

fn request() -> impl Strategy<Value = RequestBody> {
    let spawn = (process_name(), payload(), option::of(process_name()), any::<bool>(), option::of(any::<u64>()))
        .prop_map(|(behaviour, arguments, name, link, monitor)| SpawnRequest {
            behaviour: behaviour.as_str().parse().unwrap(),
            arguments,
            name,
            link,
            monitor: monitor.map(Ref),
        })
        .boxed();
    prop_oneof![
        spawn.clone().prop_map(RequestBody::Spawn),
        (spawn, option::of(process_name()), vec(group(), 0..4))
            .prop_map(|(spawn, name, groups)| RequestBody::SpawnInCluster { spawn, name, groups }),
        (process_name(), pid()).prop_map(|(name, pid)| RequestBody::Register { name, pid }),
        (process_name(), pid()).prop_map(|(name, pid)| RequestBody::Unregister { name, pid }),
        process_name().prop_map(|name| RequestBody::WhereIs { name }),
        (process_name(), pid()).prop_map(|(name, pid)| RequestBody::Claim { name, pid }),
        (process_name(), pid()).prop_map(|(name, pid)| RequestBody::RegisterInCluster { name, pid }),
        (process_name(), pid()).prop_map(|(name, pid)| RequestBody::UnregisterInCluster { name, pid }),
        vec(process_name(), 0..5).prop_map(|names| RequestBody::WhereInCluster { names }),
        (group(), pid()).prop_map(|(group, pid)| RequestBody::Join { group, pid }),
        (group(), pid()).prop_map(|(group, pid)| RequestBody::Leave { group, pid }),
        (group(), pid(), any::<bool>()).prop_map(|(group, pid, tell)| RequestBody::Watch { group, pid, tell }),
        (group(), option::of(pid())).prop_map(|(group, after)| RequestBody::Members { group, after }),
    ]
}

fn response() -> impl Strategy<Value = ResponseBody> {
    let error = prop_oneof![
        select(vec![
            RequestError::Draining,
            RequestError::TooManyProcesses,
            RequestError::Unsupported,
            RequestError::NoConnection,
            RequestError::Timeout,
        ]),
        ("[a-z/]{1,30}", text()).prop_map(|(name, known)| {
            let name = name.parse().unwrap();
            RequestError::UnknownBehaviour { name, known }
        }),
        ("[a-z/]{1,30}", text()).prop_map(|(name, detail)| {
            let name = name.parse().unwrap();
            RequestError::BadArguments { name, detail }
        }),
        reason().prop_map(RequestError::InitFailed),
        (process_name(), pid()).prop_map(|(name, holder)| RequestError::NameTaken { name, holder }),
        pid().prop_map(RequestError::NoProc),
        text().prop_map(RequestError::Refused),
        (group(), pid()).prop_map(|(group, pid)| RequestError::NoMember { group, pid }),
    ];
    prop_oneof![
        pid().prop_map(ResponseBody::Spawned),
        Just(ResponseBody::Done),
        option::of(pid()).prop_map(ResponseBody::Found),
        error.prop_map(ResponseBody::Failed),
        vec(option::of(pid()), 0..5).prop_map(ResponseBody::Holders),
        (vec(pid(), 0..5), any::<bool>()).prop_map(|(pids, more)| ResponseBody::Members { pids, more }),
    ]
}

fn credit_number() -> impl Strategy<Value = CreditNumber> {
    any::<u32>().prop_map(CreditNumber)
}

fn trace() -> impl Strategy<Value = TraceContext> {
    let ids = (1..=u128::MAX, 1..=u64::MAX, any::<u8>());
    ids.prop_map(|(trace, span, flags)| TraceContext {
        trace: TraceId(trace.try_into().unwrap()),
        span: SpanId(span.try_into().unwrap()),
        flags,
    })
}

fn credit_change() -> impl Strategy<Value = CreditChange> {
    prop_oneof![any::<u32>().prop_map(CreditChange::More), Just(CreditChange::Unlimited), Just(CreditChange::Forget),]
}

fn body() -> impl Strategy<Value = SignalBody> {
    let route = (pid(), any::<u64>()).prop_map(|(to, call)| ReplyRoute { to, call: CallId(call) });
    prop_oneof![
        3 => (payload(), option::of(route), option::of(any::<u32>()), option::of(credit_number()), option::of(trace()))
            .prop_map(|(payload, reply, deadline_ms, credit, trace)| {
                SignalBody::Message { payload, reply, deadline_ms, credit, trace: trace.map(Box::new) }
            }),
        1 => (credit_number(), credit_change()).prop_map(|(number, change)| SignalBody::Credit { number, change }),
        2 => (any::<u64>(), prop_oneof![payload().prop_map(Ok), failure().prop_map(Err)])
            .prop_map(|(call, outcome)| SignalBody::Reply { call: CallId(call), outcome }),
        1 => Just(SignalBody::Link),
        1 => any::<u64>().prop_map(|id| SignalBody::Unlink(UnlinkId(id))),
        1 => any::<u64>().prop_map(|id| SignalBody::UnlinkAck(UnlinkId(id))),
        1 => (reason(), any::<bool>()).prop_map(|(reason, linked)| SignalBody::Exit { reason, linked }),
        1 => any::<u64>().prop_map(|id| SignalBody::Monitor(Ref(id))),
        1 => any::<u64>().prop_map(|id| SignalBody::Demonitor(Ref(id))),
        1 => (any::<u64>(), reason()).prop_map(|(id, reason)| SignalBody::Down { monitor: Ref(id), reason }),
        1 => (any::<u64>(), request())
            .prop_map(|(call, body)| SignalBody::Request { call: CallId(call), body: Box::new(body) }),
        1 => (any::<u64>(), response())
            .prop_map(|(call, body)| SignalBody::Response { call: CallId(call), body: Box::new(body) }),
        1 => node_id().prop_map(SignalBody::NodeUp),
        1 => (node_id(), text()).prop_map(|(node, reason)| SignalBody::NodeDown { node, reason }),
        1 => text().prop_map(|detail| SignalBody::Refused { detail }),
        2 => update().prop_map(SignalBody::Directory),
        1 => (group(), vec(pid(), 0..4), vec(pid(), 0..4))
            .prop_map(|(group, joined, left)| SignalBody::GroupChange(GroupChange { group, joined, left })),
        1 => (process_name(), pid()).prop_map(|(name, holder)| SignalBody::NameConflict { name, holder }),
    ]
}

/// A message with nothing beside its payload: of few processes and types, so that many are alike in a row.
pub fn brief() -> impl Strategy<Value = Signal> {
    let length = prop_oneof![8 => 0..40_usize, 2 => 120..140_usize, 1 => 1_000..1_100_usize];
    let tag = prop_oneof![9 => Just("Note"), 1 => Just("Other")];
    (prop_oneof![9 => Just(1_u64), 1 => Just(2)], prop_oneof![9 => Just(3_u64), 1 => Just(4)], tag, length).prop_map(
        |(from, to, tag, length)| Signal {
            from: Pid::new(sender(), Serial(from)),
            to: Destination { node: receiver(), to: Recipient::Serial(Serial(to)) },
            body: SignalBody::Message {
                payload: Payload { tag: Tag::from_static(tag), codec: Codec::Bincode, body: vec![7; length].into() },
                reply: None,
                deadline_ms: None,
                credit: None,
                trace: None,
            },
        },
    )
}

pub fn signal() -> impl Strategy<Value = Signal> {
    let to = prop_oneof![
        3 => any::<u64>().prop_map(|serial| Recipient::Serial(Serial(serial))),
        1 => process_name().prop_map(Recipient::Name),
        1 => process_name().prop_map(Recipient::ClusterName),
        1 => group().prop_map(Recipient::Group),
    ];
    (pid(), lane_node(), to, body()).prop_map(|(from, node, to, body)| {
        // Groups are sent messages alone.
        let to = match (to, &body) {
            (Recipient::Group(_), body) if !matches!(body, SignalBody::Message { .. }) => Recipient::Serial(Serial(1)),
            (to, _) => to,
        };
        Signal { from, to: Destination { node, to }, body }
    })
}

/// Addresses as they survive the wire: an IPv6 address's scope and flow are of its host alone.
fn address() -> impl Strategy<Value = std::net::SocketAddr> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(Into::into)
}

fn extensions() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    vec((text(), vec(any::<u8>(), 0..40)), 0..4)
}

fn refusal() -> impl Strategy<Value = Refusal> {
    (any::<u8>(), text(), option::of(node_id())).prop_map(|(code, text, by)| Refusal {
        code: RefusalCode::from(code),
        text,
        by,
        newer_life: None,
    })
}

prop_compose! {
    pub fn hello()(
        versions in any::<(u16, u16)>(),
        features in any::<u64>(),
        cluster in "[a-z0-9-]{1,63}",
        role in select(vec![Role::Node, Role::Client]),
        node in node_id(),
        listen_port in any::<u16>(),
        advertised in vec(address(), 0..18),
        max_message_bytes in any::<u32>(),
        lanes in any::<u8>(),
        replace in any::<bool>(),
        extensions in extensions(),
    ) -> Hello {
        let cluster = cluster.parse().unwrap();
        let features = Features(features);
        Hello { versions, features, cluster, role, node, listen_port, advertised, max_message_bytes, lanes, replace, extensions }
    }
}

prop_compose! {
    fn welcome()(
        version in any::<u16>(),
        features in any::<u64>(),
        node in node_id(),
        advertised in vec(address(), 0..18),
        max_message_bytes in any::<u32>(),
        lanes in any::<u8>(),
        session in option::of(session()),
        extensions in extensions(),
    ) -> Welcome {
        let features = Features(features);
        Welcome { version, features, node, advertised, max_message_bytes, lanes, session, extensions }
    }
}

pub fn control() -> impl Strategy<Value = ControlFrame> {
    let peer = (node_id(), vec(address(), 0..=16)).prop_map(|(node, addresses)| PeerAddresses { node, addresses });
    prop_oneof![
        hello().prop_map(ControlFrame::Hello),
        welcome().prop_map(ControlFrame::Welcome),
        refusal().prop_map(ControlFrame::Refuse),
        Just(ControlFrame::Confirm),
        Just(ControlFrame::Renew),
        refusal().prop_map(ControlFrame::Abort),
        text().prop_map(|reason| ControlFrame::Goodbye(Goodbye { reason })),
        vec(peer, 0..8).prop_map(ControlFrame::Peers),
        any::<(u64, bool)>().prop_map(|(incarnation, runs)| {
            ControlFrame::NewerLife(NewerLife { incarnation: Incarnation(incarnation), runs })
        }),
    ]
}
