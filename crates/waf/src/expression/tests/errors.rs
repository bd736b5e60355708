use super::super::*;
use super::lists;

#[track_caller]
fn error(source: &str) -> String {
    match Expression::compile(source, &lists()) {
        Ok(_) => panic!("no error: {source}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn errors_say_what_where_and_what_instead() {
    for (source, wanted) in [
        ("", "expected a field or a function, found the end at 1"),
        (
            r#"http.request.uri.pth eq "x""#,
            "unknown field 'http.request.uri.pth' at 1; did you mean 'http.request.uri.path'?",
        ),
        (
            "cf.bot_management.score lt 30",
            "unknown field 'cf.bot_management.score' at 1; this field is of Cloudflare's network; docs/waf-expressions.md lists \
             those that are known here",
        ),
        (
            r#"http.host eq 5"#,
            "expected a string in quotes, found '5' at 14",
        ),
        (
            r#"http.response.code eq "5""#,
            "expected a number, found '\"5\"' at 23",
        ),
        (
            "ip.src eq 10.0.0.0/8 ",
            "an address is equal to one address at 22; write in {10.0.0.0/8}",
        ),
        (
            "ip.src in {10.0.0.0/33}",
            "expected an IP address, a network or a range of addresses, found '10.0.0.0/33' at 12",
        ),
        (
            "ip.src in $ofice",
            "there is no list called 'ofice' at 11; did you mean '$office'?",
        ),
        (
            "ip.src in $words",
            "the list 'words' is not of an IP address at 11",
        ),
        (
            "ip.src contains \"1\"",
            "'contains' is of strings, and this is an IP address at 8",
        ),
        (
            "http.host",
            "expected an operator, found the end at 10; this is a string: compare it with something",
        ),
        (
            "http.host is \"x\"",
            "expected an operator, found 'is' at 11; eq, ne, lt, le, gt, ge, contains, matches, wildcard, strict wildcard or in",
        ),
        (
            "http.request.headers[\"a\"][*] eq \"x\"",
            "'[*]' is many values, and a comparison is of one at 1; write any(… [*] …) or all(… [*] …)",
        ),
        (
            "http.request.headers[\"a\"] eq \"x\"",
            "this field is many values, and a comparison is of one at 1; take one with [\"name\"][0], or all of them with any(… [*] \
             …)",
        ),
        (
            "any(http.host eq \"x\")",
            "any() is of a comparison with '[*]' in it at 5; write any(http.request.headers[\"name\"][*] eq \"value\")",
        ),
        (
            "lwer(http.host) eq \"x\"",
            "unknown function 'lwer' at 1; did you mean 'lower'?",
        ),
        (
            "uuidv4(cf.ray_id) eq \"x\"",
            "uuidv4() is of rules that rewrite, and not of those that filter at 1",
        ),
        (
            "wildcard_replace(regex_replace(http.host, \"a\", \"b\"), \"*\", \"b\") eq \"x\"",
            "regex_replace() can be used once in an expression at 18",
        ),
        (
            "wildcard_replace(http.host, \"*\", \"${2}\") eq \"x\"",
            "the pattern has no group 2 at 34",
        ),
        (
            "wildcard_replace(http.host, \"*\", \"a\", \"i\") eq \"x\"",
            "the flag of wildcard_replace() is 's' (case counts) at 39",
        ),
        (
            "split(http.host, \",\", 200)[0] eq \"x\"",
            "split() makes 1 to 128 elements at 23",
        ),
        (
            "split(http.host, \"\", 2)[0] eq \"x\"",
            "split() is at something at 18",
        ),
        (
            "remove_query_args(http.host, \"a\") eq \"x\"",
            "remove_query_args() is of http.request.uri.query at 19",
        ),
        ("cidr(ip.src, 33, 1) eq 192.0.2.0", "bits are 1 to 32 at 14"),
        (
            "is_timed_hmac_valid_v0(\"key\", http.request.uri, 100, http.request.timestamp.sec, 8)",
            "is_timed_hmac_valid_v0() is not here: its key would stand in the manifest; let the application check signed links at 1",
        ),
        (
            "cf.waf.score lt 20",
            "unknown field 'cf.waf.score' at 1; the score is of a model of Cloudflare's; managed rules score for themselves, \
             from `edge.waf.inbound_threshold` on",
        ),
        (
            "not cf.tls_client_auth.cert_verified",
            "unknown field 'cf.tls_client_auth.cert_verified' at 5; this edge asks clients for no certificates",
        ),
        (
            "http.request.body.multipart.names[*] eq \"x\"",
            "expected '[', found 'eq' at 38",
        ),
        (
            "any(http.request.body.multipart.names[*][1] eq \"x\")",
            "each part has one of these: [0] at 42",
        ),
        (
            "lower(ip.src) eq \"x\"",
            "expected a string, found an IP address at 7",
        ),
        ("(ssl", "expected ')', found the end at 5"),
        (
            "ssl ssl",
            "expected 'and', 'or' or the end of the expression, found 'ssl' at 5",
        ),
        ("http.host eq \"x", "this string has no end at 14"),
        (
            "http.host eq \"\\d\"",
            "unknown escape in a string at 15; write '\\\\' for a backslash, or a raw string: r\"\\d+\"",
        ),
        ("http.host wildcard \"a**\"", "two stars beside each other at 20"),
        (
            "http.host wildcard r\"\\d\"",
            "a backslash stands only before '*' and '\\' at 20",
        ),
        ("http.host eq \"x\" ; ssl", "unexpected character ';' at 18"),
        (
            "regex_replace(http.host, \"a\", \"${1}\") eq \"x\"",
            "the pattern has no group 1 at 31",
        ),
        (
            "regex_replace(regex_replace(http.host, \"a\", \"b\"), \"a\", \"b\") eq \"x\"",
            "regex_replace() can be used once in an expression at 15",
        ),
        (
            "url_decode(http.host, \"x\") eq \"\"",
            "the options of url_decode() are 'r' (again and again) and 'u' (%uHHHH) at 23",
        ),
        ("len(ip.src) eq 1", "len() is of a string or an array at 5"),
    ] {
        assert_eq!(error(source), wanted, "{source}");
    }
    assert!(error("http.host matches r\"[a\"").contains("unclosed character class"));
    assert!(error("http.host matches \"(?=a)\"").contains("look-around"));
}

#[test]
fn an_error_is_shown_below_its_line() {
    let source = "ssl\nand \u{e9}http.hst eq \"x\"";
    let error = Expression::compile(source, &lists()).unwrap_err();
    assert_eq!(
        error.render(source),
        "unexpected character '\u{e9}' at 9\n  and \u{e9}http.hst eq \"x\"\n      ^"
    );
}

#[test]
fn limits() {
    let long = format!("http.host eq \"{}\"", "x".repeat(MAX_BYTES));
    assert_eq!(
        error(&long),
        "the expression has 4111 bytes, and may have 4096 at 4097; put values into a list: in $name"
    );
    let deep = format!("{}ssl{}", "(".repeat(MAX_DEPTH + 1), ")".repeat(MAX_DEPTH + 1));
    assert!(error(&deep).starts_with("nested deeper than 32"));
    let deep = format!("{}ssl{}", "(".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH));
    assert!(Expression::compile(&deep, &lists()).is_ok());
    let many = vec!["http.host ~ \"a\""; MAX_PATTERNS + 1].join(" or ");
    assert!(error(&many).starts_with("an expression has 64 patterns at most"));
    assert_eq!(
        error("http.host ~ \"(a{1000}){1000}\""),
        "this pattern is too large at 13"
    );
    let negations = format!("{}ssl", "not ".repeat(1000));
    assert!(Expression::compile(&negations, &lists()).is_ok());
}
