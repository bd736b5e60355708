//! Heads of HTTP/2 frames: the same verdict whether they arrive at once or byte by byte.
#![no_main]

use astraler_edge::http2::frames::Frames;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let now = std::time::Instant::now().into();
    let (mut at_once, mut by_bytes) = (Frames::default(), Frames::default());
    let whole = at_once.follow(bytes, now);
    let pieces = bytes.chunks(1).try_for_each(|byte| by_bytes.follow(byte, now));
    assert_eq!(whole, pieces);
    if whole.is_ok() {
        assert_eq!(at_once.in_head(), by_bytes.in_head());
    }
});
