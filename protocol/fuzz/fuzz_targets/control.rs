//! Any bytes as a control stream: no panic; and whatever is taken can be sent on, and comes back the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rookery_protocol::{ControlFrame, FrameDecoder, limits::MAX_CONTROL_BODY_BYTES};

fuzz_target!(|data: &[u8]| {
    let mut decoder = FrameDecoder::new(MAX_CONTROL_BODY_BYTES);
    decoder.push(Bytes::copy_from_slice(data));
    while let Ok(Some(frame)) = decoder.next_frame() {
        let Ok(control) = ControlFrame::decode(&frame) else { continue };
        let mut out = Vec::new();
        control.encode(&mut out).unwrap();
        let mut again = FrameDecoder::new(MAX_CONTROL_BODY_BYTES);
        again.push(Bytes::from(out));
        let again = ControlFrame::decode(&again.next_frame().unwrap().unwrap()).unwrap();
        assert_eq!(again, control);
    }
});
