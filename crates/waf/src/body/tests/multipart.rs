use super::super::*;
use super::lines;

const TYPE: &str = "multipart/form-data; boundary=XX";
const A: &str = "Content-Disposition: form-data; name=\"a\"";

fn read(content_type: &str, body: &str) -> (Vec<String>, Outcome) {
    let owned = (content_type.to_owned(), body.to_owned());
    lines(|sink| {
        let mut items = Vec::new();
        let outcome = multipart(
            owned.0.as_bytes(),
            owned.1.as_bytes(),
            &Limits::default(),
            &mut |item| items.push(item),
        );
        // What is borrowed from here does not outlive here.
        for item in items {
            sink(match item {
                Item::Argument { name, value } => Item::Argument {
                    name: own(&name),
                    value: own(&value),
                },
                Item::File { field, name, content } => Item::File {
                    field: own(&field),
                    name: own(&name),
                    content: content.to_vec().leak(),
                },
                Item::PartHeader { part, line } => Item::PartHeader {
                    part: own(&part),
                    line: own(&line),
                },
                other => panic!("{other:?}"),
            });
        }
        outcome
    })
}

fn own(bytes: &[u8]) -> Cow<'static, [u8]> {
    Cow::Owned(bytes.to_vec())
}

/// The fields and files of a body, without the headers of parts.
fn fields(body: &str) -> Vec<String> {
    let (found, _) = read(TYPE, body);
    found
        .into_iter()
        .filter(|line| !line.contains(": header "))
        .collect()
}

/// Which flags a body raises, and what is wrong with it.
#[track_caller]
fn flags(content_type: &str, body: &str, set: impl FnOnce(&mut MultipartFlags), error: Option<&str>) {
    let mut wanted = MultipartFlags::default();
    set(&mut wanted);
    let (found, outcome) = read(content_type, body);
    assert_eq!(outcome.multipart, wanted, "{found:#?} {:?}", outcome.error);
    let error = error.map(|error| format!("Multipart parsing error: {error}"));
    assert_eq!(outcome.error.map(|error| error.to_string()), error, "{found:#?}");
}

fn one(headers: &str) -> String {
    format!("--XX\r\n{headers}\r\n\r\nv\r\n--XX--\r\n")
}

fn good() -> String {
    format!(
        "--XX\r\n{A}\r\n\r\nv\r\n--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\nContent-Type: \
         text/plain\r\n\r\nline\nline\r\n\r\n--XX--\r\n"
    )
}

#[test]
fn fields_files_and_headers() {
    let (found, outcome) = read(TYPE, &good());
    assert_eq!(outcome, Outcome::default());
    assert_eq!(
        found,
        [
            "a: header Content-Disposition: form-data; name=\\\"a\\\"",
            "a = v",
            "f: header Content-Disposition: form-data; name=\\\"f\\\"; filename=\\\"x.txt\\\"",
            "f: header Content-Type: text/plain",
            "f: file x.txt = line\\nline\\r\\n",
        ]
    );
}

#[test]
fn what_the_content_type_may_say() {
    flags(
        "multipart/form-data; charset=utf-8; boundary=XX",
        &good(),
        |_| {},
        None,
    );
    flags(
        "multipart/form-data; BOUNDARY=XX; charset=utf-8",
        &good(),
        |_| {},
        None,
    );
    flags(
        "multipart/form-data; boundary=\"XX\"",
        &good(),
        |flags| flags.boundary_quoted = true,
        None,
    );
    flags(
        "multipart/form-data; boundary= XX",
        &good(),
        |flags| flags.boundary_whitespace = true,
        None,
    );
    flags(
        "multipart/form-data; boundary =XX",
        &good(),
        |flags| flags.boundary_whitespace = true,
        None,
    );
    flags(
        "multipart/form-data boundary=XX",
        &good(),
        |flags| flags.missing_semicolon = true,
        None,
    );
    flags(
        "multipart/form-data; boundary=boundary",
        &good().replace("--XX", "--boundary"),
        |_| {},
        None,
    );
    for (content_type, error) in [
        ("multipart/form-data", "the Content-Type names no boundary"),
        (
            "multipart/form-data; boundary",
            "the boundary in the Content-Type is malformed",
        ),
        (
            "multipart/form-data; boundary=",
            "the boundary in the Content-Type is empty",
        ),
        (
            "multipart/form-data; boundary=a; boundary=XX",
            "the Content-Type names more than one boundary",
        ),
        (
            "multipart/form-data; boundary=a@b",
            "the boundary in the Content-Type has characters that none has",
        ),
    ] {
        flags(content_type, &good(), |_| {}, Some(error));
    }
}

#[test]
fn lines_and_what_is_around_the_parts() {
    flags(TYPE, "", |_| {}, None);
    flags(TYPE, "--XX--\r\n", |_| {}, None);
    flags(
        TYPE,
        &format!("junk\r\n{}", good()),
        |flags| flags.data_before = true,
        None,
    );
    // Some reader takes that for the boundary.
    flags(
        TYPE,
        &format!("junk\r\n--X\r\n{}", good()),
        |flags| {
            flags.data_before = true;
            flags.unmatched_boundary = true;
        },
        None,
    );
    flags(
        TYPE,
        &one(A).replace("v\r\n", "v'--XX\r\n"),
        |flags| flags.unmatched_boundary = true,
        None,
    );
    flags(
        TYPE,
        &format!("{}junk", good()),
        |flags| flags.data_after = true,
        None,
    );
    flags(
        TYPE,
        &good().replace('\r', ""),
        |flags| flags.lf_line = true,
        None,
    );
    flags(
        TYPE,
        &format!("--XX\r\n{A}\r\n\nv\r\n--XX--\r\n"),
        |flags| {
            flags.lf_line = true;
            flags.crlf_lf_lines = true;
        },
        None,
    );
    flags(
        TYPE,
        &one(&format!("{A};\r\n filename=\"x\"")),
        |flags| flags.header_folding = true,
        None,
    );
    flags(
        TYPE,
        &one(&format!("{A};\r\n\u{b}filename=\"x\"")),
        |flags| {
            flags.header_folding = true;
            flags.invalid_header_folding = true;
        },
        None,
    );
}

#[test]
fn boundaries() {
    let body = |middle: &str| format!("--XX\r\n{A}\r\n\r\nv\r\n{middle}\r\n--XX--\r\n");
    // As in Markdown: one of ours follows.
    flags(TYPE, &body("--YY\r\n-- z"), |_| {}, None);
    assert_eq!(fields(&body("--YY\r\n-- z")), ["a = v\\r\\n--YY\\r\\n-- z"]);
    let unmatched = |flags: &mut MultipartFlags| flags.unmatched_boundary = true;
    flags(
        TYPE,
        &body("--XXX"),
        unmatched,
        Some("a boundary is followed by something else"),
    );
    flags(
        TYPE,
        &good().replace("XX", "YY"),
        unmatched,
        Some("no boundary is in the body"),
    );
    flags(
        TYPE,
        &format!("--XX\r\n{A}\r\n\r\nv\r\n"),
        |_| {},
        Some("the last boundary is missing"),
    );
    assert_eq!(
        fields(&format!("--XX\r\n{A}\r\n\r\na\r\nb\n\r\nc--XX\r\n--XX--")),
        ["a = a\\r\\nb\\n\\r\\nc--XX"]
    );
    assert_eq!(
        fields(&format!("--XX\r\n{A}\r\n\r\n\r\n--XX\r\n{A}\r\n\r\n--XX--")),
        ["a = ", "a = "]
    );
}

#[test]
fn parts_that_are_none() {
    let invalid = |flags: &mut MultipartFlags| flags.invalid_part = true;
    let error = Some("a part has no valid Content-Disposition");
    for headers in [
        "Content-Type: text/plain",
        "Content-Disposition: form-data",
        "Content-Disposition: attachment; name=\"a\"",
        "Content-Disposition: form-data; name=\"a\"; name=\"b\"",
        "Content-Disposition: form-data; name=\"a\" filename=\"b\"",
        "Content-Disposition: form-data; name=\"a",
        "Content-Disposition: form-data; name=\"a\"; filename=\"b",
        "Content-Disposition: form-data; name=\"a\"; filename*=utf-8''x",
        "Content-Disposition: form-data; name=\"a\"; foo=\"bar\"",
        "Content-Disposition : form-data; name=\"a\"",
        "Content-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"b\"",
    ] {
        flags(TYPE, &one(headers), invalid, error);
    }
    flags(
        TYPE,
        &format!("--XX\r\n{A}\r\n--XX--\r\n"),
        invalid,
        Some("a part ends within its headers"),
    );
    flags(
        TYPE,
        &one(&format!("bad\r\n{A}")),
        |_| {},
        Some("a header of a part has no name"),
    );
    // What stands behind one is read all the same.
    let body = format!("--XX\r\nX: y\r\n\r\nv\r\n--XX\r\n{A}\r\n\r\nw\r\n--XX--\r\n");
    assert_eq!(fields(&body), ["a = w"]);
    let body = format!("--XX\r\n{A}\r\njunk\r\n--XX\r\n{A}\r\n\r\nw\r\n--XX--\r\n");
    assert_eq!(fields(&body), ["a = w"]);
    // And its headers are shown.
    let (found, _) = read(TYPE, &one("Content-Disposition : form-data; name=\"a\""));
    assert_eq!(
        found,
        [": header Content-Disposition : form-data; name=\\\"a\\\""]
    );
}

#[test]
fn names() {
    let field = |value: &str| fields(&one(&format!("Content-Disposition: form-data; {value}")));
    assert_eq!(field("name=a"), ["a = v"]);
    assert_eq!(field("NAME = \"it's\""), ["it\\\'s = v"]);
    assert_eq!(field("name=\"a\\\"b\\\\c\\d\""), ["a\\\"b\\\\c\\\\d = v"]);
    assert_eq!(field("name=\"a\"; filename=\"\""), ["a: file  = v"]);
    for value in ["name='a'", "name=a\"b"] {
        let body = one(&format!("Content-Disposition: form-data; {value}"));
        flags(TYPE, &body, |flags| flags.invalid_quoting = true, None);
    }
}

#[test]
fn limits_are_said() {
    let limits = Limits {
        arguments: 2,
        files: 1,
        part_headers: 2,
        part_header_bytes: 55,
        ..Limits::default()
    };
    let read = |parts: &[&str]| {
        let body: String = parts
            .iter()
            .map(|headers| format!("--XX\r\n{headers}\r\n\r\nv\r\n"))
            .collect();
        let body = format!("{body}--XX--\r\n");
        multipart(TYPE.as_bytes(), body.as_bytes(), &limits, &mut |_| {})
    };
    let error = |parts: &[&str]| read(parts).error.unwrap().to_string();
    assert_eq!(error(&[A, A, A]), "Request body has more than 2 arguments");
    assert_eq!(
        error(&[&format!("{A}\r\nB: c\r\nD: e")]),
        "Multipart: a part has more than 2 headers"
    );
    let folded = format!("{A};\r\n filename=\"b\";\r\n c=d");
    assert_eq!(
        error(&[&folded]),
        "Multipart: a header of a part is longer than 55 bytes"
    );
    let file = format!("{A}; filename=b");
    let outcome = read(&[&file, &file]);
    assert!(
        outcome.multipart.file_limit_exceeded && outcome.multipart.strict_error() && outcome.error.is_none()
    );
}
