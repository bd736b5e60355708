//! JSON bodies: what another parser takes is taken, what it refuses is refused.
#![no_main]

use astraler_waf::body::{BodyError, Item, Limits, json};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let limits = Limits {
        arguments: 64,
        depth: 100,
        ..Limits::default()
    };
    let mut count = 0;
    let outcome = json(input, &limits, &mut |item| {
        count += 1;
        assert!(
            matches!(item, Item::Argument { name, .. } if name.starts_with(b"json") && name.len() <= 4096)
        );
    });
    assert!(count <= 64);
    // The mark is skipped here, and nothing is no document there.
    let text = input.strip_prefix("\u{feff}".as_bytes()).unwrap_or(input);
    match (outcome.error, serde_json::from_slice::<serde_json::Value>(text)) {
        (None, Ok(_)) | (Some(_), Err(_)) | (Some(BodyError::Limit(_)), _) => {}
        (None, Err(error)) => assert!(input.is_empty() || error.to_string().contains("range"), "{error}"),
        (Some(error), Ok(_)) => panic!("{error}"),
    }
});
