//! Every error at once, each with its place.

#![expect(clippy::disallowed_methods, reason = "tests: no file is for keeps")]

use astraler_manifest::{load, parse};

const TEN_ERRORS: &str = r#"name = 7
domain = "not a domain"
colour = "blue"

[edge]
http_port = 70000
listen_addreses = []

[edge.limits]
max_headers = 4

[workers.api]
path = "workers/missing"
routes = ["api"]

[redis]
maxmemory_policy = "sometimes"
maxmemory_bytes = "much"

[console]
"#;

#[test]
fn ten_errors_are_all_shown_with_line_caret_and_the_nearest_right_name() {
    let folder = tempfile::tempdir().unwrap();
    crate::write(&folder.path().join("astraler.toml"), TEN_ERRORS);
    let errors = load(folder.path()).unwrap_err();
    let places: Vec<(usize, &str)> = errors.iter().map(|error| (error.line, error.code)).collect();
    assert_eq!(
        places,
        [
            (1, "wrong-type"),
            (2, "wrong-value"),
            (3, "unknown-key"),
            (6, "out-of-range"),
            (7, "unknown-key"),
            (10, "out-of-range"),
            (13, "missing-file"),
            (14, "wrong-value"),
            (17, "wrong-value"),
            (18, "wrong-type"),
            (20, "not-supported-yet"),
        ]
    );
    crate::same_as_file("tests/expected/ten-errors.txt", &errors.render(false, 100));
}

#[test]
fn an_address_is_of_a_known_kind_and_holds_no_secret() {
    let text = "name = \"a\"\ndomain = \"a.example\"\n\n[backups]\ntarget_url = \"ftp://team/shop\"\n\
                config_git_url = \"https://team:token-canary@git.example/a.git\"\n\n[storage]\nreplication_url = \"s3:/b\"\n";
    let errors = parse("astraler.toml", text).unwrap_err();
    let found: Vec<(usize, &str)> = errors.iter().map(|error| (error.line, error.code)).collect();
    assert_eq!(found, [(5, "wrong-value"), (6, "secret"), (9, "wrong-value")]);
    let remote = text.replace("https://team:token-canary@git.example/a.git", "--upload-pack=x");
    let errors = parse("astraler.toml", &remote).unwrap_err();
    assert_eq!(errors.iter().nth(1).unwrap().code, "wrong-value", "{errors}");
}

#[test]
fn each_record_of_a_zone_is_checked_where_it_stands() {
    let text = "name = \"shop\"\ndomain = \"shop.example\"\n[edge.dns]\nrecords = [\n".to_owned()
        + "  \"www A 192.0.2.1\",\n  \"www A 300.0.2.1\",\n  \"@ MX 10 mail.example.net\",\n"
        + "  \"blog CNAME www\",\n  \"blog TXT x\",\n  \"@ ALIAS lb.example.net.\",\n  \"a ALIAS www\",\n]\n"
        + "rate_exempt = [\"192.0.2.0/33\"]\nname_servers = [\"ns..x\"]\ncontact = \"nobody\"\n"
        + "secondaries = [{ key_name = \"n\", key_secret = \"K\", notify = [\"here\"] }]\n";
    let errors = parse("astraler.toml", &text).unwrap_err();
    let shown: Vec<String> = errors
        .iter()
        .map(|error| format!("{}: {}", error.line, error.message))
        .collect();
    assert_eq!(
        shown,
        [
            "6: this is no A record",
            "7: `mail.example.net` has no dot at its end, so it would mean mail.example.net.shop.example.",
            "8: blog.shop.example. has a CNAME record and others",
            "10: the addresses of lb.example.net. must be asked for",
            "13: \"192.0.2.0/33\" has a prefix of more than 32 bits",
            "14: `ns..x` has an empty label",
            "15: \"nobody\" is no mail address",
            "16: \"here\" is no address of a DNS server",
        ]
    );
    assert!(errors.iter().all(|error| error.help.is_some()));
    let with_resolver = text.replace("[edge.dns]\n", "[edge.dns]\nresolver = \"127.0.0.1:5300\"\n");
    assert_eq!(parse("astraler.toml", &with_resolver).unwrap_err().len(), 7);
}

#[test]
fn a_syntax_error_has_its_line_and_column() {
    let errors = parse("astraler.toml", "name = \"a\"\ndomain = \n").unwrap_err();
    let error = errors.iter().next().unwrap();
    assert_eq!((error.line, error.column, error.code), (2, 10, "syntax"));
}

#[test]
fn columns_count_characters_and_not_bytes() {
    let errors = parse(
        "astraler.toml",
        "name = \"a\"\ndomain = \"ä.example\"\n\"ü\" = 1\n",
    )
    .unwrap_err();
    let places: Vec<(usize, usize)> = errors.iter().map(|error| (error.line, error.column)).collect();
    assert_eq!(places, [(2, 10), (3, 1)]);
}

#[test]
fn what_is_missing_is_named_and_described() {
    let errors = parse("astraler.toml", "").unwrap_err().to_string();
    assert!(errors.contains("`name` is missing"), "{errors}");
    assert!(errors.contains("`domain` is missing"), "{errors}");
    assert!(errors.contains("shop.example"), "{errors}");
}

#[test]
fn errors_as_json_carry_file_line_column_code_message_and_help() {
    let errors = parse(
        "astraler.toml",
        "nam = \"a\"\ndomain = \"a.example\"\nname = \"a\"\n",
    )
    .unwrap_err();
    assert_eq!(
        errors.to_json(),
        serde_json::json!([{
            "file": "astraler.toml",
            "line": 1,
            "column": 1,
            "code": "unknown-key",
            "message": "unknown key `nam`",
            "help": "did you mean `name`?",
        }])
    );
}

#[test]
fn a_route_of_two_workers_is_refused_once() {
    let text = r#"
name = "a"
domain = "a.example"
[workers.one]
path = "one"
routes = ["/api/*"]
[workers.two]
path = "two"
routes = ["/api/*"]
"#;
    let errors = parse("astraler.toml", text).unwrap_err();
    assert_eq!(errors.len(), 1);
    let error = errors.iter().next().unwrap();
    assert_eq!((error.line, error.code), (9, "duplicate"));
    assert!(error.message.contains("`one`"), "{}", error.message);
}

#[test]
fn rules_of_the_edge_are_read_strictly() {
    let text = r#"name = "a"
domain = "a.example"
[edge]
trusted_proxies = ["10.0.0.1/8"]
allow_list = ["office"]
proxy_protocol = ["10.0.0.0/8", "127.0.0.0/8", "::1"]
[edge.headers]
Content-Length = "7"
X-Good = "yes"
X-Bad = "a\r\nb: c"
[edge.error_pages]
200 = "/ok.html"
404 = "404.html"
[[edge.access]]
name = "Office"
allow = ["192.0.2.0/33"]
[[edge.rate_rules]]
name = "one"
requests = 5
burst = 6
characteristics = ["ip.src"]
paths = ["login"]
[[edge.rate_rules]]
name = "one"
requests = 0
[[edge.rate_rules]]
name = "admin-hosts"
expression = "true"
[[edge.header_rules]]
remove = ["Transfer-Encoding"]
"#;
    let errors = parse("astraler.toml", text).unwrap_err();
    let mut found: Vec<(usize, &str)> = errors.iter().map(|error| (error.line, error.code)).collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            (4, "wrong-value"),
            (5, "wrong-value"),
            (6, "wrong-value"),
            (6, "wrong-value"),
            (8, "wrong-value"),
            (10, "wrong-value"),
            (12, "wrong-value"),
            (13, "wrong-value"),
            (15, "wrong-value"),
            (16, "wrong-value"),
            (20, "wrong-value"),
            (21, "wrong-value"),
            (22, "wrong-value"),
            (24, "wrong-value"),
            (25, "out-of-range"),
            (26, "missing-key"),
            (27, "wrong-value"),
            (28, "not-supported-yet"),
            (30, "wrong-value"),
        ]
    );
    let rendered = errors.render(false, 200);
    assert!(rendered.contains("write 10.0.0.0/8"), "{rendered}");

    let good = "name = \"a\"\ndomain = \"a.example\"\n[edge]\nallow_list = [\"::ffff:192.0.2.0/120\"]\n\
                [edge.headers]\nX-Frame-Options = \"DENY\"\n\
                [[edge.rate_rules]]\nname = \"staging-only\"\nenvironments = [\"staging\"]\nrequests = 5\n";
    let config = parse("astraler.toml", good).unwrap();
    let staging = config.edge.policy(astraler_model::Environment::Staging);
    let production = config.edge.policy(astraler_model::Environment::Production);
    assert_eq!((staging.rate_rules.len(), production.rate_rules.len()), (1, 0));
    assert_eq!(production.access[0].hosts, ["admin.*", "console.*"]);
    assert_eq!(production.access[0].allow[0].to_string(), "192.0.2.0/24");
    assert_eq!(production.header_rules.len(), 1);
}

#[test]
fn the_firewalls_rules_are_compiled_before_anything_is_done() {
    let text = r#"name = "shop"
domain = "shop.example"
[edge.waf]
mode = "detect"
modes = { production = "block", development = "off" }
rules = "../coreruleset"
paranoia_level = 5
countries = "GeoLite2-Country.mmdb"
[[edge.waf.custom_rules]]
name = "admin"
expression = 'http.request.uri.pth contains "/admin"'
action = "block"
[[edge.waf.custom_rules]]
name = "admin"
expression = 'http.response.code eq 200'
action = "drop"
[[edge.waf.exceptions]]
rules = [942100]
paths = ["editor"]
"#;
    let errors = parse("astraler.toml", text).unwrap_err();
    let mut found: Vec<(usize, &str)> = errors.iter().map(|error| (error.line, error.code)).collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            (6, "wrong-value"),
            (7, "out-of-range"),
            (8, "wrong-value"),
            (11, "wrong-value"),
            (14, "wrong-value"),
            (16, "wrong-value"),
            (19, "wrong-value"),
        ]
    );
    let rendered = errors.render(false, 200);
    assert!(rendered.contains("http.request.uri.path"), "{rendered}");

    let good = "name = \"a\"\ndomain = \"a.example\"\n[edge.waf]\nmode = \"detect\"\n\
                modes = { production = \"block\", development = \"off\" }\n";
    let config = parse("astraler.toml", good).unwrap();
    let mode = |environment| config.edge.policy(environment).waf.map(|waf| waf.mode);
    use astraler_model::{Environment, WafMode};
    assert_eq!(mode(Environment::Production), Some(WafMode::Block));
    assert_eq!(mode(Environment::Staging), Some(WafMode::Detect));
    assert_eq!(mode(Environment::Development), None);
    let waf = config.edge.policy(Environment::Production).waf.unwrap();
    assert!(waf.rules.unwrap().is_absolute(), "the distribution's by default");
    let rules = |said: &str| {
        parse(
            "astraler.toml",
            &good.replace("detect\"", &format!("detect\"\n{said}")),
        )
        .map(|config| {
            let waf = config.edge.policy(Environment::Staging).waf.unwrap();
            (waf.rules.is_some(), config.edge.waf.own_rules().is_some())
        })
    };
    assert_eq!(rules("managed_rules = false").unwrap(), (false, false));
    assert_eq!(rules("rules = \"security/crs/\"").unwrap(), (true, true));
    assert_eq!(rules("rules = \"/srv/crs\"").unwrap(), (true, false));
    for wrong in ["", ".", "a/../b", "a//b", ".git/crs", "a\\\\b"] {
        assert!(rules(&format!("rules = \"{wrong}\"")).is_err(), "{wrong}");
    }
    // Values of single environments go before those for all.
    let waf = |said: &str, environment| {
        let config = parse(
            "astraler.toml",
            &good.replace("detect\"", &format!("detect\"\n{said}")),
        );
        config.unwrap().edge.policy(environment).waf.unwrap()
    };
    let own = "paranoia_level = 2\nparanoia_levels = { staging = 3 }\ninbound_thresholds = { staging = 9 }\n\
               outbound_thresholds = { production = 6 }\nbody_limits_bytes = { staging = 0 }";
    let numbers = |waf: astraler_model::WafConfig| {
        (
            waf.paranoia_level,
            waf.inbound_threshold,
            waf.outbound_threshold,
            waf.body_limit_bytes,
        )
    };
    assert_eq!(numbers(waf(own, Environment::Staging)), (3, 9, 4, 0));
    assert_eq!(numbers(waf(own, Environment::Production)), (2, 5, 6, 128 << 10));
    assert!(rules("paranoia_levels = { staging = 5 }").is_err());
    assert!(rules("inbound_thresholds = { live = 5 }").is_err());
    // A rule about where a client is needs somebody to say it.
    for (field, of) in [
        ("ip.src.country eq \"CH\"", "countries"),
        ("ip.src.is_in_european_union", "countries"),
        ("ip.src.city eq \"Bern\"", "countries"),
        ("ip.src.asnum eq 64500", "networks"),
    ] {
        let rule = |more: &str| {
            format!(
                "{good}{more}\n[[edge.waf.custom_rules]]\nname = \"a\"\nexpression = '{field}'\naction = \"block\"\n"
            )
        };
        let error = parse("astraler.toml", &rule("")).unwrap_err().render(false, 200);
        assert!(error.contains(&format!("`edge.waf.{of}`")), "{error}");
        assert!(parse("astraler.toml", &rule(&format!("{of} = \"/srv/a.mmdb\""))).is_ok());
    }
    let none = parse("astraler.toml", "name = \"a\"\ndomain = \"a.example\"\n").unwrap();
    assert_eq!(
        none.edge.policy(Environment::Production).waf,
        None,
        "off until it is asked for"
    );
}

#[test]
fn lists_are_read_with_their_files_and_a_rule_that_names_another_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let toml = r#"name = "shop"
domain = "shop.example"
[edge.lists.office]
items = ["192.0.2.0/24", "nobody"]
file = "security/office.txt"
[edge.lists.agents]
kind = "text"
items = ["curl/8 # not a comment"]
[edge.lists.outside]
file = "../passwd"
[edge.lists."a-b"]
items = []
[[edge.waf.custom_rules]]
name = "a"
expression = 'ip.src in $ofice'
action = "block"
[[edge.waf.custom_rules]]
name = "b"
expression = 'ip.src in $agents'
action = "block"
[[edge.waf.custom_rules]]
name = "c"
expression = 'http.user_agent in $agents'
action = "log"
"#;
    write("astraler.toml", toml);
    write(
        "security/office.txt",
        "# ours\n198.51.100.7 # the door\n\n1.2.3\n",
    );
    let errors = astraler_manifest::load(folder.path()).unwrap_err();
    let mut found: Vec<usize> = errors.iter().map(|error| error.line).collect();
    found.sort_unstable();
    assert_eq!(found, [4, 5, 10, 11, 15, 19], "{errors}");
    let said = errors.to_string();
    for words in [
        "'nobody' is no IP address",
        "security/office.txt:4: '1.2.3'",
        "'$office'",
        "is not of",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }

    let good = toml
        .replace(", \"nobody\"", "")
        .replace(
            "[edge.lists.outside]\nfile = \"../passwd\"\n[edge.lists.\"a-b\"]\nitems = []\n",
            "",
        )
        .replace("$ofice", "$office")
        .replace("'ip.src in $agents'", "'not ip.src in $office'");
    write("astraler.toml", &good);
    write("security/office.txt", "198.51.100.7 # the door\n");
    let config = astraler_manifest::load(folder.path()).unwrap().config;
    assert_eq!(
        config.edge.lists["office"].items,
        ["192.0.2.0/24", "198.51.100.7"]
    );
    assert_eq!(config.edge.lists["agents"].items, ["curl/8 # not a comment"]);
    // Without its folder a manifest is checked all the same; a list is known by its name.
    assert_eq!(
        parse("astraler.toml", &good).unwrap().edge.lists["office"]
            .items
            .len(),
        1
    );
    let many: String = (0..=10_000)
        .map(|n| format!("10.0.{}.{}\n", n / 256, n % 256))
        .collect();
    write("security/office.txt", &many);
    assert!(
        astraler_manifest::load(folder.path())
            .unwrap_err()
            .to_string()
            .contains("more than 10000 items")
    );
}

#[test]
fn a_custom_rule_says_only_what_its_action_does() {
    let rule = |expression: &str, rest: &str| {
        let text = format!(
            "name = \"a\"\ndomain = \"a.example\"\n[[edge.waf.custom_rules]]\nname = \"r\"\nexpression = '{expression}'\n{rest}\n"
        );
        parse("astraler.toml", &text)
            .map(drop)
            .map_err(|errors| errors.to_string())
    };
    assert_eq!(
        rule(
            "ssl",
            "action = \"skip\"\nskip = [\"rate_rules\", \"managed_rules\"]"
        ),
        Ok(())
    );
    assert_eq!(rule("ssl", "action = \"exception\"\ntags = [\"x\"]"), Ok(()));
    for (expression, rest, words) in [
        (
            "ssl",
            "action = \"block\"\nskip = [\"rate_rules\"]",
            "action = \"skip\"",
        ),
        ("ssl", "action = \"skip\"\nrules = [1]", "action = \"exception\""),
        ("ssl", "action = \"skip\"\nskip = [\"rate_rule\"]", "rate_rules"),
        (
            "http.request.body.size gt 3",
            "action = \"skip\"\nskip = [\"rate_rules\"]",
            "asked before",
        ),
    ] {
        let said = rule(expression, rest).unwrap_err();
        assert!(said.contains(words), "{words}: {said}");
    }
}
