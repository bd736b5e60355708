//! What expressions mean, what is wrong with others, and that no text is too odd to be read.

mod errors;
mod meaning;

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

/// A request that tests change where they need to.
pub(super) fn subject() -> Subject<'static> {
    Subject {
        client: IpAddr::from([192, 0, 2, 7]),
        country: Some("DE"),
        place: None,
        network: Some(64_500),
        client_port: 40_000,
        method: b"POST",
        host: b"app.example",
        path: b"/admin/users.PHP",
        target: b"/x/../admin/users.PHP?a=1&b=%41+b&a=2",
        version: b"HTTP/2",
        headers: &[
            (b"Host", b"app.example"),
            (b"User-Agent", b"curl/8.5.0"),
            (
                b"Accept-Language",
                b"fr-CH, fr;q=0.8, en;q=0.9, de;q=0.7, *;q=0.5",
            ),
            (b"X-Categories", b"groceries,,diy,auto"),
            (b"X-Tag", b"One"),
            (b"x-tag", b"two"),
            (b"Cookie", b"sid=abc; theme=dark"),
            (
                b"Content-Type",
                b"application/x-www-form-urlencoded; charset=utf-8",
            ),
        ],
        server_port: 443,
        tls: Some("TLSv1.3"),
        id: "r1",
        now_ms: 1_700_000_000_123,
        body: Some(Body {
            kept: b"user=ada&role=%61dmin",
            size: 21,
            truncated: false,
        }),
        response: Some(super::Response {
            status: 404,
            headers: &[(b"Content-Type", b"text/html; charset=utf-8")],
        }),
    }
}

pub(super) fn lists() -> Lists {
    let mut lists = Lists::default();
    lists.insert("office", List::ips(["192.0.2.0/24", "2001:db8::/32"]).unwrap());
    lists.insert("words", List::texts(["curl/8.5.0", "x"]));
    lists.insert("systems", List::read(ListKind::Asn, ["AS64500"]).unwrap());
    lists.insert("codes", List::ints([(400, 499)]));
    lists
}

/// Pieces of the language, in any order.
fn odd() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => prop::sample::select(vec![
            "http.host", "ip.src", "ssl", "http.request.headers", "[\"a\"]", "[*]", "[0]", "any(", "all(", "lower(", "concat(", "(",
            ")", " and ", " or ", " xor ", "not ", " eq ", " in ", "{", "}", "\"x\"", "1", "1..5", "10.0.0.0/8", "$office", ",",
            "r\"", "r#\"", "\"", "\\", " matches ", "~", "!", "==", "wildcard ", "\"**\"", "\"[\"", "61:62", "len(", "\u{e9}", "*",
        ]).prop_map(String::from),
        1 => ".{0,3}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_is_an_expression_or_an_error_with_its_place(source in odd()) {
        match Expression::compile(&source, &lists()) {
            Ok(expression) => {
                expression.matches(&subject());
            }
            Err(error) => {
                prop_assert!(error.at <= source.len());
                error.render(&source);
            }
        }
    }
}
