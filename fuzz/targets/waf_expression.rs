//! Custom rules: any text is an expression or an error with its place, and an expression answers.
#![no_main]

use astraler_waf::expression::{Body, Expression, List, Lists, Response, Subject};

libfuzzer_sys::fuzz_target!(|input: (&str, &[u8])| {
    let (source, target) = input;
    let mut lists = Lists::default();
    lists.insert("a", List::texts(["b"]));
    let expression = match Expression::compile(source, &lists) {
        Ok(expression) => expression,
        Err(error) => {
            assert!(error.at <= source.len());
            error.render(source);
            return;
        }
    };
    let subject = Subject {
        client: [192, 0, 2, 1].into(),
        country: None,
        place: None,
        network: None,
        client_port: 40_000,
        method: b"GET",
        host: b"a.example",
        path: target,
        target,
        version: b"HTTP/1.1",
        headers: &[
            (b"Cookie", target),
            (b"Content-Type", b"application/x-www-form-urlencoded"),
        ],
        server_port: 80,
        tls: None,
        id: "1",
        now_ms: 0,
        body: Some(Body {
            kept: target,
            size: 1,
            truncated: true,
        }),
        response: Some(Response {
            status: 200,
            headers: &[],
        }),
    };
    assert_eq!(expression.matches(&subject), expression.matches(&subject));
});
