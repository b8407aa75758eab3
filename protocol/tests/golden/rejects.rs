//! Bytes that no receiver may take. Lane vectors come behind an opened lane.

use rookery_protocol::{FrameKind, frame};

/// One vector that has to be refused.
pub struct Reject {
    pub name: &'static str,
    pub description: &'static str,
    pub stream: &'static str,
    pub bytes: Vec<u8>,
}

fn of(kind: FrameKind, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let start = frame::begin(&mut out, kind, flags);
    out.extend_from_slice(body);
    frame::finish(&mut out, start, 0);
    out
}

/// A signal between the two ends themselves, serials 0.
fn signal(kind: FrameKind, flags: u8, rest: &[u8]) -> Vec<u8> {
    of(kind, flags, &[&[0; 20], rest].concat())
}

pub fn all() -> Vec<Reject> {
    let control = |name, description, bytes| Reject { name, description, stream: "control", bytes };
    let lane = |name, description, bytes| Reject { name, description, stream: "lane", bytes };
    let run = |messages: &[u8]| {
        [of(FrameKind::TypeDef, 0, &[0, 0, 4, 0]), of(FrameKind::Run, 0, &[&[0; 18], messages].concat())].concat()
    };
    let mut named_far = vec![0; 20];
    named_far[0] = 1;
    let mut definition = 1_u16.to_le_bytes().to_vec();
    definition.extend_from_slice(&7_u64.to_le_bytes());
    let define = |number: u8, name: &[u8]| {
        let mut body = definition.clone();
        body[0] = number;
        body.push(u8::try_from(name.len()).unwrap());
        body.extend_from_slice(name);
        of(FrameKind::NodeDef, 0, &body)
    };
    vec![
        control("bad_length", "A length of 2^32 - 1.", vec![255, 255, 255, 255, 37, 0]),
        control("bad_unknown_kind", "Kind 200, not marked as skippable.", vec![0, 0, 0, 0, 200, 0]),
        control("bad_confirm_with_body", "Confirm has no body.", of(FrameKind::Confirm, 0, &[1])),
        control("bad_renew_with_body", "Renew has no body.", of(FrameKind::Renew, 0x80, &[1])),
        control("bad_misplaced_link", "A signal on the control stream.", signal(FrameKind::Link, 0, &[])),
        control("bad_hello_empty", "A Hello without a body.", of(FrameKind::Hello, 0, &[])),
        control("bad_goodbye_trailing", "A byte after the text.", of(FrameKind::Goodbye, 0, &[1, b'x', 0])),
        control(
            "bad_goodbye_length",
            "A text of 2^64 - 1 bytes.",
            of(FrameKind::Goodbye, 0, &[253, 255, 255, 255, 255, 255, 255, 255, 255]),
        ),
        control("bad_goodbye_utf8", "A text that is no UTF-8.", of(FrameKind::Goodbye, 0, &[1, 0xff])),
        control("bad_peers_count", "More peers than bytes.", of(FrameKind::Peers, 0x80, &[250])),
        control("bad_peers_name", "A node's name with a space.", of(FrameKind::Peers, 0x80, &[1, 1, b' ', 1, 0])),
        lane("bad_lane_open_twice", "A lane is opened once.", of(FrameKind::LaneOpen, 0, &[0])),
        lane("bad_misplaced_goodbye", "A control frame on a lane.", signal(FrameKind::Goodbye, 0, &[0])),
        lane("bad_link_short", "A link that ends in the serials.", of(FrameKind::Link, 0, &[0; 19])),
        lane("bad_link_trailing", "A link with a byte behind it.", signal(FrameKind::Link, 0, &[0])),
        lane("bad_link_unknown_flag", "A flag that version 1 does not know.", signal(FrameKind::Link, 0x40, &[])),
        lane("bad_link_unknown_node", "Node number 1 was not defined.", of(FrameKind::Link, 0, &named_far)),
        lane("bad_name_empty", "A recipient by an empty name.", signal(FrameKind::Link, 0x01, &[0])),
        lane("bad_name_character", "A recipient by a name with a space.", signal(FrameKind::Link, 0x01, &[1, b' '])),
        lane("bad_node_def_order", "The first number is 1.", define(2, b"a")),
        lane("bad_node_def_name", "A node's name with a slash.", define(1, b"a/b")),
        lane("bad_type_def_order", "The first number is 0.", of(FrameKind::TypeDef, 0, &[1, 0, 4, 0])),
        lane("bad_type_def_codec", "Codec 9.", of(FrameKind::TypeDef, 0, &[0, 0, 9, 0])),
        lane("bad_type_def_trailing", "A byte after the tag.", of(FrameKind::TypeDef, 0, &[0, 0, 4, 1, b'x', 0])),
        lane("bad_brief_type", "Type number 0 was not defined.", of(FrameKind::Brief, 0, &[0; 18])),
        lane("bad_brief_short", "A brief message that ends in the serials.", of(FrameKind::Brief, 0, &[0; 17])),
        lane("bad_brief_flags", "A flag that a brief message does not have.", {
            [of(FrameKind::TypeDef, 0, &[0, 0, 4, 0]), of(FrameKind::Brief, 0x02, &[0; 18])].concat()
        }),
        lane("bad_run_type", "Type number 0 was not defined.", of(FrameKind::Run, 0, &[0; 19])),
        lane("bad_run_empty", "A run without a message.", run(&[])),
        lane("bad_run_length", "A length of two bytes, of which one is there.", run(&[0x80])),
        lane("bad_run_length_form", "A length of three bytes.", run(&[0x80, 0x80, 0x01])),
        lane("bad_run_payload", "A second payload of 2 bytes, of which 1 is there.", run(&[0, 2, b'x'])),
        lane("bad_run_message_long", "A payload of 1,025 bytes.", run(&[&[0x81, 0x08][..], &[0; 1025]].concat())),
        lane("bad_run_many", "257 empty payloads.", run(&[0; 257])),
        lane("bad_run_long", "Five payloads of 1,000 bytes: more than 4,096.", {
            run(&[&[0xe8, 0x07][..], &[0; 1000]].concat().repeat(5))
        }),
        lane("bad_run_flags", "A flag that a run does not have.", {
            [of(FrameKind::TypeDef, 0, &[0, 0, 4, 0]), of(FrameKind::Run, 0x02, &[0; 19])].concat()
        }),
        lane("bad_message_codec", "Codec 0.", signal(FrameKind::Message, 0, &[0, 0])),
        lane("bad_message_tag", "A tag of 9 bytes, of which 1 is there.", signal(FrameKind::Message, 0, &[4, 9, b'x'])),
        lane("bad_message_tag_utf8", "A tag that is no UTF-8.", signal(FrameKind::Message, 0, &[4, 1, 0xff])),
        lane(
            "bad_message_credit",
            "A credit of 4 bytes, of which 3 are there.",
            signal(FrameKind::Message, 0x20, &[0; 3]),
        ),
        lane(
            "bad_message_trace",
            "A trace of 25 bytes, of which 24 are there.",
            signal(FrameKind::Message, 0x40, &[1; 24]),
        ),
        lane("bad_message_trace_zero", "A trace whose id is zero.", {
            signal(FrameKind::Message, 0x40, &[&[0; 16][..], &[1; 9], &[4, 0]].concat())
        }),
        lane("bad_credit_change", "Change 3.", signal(FrameKind::Credit, 0x80, &[0, 0, 0, 0, 3])),
        lane("bad_reply_outcome", "Outcome 6.", signal(FrameKind::Reply, 0, &[0, 0, 0, 0, 0, 0, 0, 0, 6])),
        lane("bad_exit_text", "A text of 5 bytes, of which 1 is there.", signal(FrameKind::Exit, 0, &[7, 5, 0, b'x'])),
        lane("bad_request_variant", "Request 9.", signal(FrameKind::Request, 0, &[0, 0, 0, 0, 0, 0, 0, 0, 9])),
        lane("bad_half_a_frame", "A frame whose end never comes.", signal(FrameKind::Link, 0, &[])[..20].to_vec()),
    ]
}
