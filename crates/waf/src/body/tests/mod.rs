//! What each processor finds, and what it says of bodies that are none. Names and faults are those that ModSecurity 3.0.9
//! logs for the same bodies.

mod json;
mod multipart;
mod xml;

use proptest::prelude::*;

use super::*;

/// What a processor handed out, a line each.
pub(super) fn lines<'b>(run: impl FnOnce(Sink<'_, 'b>) -> Outcome) -> (Vec<String>, Outcome) {
    let mut lines = Vec::new();
    let outcome = run(&mut |item| {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        lines.push(match item {
            Item::Argument { name, value } => format!("{} = {}", text(&name), text(&value)),
            Item::File { field, name, content } => {
                format!("{}: file {} = {}", text(&field), text(&name), text(content))
            }
            Item::PartHeader { part, line } => format!("{}: header {}", text(&part), text(&line)),
            Item::XmlText(value) => format!("text {}", text(&value)),
            Item::XmlAttribute(value) => format!("attribute {}", text(&value)),
        });
    });
    (lines, outcome)
}

#[test]
fn urlencoded_bodies() {
    let (found, outcome) = lines(|sink| urlencoded(b"a=1&b=%zz&c=x+y", b'&', &Limits::default(), sink));
    assert_eq!(found, ["a = 1", "b = %zz", "c = x y"]);
    assert_eq!((outcome.invalid_escapes, outcome.error), (1, None));

    let (found, _) = lines(|sink| urlencoded(b"a=1&2;b=3", b';', &Limits::default(), sink));
    assert_eq!(found, ["a = 1&2", "b = 3"]);

    let limits = Limits {
        arguments: 2,
        ..Limits::default()
    };
    let (found, outcome) = lines(|sink| urlencoded(b"a&b&c", b'&', &limits, sink));
    assert_eq!(found, ["a = ", "b = "]);
    assert_eq!(
        outcome.error.unwrap().to_string(),
        "Request body has more than 2 arguments"
    );
}

/// Bytes of which processors make something.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "{", "}", "[", "]", "\"", "\\", "\\u00e9", ":", ",", "1", "true", "a", " ", "\r\n", "\n", "--x", "--x\r\n",
            "--x--", "Content-Disposition: form-data; name=\"a\"", "; filename=\"b\"", "\r\n\r\n", "<a", " b='c'", ">", "</a>",
            "<!--", "-->", "<![CDATA[", "]]>", "&lt;", "&#65;", "<?x?>", "<!DOCTYPE a [", "=", "&", "%41", "%", "\u{e9}", "\0",
        ]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_body_gets_an_answer_within_limits(body in hostile()) {
        let limits = Limits { arguments: 3, depth: 4, ..Limits::default() };
        let (found, _) = lines(|sink| urlencoded(&body, b'&', &limits, sink));
        prop_assert!(found.len() <= 3);
        let (found, _) = lines(|sink| json(&body, &limits, sink));
        prop_assert!(found.len() <= 3);
        let (found, _) = lines(|sink| xml(&body, &limits, sink));
        prop_assert!(found.len() <= 4);
        let (found, _) = lines(|sink| multipart(b"multipart/form-data; boundary=x", &body, &limits, sink));
        prop_assert!(found.iter().filter(|line| !line.contains(": header")).count() <= 3);
    }
}
