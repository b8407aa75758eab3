//! Any bytes, cut anyhow, into a lane: no panic; and whatever comes out is encoded and decoded to the same.
//!
//! First byte: the size of the chunks, 0 for one.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rookery_protocol::{Arrival, LaneDecoder, LaneEncoder, NodeId, WireError};

const LIMIT: usize = 4096;

fn ends() -> (NodeId, NodeId) {
    ("orders-0.18f3a2b4c5d".parse().unwrap(), "billing-1.2a".parse().unwrap())
}

/// What comes out next; a message that lies as it came as the signal that it is.
fn next(decoder: &mut LaneDecoder) -> Result<Option<Arrival>, WireError> {
    let mut arrival = decoder.next_arrival()?;
    if let Some(Arrival::Run(run)) = arrival {
        // As a receiver that takes all of it.
        let mut walk = run.clone();
        while let Some(body) = walk.peek() {
            assert!(body.len() <= LIMIT);
            walk.advance();
        }
        decoder.put_back(run);
        arrival = decoder.next_arrival()?;
    }
    match arrival {
        Some(Arrival::Plain(message)) => decoder.signal_of(message).map(|signal| Some(Arrival::Signal(signal))),
        other => Ok(other),
    }
}

fn decode(chunks: impl Iterator<Item = Bytes>) -> Vec<Arrival> {
    let (sender, receiver) = ends();
    let mut decoder = LaneDecoder::new(receiver, sender, LIMIT);
    let mut arrivals = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        loop {
            match next(&mut decoder) {
                Ok(Some(arrival)) => arrivals.push(arrival),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.next_arrival(), Err(error.clone()));
                    assert_eq!(decoder.finish(), Err(error));
                    return arrivals;
                }
            }
        }
    }
    arrivals
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, stream)) = data.split_first() else { return };
    let size = if size == 0 { stream.len().max(1) } else { usize::from(size) };
    let arrivals = decode(stream.chunks(size).map(Bytes::copy_from_slice));

    let (sender, receiver) = ends();
    let mut encoder = LaneEncoder::new(sender, receiver);
    if size % 2 == 1 {
        encoder.number_types();
        if size % 4 == 1 {
            encoder.share_frames(LIMIT);
        }
    }
    let mut out = Vec::new();
    LaneEncoder::open(0, &mut out);
    for arrival in &arrivals {
        match arrival {
            Arrival::Plain(_) | Arrival::Run(_) => unreachable!("made a signal above"),
            Arrival::Signal(signal) => encoder.signal(signal, &mut out).unwrap(),
            Arrival::Ticketed(signal, ticket) => encoder.ticketed(signal, *ticket, &mut out).unwrap(),
        }
    }
    assert_eq!(decode(std::iter::once(Bytes::from(out))), arrivals);
});
