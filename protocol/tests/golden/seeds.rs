//! The seeds of the fuzz targets: what each target reads, made of the golden vectors.

use crate::{
    rejects::Reject,
    vectors::{Content, RECEIVER, SENDER, Vector},
};

/// Target, file and bytes of every seed. `frame_decoder`, `lane_decoder` and `handshake` read one more byte in front,
/// which says how to cut the stream, or which end to play.
pub fn all(valid: &[(Vector, Vec<u8>)], invalid: &[Reject]) -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let with = |first: u8, bytes: &[u8]| [&[first], bytes].concat();
    let mut lane = Vec::new();
    rookery_protocol::LaneEncoder::open(0, &mut lane);
    for (vector, bytes) in valid {
        let name = vector.name.clone();
        match &vector.content {
            Content::Control(_) => {
                seeds.push(("control", name.clone(), bytes.clone()));
                seeds.push(("handshake", name, with(u8::from(bytes[4] != 32), bytes)));
            }
            Content::Bulk(_) => {}
            Content::Open(_) => seeds.push(("lane_decoder", name, with(3, bytes))),
            Content::Signal(_) | Content::Brief(_) | Content::Run(_) | Content::Ticketed(..) => {
                seeds.push(("lane_decoder", name, with(7, &[&lane[..], bytes].concat())))
            }
        }
    }
    for reject in invalid {
        match reject.stream {
            "control" => seeds.push(("control", reject.name.into(), reject.bytes.clone())),
            _ => seeds.push(("lane_decoder", reject.name.into(), with(0, &[&lane[..], &reject.bytes].concat()))),
        }
    }
    let all: Vec<u8> = valid.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    for (cut, name) in [(0, "whole"), (1, "single_bytes"), (5, "cut_by_five"), (255, "cut_by_255")] {
        seeds.push(("frame_decoder", name.into(), with(cut, &all)));
    }
    let conversation: Vec<u8> = valid
        .iter()
        .filter(|(vector, _)| matches!(vector.name.as_str(), "hello_node" | "confirm" | "goodbye"))
        .flat_map(|(_, bytes)| bytes.clone())
        .collect();
    seeds.push(("handshake", "a_whole_one".into(), with(0, &conversation)));
    for (name, text) in [
        ("plain", "<orders-0.1f3a.42>"),
        ("dots", "<a.b.c.0.0>"),
        ("largest", "<node_1.ffffffffffffffff.18446744073709551615>"),
        ("node", "orders-0.1f3a"),
        ("name", "shop/orders:eu-west-1_4.2"),
        ("leading_zero", "<a.01.1>"),
        ("open", "<a.1.1"),
    ] {
        seeds.push(("pid", name.into(), text.as_bytes().to_vec()));
    }
    seeds.push(("pid", "sender".into(), SENDER.as_bytes().to_vec()));
    seeds.push(("pid", "receiver".into(), format!("<{RECEIVER}.7>").into_bytes()));
    seeds
}
