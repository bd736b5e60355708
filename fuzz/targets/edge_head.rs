//! A head of a request or an answer: the same end however its bytes arrive, and what passes has one meaning.
#![no_main]

use astraler_edge::Limits;
use astraler_edge::wire::head::{AnswerFraming, Framing, find_end, parse, parse_answer};

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
    let Ok(Some(end)) = whole else { return };
    assert!(bytes[..end].ends_with(b"\r\n\r\n"));
    // Whatever is wrong with it is a verdict, not a panic.
    if let Ok(head) = parse(&bytes[..end].to_vec().into(), &Limits::default()) {
        let lengths = head.headers.get_all("content-length").iter().count();
        let codings = head.headers.get_all("transfer-encoding").iter().count();
        assert!(lengths + codings <= 1, "two framings");
        assert_eq!(codings == 1, head.framing == Framing::Chunked);
        assert_eq!(head.headers.len(), bytes[..end].split(|&b| b == b'\n').count() - 3);
    }
    if let Ok(head) = parse_answer(&bytes[..end].to_vec().into(), &Limits::default()) {
        let lengths = head.headers.get_all("content-length").iter().count();
        let codings = head.headers.get_all("transfer-encoding").iter().count();
        assert!(lengths + codings <= 1, "two framings");
        assert_eq!(lengths + codings == 0, head.framing == AnswerFraming::UntilClose);
    }
});
