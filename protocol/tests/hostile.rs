//! Regressions: bytes and values that a careless or hostile end sends, and what has to come of each. Each of these was
//! a defect once.
#![allow(clippy::unwrap_used, clippy::panic)] // A test may stop where it fails.

use std::net::SocketAddr;

use bytes::Bytes;
use rookery_protocol::{
    CallFailure, CallId, Codec, ControlFrame, Destination, ExitReason, Frame, FrameDecoder, FrameKind, LaneDecoder,
    LaneEncoder, NodeId, Payload, Pid, Recipient, Ref, Serial, Signal, SignalBody, Tag, WireError, codec,
    control::{Goodbye, PeerAddresses},
    frame,
    handshake::{Action, CertificateFacts, Features, Handshake, Hello, Refusal, RefusalCode, Role, Welcome},
    id::{ClusterName, NodeName},
    limits::{
        FRAME_HEADER_BYTES, MAX_ADDRESSES_PER_PEER, MAX_CONTROL_BODY_BYTES, MAX_EXIT_TEXT_BYTES,
        MAX_MESSAGE_BYTES_FLOOR, MAX_NODE_NAME_BYTES, MAX_PEERS_PER_FRAME, MAX_REASON_BYTES,
    },
    request::{RequestError, ResponseBody},
};

fn node(text: &str) -> NodeId {
    text.parse().unwrap()
}

fn signal(body: SignalBody) -> Signal {
    Signal { from: Pid::new(node("a.1"), Serial(7)), to: Pid::new(node("b.2"), Serial(8)).into(), body }
}

fn lane_bytes(signal: &Signal) -> Vec<u8> {
    let mut out = Vec::new();
    LaneEncoder::open(0, &mut out);
    LaneEncoder::new(node("a.1"), node("b.2")).signal(signal, &mut out).unwrap();
    out
}

fn lane_decoder(bytes: Vec<u8>) -> LaneDecoder {
    let mut decoder = LaneDecoder::new(node("b.2"), node("a.1"), 1 << 20);
    decoder.push(Bytes::from(bytes));
    decoder
}

fn over_the_wire(signal: &Signal) -> Signal {
    lane_decoder(lane_bytes(signal)).next_signal().unwrap().unwrap()
}

/// A lane whose only signal has this kind, these flags, plain ends, and `rest` behind them.
fn crafted(kind: FrameKind, flags: u8, rest: &[u8]) -> Result<Option<Signal>, WireError> {
    let mut out = Vec::new();
    LaneEncoder::open(0, &mut out);
    let start = frame::begin(&mut out, kind, flags);
    out.extend_from_slice(&[0; 20]);
    out.extend_from_slice(rest);
    frame::finish(&mut out, start, 0);
    lane_decoder(out).next_signal()
}

#[test]
fn a_stream_that_broke_may_not_end_as_if_it_were_whole() {
    let mut decoder = FrameDecoder::new(16);
    decoder.push(Bytes::from_static(&[0xff; FRAME_HEADER_BYTES]));
    let error = decoder.next_frame().unwrap_err();
    assert_eq!(decoder.finish(), Err(error));
}

#[test]
fn a_lane_that_broke_stays_broken() {
    let mut bytes = Vec::new();
    LaneEncoder::open(0, &mut bytes);
    let start = frame::begin(&mut bytes, FrameKind::Link, 0);
    frame::finish(&mut bytes, start, 0);
    LaneEncoder::new(node("a.1"), node("b.2")).signal(&signal(SignalBody::Link), &mut bytes).unwrap();
    let mut decoder = lane_decoder(bytes);
    let error = decoder.next_signal().unwrap_err();
    assert_eq!(decoder.next_signal(), Err(error.clone()), "what follows a broken frame is not delivered");
    assert_eq!(decoder.finish(), Err(error));
}

#[test]
fn a_lane_takes_no_payload_beyond_its_limit() {
    let payload = |bytes| Payload { tag: Tag::default(), codec: Codec::Raw, body: Bytes::from(vec![0; bytes]) };
    let message = |bytes| SignalBody::Message {
        payload: payload(bytes),
        reply: None,
        deadline_ms: None,
        credit: None,
        trace: None,
    };
    let reply = |bytes| SignalBody::Reply { call: CallId(1), outcome: Ok(payload(bytes)) };
    for body in [&message as &dyn Fn(usize) -> SignalBody, &reply] {
        for (bytes, taken) in [(MAX_MESSAGE_BYTES_FLOOR, true), (MAX_MESSAGE_BYTES_FLOOR + 1, false)] {
            let mut decoder = LaneDecoder::new(node("b.2"), node("a.1"), MAX_MESSAGE_BYTES_FLOOR);
            decoder.push(Bytes::from(lane_bytes(&signal(body(bytes)))));
            assert_eq!(decoder.next_signal().is_ok(), taken, "{bytes} bytes");
        }
    }
}

#[test]
fn a_flag_that_is_not_known_is_an_error() {
    // A flag may add a field: whoever does not know it would take that field for the payload.
    assert!(crafted(FrameKind::Message, 0x00, &[4, 0]).is_ok());
    assert!(crafted(FrameKind::Message, 0x80, &[4, 0]).is_ok(), "skippable, but known");
    for flags in [0x09, 0x11, 0x18] {
        assert!(matches!(crafted(FrameKind::Message, flags, &[4, 0]), Err(WireError::Invalid { field: "flags", .. })));
    }
    assert!(matches!(crafted(FrameKind::Link, 0x40, &[]), Err(WireError::Invalid { field: "flags", .. })));
    assert!(matches!(crafted(FrameKind::Link, 0x10, &[]), Err(WireError::Invalid { field: "flags", .. })));
    assert!(matches!(crafted(FrameKind::Link, 0x02, &[]), Err(WireError::Invalid { field: "flags", .. })));
}

#[test]
fn x4_a_hostile_exit_text_is_cut_on_arrival() {
    let mut rest = 9_u64.to_le_bytes().to_vec();
    rest.push(7);
    rest.extend_from_slice(&u16::MAX.to_le_bytes());
    rest.extend_from_slice("ä".repeat(40_000).as_bytes().get(..65_534).unwrap());
    rest.push(b'x');
    let down = crafted(FrameKind::Down, 0, &rest).unwrap().unwrap();
    let SignalBody::Down { monitor: Ref(9), reason: ExitReason::Panic(text) } = down.body else { panic!("{down:?}") };
    assert!(text.len() <= MAX_EXIT_TEXT_BYTES && text.ends_with('…'));
    assert!(text.capacity() <= 2 * MAX_EXIT_TEXT_BYTES, "what was cut off is not held");
}

#[test]
fn x4_a_reason_within_a_response_is_cut_too() {
    let reason = ExitReason::Panic("x".repeat(MAX_EXIT_TEXT_BYTES + 1));
    let failed = |reason| ResponseBody::Failed(RequestError::InitFailed(reason));
    let sent = signal(SignalBody::Response { call: CallId(1), body: Box::new(failed(reason.clone())) });
    let came = over_the_wire(&sent);
    assert_eq!(came.body, SignalBody::Response { call: CallId(1), body: Box::new(failed(reason.cut())) });
}

#[test]
fn texts_of_failures_are_cut_at_the_sender() {
    let long = "ä".repeat(MAX_REASON_BYTES);
    let cut = "ä".repeat(MAX_REASON_BYTES / 2);
    let name = "b".parse().unwrap();
    let errors = [
        RequestError::Refused(long.clone()),
        RequestError::BadArguments { name: "b".parse().unwrap(), detail: long.clone() },
        RequestError::UnknownBehaviour { name, known: long.clone() },
    ];
    for error in errors {
        let body = Box::new(ResponseBody::Failed(error));
        let SignalBody::Response { body, .. } =
            over_the_wire(&signal(SignalBody::Response { call: CallId(1), body })).body
        else {
            panic!("a response became something else")
        };
        let text = match *body {
            ResponseBody::Failed(
                RequestError::Refused(text)
                | RequestError::BadArguments { detail: text, .. }
                | RequestError::UnknownBehaviour { known: text, .. },
            ) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(text, cut);
    }
    let outcome = Err(CallFailure::Refused(long));
    let came = over_the_wire(&signal(SignalBody::Reply { call: CallId(1), outcome }));
    assert_eq!(came.body, SignalBody::Reply { call: CallId(1), outcome: Err(CallFailure::Refused(cut)) });
}

#[test]
fn a_tag_that_is_too_long_breaks_no_connection() {
    // Cut in the middle of a character it would be no UTF-8, and the receiver would close the connection.
    let tag = Tag::from_static(Box::leak("ä".repeat(200).into_boxed_str()));
    let payload = Payload { tag, codec: Codec::Raw, body: Bytes::new() };
    let came = over_the_wire(&signal(SignalBody::Message {
        payload,
        reply: None,
        deadline_ms: None,
        credit: None,
        trace: None,
    }));
    let SignalBody::Message { payload, .. } = came.body else { panic!("{came:?}") };
    assert_eq!(payload.tag.as_str(), "ä".repeat(127));
}

#[test]
fn a_reason_of_a_newer_version_passes_through_bincode_too() {
    for reason in [ExitReason::Other(42, "later".into()), ExitReason::Normal, ExitReason::Panic("p".into())] {
        let mut bytes = Vec::new();
        codec::append(&reason, &mut bytes).unwrap();
        assert_eq!(codec::decode_payload::<ExitReason>(&bytes).unwrap(), reason);
    }
    // Number 42, text "later": the same numbers as in frames, so a reason that is not known here is no error.
    let mut bytes = vec![42, 5];
    bytes.extend_from_slice(b"later");
    assert_eq!(codec::decode_payload::<ExitReason>(&bytes).unwrap(), ExitReason::Other(42, "later".into()));
    let json = serde_json::to_string(&ExitReason::Panic("p".into())).unwrap();
    assert_eq!(json, r#"{"Panic":"p"}"#);
    assert_eq!(serde_json::from_str::<ExitReason>(&json).unwrap(), ExitReason::Panic("p".into()));
}

#[test]
fn a_refusal_of_a_newer_version_is_still_a_refusal() {
    let mut bytes = Vec::new();
    let refusal = Refusal { code: RefusalCode::TooSlow, text: "t".into(), by: None, newer_life: None };
    ControlFrame::Refuse(refusal).encode(&mut bytes).unwrap();
    bytes[FRAME_HEADER_BYTES] = 77;
    let frame = decode_frame(&bytes);
    let ControlFrame::Refuse(refusal) = ControlFrame::decode(&frame).unwrap() else { panic!("{frame:?}") };
    assert_eq!(refusal.code, RefusalCode::Other(77));
    let mut again = Vec::new();
    ControlFrame::Refuse(refusal).encode(&mut again).unwrap();
    assert_eq!(again, bytes, "it is passed on as it came");
}

fn decode_frame(bytes: &[u8]) -> Frame {
    let mut decoder = FrameDecoder::new(MAX_CONTROL_BODY_BYTES);
    decoder.push(Bytes::copy_from_slice(bytes));
    decoder.next_frame().unwrap().unwrap()
}

#[test]
fn the_largest_list_of_peers_fits_its_frame_and_a_larger_one_is_not_sent() {
    let name = NodeName::new("n".repeat(MAX_NODE_NAME_BYTES)).unwrap();
    let id = NodeId::new(name, rookery_protocol::Incarnation(u64::MAX));
    let address: SocketAddr = "[2001:db8::1]:65535".parse().unwrap();
    let peer = PeerAddresses { node: id, addresses: vec![address; MAX_ADDRESSES_PER_PEER] };
    let list = ControlFrame::Peers(vec![peer.clone(); MAX_PEERS_PER_FRAME]);
    let mut bytes = Vec::new();
    list.encode(&mut bytes).unwrap();
    assert!(bytes.len() <= MAX_CONTROL_BODY_BYTES + FRAME_HEADER_BYTES);
    assert_eq!(ControlFrame::decode(&decode_frame(&bytes)).unwrap(), list);

    let before = bytes.clone();
    assert!(ControlFrame::Peers(vec![peer; MAX_PEERS_PER_FRAME + 1]).encode(&mut bytes).is_err());
    assert_eq!(bytes, before, "nothing of a frame that cannot be sent is left in the buffer");
}

#[test]
fn a_control_frame_that_the_other_end_would_not_take_is_not_sent() {
    let mut hello = hello("a.1");
    hello.extensions = vec![("x".into(), vec![0; MAX_CONTROL_BODY_BYTES])];
    let mut bytes = vec![1];
    assert!(matches!(ControlFrame::Hello(hello).encode(&mut bytes), Err(WireError::FrameTooLarge { .. })));
    assert_eq!(bytes, [1]);
}

#[test]
fn texts_of_the_control_stream_are_cut_at_both_ends() {
    let long = "ä".repeat(MAX_REASON_BYTES);
    let cut = "ä".repeat(MAX_REASON_BYTES / 2);
    let refusal = Refusal { code: RefusalCode::Busy, text: long.clone(), by: None, newer_life: None };
    let frames = [
        ControlFrame::Goodbye(Goodbye { reason: long.clone() }),
        ControlFrame::Refuse(refusal.clone()),
        ControlFrame::Abort(refusal),
    ];
    for frame in frames {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).unwrap();
        assert!(bytes.len() < MAX_REASON_BYTES + 64);
        let came = ControlFrame::decode(&decode_frame(&bytes)).unwrap();
        assert_eq!(text_of(&came), cut);

        // An end that does not cut.
        let mut body = Vec::new();
        match &frame {
            ControlFrame::Goodbye(goodbye) => codec::append(goodbye, &mut body).unwrap(),
            ControlFrame::Refuse(refusal) | ControlFrame::Abort(refusal) => codec::append(refusal, &mut body).unwrap(),
            other => panic!("{other:?}"),
        }
        let raw = Frame { kind: decode_frame(&bytes).kind, flags: 0, body: Bytes::from(body) };
        assert_eq!(text_of(&ControlFrame::decode(&raw).unwrap()), cut);
    }
}

fn text_of(frame: &ControlFrame) -> &str {
    match frame {
        ControlFrame::Goodbye(goodbye) => &goodbye.reason,
        ControlFrame::Refuse(refusal) | ControlFrame::Abort(refusal) => &refusal.text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_error_text_carries_no_control_characters_into_the_log() {
    let error = "\u{1b}[31m\r\nINFO all is well".parse::<Pid>().unwrap_err().to_string();
    assert!(!error.contains(char::is_control), "{error:?}");
}

fn hello(id: &str) -> Hello {
    Hello {
        versions: (1, 1),
        features: Features(0),
        cluster: ClusterName::new("shop").unwrap(),
        role: Role::Node,
        node: node(id),
        listen_port: 7400,
        advertised: Vec::new(),
        max_message_bytes: 1 << 20,
        lanes: 4,
        replace: false,
        extensions: Vec::new(),
    }
}

fn facts() -> CertificateFacts {
    let cluster = ClusterName::new("shop").unwrap();
    CertificateFacts { cluster, role: Role::Node, allows_name: |_, _| true, names: Vec::new() }
}

#[test]
fn an_end_that_gives_up_while_the_other_decides_is_heard() {
    // The dialler gives up while the acceptor's owner decides.
    let mut dialler = Handshake::dial(hello("a.1"), facts());
    let mut acceptor = Handshake::accept(hello("b.1"), facts());
    let Some(Action::Send(frame)) = dialler.start().pop() else { panic!("a dialler begins") };
    assert!(matches!(acceptor.handle(frame).unwrap()[..], [Action::Decide(_)]));
    let [Action::Send(abort), Action::Refused { by_us: true, .. }] = &dialler.refuse(RefusalCode::TooSlow, "late")[..]
    else {
        panic!("a refusal is sent and told")
    };
    let heard = acceptor.handle(abort.clone()).unwrap();
    assert!(matches!(&heard[..], [Action::Refused { refusal, by_us: false }] if refusal.code == RefusalCode::TooSlow));
    assert!(acceptor.admit(None).is_empty());

    // The acceptor gives up while the dialler's owner decides.
    let mut dialler = Handshake::dial(hello("a.1"), facts());
    let mut acceptor = Handshake::accept(hello("b.1"), facts());
    let Some(Action::Send(frame)) = dialler.start().pop() else { panic!("a dialler begins") };
    assert_eq!(acceptor.handle(frame).unwrap().len(), 1);
    let Some(Action::Send(welcome)) = acceptor.admit(None).pop() else { panic!("it welcomes") };
    assert!(matches!(dialler.handle(welcome).unwrap()[..], [Action::Decide(_)]));
    let Some(Action::Send(refuse)) = acceptor.refuse(RefusalCode::Draining, "bye").into_iter().next() else {
        panic!("a refusal is sent")
    };
    let heard = dialler.handle(refuse).unwrap();
    assert!(matches!(&heard[..], [Action::Refused { refusal, by_us: false }] if refusal.code == RefusalCode::Draining));
    assert!(dialler.admit(None).is_empty());
}

#[test]
fn a_refusal_before_hello_sends_nothing() {
    let mut dialler = Handshake::dial(hello("a.1"), facts());
    let actions = dialler.refuse(RefusalCode::Duplicate, "not needed any more");
    assert!(matches!(actions[..], [Action::Refused { by_us: true, .. }]), "Hello is the first frame, or none is");
}

#[test]
fn a_recipient_by_name_comes_back_as_one() {
    let mut sent = signal(SignalBody::Link);
    sent.to = Destination { node: node("b.2"), to: Recipient::Name("orders".parse().unwrap()) };
    assert_eq!(over_the_wire(&sent), sent);
}

#[test]
fn an_acceptor_cannot_make_us_use_what_we_did_not_offer() {
    let welcome = |version, features| Welcome {
        version,
        features: Features(features),
        node: node("b.1"),
        advertised: Vec::new(),
        max_message_bytes: 1 << 20,
        lanes: 1,
        session: None,
        extensions: Vec::new(),
    };
    let mut offered = hello("a.1");
    offered.features = Features(0b101);
    let mut dialler = Handshake::dial(offered.clone(), facts());
    assert_eq!(dialler.start().len(), 1);
    assert_eq!(dialler.handle(ControlFrame::Welcome(welcome(1, 0b110))).unwrap().len(), 1);
    let Some(Action::Agreed(agreement)) = dialler.admit(None).pop() else { panic!("it is agreed") };
    assert_eq!(agreement.features, Features(0b100));

    let mut dialler = Handshake::dial(offered, facts());
    assert_eq!(dialler.start().len(), 1);
    let actions = dialler.handle(ControlFrame::Welcome(welcome(2, 0))).unwrap();
    assert!(matches!(&actions[..], [Action::Send(ControlFrame::Abort(_)), Action::Refused { by_us: true, .. }]));
}
