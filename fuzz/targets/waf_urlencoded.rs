//! Query strings, forms and cookies: nothing is invented, nothing beyond the limit is handed out.
#![no_main]

use astraler_waf::body::{Item, Limits, urlencoded};
use astraler_waf::url::{cookies, split_target};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let limits = Limits {
        arguments: 16,
        ..Limits::default()
    };
    let (mut count, mut bytes) = (0, 0);
    let outcome = urlencoded(input, b'&', &limits, &mut |item| match item {
        Item::Argument { name, value } => {
            count += 1;
            bytes += name.len() + value.len();
        }
        other => panic!("{other:?}"),
    });
    assert!(count <= 16 && bytes <= input.len() && outcome.invalid_escapes <= input.len());
    assert!(
        cookies(input)
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>()
            <= input.len()
    );
    let (path, query) = split_target(input);
    assert!(path.len() + query.len() <= input.len());
});
