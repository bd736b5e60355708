use proptest::prelude::*;
use serde_json::Value;

use super::super::*;
use super::lines;

#[track_caller]
fn check(body: &str, wanted: &[&str]) {
    let (found, outcome) = lines(|sink| json(body.as_bytes(), &Limits::default(), sink));
    assert_eq!(found, wanted, "{body}");
    assert_eq!(outcome.error, None, "{body}");
}

#[track_caller]
fn fault(body: &[u8]) -> String {
    let (_, outcome) = lines(|sink| json(body, &Limits::default(), sink));
    outcome
        .error
        .unwrap_or_else(|| panic!("no fault in {}", body.escape_ascii()))
        .to_string()
}

#[test]
fn scalars_are_named_by_their_place() {
    check(
        r#"{"a":1,"b":[1,"x",null,true,1.50e3],"c":{"d":[{"e":1},[2,[3]]]},"":"k","f":{},"g":[]}"#,
        &[
            "json.a = 1",
            "json.b.array_0 = 1",
            "json.b.array_1 = x",
            "json.b.array_2 = ",
            "json.b.array_3 = true",
            "json.b.array_4 = 1.50e3",
            "json.c.d.array_0.e = 1",
            "json.c.d.array_1.array_0 = 2",
            "json.c.d.array_1.array_1.array_0 = 3",
            "json.empty-key = k",
            "json.b = 5",
            "json.c.d = 2",
            "json.g = 0",
        ],
    );
    check(
        r#" [1,{"a":2},[3]] "#,
        &[
            "json.array_0 = 1",
            "json.array_1.a = 2",
            "json.array_2.array_0 = 3",
        ],
    );
    check("\"str\"", &["json = str"]);
    check("-0.5", &["json = -0.5"]);
    check("\u{feff}{\"a\":1,\"a\":2}\n", &["json.a = 1", "json.a = 2"]);
    check("", &[]);
}

#[test]
fn strings_are_decoded() {
    check(
        r#"{"a\u002eb":"\u0041\ud83d\ude00\ud800x\n\/\"\\","c":"\ud800\u0041"}"#,
        &[r#"json.a.b = A\xf0\x9f\x98\x80?x\n/\"\\"#, "json.c = ?A"],
    );
}

#[test]
fn what_needs_no_decoding_is_borrowed() {
    json(
        br#"{"a":"text","b":12,"c":true}"#,
        &Limits::default(),
        &mut |item| {
            assert!(matches!(
                item,
                Item::Argument {
                    value: Cow::Borrowed(_),
                    ..
                }
            ));
        },
    );
}

#[test]
fn what_is_no_json_is_said_with_its_place() {
    assert_eq!(
        fault(b"{\"a\":1"),
        "JSON parsing error: the document ends too early at byte 6"
    );
    assert_eq!(
        fault(b"{\"a\":1} x"),
        "JSON parsing error: something follows the document at byte 8"
    );
    assert_eq!(
        fault(b"{\"a\":\"\xff\"}"),
        "JSON parsing error: invalid bytes in UTF-8 at byte 6"
    );
    assert_eq!(
        fault(b"{\"a\":01}"),
        "JSON parsing error: a number begins with 0 at byte 7"
    );
    assert_eq!(
        fault(b"{a:1}"),
        "JSON parsing error: a key was expected at byte 1"
    );
    for body in [
        "{\"a\":1,}",
        "[1,]",
        "/**/1",
        "{\"a\":\"\t\"}",
        "{\"a\":\"x\ny\"}",
        "[1 2]",
        "{\"a\" 1}",
        "nul",
        "truex",
        "-",
        "1.",
        "1e",
        "\"\\q\"",
        "\"\\u12g4\"",
        "\"\\",
        "\"",
        "'a'",
        "]",
        "{]",
        "[}",
        "+1",
        ".5",
        " ",
    ] {
        fault(body.as_bytes());
    }
}

#[test]
fn limits_are_said() {
    let limits = Limits {
        depth: 3,
        arguments: 2,
        name_bytes: 40,
        ..Limits::default()
    };
    let fault = |body: &str| {
        lines(|sink| json(body.as_bytes(), &limits, sink))
            .1
            .error
            .unwrap()
            .to_string()
    };
    assert_eq!(fault("[[[[1]]]]"), "Request body is nested deeper than 3");
    assert_eq!(fault("[1,2,3]"), "Request body has more than 2 arguments");
    assert_eq!(
        fault(&format!("{{\"{}\":1}}", "a".repeat(36))),
        "JSON: the name of an argument is longer than 40 bytes"
    );
    let (found, outcome) = lines(|sink| json(b"[[[1]],2]", &limits, sink));
    assert_eq!((found.len(), outcome.error), (2, None));
}

/// What sees too many arguments refuses a request: the names of arrays never make them so many.
#[test]
fn arrays_are_no_arguments_too_many() {
    let count = |arguments: usize| {
        let limits = Limits {
            arguments,
            ..Limits::default()
        };
        let body = br#"{"a":[1],"b":[2],"c":[3]}"#;
        let (found, outcome) = lines(|sink| json(body, &limits, sink));
        assert_eq!(outcome.error, None);
        found.len()
    };
    assert_eq!([3, 4, 5, 6, 7, 8].map(count), [3, 3, 4, 5, 6, 6]);
}

/// A document without duplicate keys.
fn document() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((".{0,6}", inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

type Found = Vec<(String, String)>;

/// Scalars, and the arrays under keys, which come last.
fn flatten(value: &Value, name: String, out: &mut Found, arrays: &mut Found) {
    match value {
        Value::Null => out.push((name, String::new())),
        Value::String(text) => out.push((name, text.clone())),
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                flatten(element, format!("{name}.array_{index}"), out, arrays);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                let key = if key.is_empty() { "empty-key" } else { key };
                let name = format!("{name}.{key}");
                flatten(member, name.clone(), out, arrays);
                arrays.extend(member.as_array().map(|array| (name, array.len().to_string())));
            }
        }
        scalar => out.push((name, scalar.to_string())),
    }
}

proptest! {
    #[test]
    fn it_reads_what_another_parser_reads(document in document(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
        let text = text.unwrap();
        let mut wanted = Vec::new();
        let mut arrays = Vec::new();
        flatten(&document, "json".into(), &mut wanted, &mut arrays);
        wanted.append(&mut arrays);
        let mut found = Vec::new();
        let outcome = json(text.as_bytes(), &Limits::default(), &mut |item| {
            if let Item::Argument { name, value } = item {
                found.push((String::from_utf8(name.into()).unwrap(), String::from_utf8(value.into()).unwrap()));
            }
        });
        prop_assert_eq!(outcome, Outcome::default());
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn it_refuses_what_another_parser_refuses(pieces in prop::collection::vec(prop::sample::select(vec![
        "{", "}", "[", "]", "\"a\"", ":", ",", "1", "-", "0", ".5", "e3", "true", "null", " ", "\"", "\\n", "x",
    ]), 1..10)) {
        let text = pieces.concat();
        let (_, outcome) = lines(|sink| json(text.as_bytes(), &Limits::default(), sink));
        match serde_json::from_str::<Value>(&text) {
            Ok(_) => prop_assert_eq!(outcome.error, None, "{}", text),
            // A number that is too large for it is none to the other parser.
            Err(error) if error.to_string().starts_with("number out of range") => {}
            Err(_) => prop_assert!(outcome.error.is_some(), "{}", text),
        }
    }
}
