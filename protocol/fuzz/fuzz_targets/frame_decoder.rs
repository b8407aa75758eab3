//! Any bytes, cut anyhow, into the frame decoder: it gives the same frames as when they come whole, holds no more than
//! was pushed, and stays broken once it is.
//!
//! First byte: the size of the chunks, 0 for one.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rookery_protocol::{Frame, FrameDecoder, WireError, limits::FRAME_HEADER_BYTES};

const LIMIT: usize = 4096;

fn run(chunks: impl Iterator<Item = Bytes>) -> (Vec<Frame>, Result<(), WireError>) {
    let mut decoder = FrameDecoder::new(LIMIT);
    let mut frames = Vec::new();
    let (mut pushed, mut given) = (0, 0);
    for chunk in chunks {
        pushed += chunk.len();
        decoder.push(chunk);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    assert!(frame.body.len() <= LIMIT);
                    given += FRAME_HEADER_BYTES + frame.body.len();
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.buffered(), 0);
                    assert_eq!(decoder.next_frame(), Err(error.clone()));
                    assert_eq!(decoder.finish(), Err(error.clone()));
                    return (frames, Err(error));
                }
            }
        }
        assert!(decoder.buffered() + given <= pushed);
        assert!(decoder.buffered() <= LIMIT, "what is not given out is less than a frame");
    }
    (frames, decoder.finish())
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, stream)) = data.split_first() else { return };
    let size = if size == 0 { stream.len().max(1) } else { usize::from(size) };
    let cut = run(stream.chunks(size).map(Bytes::copy_from_slice));
    let whole = run(std::iter::once(Bytes::copy_from_slice(stream)));
    assert_eq!(cut.0, whole.0);
    // Only what is left of a frame that never ends may be told differently.
    assert_eq!(cut.1, whole.1);
});
