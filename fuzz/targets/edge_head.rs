//! A request head: the same verdict however its bytes arrive, and never one without an end.
#![no_main]

use astraler_edge::Limits;
use astraler_edge::wire::head::{find_end, inspect};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let whole = find_end(bytes, 0);
    let mut pieces = Ok(None);
    for seen in 0..bytes.len() {
        pieces = find_end(&bytes[..=seen], seen);
        if !matches!(pieces, Ok(None)) {
            break;
        }
    }
    match (&whole, &pieces) {
        (Ok(a), Ok(b)) => assert_eq!(a, b),
        (a, b) => assert_eq!(a.is_err(), b.is_err()),
    }
    if let Ok(Some(end)) = whole {
        assert!(bytes[..end].ends_with(b"\r\n\r\n"));
        // Whatever is wrong with it is a verdict, not a panic.
        let _ = inspect(&bytes[..end], &Limits::default());
    }
});
