//! Any control frames into one end of a handshake: no panic, at most one verdict, and nothing after it.
//!
//! First byte: bit 0 plays the dialler, bit 1 refuses where it may decide, bit 2 plays a client.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rookery_protocol::{
    ControlFrame, FrameDecoder, SessionId,
    handshake::{Action, CertificateFacts, Features, Handshake, Hello, PROTOCOL_MAX, PROTOCOL_MIN, RefusalCode, Role},
    limits::{MAX_ADDRESSES_PER_PEER, MAX_CONTROL_BODY_BYTES, MAX_LANES, MAX_MESSAGE_BYTES_CEILING},
};

fn hello(role: Role) -> Hello {
    Hello {
        versions: (PROTOCOL_MIN, PROTOCOL_MAX),
        features: Features(5),
        cluster: "shop".parse().unwrap(),
        role,
        node: "billing-1.2a".parse().unwrap(),
        listen_port: 7400,
        advertised: Vec::new(),
        max_message_bytes: 1 << 20,
        lanes: 4,
        replace: false,
        extensions: Vec::new(),
    }
}

fn facts() -> CertificateFacts {
    let cluster = "shop".parse().unwrap();
    CertificateFacts { cluster, role: Role::Node, allows_name: |_, name| !name.starts_with('x'), names: Vec::new() }
}

/// Counts verdicts, checks what was agreed, and tells whether the owner has to decide.
fn look(actions: &[Action], verdicts: &mut usize) -> bool {
    let mut decide = false;
    for action in actions {
        match action {
            Action::Send(frame) => frame.encode(&mut Vec::new()).unwrap(),
            Action::Decide(_) => decide = true,
            Action::Refused { .. } => *verdicts += 1,
            Action::Agreed(agreement) => {
                *verdicts += 1;
                assert!((PROTOCOL_MIN..=PROTOCOL_MAX).contains(&agreement.version));
                assert_eq!(agreement.features.0 & !5, 0, "only features that we offered");
                assert_eq!(agreement.peer.role, Role::Node, "only the role of the certificate");
                assert!(agreement.peer.max_message_bytes <= MAX_MESSAGE_BYTES_CEILING);
                assert!((1..=MAX_LANES).contains(&usize::from(agreement.peer.lanes)));
                assert!(agreement.peer.advertised.len() <= MAX_ADDRESSES_PER_PEER);
                assert!(!agreement.peer.node.name().as_str().starts_with('x'), "only names of the certificate");
            }
        }
    }
    decide
}

fuzz_target!(|data: &[u8]| {
    let Some((&mode, stream)) = data.split_first() else { return };
    let role = if mode & 4 == 0 { Role::Node } else { Role::Client };
    let mut end =
        if mode & 1 == 0 { Handshake::accept(hello(role), facts()) } else { Handshake::dial(hello(role), facts()) };
    let mut verdicts = 0;
    assert!(!look(&end.start(), &mut verdicts));

    let mut decoder = FrameDecoder::new(MAX_CONTROL_BODY_BYTES);
    decoder.push(Bytes::copy_from_slice(stream));
    while let Ok(Some(frame)) = decoder.next_frame() {
        let Ok(control) = ControlFrame::decode(&frame) else { break };
        let over = verdicts > 0;
        match end.handle(control) {
            Ok(actions) => {
                assert!(!over, "nothing is taken after the verdict");
                if look(&actions, &mut verdicts) {
                    let then = if mode & 2 == 0 {
                        end.admit(SessionId::new(1).filter(|_| mode & 8 != 0))
                    } else {
                        end.refuse(RefusalCode::Busy, "full")
                    };
                    assert!(!look(&then, &mut verdicts));
                }
            }
            Err(_) => {
                assert!(end.admit(None).is_empty(), "an error ends the handshake");
                break;
            }
        }
    }
    assert!(verdicts <= 1);
});
