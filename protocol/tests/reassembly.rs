//! Reassembly, with bodies that arrive in any order: every signal is delivered once, whole, in its pair's order (S1), and
//! at once unless something of its own pair is still under way (S4).
#![allow(clippy::unwrap_used, clippy::needless_range_loop)] // A test may stop where it fails; time is an index here.

use std::collections::HashMap;

use bytes::Bytes;
use proptest::prelude::*;
use rookery_protocol::{
    Codec, Payload, Pid, Reassembly, Serial, Signal, SignalBody, Tag, Ticket, TicketNumber, WireError,
};

/// What one sender sends: to whom (`None`: a group), and whether its body goes apart.
#[derive(Debug, Clone, Copy)]
struct Sent {
    sender: u64,
    receiver: Option<u64>,
    bulk: bool,
}

fn pid(serial: u64) -> Pid {
    Pid::new("a.1".parse().unwrap(), Serial(serial))
}

/// The `number`th message; its body is its number, or nothing yet.
fn signal(sent: Sent, number: usize) -> Signal {
    let body = if sent.bulk { Bytes::new() } else { body(number) };
    let payload = Payload { tag: Tag::from_static("n"), codec: Codec::Raw, body };
    let to = pid(100 + sent.receiver.unwrap_or(99)).into();
    Signal {
        from: pid(sent.sender),
        to,
        body: SignalBody::Message { payload, reply: None, deadline_ms: None, credit: None, trace: None },
    }
}

fn body(number: usize) -> Bytes {
    Bytes::copy_from_slice(&u32::try_from(number).unwrap().to_le_bytes())
}

fn number(signal: &Signal) -> usize {
    let SignalBody::Message { payload, .. } = &signal.body else { unreachable!() };
    u32::from_le_bytes(payload.body[..].try_into().unwrap()) as usize
}

fn conflict(a: Sent, b: Sent) -> bool {
    a.sender == b.sender && (a.receiver.is_none() || b.receiver.is_none() || a.receiver == b.receiver)
}

fn sent() -> impl Strategy<Value = Sent> {
    (0..3_u64, prop::option::weighted(0.9, 0..3_u64), prop::bool::weighted(0.3))
        .prop_map(|(sender, receiver, bulk)| Sent { sender, receiver, bulk })
}

proptest! {
    #[test]
    fn each_pair_keeps_its_order_and_nobody_else_waits(
        sends in prop::collection::vec(sent(), 1..60),
        // Of each body: after how many more sends it arrives.
        delays in prop::collection::vec(0..20_usize, 60),
    ) {
        let mut reassembly = Reassembly::default();
        let mut delivered: Vec<usize> = Vec::new();
        let mut arrives: HashMap<usize, Vec<usize>> = HashMap::new();
        for at in 0..sends.len() + 20 {
            if let Some(&sent) = sends.get(at) {
                let to = sent.receiver.map(|receiver| pid(100 + receiver));
                if sent.bulk {
                    let ticket = Ticket { number: TicketNumber(at as u64), body_bytes: 4 };
                    reassembly.expect(signal(sent, at), to, ticket).unwrap();
                    arrives.entry(at + delays[at]).or_default().push(at);
                } else if let Some(signal) = reassembly.pass(signal(sent, at), to) {
                    delivered.push(number(&signal));
                }
                let waits = (0..at).any(|before| conflict(sends[before], sent) && !delivered.contains(&before));
                prop_assert_eq!(delivered.contains(&at), !sent.bulk && !waits, "message {} of {:?}", at, sends);
            }
            for body_of in arrives.remove(&at).unwrap_or_default() {
                reassembly.body(TicketNumber(body_of as u64), body(body_of)).unwrap();
                while let Some(signal) = reassembly.next_ready() {
                    delivered.push(number(&signal));
                }
            }
        }
        prop_assert!(reassembly.is_empty());
        prop_assert_eq!(reassembly.held_bytes(), 0);
        let place: HashMap<usize, usize> = delivered.iter().enumerate().map(|(place, &number)| (number, place)).collect();
        prop_assert_eq!(place.len(), sends.len(), "each is delivered once");
        for (later, &second) in sends.iter().enumerate() {
            for (earlier, &first) in sends[..later].iter().enumerate() {
                prop_assert!(!conflict(first, second) || place[&earlier] < place[&later], "{} before {}", earlier, later);
            }
        }
    }
}

#[test]
fn a_body_must_be_what_its_ticket_says() {
    let sent = Sent { sender: 1, receiver: Some(1), bulk: true };
    let ticket = Ticket { number: TicketNumber(1), body_bytes: 4 };
    let mut reassembly = Reassembly::default();
    assert!(matches!(reassembly.body(ticket.number, body(1)), Err(WireError::Unexpected { .. })));
    reassembly.expect(signal(sent, 1), Some(pid(1)), ticket).unwrap();
    assert!(matches!(reassembly.expect(signal(sent, 1), Some(pid(1)), ticket), Err(WireError::Unexpected { .. })));
    assert!(matches!(reassembly.body(ticket.number, Bytes::from_static(b"short")), Err(WireError::Invalid { .. })));
}
