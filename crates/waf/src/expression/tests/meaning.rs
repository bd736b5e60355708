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
            response: true,
            ..Needs::default()
        }
    );
    let expression = Expression::compile("http.request.body.size gt 10", &lists()).unwrap();
    assert_eq!(
        expression.needs(),
        Needs {
            body: true,
            ..Needs::default()
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
        r#"http.request.uri.path matches "^/admin/[a-z]+\.PHP$" and http.request.uri.path ~ r"^/admin/[a-z]+\.PHP$""#,
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

#[test]
fn what_databases_say_of_a_client() {
    let place = crate::country::Place {
        continent: "EU".into(),
        subdivisions: ["DE-BE".into(), String::new()],
        region: "Land Berlin".into(),
        region_code: "BE".into(),
        city: "Berlin".into(),
        postal_code: "10115".into(),
        latitude: "52.51960".into(),
        longitude: "13.40690".into(),
        timezone: "Europe/Berlin".into(),
        ..crate::country::Place::default()
    };
    let known = Subject {
        place: Some(&place),
        ..subject()
    };
    for (source, of_nobody) in [
        ("ip.src.asnum eq 64500 and ip.geoip.asnum in {64496..64511}", true),
        ("ip.src.asnum in $systems", true),
        (r#"ip.src.is_in_european_union and ip.src.country eq "DE""#, true),
        (
            r#"ip.src.continent eq "EU" and ip.geoip.continent in {"EU" "AF"}"#,
            false,
        ),
        (
            r#"ip.src.city eq "Berlin" and ip.src.region eq "Land Berlin" and ip.src.region_code eq "BE""#,
            false,
        ),
        (
            r#"ip.src.subdivision_1_iso_code eq "DE-BE" and ip.geoip.subdivision_2_iso_code eq """#,
            false,
        ),
        (
            r#"ip.src.postal_code eq "10115" and starts_with(ip.src.lat, "52.") and ip.src.lon ne """#,
            false,
        ),
        (
            r#"ip.src.timezone.name eq "Europe/Berlin" and ip.src.metro_code eq """#,
            false,
        ),
    ] {
        let expression = Expression::compile(source, &lists()).unwrap();
        assert!(expression.matches(&known), "{source}");
        assert_eq!(expression.matches(&subject()), of_nobody, "{source}");
    }
    let unknown = Subject {
        country: None,
        network: None,
        ..subject()
    };
    for source in ["ip.src.asnum ge 0", "ip.src.is_in_european_union"] {
        assert!(
            !Expression::compile(source, &lists()).unwrap().matches(&unknown),
            "{source}"
        );
    }
    let needs = |source| Expression::compile(source, &lists()).unwrap().needs();
    assert!(needs("ip.src.asnum eq 1").network && !needs("ip.src.asnum eq 1").country);
    let city = needs("ip.src.city eq \"x\"");
    assert!(city.place && city.country && !needs("ip.src.country eq \"x\"").place);
}

/// The examples of Cloudflare's documentation, where it has any.
#[test]
fn more_functions() {
    all(&[
        "cidr(ip.src, 24, 24) eq 192.0.2.0 and cidr6(ip.src, 24) eq 192.0.2.7",
        r#"split(http.request.headers["x-categories"][0], ",", 64)[2] eq "diy""#,
        r#"split(http.request.headers["x-categories"][0], ",", 3)[2] eq "diy,auto""#,
        r#"any(split(http.request.headers["x-categories"][0], ",", 64)[*] eq "")"#,
        r#"len(split(http.request.headers["x-categories"][0], ",", 64)) eq 4"#,
        r#"has_value(split(http.request.headers["x-categories"][0], ",", 64), "auto")"#,
        r#"join(split(http.request.headers["x-categories"][0], ",", 64), "+") eq "groceries++diy+auto""#,
        r#"join(http.request.headers["x-tag"], ", ") eq "One, two" and join(http.request.headers["none"], ",") eq """#,
        r#"remove_query_args(http.request.uri.query, "a") eq "b=%41+b""#,
        r#"remove_query_args(raw.http.request.uri.query, "b", "none") eq "a=1&a=2""#,
        r#"wildcard_replace(http.request.full_uri, "https://*.example/*/*", "https://example/${1}/${2}/${3}") eq "https://example/app/admin/users.PHP?a=1&b=%41+b&a=2""#,
        r#"wildcard_replace(http.request.uri.path, "/ADMIN/*", "/${1}") eq "/users.PHP""#,
        r#"wildcard_replace(http.request.uri.path, "/ADMIN/*", "/${1}", "s") eq "/admin/users.PHP""#,
        r#"wildcard_replace(http.request.uri.path, "/users*", "/${1}") eq "/admin/users.PHP""#,
        r#"regex_replace("/b", "^/b$", "/b$$") eq "/b$""#,
    ]);
    let six = Subject {
        client: "2001:0000:130F:0000:0000:09C0:876A:130B".parse().unwrap(),
        ..subject()
    };
    for source in [
        "cidr(ip.src, 24, 24) eq 2001::",
        "cidr6(ip.src, 48) eq 2001:0:130f::",
    ] {
        assert!(
            Expression::compile(source, &lists()).unwrap().matches(&six),
            "{source}"
        );
    }
}

#[test]
fn many_values_are_unpacked_as_cloudflare_writes_it() {
    all(&[
        r#"any(lower(http.request.headers.names[*])[*] == "content-type")"#,
        r#"any(url_decode(http.request.body.form.values[*])[*] contains "adm")"#,
        r#"all(len(http.request.uri.args["a"][*])[*] in {1 2})"#,
        r#"not all(not len(http.request.uri.args["a"][*])[*] in {1 2})"#,
        r#"any(not starts_with(http.request.headers["x-tag"][*], "t"))"#,
        r#"lower(http.request.headers["x-tag"][*])[0] eq "one" and upper(http.request.headers["x-tag"][*])[1] eq "TWO""#,
        r#"len(lower(http.request.headers["x-tag"][*])) eq 2"#,
        r#"http.request.accepted_languages[0] eq "fr-CH" and http.request.accepted_languages[1] eq "en""#,
        r#"len(http.request.accepted_languages) eq 4 and http.request.accepted_languages[3] eq "de""#,
        r#"cf.edge.client_port eq 40000 and cf.edge.client_tcp"#,
        r#"raw.http.request.uri.path.extension eq "PHP" and any(raw.http.response.headers.names[*] eq "content-type")"#,
    ]);
    let hidden = Subject {
        path: b"/.mp3",
        ..subject()
    };
    let of = |source| Expression::compile(source, &lists()).unwrap().matches(&hidden);
    assert!(of(r#"http.request.uri.path.extension eq """#));
}

/// In quotes a pattern's escapes are its own, as at Cloudflare.
#[test]
fn patterns_in_quotes() {
    all(&[
        r#"http.host matches "^app\.example$""#,
        r#"not http.host matches "^app\\.example$""#,
        r#"http.user_agent matches "^curl/\d\.\d""#,
        r#"not http.host matches "a\"b" and not http.host matches "[^\"a-z.]""#,
        r##"http.host matches "^[^"]+$" and not http.host matches "a\"#b""##,
    ]);
}

#[test]
fn parts_of_a_multipart_body() {
    let body = concat!(
        "--x\r\nContent-Disposition: form-data; name=\"role\"\r\n\r\nadmin\r\n",
        "--x\r\nContent-Disposition: form-data; name=\"picture\"; filename=\"photo.jpg\"\r\n",
        "Content-Type: image/jpeg\r\n\r\n\u{1}\u{2}\r\n--x--\r\n"
    );
    let sent = Subject {
        headers: &[(b"Content-Type", b"multipart/form-data; boundary=x")],
        body: Some(Body {
            kept: body.as_bytes(),
            size: body.len() as u64,
            truncated: false,
        }),
        ..subject()
    };
    for source in [
        r#"any(http.request.body.multipart["role"][*] == "admin")"#,
        r#"any(http.request.body.multipart.names[*][0] == "picture")"#,
        r#"http.request.body.multipart.names[0][0] eq "role""#,
        r#"any(http.request.body.multipart.filenames[*][0] in {"photo.jpg"})"#,
        r#"http.request.body.multipart.filenames[0][0] eq "" and len(http.request.body.multipart.filenames) eq 2"#,
        r#"http.request.body.multipart.content_types[1][0] eq "image/jpeg""#,
        r#"any(http.request.body.multipart.content_dispositions[*][0] eq "form-data; name=\"role\"")"#,
        r#"any(http.request.body.multipart.values[*] eq "\x01\x02")"#,
    ] {
        let expression =
            Expression::compile(source, &lists()).unwrap_or_else(|error| panic!("{}", error.render(source)));
        assert!(expression.matches(&sent), "{source}");
        assert!(
            !expression.matches(&subject()) || source.contains("eq \"\" and"),
            "{source}"
        );
        assert!(expression.needs().body, "{source}");
    }
}
