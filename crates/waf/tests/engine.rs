//! What rules do, one by one.

use astraler_waf::engine::{Beyond, Limits, Stop, Stores};

use crate::with::{Sent, ids, rules};

fn matched(text: &str, sent: &Sent<'_>) -> Vec<u64> {
    ids(&sent.through(&rules(text)))
}

#[test]
fn variables_hold_what_their_names_say() {
    let sent = Sent {
        method: "POST",
        target: "http://example.com/a%20b/c.php?x=1&y=%41+b&x=2",
        headers: &[
            (b"Host", b"example.com:8443"),
            (b"Cookie", b"sid=abc; theme=dark"),
            (b"Content-Type", b"application/x-www-form-urlencoded"),
            (b"X-Empty", b""),
        ],
        body: b"z=3&w=%3cb%3e",
        ..Sent::default()
    };
    for (variable, value) in [
        ("ARGS:y", "A b"),
        ("ARGS:Z", "3"),
        ("ARGS_POST:w", "<b>"),
        ("ARGS_GET_NAMES:y", "y"),
        ("ARGS_NAMES:w", "w"),
        ("ARGS_COMBINED_SIZE", "14"),
        ("&ARGS:x", "2"),
        ("&ARGS", "5"),
        ("&ARGS_POST:nothing", "0"),
        ("REQUEST_COOKIES:theme", "dark"),
        ("REQUEST_COOKIES_NAMES:/^s/", "sid"),
        ("REQUEST_HEADERS:host", "example.com:8443"),
        ("&REQUEST_HEADERS:X-Empty", "1"),
        ("REQUEST_HEADERS_NAMES:x-empty", "X-Empty"),
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_URI", "/a%20b/c.php?x=1&y=%41+b&x=2"),
        (
            "REQUEST_URI_RAW",
            "http://example.com/a%20b/c.php?x=1&y=%41+b&x=2",
        ),
        ("REQUEST_FILENAME", "/a b/c.php"),
        ("REQUEST_BASENAME", "c.php"),
        ("QUERY_STRING", "x=1&y=%41+b&x=2"),
        ("REQUEST_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_BODY", "z=3&w=%3cb%3e"),
        ("REQUEST_BODY_LENGTH", "13"),
        ("REQBODY_PROCESSOR", "URLENCODED"),
        ("REMOTE_ADDR", "192.0.2.1"),
        ("SERVER_NAME", "example.com"),
        ("SERVER_PORT", "443"),
        ("UNIQUE_ID", "test"),
        ("TIME", "22:13:20"),
        ("TIME_EPOCH", "1700000000"),
        ("TIME_YEAR", "2023"),
        ("URLENCODED_ERROR", "0"),
        ("RESPONSE_STATUS", "200"),
        ("RESPONSE_BODY", "<html>hello</html>"),
        ("RESPONSE_HEADERS:content-type", "text/html"),
        ("GEO:COUNTRY_CODE", "CH"),
    ] {
        let phase = if variable.contains("RESPONSE") { 4 } else { 2 };
        let rule = format!("SecRule {variable} \"@streq {value}\" \"id:1,phase:{phase},pass\"");
        assert_eq!(matched(&rule, &sent), [1], "{variable} is not {value}");
    }
}

#[test]
fn operators_decide_as_their_names_say() {
    for (operator, value, matches) in [
        ("@rx ^a.c$", "abc", true),
        ("@rx ^a.c$", "ABC", false),
        ("@rx ^a.c$", "a%0ac", true),
        ("@rx c$", "abc%0a", false),
        ("@rx a\\x{62}", "ab", true),
        ("@rx [[:alpha:]]{2,}", "1ab", true),
        ("!@rx a", "b", true),
        ("@pm cat dog", "hotDOGs", true),
        ("@pm cat dog", "do%20g", false),
        ("@contains b", "abc", true),
        ("@containsWord b", "abc", false),
        ("@containsWord b", "a+b+c", true),
        ("@beginsWith ab", "abc", true),
        ("@endsWith bc", "abc", true),
        ("@streq abc", "abc", true),
        ("@strmatch bc", "abcd", true),
        ("@within one,two", "two", true),
        ("@within one,two", "three", false),
        ("@eq 3", "3", true),
        ("@ge 3", "2", false),
        ("@lt 3", "-1", true),
        ("@ipMatch 10.0.0.0/8,::1", "10.2.3.4", true),
        ("@ipMatch 10.0.0.0/8,::1", "11.2.3.4", false),
        ("@ipMatch 2001:db8::/32", "2001:db8::5", true),
        ("@validateByteRange 32-126", "ab%00", true),
        ("@validateByteRange 32-126", "ab", false),
        ("@validateUrlEncoding", "%25zz", true),
        ("@validateUrlEncoding", "%2541", false),
        ("@validateUtf8Encoding", "%ff", true),
        ("@validateUtf8Encoding", "%c3%a9", false),
        ("@verifyCC \\d{16}", "4111111111111111", true),
        ("@verifyCC \\d{16}", "4111111111111112", false),
        ("@verifyCPF \\d{11}", "52998224725", true),
        ("@verifySSN \\d{9}", "078051120", true),
        ("@detectSQLi", "1'%20or%20'1'='1", true),
        ("@detectSQLi", "hello", false),
        ("@detectXSS", "<script>alert(1)</script>", true),
        ("@detectXSS", "a+%3c+b", false),
        ("@unconditionalMatch", "x", true),
        ("@noMatch", "x", false),
        ("@geoLookup", "192.0.2.1", true),
    ] {
        let target = format!("/?a={value}");
        let rule = format!("SecRule ARGS:a \"{operator}\" \"id:1,phase:2,pass\"");
        let wanted: &[u64] = if matches { &[1] } else { &[] };
        assert_eq!(matched(&rule, &Sent::get(&target)), wanted, "{operator} {value}");
    }
}

#[test]
fn links_of_a_chain_must_all_match_and_see_what_was_found() {
    let text = r#"
SecRule ARGS:a "@rx ^(\w+)-(\w+)$" "id:1,phase:2,pass,capture,msg:'found %{TX.1}',logdata:'%{MATCHED_VAR_NAME}',chain,setvar:tx.began=1"
    SecRule TX:2 "@streq %{ARGS.b}" "chain"
    SecRule MATCHED_VARS "@contains -" "setvar:tx.ended=1"
SecRule TX:began "@eq 1" "id:2,phase:2,pass"
SecRule &TX:ended "@eq 1" "id:3,phase:2,pass"
"#;
    let program = rules(text);
    let report = Sent::get("/?a=one-two&b=two").through(&program);
    assert_eq!(ids(&report), [1, 2, 3]);
    assert_eq!(
        (
            report.matches[0].msg.as_str(),
            report.matches[0].variable.as_str()
        ),
        ("found one", "ARGS:a")
    );
    assert_eq!(report.matches[0].value, "one-two");
    // The first link's own changes stay, the chain as a whole did not match.
    assert_eq!(ids(&Sent::get("/?a=one-two&b=three").through(&program)), [2]);
}

/// A list is summed up in phase 1, and the body's arguments come into it afterwards; the response has another search.
#[test]
fn a_list_that_grows_is_looked_at_again() {
    let text = r#"
SecRule ARGS|ARGS_NAMES "@rx attack['x]" "id:1,phase:1,pass,t:none,t:lowercase"
SecRule ARGS|ARGS_NAMES "@rx attack['x]" "id:2,phase:2,pass,t:none,t:lowercase"
SecRule ARGS_NAMES "@pm attacky" "id:3,phase:2,pass,t:none,t:lowercase"
SecRule ARGS "@validateByteRange 32-126" "id:4,phase:2,pass,t:none,t:lowercase"
SecRule ARGS "@rx ^(?:attack)'?$" "id:5,phase:4,pass,t:none,t:lowercase"
SecRule RESPONSE_HEADERS "@pm html" "id:6,phase:4,pass,t:none,t:lowercase"
SecRule ARGS "!@rx attack" "id:7,phase:2,pass,t:none,t:lowercase"
"#;
    let sent = |body: &'static [u8]| Sent {
        method: "POST",
        target: "/?a=b",
        headers: &[(b"Content-Type", b"application/x-www-form-urlencoded")],
        body,
        ..Sent::default()
    };
    assert_eq!(matched(text, &sent(b"c=d")), [7, 6]);
    assert_eq!(matched(text, &sent(b"c=d&e=Attack'")), [2, 7, 5, 6]);
    assert_eq!(matched(text, &sent(b"c=d&AttackY=%09")), [3, 4, 7, 6]);
    assert_eq!(matched(text, &Sent::get("/?a=attack'")), [1, 2, 5, 6]);
}

#[test]
fn scores_add_up_for_each_value_that_matches() {
    let text = r#"
SecAction "id:1,phase:1,nolog,pass,setvar:tx.critical=5,setvar:tx.inbound_anomaly_score_pl1=0"
SecRule ARGS "@contains bad" "id:2,phase:2,pass,severity:2,setvar:tx.inbound_anomaly_score_pl1=+%{tx.critical}"
SecRule TX:inbound_anomaly_score_pl1 "@ge 10" "id:3,phase:2,deny,setvar:tx.blocking_inbound_anomaly_score=%{tx.inbound_anomaly_score_pl1}"
SecRule HIGHEST_SEVERITY "@le 2" "id:4,phase:5,pass"
"#;
    let program = rules(text);
    let report = Sent::get("/?a=bad&b=bad").through(&program);
    assert_eq!(ids(&report), [2, 3, 4]);
    assert_eq!((report.inbound_score, report.matches[0].score), (10, 10));
    assert_eq!(report.interruption.unwrap().rule, 3);
    assert_eq!(ids(&Sent::get("/?a=bad&b=good").through(&program)), [2, 4]);
}

#[test]
fn skipping_passes_over_rules_of_its_phase() {
    let text = r#"
SecAction "id:1,phase:1,pass,skipAfter:HERE"
SecAction "id:2,phase:1,pass"
SecAction "id:3,phase:2,pass,skip:1"
SecMarker HERE
SecAction "id:4,phase:2,pass"
SecAction "id:5,phase:2,pass"
SecAction "id:6,phase:1,pass"
"#;
    assert_eq!(matched(text, &Sent::get("/")), [1, 6, 3, 5]);
}

#[test]
fn transformations_are_done_in_their_order() {
    let sent = Sent::get("/?a=%3CScRiPt%3E%2541");
    let check = |actions: &str, value: &str| {
        let rule = format!("SecRule ARGS:a \"@streq {value}\" \"id:1,phase:2,pass,{actions}\"");
        assert_eq!(matched(&rule, &sent), [1], "{actions}");
    };
    check("t:none", "<ScRiPt>%41");
    check("t:lowercase", "<script>%41");
    check("t:lowercase,t:urlDecode", "<script>A");
    check("t:urlDecode,t:lowercase", "<script>a");
    check("t:urlDecode,t:none", "<ScRiPt>%41");
    check("t:length", "11");
    // Of all steps, one matches.
    check("t:lowercase,t:urlDecode,t:sha1,multiMatch", "<script>A");
}

#[test]
fn ctl_takes_out_rules_and_targets_for_one_transaction() {
    let text = r#"
SecRule REQUEST_FILENAME "@beginsWith /open" "id:1,phase:1,nolog,pass,ctl:ruleRemoveById=10-19"
SecRule REQUEST_FILENAME "@beginsWith /form" "id:2,phase:1,nolog,pass,ctl:ruleRemoveTargetByTag=kind;ARGS:pwd"
SecRule REQUEST_FILENAME "@beginsWith /quiet" "id:3,phase:1,nolog,pass,ctl:ruleEngine=DetectionOnly"
SecRule REQUEST_FILENAME "@beginsWith /off" "id:4,phase:1,nolog,pass,ctl:ruleEngine=Off"
SecRule ARGS "@contains bad" "id:10,phase:2,deny,tag:'a/kind'"
SecRule ARGS_NAMES|ARGS "@contains worse" "id:20,phase:2,deny,tag:'other'"
"#;
    let program = rules(text);
    let run = |target: &str| {
        let report = Sent::get(target).through(&program);
        (ids(&report), report.interruption.is_some())
    };
    assert_eq!(run("/?a=bad"), (vec![10], true));
    assert_eq!(run("/open?a=bad"), (vec![], false));
    assert_eq!(run("/open?a=worse"), (vec![20], true));
    assert_eq!(run("/form?pwd=bad"), (vec![], false));
    assert_eq!(run("/form?pwd=worse"), (vec![20], true));
    assert_eq!(run("/form?a=bad"), (vec![10], true));
    assert_eq!(run("/quiet?a=bad"), (vec![10], false));
    assert_eq!(run("/off?a=bad"), (vec![], false));
}

#[test]
fn allow_reaches_as_far_as_it_says() {
    let rule = |allow: &str| {
        format!(
            "SecAction \"id:1,phase:1,nolog,{allow}\"\nSecAction \"id:2,phase:1,pass\"\nSecAction \"id:3,phase:2,pass\"\n\
             SecAction \"id:4,phase:3,pass\"\nSecAction \"id:5,phase:5,pass\""
        )
    };
    let sent = Sent::get("/");
    assert_eq!(matched(&rule("pass"), &sent), [2, 3, 4, 5]);
    assert_eq!(matched(&rule("allow:phase"), &sent), [3, 4, 5]);
    assert_eq!(matched(&rule("allow:request"), &sent), [4, 5]);
    assert_eq!(matched(&rule("allow"), &sent), [5]);
}

#[test]
fn a_client_is_remembered_until_its_variables_expire() {
    let text = r#"
SecAction "id:1,phase:1,nolog,pass,initcol:ip=%{REMOTE_ADDR},initcol:global=all"
SecAction "id:2,phase:1,nolog,pass,setvar:ip.seen=+1,setvar:global.all=+1"
SecRule IP:seen "@eq 2" "id:3,phase:1,pass,setvar:ip.blocked=1,expirevar:ip.blocked=60"
SecRule IP:blocked "@eq 1" "id:4,phase:2,deny"
SecRule GLOBAL:all "@ge 5" "id:5,phase:2,pass"
"#;
    let program = rules(text);
    let stores = Stores::new(100);
    let run = |client: u8, after: u64| {
        let sent = Sent {
            client: [192, 0, 2, client],
            now: 1_700_000_000 + after,
            ..Sent::default()
        };
        ids(&sent.through_with(&program, Some(&stores), Limits::default()))
    };
    assert_eq!(run(1, 0), [0u64; 0]);
    assert_eq!(run(1, 1), [3, 4]);
    assert_eq!(run(2, 2), [0u64; 0]);
    assert_eq!(run(1, 3), [4]);
    // Its block has ended, and after an hour of silence it is forgotten.
    assert_eq!(run(1, 70), [5]);
    assert_eq!(run(1, 70 + 3601), [0u64; 0]);
    assert_eq!(run(1, 70 + 3602), [3, 4]);
}

#[test]
fn stores_are_bounded() {
    let program = rules(r#"SecAction "id:1,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR},setvar:ip.seen=1""#);
    let stores = Stores::new(10);
    for client in 0..=255 {
        let sent = Sent {
            client: [192, 0, 2, client],
            ..Sent::default()
        };
        sent.through_with(&program, Some(&stores), Limits::default());
    }
    assert_eq!(stores.len(), 10);
}

#[test]
fn a_transaction_that_takes_too_much_is_stopped_and_says_so() {
    let program = rules(r#"SecRule ARGS "@rx (a|b|ab)*c" "id:1,phase:2,pass,t:none""#);
    let target = format!("/?a={}", "ab".repeat(2000) + "c");
    let tight = Limits {
        work: 1000,
        ..Limits::default()
    };
    let report = Sent::get(&target).through_with(&program, None, tight.clone());
    let stopped = report.interruption.unwrap();
    assert!(report.exceeded);
    assert_eq!(
        (stopped.status, stopped.rule, stopped.action),
        (503, 0, Stop::Deny)
    );
    let passing = Limits {
        beyond: Beyond::Pass,
        ..tight
    };
    let report = Sent::get(&target).through_with(&program, None, passing);
    assert!(report.exceeded && report.interruption.is_none());
    let report = Sent::get(&target).through(&program);
    assert!(!report.exceeded);
}

/// Two rules of the Core Rule Set make a variable for each argument, and a request may have a thousand.
#[test]
fn a_variable_for_each_argument_is_not_too_much_but_their_names_are_bounded() {
    let program = rules(
        r#"
        SecRule ARGS_NAMES "@rx ." "id:1,phase:1,pass,setvar:tx.a_%{matched_var_name}=+1,setvar:tx.b_%{matched_var_name}=+1"
        SecRule &TX:/^a_/ "@eq 900" "id:2,phase:1,pass"
        "#,
    );
    let query = |name: &str| {
        let words: Vec<String> = (0..900).map(|number| format!("{name}{number}=1")).collect();
        format!("/?{}", words.join("&"))
    };
    let report = Sent::get(&query("name")).through(&program);
    assert!(!report.exceeded);
    assert!(ids(&report).contains(&2));
    let report = Sent::get(&query(&"n".repeat(2_000))).through(&program);
    assert!(report.exceeded);
}

#[test]
fn bodies_longer_than_their_limit_are_refused_or_cut() {
    let text = "SecRequestBodyLimit 10\nSecRule REQUEST_BODY \"@contains end\" \"id:1,phase:2,pass\"\n\
                SecRule INBOUND_DATA_ERROR \"@eq 1\" \"id:2,phase:2,pass\"";
    let sent = Sent {
        method: "POST",
        headers: &[(b"Content-Type", b"application/x-www-form-urlencoded")],
        body: b"a=123456789&b=end",
        ..Sent::default()
    };
    assert_eq!(sent.through(&rules(text)).interruption.unwrap().status, 413);
    let partial = format!("{text}\nSecRequestBodyLimitAction ProcessPartial");
    let report = sent.through(&rules(&partial));
    assert_eq!((ids(&report), report.interruption), (vec![2], None));
}

#[test]
fn a_server_decides_the_mode_and_which_rules_are_not_for_a_request() {
    use astraler_waf::seclang::Mode;
    let program = rules(
        "SecRule ARGS \"@contains a\" \"id:1,phase:2,pass,log,tag:'one'\"\n\
         SecRule ARGS \"@contains a\" \"id:2,phase:2,pass,log,tag:'two'\"\n\
         SecRule ARGS \"@contains a\" \"id:3,phase:2,deny,log\"",
    );
    let sent = Sent::get("/?q=a");
    let through = |mode: Mode, left_out: &dyn Fn(u64, &[Box<str>]) -> bool| {
        let mut transaction = program.begin(sent.request(), None, Limits::default());
        transaction.set_mode(mode);
        transaction.leave_out(left_out);
        transaction.request_headers();
        transaction.request_body(b"", false);
        transaction.finish()
    };
    let report = through(Mode::DetectionOnly, &|id, _| id == 1);
    assert_eq!((ids(&report), report.interruption), (vec![2, 3], None));
    let by_tag = through(Mode::On, &|_, tags| tags.iter().any(|tag| &**tag == "two"));
    assert_eq!(ids(&by_tag), [1, 3]);
    assert_eq!(by_tag.interruption.unwrap().rule, 3);
    assert!(ids(&through(Mode::Off, &|_, _| false)).is_empty());
}
