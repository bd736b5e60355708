//! Transactions that leave off and go on.

use astraler_waf::compile::Program;
use astraler_waf::engine::{Known, Limits, Report, Response, Stores};

use crate::with::{Sent, ids, rules};

/// All phases, each after a pause, the last in another thread.
fn in_turns(program: &Program, sent: &Sent<'_>, stores: &Stores, limits: Limits) -> Report {
    let response = Response {
        status: 200,
        protocol: b"HTTP/1.1",
        headers: &[(b"Content-Type", b"text/html")],
    };
    let kept = match program.looks_back_at_request_body() {
        true => sent.body,
        false => b"",
    };
    let known = |response| Known {
        request: sent.request(),
        request_body: kept,
        response,
    };
    let mut first = program.begin(sent.request(), Some(stores), limits);
    first.request_headers();
    let mut paused = first.pause();
    let mut second = program.resume(&mut paused, known(None), Some(stores));
    second.request_body(sent.body, false);
    let mut paused = second.pause();
    let mut third = program.resume(&mut paused, known(None), Some(stores));
    third.response_headers(response.clone());
    let mut paused = third.pause();
    let last = || {
        let mut fourth = program.resume(&mut paused, known(Some(response)), Some(stores));
        fourth.response_body(b"<html>hello</html>", false);
        fourth.finish()
    };
    std::thread::scope(|scope| scope.spawn(last).join().unwrap())
}

fn form() -> Sent<'static> {
    Sent {
        method: "POST",
        target: "/form?a=1&b=%3Cx%3E",
        headers: &[
            (b"Host", b"example.com"),
            (b"Cookie", b"sid=abc"),
            (b"Content-Type", b"application/x-www-form-urlencoded"),
        ],
        body: b"c=3&d=evil",
        ..Sent::default()
    }
}

/// What each phase sets or changes is there in all behind it.
const RULES: &str = r#"
SecAction "id:1,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR},setvar:tx.score=0,setvar:tx.limit=5,setvar:tx.word=evil,\
    setvar:tx.per_%{REQUEST_METHOD}=1,setenv:NAME=value"
SecRule ARGS:b "@contains <x>" "id:2,phase:1,pass,setvar:tx.score=+2,\
    ctl:ruleRemoveTargetById=4;ARGS:d,ctl:ruleRemoveById=5"
SecRule REQUEST_METHOD "@rx ^(P)OST" "id:3,phase:2,pass,capture,setvar:tx.score=+4,setvar:ip.seen=+1"
SecRule ARGS "@streq %{tx.word}" "id:4,phase:2,pass"
SecAction "id:5,phase:2,pass"
SecRule TX:score "@ge %{tx.limit}" "id:6,phase:3,pass,setvar:tx.score=+%{tx.limit}"
SecRule TX:1 "@streq P" "id:7,phase:3,pass"
SecRule IP:seen "@eq 1" "id:8,phase:3,pass"
SecRule ENV:NAME "@streq value" "id:9,phase:3,pass"
SecRule TX:per_post "@eq 1" "id:10,phase:4,pass"
SecRule RESPONSE_BODY "@contains hello" "id:11,phase:4,pass,chain"
    SecRule RESPONSE_STATUS "@eq 200" "chain"
    SecRule RESPONSE_HEADERS:Content-Type "@streq text/html" "setvar:tx.score=+1"
SecRule TX:score "@eq 12" "id:12,phase:5,pass,setvar:ip.finished=+1"
"#;

#[test]
fn what_rules_have_set_is_there_behind_a_pause() {
    let program = rules(RULES);
    assert!(program.looks_at_responses() && !program.looks_back_at_request_body());
    for _ in 0..2 {
        let stores = Stores::new(10);
        let paused = in_turns(&program, &form(), &stores, Limits::default());
        let at_once = form().through_with(&program, Some(&Stores::new(10)), Limits::default());
        assert_eq!(ids(&paused), [2, 3, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(format!("{:?}", paused.matches), format!("{:?}", at_once.matches));
    }
}

#[test]
fn rules_of_the_response_look_back_at_the_request() {
    let program = rules(
        r#"
SecRule ARGS:d "@streq evil" "id:1,phase:3,pass"
SecRule REQUEST_COOKIES:sid "@streq abc" "id:2,phase:4,pass"
SecRule REQUEST_BODY "@contains d=evil" "id:3,phase:4,pass"
SecRule &ARGS "@eq 4" "id:4,phase:5,pass"
SecRule REQUEST_URI "@contains form" "id:5,phase:5,pass,logdata:'%{ARGS.c}'"
"#,
    );
    assert!(program.looks_back_at_request_body());
    let report = in_turns(&program, &form(), &Stores::new(1), Limits::default());
    assert_eq!(ids(&report), [1, 2, 3, 4, 5]);
    assert_eq!(report.matches[4].data, "3");
    // Only the head is looked back at.
    let program = rules(r#"SecRule ARGS_GET:a "@streq 1" "id:1,phase:4,pass""#);
    assert!(!program.looks_back_at_request_body());
    let report = in_turns(&program, &form(), &Stores::new(1), Limits::default());
    assert_eq!(ids(&report), [1]);
}

#[test]
fn a_stop_stays_one_and_limits_count_on() {
    let program = rules(
        r#"
SecRule ARGS:d "@streq evil" "id:1,phase:2,deny,status:406"
SecAction "id:2,phase:3,pass"
SecAction "id:3,phase:5,pass"
"#,
    );
    let report = in_turns(&program, &form(), &Stores::new(1), Limits::default());
    assert_eq!(ids(&report), [1, 3]);
    assert_eq!(
        report.interruption.map(|stop| (stop.rule, stop.status)),
        Some((1, 406))
    );

    let program = rules(
        r#"SecRule ARGS|RESPONSE_BODY "@rx e+l+o" "id:1,phase:2,pass,t:lowercase"
SecRule RESPONSE_BODY "@rx h.l+o" "id:2,phase:4,pass,t:lowercase""#,
    );
    let whole = in_turns(&program, &form(), &Stores::new(1), Limits::default());
    assert!(whole.work > 0 && !whole.exceeded);
    let limits = Limits {
        work: whole.work - 1,
        ..Limits::default()
    };
    let report = in_turns(&program, &form(), &Stores::new(1), limits);
    assert!(report.exceeded, "work before a pause counts");
}

#[test]
fn a_program_says_what_it_wants_of_responses() {
    let program = rules(r#"SecRule ARGS "@streq a" "id:1,phase:2,deny""#);
    assert!(!program.looks_at_responses());
    let program = rules(r#"SecRule RESPONSE_STATUS "@ge 500" "id:1,phase:3,deny""#);
    assert!(program.looks_at_responses());
    let mut transaction = program.begin(form().request(), None, Limits::default());
    transaction.request_headers();
    transaction.request_body(b"", false);
    transaction.response_headers(Response {
        status: 200,
        protocol: b"HTTP/1.1",
        headers: &[(b"Content-Type", b"text/html")],
    });
    assert_eq!(
        transaction.wanted_of_response_body(),
        0,
        "no rule looks at the body"
    );
}
