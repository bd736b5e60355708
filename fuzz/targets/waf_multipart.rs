//! Multipart bodies under any Content-Type: an answer within limits; content is what stands in the body.
#![no_main]

use astraler_waf::body::{Item, Limits, multipart};

libfuzzer_sys::fuzz_target!(|input: (&[u8], &[u8])| {
    let (content_type, body) = input;
    let limits = Limits {
        arguments: 8,
        files: 4,
        part_headers: 4,
        part_header_bytes: 256,
        ..Limits::default()
    };
    for content_type in [content_type, b"multipart/form-data; boundary=x"] {
        let (mut fields, mut files, mut bytes) = (0, 0, 0);
        multipart(content_type, body, &limits, &mut |item| match item {
            Item::Argument { value, .. } => {
                fields += 1;
                bytes += value.len();
            }
            Item::File { content, .. } => {
                files += 1;
                bytes += content.len();
            }
            Item::PartHeader { line, .. } => assert!(line.len() <= 256),
            other => panic!("{other:?}"),
        });
        assert!(fields + files <= 8 && files <= 4 && bytes <= body.len());
    }
});
