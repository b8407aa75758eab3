//! Golden vectors: `testdata/vectors.json` is what the wire looks like, for this crate and for SDKs in any language.
//!
//! The committed file is the truth: a test that fails here says that the wire has changed, which needs a new number
//! and not a new vector. `ROOKERY_WRITE_VECTORS=1 cargo test -p rookery-protocol --test golden` writes the file and the
//! seeds of the fuzz targets anew, for vectors that were added.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // A test may stop where it fails; modules of a test.

#[path = "golden/neutral.rs"]
mod neutral;
#[path = "golden/rejects.rs"]
mod rejects;
#[path = "golden/seeds.rs"]
mod seeds;
#[path = "golden/vectors.rs"]
mod vectors;

use std::{collections::BTreeSet, path::PathBuf};

use bytes::Bytes;
use rookery_protocol::{
    Arrival, BulkOpening, ControlFrame, FrameDecoder, FrameKind, LaneDecoder, LaneEncoder, WireError,
    limits::{DEFAULT_MAX_MESSAGE_BYTES, MAX_CONTROL_BODY_BYTES},
};
use serde_json::{Value, json};

use neutral::{hex, unhex};
use vectors::{Content, RECEIVER, SENDER, Vector};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/vectors.json")
}

fn writing() -> bool {
    std::env::var_os("ROOKERY_WRITE_VECTORS").is_some()
}

fn encode(content: &Content) -> Vec<u8> {
    let mut bytes = Vec::new();
    match content {
        Content::Control(frame) => frame.encode(&mut bytes).unwrap(),
        Content::Open(lane) => LaneEncoder::open(*lane, &mut bytes),
        Content::Signal(signal) => {
            LaneEncoder::new(SENDER.parse().unwrap(), RECEIVER.parse().unwrap()).signal(signal, &mut bytes).unwrap();
        }
        Content::Brief(signals) => {
            let mut encoder = LaneEncoder::new(SENDER.parse().unwrap(), RECEIVER.parse().unwrap());
            encoder.number_types();
            signals.iter().for_each(|signal| encoder.signal(signal, &mut bytes).unwrap());
        }
        Content::Run(signals) => {
            let mut encoder = LaneEncoder::new(SENDER.parse().unwrap(), RECEIVER.parse().unwrap());
            encoder.number_types();
            encoder.share_frames(DEFAULT_MAX_MESSAGE_BYTES);
            signals.iter().for_each(|signal| encoder.signal(signal, &mut bytes).unwrap());
        }
        Content::Ticketed(signal, ticket) => {
            let mut encoder = LaneEncoder::new(SENDER.parse().unwrap(), RECEIVER.parse().unwrap());
            encoder.ticketed(signal, *ticket, &mut bytes).unwrap();
        }
        Content::Bulk(ticket) => BulkOpening::encode(*ticket, &mut bytes),
    }
    bytes
}

fn kinds(bytes: &[u8]) -> Vec<FrameKind> {
    let mut decoder = FrameDecoder::new(DEFAULT_MAX_MESSAGE_BYTES);
    decoder.push(Bytes::copy_from_slice(bytes));
    let kinds = std::iter::from_fn(|| decoder.next_frame().unwrap()).map(|frame| frame.kind).collect();
    decoder.finish().unwrap();
    kinds
}

/// What this crate makes of the bytes of a control stream.
fn decode_control(bytes: &[u8]) -> Result<Option<ControlFrame>, WireError> {
    let mut decoder = FrameDecoder::new(MAX_CONTROL_BODY_BYTES);
    decoder.push(Bytes::copy_from_slice(bytes));
    decoder.next_frame()?.map(|frame| ControlFrame::decode(&frame)).transpose()
}

/// A lane of the vectors that has, or has not, been opened already.
fn lane(open: bool, bytes: &[u8]) -> LaneDecoder {
    let mut decoder = LaneDecoder::new(RECEIVER.parse().unwrap(), SENDER.parse().unwrap(), DEFAULT_MAX_MESSAGE_BYTES);
    if open {
        let mut first = Vec::new();
        LaneEncoder::open(0, &mut first);
        decoder.push(Bytes::from(first));
    }
    decoder.push(Bytes::copy_from_slice(bytes));
    decoder
}

fn entry(vector: &Vector) -> Value {
    let bytes = encode(&vector.content);
    let (stream, value) = match &vector.content {
        Content::Control(frame) => ("control", neutral::control(frame)),
        Content::Open(number) => ("lane", json!({ "lane": number })),
        Content::Signal(signal) => ("lane", neutral::signal(signal)),
        Content::Ticketed(signal, ticket) => {
            let mut value = neutral::signal(signal);
            value["ticket"] = json!(ticket.number.0.to_string());
            value["body_bytes"] = json!(ticket.body_bytes);
            ("lane", value)
        }
        Content::Brief(signals) | Content::Run(signals) => ("lane", signals.iter().map(neutral::signal).collect()),
        Content::Bulk(ticket) => ("bulk", json!({ "ticket": ticket.0.to_string() })),
    };
    let frames: Vec<&str> = kinds(&bytes).into_iter().map(FrameKind::name).collect();
    json!({ "name": vector.name, "description": vector.description, "stream": stream, "frames": frames,
        "hex": hex(&bytes), "value": value })
}

fn document() -> Value {
    let valid: Vec<Value> = vectors::all().iter().map(entry).collect();
    let invalid: Vec<Value> = rejects::all()
        .iter()
        .map(|it| json!({ "name": it.name, "description": it.description, "stream": it.stream, "hex": hex(&it.bytes) }))
        .collect();
    json!({ "protocol": 1, "lane_sender": SENDER, "lane_receiver": RECEIVER, "valid": valid, "invalid": invalid })
}

fn committed() -> Value {
    serde_json::from_str(&std::fs::read_to_string(path()).unwrap()).unwrap()
}

fn list(document: &Value, key: &str) -> Vec<Value> {
    document.get(key).and_then(Value::as_array).unwrap().clone()
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry.get(key).and_then(Value::as_str).unwrap()
}

#[test]
fn the_code_encodes_what_the_vectors_say() {
    let made = document();
    if writing() {
        std::fs::write(path(), serde_json::to_string_pretty(&made).unwrap() + "\n").unwrap();
    }
    let committed = committed();
    for key in ["valid", "invalid"] {
        let (made, committed) = (list(&made, key), list(&committed, key));
        for (made, committed) in made.iter().zip(&committed) {
            assert_eq!(made, committed, "the wire has changed: see the header of this file");
        }
        assert_eq!(made.len(), committed.len(), "a vector is missing in the file, or in the code");
    }
    assert_eq!(made, committed);
}

#[test]
fn the_code_decodes_what_the_vectors_say() {
    let values = vectors::all();
    if writing() {
        return; // The file is being written by another thread.
    }
    let committed = list(&committed(), "valid");
    assert_eq!(values.len(), committed.len());
    for (vector, entry) in values.iter().zip(&committed) {
        let (name, bytes) = (text(entry, "name"), unhex(text(entry, "hex")));
        match &vector.content {
            Content::Control(frame) => {
                let decoded = decode_control(&bytes).unwrap().unwrap();
                assert_eq!(decoded, **frame, "{name}");
                assert_eq!(neutral::control(&decoded), entry["value"], "{name}");
            }
            Content::Open(_) => {
                let mut decoder = lane(false, &bytes);
                assert_eq!(decoder.next_signal(), Ok(None), "{name}");
                decoder.finish().unwrap();
            }
            Content::Signal(signal) => {
                let mut decoder = lane(true, &bytes);
                let decoded = decoder.next_signal().unwrap().unwrap();
                assert_eq!(decoded, **signal, "{name}");
                assert_eq!(neutral::signal(&decoded), entry["value"], "{name}");
                decoder.finish().unwrap();
            }
            Content::Brief(signals) | Content::Run(signals) => {
                let mut decoder = lane(true, &bytes);
                for signal in signals {
                    assert_eq!(decoder.next_signal().unwrap().as_ref(), Some(signal), "{name}");
                }
                assert_eq!(decoder.next_signal(), Ok(None), "{name}");
                decoder.finish().unwrap();
            }
            Content::Ticketed(signal, ticket) => {
                let mut decoder = lane(true, &bytes);
                let decoded = decoder.next_arrival().unwrap().unwrap();
                assert_eq!(decoded, Arrival::Ticketed((**signal).clone(), *ticket), "{name}");
                decoder.finish().unwrap();
                assert!(lane(true, &bytes).next_signal().is_err(), "{name}: refused where it was not agreed on");
            }
            Content::Bulk(ticket) => {
                assert_eq!(BulkOpening::announces(&bytes), Some(true), "{name}");
                let opened = BulkOpening::default().push(Bytes::from([&bytes[..], b"body"].concat()));
                assert_eq!(opened, Ok(Some((*ticket, Bytes::from_static(b"body")))), "{name}");
            }
        }
    }
}

#[test]
fn what_must_be_refused_is_refused() {
    for reject in rejects::all() {
        let refused = match reject.stream {
            "control" => decode_control(&reject.bytes).is_err(),
            "lane" => {
                let mut decoder = lane(true, &reject.bytes);
                loop {
                    match decoder.next_signal() {
                        Ok(Some(_)) => {}
                        Ok(None) => break decoder.finish().is_err(),
                        Err(_) => break true,
                    }
                }
            }
            other => panic!("no stream is called {other}"),
        };
        assert!(refused, "{}: {}", reject.name, reject.description);
    }
}

#[test]
fn every_kind_of_frame_has_a_vector() {
    let seen: BTreeSet<u8> =
        vectors::all().iter().flat_map(|vector| kinds(&encode(&vector.content))).map(|kind| kind as u8).collect();
    for &kind in FrameKind::ALL {
        assert!(seen.contains(&(kind as u8)), "there is no vector of a {} frame", kind.name());
    }
}

#[test]
fn every_variant_has_a_vector() {
    fn words(value: &Value, seen: &mut BTreeSet<String>) {
        match value {
            Value::String(word) => drop(seen.insert(word.clone())),
            Value::Array(list) => list.iter().for_each(|value| words(value, seen)),
            Value::Object(map) => {
                for (key, value) in map {
                    seen.insert(key.clone());
                    // As a path of two, since some words stand for several things.
                    let mut below = BTreeSet::new();
                    match value {
                        Value::String(word) => drop(below.insert(word.clone())),
                        Value::Object(map) => below.extend(map.keys().cloned()),
                        _ => {}
                    }
                    seen.extend(below.iter().map(|word| format!("{key}.{word}")));
                    words(value, seen);
                }
            }
            _ => {}
        }
    }
    let mut seen = BTreeSet::new();
    vectors::all().iter().for_each(|vector| words(&entry(vector)["value"], &mut seen));
    let variants = [
        ("role", "node client"),
        ("code", "wrong_cluster no_common_version wrong_role name_not_in_certificate self_dial duplicate"),
        ("code", "older_incarnation draining busy bad_hello too_slow other"),
        ("to", "pid name"),
        ("codec", "bincode message_pack json raw"),
        ("reason", "normal shutdown shutdown_with kill killed no_proc no_connection panic error refused other"),
        ("failure", "no_proc exited unsupported refused no_connection"),
        ("request", "spawn register unregister where_is"),
        ("response", "spawned done found failed"),
        ("failed", "unknown_behaviour bad_arguments init_failed draining too_many_processes name_taken no_proc"),
        ("failed", "refused unsupported no_connection timeout"),
    ];
    for (what, words) in variants {
        for word in words.split(' ') {
            assert!(seen.contains(&format!("{what}.{word}")), "no vector has a {what} of {word}");
        }
    }
}

#[test]
fn names_of_vectors_are_unique() {
    let names: Vec<String> = vectors::all().into_iter().map(|vector| vector.name).collect();
    let rejected = rejects::all().into_iter().map(|reject| reject.name.to_owned());
    let all: Vec<String> = names.into_iter().chain(rejected).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}

#[test]
fn the_fuzz_targets_start_from_the_vectors() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let encoded: Vec<(Vector, Vec<u8>)> =
        vectors::all().into_iter().map(|vector| (encode(&vector.content), vector)).map(|(b, v)| (v, b)).collect();
    for (target, name, bytes) in seeds::all(&encoded, &rejects::all()) {
        let file = folder.join(target).join(&name);
        if writing() {
            std::fs::create_dir_all(folder.join(target)).unwrap();
            std::fs::write(&file, &bytes).unwrap();
        }
        let held = std::fs::read(&file).unwrap_or_default();
        assert_eq!(held, bytes, "the seed {target}/{name} is not that of the vectors");
    }
}
