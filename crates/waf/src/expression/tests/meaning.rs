use super::super::*;
use super::{lists, subject};

#[track_caller]
fn holds(source: &str) -> bool {
    let expression = Expression::compile(source, &lists());
    expression
        .unwrap_or_else(|error| panic!("{}", error.render(source)))
        .matches(&subject())
}

#[track_caller]
fn all(sources: &[&str]) {
    for source in sources {
        assert!(holds(source), "{source}");
        assert!(!holds(&format!("not ({source})")), "not ({source})");
    }
}

#[track_caller]
fn none(sources: &[&str]) {
    for source in sources {
        assert!(!holds(source), "{source}");
    }
}

#[test]
fn fields() {
    all(&[
        r#"http.request.uri.path eq "/admin/users.PHP""#,
        r#"raw.http.request.uri.path eq "/x/../admin/users.PHP""#,
        r#"http.request.uri.path.extension eq "php""#,
        r#"http.request.uri.query eq "a=1&b=%41+b&a=2""#,
        r#"http.request.uri eq "/admin/users.PHP?a=1&b=%41+b&a=2""#,
        r#"raw.http.request.uri eq "/x/../admin/users.PHP?a=1&b=%41+b&a=2""#,
        r#"http.request.full_uri eq "https://app.example/admin/users.PHP?a=1&b=%41+b&a=2""#,
        r#"http.request.method eq "POST" and http.host == "app.example""#,
        r#"http.user_agent eq "curl/8.5.0" and http.referer eq "" and http.cookie contains "sid=""#,
        r#"http.request.version eq "HTTP/2" and ssl and cf.tls_version eq "TLSv1.3""#,
        r#"ip.src eq 192.0.2.7 and ip.src.country eq "DE" and ip.geoip.country ne "FR""#,
        "http.request.timestamp.sec eq 1700000000 and http.request.timestamp.msec == 123",
        r#"cf.edge.server_port in {80 443} and cf.ray_id eq "r1""#,
        r#"http.request.body.raw contains "ada" and http.request.body.size eq 21"#,
        r#"http.request.body.mime eq "application/x-www-form-urlencoded""#,
        "not http.request.body.truncated and http.request.headers.truncated eq false",
        r#"http.response.code eq 404 and http.response.content_type.media_type eq "text/html""#,
        r#"any(http.response.headers["content-type"][*] contains "utf-8")"#,
    ]);
}

#[test]
fn maps_and_arrays() {
    all(&[
        r#"http.request.headers["x-tag"][0] eq "One" and http.request.headers["X-TAG"][1] eq "two""#,
        r#"any(http.request.headers["x-tag"][*] eq "two")"#,
        r#"all(lower(http.request.headers["x-tag"][*]) in {"one" "two"})"#,
        r#"any(http.request.headers.names[*] eq "user-agent") and any(http.request.headers.values[*] eq "two")"#,
        r#"http.request.cookies["theme"][0] eq "dark""#,
        r#"http.request.uri.args["a"][1] eq "2" and http.request.uri.args["b"][0] eq "A b""#,
        r#"raw.http.request.uri.args["b"][0] eq "%41+b""#,
        r#"any(http.request.uri.args.names[*] eq "b") and any(http.request.uri.args[*][*] eq "A b")"#,
        r#"http.request.body.form["role"][0] eq "admin" and has_value(http.request.body.form.values, "ada")"#,
        r#"len(http.request.headers["x-tag"]) eq 2 and len(http.request.uri.args.names) eq 3"#,
        r#"has_key(http.request.headers, "X-Tag") and not has_key(http.request.cookies, "SID")"#,
    ]);
    none(&[
        r#"any(http.request.headers["none"][*] eq "x")"#,
        r#"http.request.headers["x-tag"][2] eq "x""#,
        r#"http.request.cookies["SID"][0] eq "abc""#,
        r#"all(http.request.headers["x-tag"][*] eq "two")"#,
    ]);
    // Of nothing, all holds.
    assert!(holds(r#"all(http.request.headers["none"][*] eq "x")"#));
}

#[test]
fn what_is_not_there_is_unequal_and_nothing_else() {
    let source = |operator: &str| format!("http.request.headers[\"none\"][0] {operator} \"x\"");
    assert!(holds(&source("ne")));
    for operator in ["eq", "lt", "ge", "contains", "matches", "wildcard"] {
        assert!(!holds(&source(operator)), "{operator}");
    }
    let expression = Expression::compile("http.response.code ge 400", &lists()).unwrap();
    assert!(!expression.matches(&Subject {
        response: None,
        ..subject()
    }));
    assert_eq!(
        expression.needs(),
        Needs {
            body: false,
            response: true
        }
    );
    let expression = Expression::compile("http.request.body.size gt 10", &lists()).unwrap();
    assert_eq!(
        expression.needs(),
        Needs {
            body: true,
            response: false
        }
    );
    let unknown = Expression::compile(r#"ip.src.country eq "XX""#, &lists()).unwrap();
    assert!(unknown.matches(&Subject {
        country: None,
        ..subject()
    }));
}

#[test]
fn operators() {
    all(&[
        r#"http.host eq "app.example" && http.host == "app.example""#,
        r#"http.host ne "x" && http.host != "x""#,
        r#"http.response.code lt 405 and http.response.code <= 404 and http.response.code gt 403 and http.response.code >= 404"#,
        r#"http.host lt "b""#,
        r#"http.host contains "app" and http.host contains 61:70:70"#,
        r#"http.request.uri.path matches "^/admin/[a-z]+\\.PHP$" and http.request.uri.path ~ r"^/admin/[a-z]+\.PHP$""#,
        r##"http.host matches r#"^[^"]+$"#"##,
        r#"http.request.uri.path wildcard "/ADMIN/*.php" and http.request.uri.path wildcard "*""#,
        r#"http.request.uri.path strict wildcard "/admin/*.PHP""#,
        r#"http.host in {"app.example" "x"} and http.user_agent in $words"#,
        "http.response.code in {200 400..499} and http.response.code in $codes",
        "ip.src in {192.0.2.0/24} and ip.src in {::1 192.0.2.1..192.0.2.9} and ip.src in $office",
        "ip.src ge 192.0.2.1",
    ]);
    none(&[
        r#"http.request.uri.path strict wildcard "/ADMIN/*""#,
        r#"http.request.uri.path wildcard "/admin/\\*.php""#,
        r#"http.request.uri.path wildcard "/admin""#,
        "ip.src in {10.0.0.0/8 2001:db8::/32}",
        r#"http.host in {}"#,
    ]);
}

#[test]
fn precedence() {
    // t, f: true and false.
    let (t, f) = ("ssl", "not ssl");
    for (source, wanted) in [
        (format!("{t} or {f} and {f}"), true),
        (format!("({t} or {f}) and {f}"), false),
        (format!("{t} or {t} xor {t}"), true),
        (format!("{t} xor {t} and {f}"), true),
        (format!("({t} xor {t}) or {f}"), false),
        (format!("{t} ^^ {t} || {f}"), false),
        (format!("{t} xor {t} xor {t}"), true),
        ("not ssl or ssl".to_owned(), true),
        ("not (ssl or ssl)".to_owned(), false),
        ("!!ssl".to_owned(), true),
        ("not not not ssl".to_owned(), false),
    ] {
        assert_eq!(holds(&source), wanted, "{source}");
    }
}

#[test]
fn functions() {
    all(&[
        r#"starts_with(http.request.uri.path, "/admin") and ends_with(http.host, ".example")"#,
        r#"starts_with(http.host, "app") eq true"#,
        r#"lower(http.request.uri.path) eq "/admin/users.php" and upper(http.host) eq "APP.EXAMPLE""#,
        r#"len(http.host) eq 11"#,
        r#"concat("a-", http.host, "-z") eq "a-app.example-z""#,
        r#"any(concat("<", http.request.headers["x-tag"][*], ">") eq "<two>")"#,
        r#"any(starts_with(http.request.headers["x-tag"][*], "t"))"#,
        r#"substring(http.host, 4) eq "example" and substring(http.host, -7, -1) eq "exampl" and substring(http.host, 9, 2) eq """#,
        r#"remove_bytes(http.host, "p.") eq "aexamle""#,
        r#"to_string(http.response.code) eq "404" and to_string(ip.src) eq "192.0.2.7" and to_string(ssl) eq "true""#,
        r#"url_decode("a%2520b") eq "a%20b" and url_decode("a%2520b+c", "r") eq "a b c" and url_decode("%u0041", "u") eq "A""#,
        r#"regex_replace(http.host, "^([a-z]+)\\.(.*)$", "${2}.${1}$") eq "example.app$""#,
        r#"regex_replace("/a/a", "/a", "/b") eq "/b/a""#,
        r#"lookup_json_string("{\"a\":[{\"b\":\"c\"}]}", "a", 0, "b") eq "c""#,
        r#"lookup_json_integer("{\"a\":-5}", "a") eq -5"#,
        r#"lookup_json_string("{\"a\":1}", "a") ne "1""#,
        r#"decode_base64("YXBw") eq "app""#,
    ]);
}

#[test]
fn rules_are_asked_in_their_order() {
    let rule = |name: &str, source: &str, action: Action| Rule {
        name: name.into(),
        expression: Expression::compile(source, &lists()).unwrap(),
        action,
    };
    let exception = Managed {
        ids: [942_100].into(),
        tags: ["attack-sqli".to_owned()].into(),
        all: false,
    };
    let rules = [
        rule("log", "ssl", Action::Log),
        rule(
            "exception",
            r#"http.host eq "app.example""#,
            Action::Exception(exception),
        ),
        rule("other", "not ssl", Action::Block),
        rule(
            "rates",
            "ssl",
            Action::Skip(Skip {
                rate_rules: true,
                ..Skip::default()
            }),
        ),
        rule(
            "block",
            r#"http.request.uri.path contains "/admin""#,
            Action::Block,
        ),
        rule("behind", "ssl", Action::Log),
    ];
    let decision = decide(&rules, &subject());
    assert_eq!(decision.block.unwrap().name, "block");
    let applied: Vec<_> = decision.applied.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(applied, ["log", "exception", "rates"]);
    assert!(decision.skip.rate_rules && !decision.skip.custom_rules);
    assert!(decision.skip.managed.has(942_100, []) && decision.skip.managed.has(1, ["attack-sqli"]));
    assert!(!decision.skip.managed.has(1, ["attack-xss"]) && !decision.skip.managed.is_none());

    let allow = [
        rule(
            "allow",
            "ip.src in $office",
            Action::Skip(Skip {
                custom_rules: true,
                ..Skip::default()
            }),
        ),
        rule("block", "ssl", Action::Block),
    ];
    let decision = decide(&allow, &subject());
    assert!(decision.block.is_none() && decision.skip.custom_rules && decision.skip.managed.is_none());
}
