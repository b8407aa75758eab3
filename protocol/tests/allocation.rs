//! What a hostile peer can make this end allocate: no more than it has sent, whatever lengths it announces.
//!
//! The lints forbid `unsafe`, so no counting allocator: the kernel's own high-water mark of the address space (`VmPeak`)
//! is read before and after. It remembers an allocation that was freed at once, and needs no timing. One test in this
//! file, so that nothing else in the process allocates meanwhile.
#![allow(clippy::unwrap_used)] // A test may stop where it fails.
#![cfg(target_os = "linux")]

use bytes::Bytes;
use rookery_protocol::{
    ControlFrame, Frame, FrameDecoder, FrameKind, LaneDecoder, codec, frame, limits::MAX_MESSAGE_BYTES_CEILING,
};

/// What the whole attack may cost, in KiB: far below the 256 MiB that each of its steps announces.
const ALLOWED_KIB: u64 = 64 * 1024;

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// bincode's form of a length of 200 MiB: just below the largest limit.
fn huge_length() -> Vec<u8> {
    let mut bytes = vec![252];
    bytes.extend_from_slice(&(200_u32 << 20).to_le_bytes());
    bytes
}

#[test]
fn announced_lengths_allocate_nothing() {
    let before = peak_kib();

    let mut decoders = Vec::new();
    for _ in 0..64 {
        let mut decoder = FrameDecoder::new(MAX_MESSAGE_BYTES_CEILING);
        decoder.push(Bytes::from_static(&[0, 0, 0, 0x0f, 1, 0, 42]));
        assert_eq!(decoder.next_frame(), Ok(None));
        assert_eq!(decoder.buffered(), 1);
        decoders.push(decoder);
    }

    assert!(codec::decode_payload::<String>(&huge_length()).is_err());
    assert!(codec::decode_payload::<Vec<u8>>(&huge_length()).is_err());
    assert!(codec::decode_payload::<Vec<String>>(&huge_length()).is_err());
    assert!(codec::decode_payload::<Option<(u8, Box<str>)>>(&[&[1, 7], &huge_length()[..]].concat()).is_err());

    // A request whose behaviour's name claims 200 MiB.
    let mut lane = Vec::new();
    rookery_protocol::LaneEncoder::open(0, &mut lane);
    let start = frame::begin(&mut lane, FrameKind::Request, 0);
    lane.extend_from_slice(&[0; 28]);
    lane.push(0);
    lane.extend_from_slice(&huge_length());
    frame::finish(&mut lane, start, 0);
    let mut decoder = LaneDecoder::new("a.1".parse().unwrap(), "b.1".parse().unwrap(), MAX_MESSAGE_BYTES_CEILING);
    decoder.push(Bytes::from(lane));
    assert!(decoder.next_signal().is_err());

    let body = Bytes::from(huge_length());
    assert!(ControlFrame::decode(&Frame { kind: FrameKind::Peers, flags: 0, body }).is_err());

    let grown = peak_kib() - before;
    assert!(grown < ALLOWED_KIB, "a few bytes made this end allocate {grown} KiB");
}
