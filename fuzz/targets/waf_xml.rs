//! XML bodies: an answer within limits, and what is found was in the body.
#![no_main]

use astraler_waf::body::{Item, Limits, xml};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let limits = Limits {
        arguments: 16,
        depth: 16,
        ..Limits::default()
    };
    let (mut attributes, mut texts, mut bytes) = (0, 0, 0);
    xml(input, &limits, &mut |item| match item {
        Item::XmlAttribute(value) => {
            attributes += 1;
            bytes += value.len();
        }
        Item::XmlText(value) => {
            texts += 1;
            bytes += value.len();
        }
        other => panic!("{other:?}"),
    });
    assert!(attributes <= 16 && texts <= 1 && bytes <= input.len());
});
