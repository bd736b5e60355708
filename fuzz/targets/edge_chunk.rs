//! A chunked body: the same end and the same verdict whether it arrives at once or byte by byte.
#![no_main]

use astraler_edge::wire::chunk::Chunked;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut at_once = Chunked::default();
    let whole = at_once.advance(bytes);
    let mut by_bytes = Chunked::default();
    let mut taken = Ok(0);
    for byte in bytes {
        if by_bytes.is_done() {
            break;
        }
        match by_bytes.advance(std::slice::from_ref(byte)) {
            Ok(here) => taken = taken.map(|sum: usize| sum + here),
            Err(fault) => {
                taken = Err(fault);
                break;
            }
        }
    }
    match (whole, taken) {
        (Ok(a), Ok(b)) => {
            assert_eq!(a, b);
            assert_eq!(at_once.is_done(), by_bytes.is_done());
        }
        (a, b) => assert_eq!(a.is_err(), b.is_err()),
    }
});
