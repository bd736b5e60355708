//! What rules set: variables that last, macros wherever they may stand, and what `ctl` changes for one transaction.

use astraler_waf::engine::{Limits, Stop, Stores};

use crate::with::{Sent, ids, rules};

const FORM: &[(&[u8], &[u8])] = &[(b"Content-Type", b"application/x-www-form-urlencoded")];

fn form(body: &[u8]) -> Sent<'_> {
    Sent {
        method: "POST",
        headers: FORM,
        body,
        ..Sent::default()
    }
}

/// Names of variables have no case, wherever they are written.
#[test]
fn what_expires_and_what_wears_off_is_found_whatever_its_case() {
    let text = r#"
SecAction "id:1,phase:1,nolog,pass,initcol:ip=%{REMOTE_ADDR}"
SecRule ARGS:set "@eq 1" "id:2,phase:1,nolog,pass,setvar:ip.Blocked=1,expirevar:ip.Blocked=60,setvar:ip.Points=9"
SecRule ARGS:wear "@eq 1" "id:3,phase:1,nolog,pass,deprecatevar:ip.POINTS=4/60"
SecRule IP:blocked "@eq 1" "id:4,phase:2,pass"
SecRule IP:points "@eq 9" "id:5,phase:2,pass"
SecRule IP:points "@eq 1" "id:6,phase:2,pass"
"#;
    let program = rules(text);
    let stores = Stores::new(10);
    let run = |target: &str, after: u64| {
        let sent = Sent {
            target,
            now: 1_700_000_000 + after,
            ..Sent::default()
        };
        ids(&sent.through_with(&program, Some(&stores), Limits::default()))
    };
    assert_eq!(run("/?set=1", 0), [4, 5]);
    assert_eq!(run("/?wear=1", 30), [4]);
    assert_eq!(run("/?wear=1", 59), [4, 6]);
    assert_eq!(run("/", 61), [6]);
}

#[test]
fn a_clients_variables_are_bounded_in_number_and_length() {
    let names: Vec<String> = (0..100).map(|name| format!("setvar:ip.v{name}=1")).collect();
    let text = format!(
        "SecAction \"id:1,phase:1,nolog,pass,initcol:ip=%{{REMOTE_ADDR}},setvar:ip.long=%{{ARGS.long}},{}\"\n\
         SecRule &IP \"@eq 64\" \"id:2,phase:2,pass\"\n\
         SecRule IP:long \"@eq 1024\" \"id:3,phase:2,pass,t:length\"",
        names.join(",")
    );
    let program = rules(&text);
    let stores = Stores::new(10);
    let target = format!("/?long={}", "x".repeat(5000));
    let report = Sent::get(&target).through_with(&program, Some(&stores), Limits::default());
    assert_eq!(ids(&report), [2, 3]);
}

/// A client says how long its key is, not how much is kept of it; one that differs at its end is another one.
#[test]
fn long_keys_are_told_apart_and_long_names_are_not_kept() {
    let text = r#"
SecAction "id:1,phase:1,nolog,pass,initcol:ip=%{REQUEST_HEADERS.user-agent}"
SecRule IP:seen "@eq 1" "id:2,phase:1,pass"
SecRule &IP "@gt 1" "id:3,phase:1,pass"
SecAction "id:4,phase:1,nolog,pass,setvar:ip.seen=1,setvar:ip.%{REQUEST_HEADERS.user-agent}=1"
"#;
    let program = rules(text);
    let stores = Stores::new(10);
    let run = |agent: &str| {
        let sent = Sent {
            headers: &[(b"Host", b"example.com"), (b"User-Agent", agent.as_bytes())],
            ..Sent::default()
        };
        ids(&sent.through_with(&program, Some(&stores), Limits::default()))
    };
    let (one, two) = ("x".repeat(5000) + "1", "x".repeat(5000) + "2");
    assert!(run(&one).is_empty());
    assert!(run(&two).is_empty());
    assert_eq!(run(&one), [2]);
    assert_eq!(stores.len(), 2);
}

#[test]
fn macros_are_replaced_wherever_they_may_stand() {
    let text = r#"
SecAction "id:1,phase:1,nolog,pass,setvar:tx.name=n_%{ARGS.a},setvar:tx.%{ARGS.a}_x=%{REQUEST_METHOD}-%{tx.name},setenv:seen=%{ARGS.a}"
SecRule TX:one_x "@streq GET-n_%{ARGS.a}" "id:2,phase:1,pass,capture,msg:'%{rule.id} in %{MATCHED_VAR_NAME}',logdata:'%{TX.0} %{unique_id} %{nothing_known'"
SecRule ENV:seen "@within a,%{ARGS.a},b" "id:3,phase:1,pass"
SecRule ARGS:b "@rx ^%{tx.name}$" "id:4,phase:1,pass"
SecRule ARGS:c "@ge %{ARGS.d}" "id:5,phase:1,deny,status:307,redirect:https://example.com/%{ARGS.a}?%{MATCHED_VAR}"
"#;
    let report = Sent::get("/?a=one&b=n_one&c=5&d=4").through(&rules(text));
    assert_eq!(ids(&report), [2, 3, 4, 5]);
    let second = &report.matches[0];
    assert_eq!(second.msg, "2 in TX:one_x");
    assert_eq!(second.data, "GET-n_one test %{nothing_known");
    assert_eq!(
        report.interruption.unwrap().action,
        Stop::Redirect("https://example.com/one?5".to_owned())
    );
    assert_eq!(
        ids(&Sent::get("/?a=one&b=n_two&c=3&d=4").through(&rules(text))),
        [2, 3]
    );
}

#[test]
fn ctl_changes_how_bodies_are_read() {
    let rules_for = |ctl: &str| {
        rules(&format!(
            "SecAction \"id:1,phase:1,nolog,pass,{ctl}\"\n\
             SecRule ARGS_POST:a \"@streq b\" \"id:2,phase:2,pass\"\n\
             SecRule REQUEST_BODY \"@rx a\" \"id:3,phase:2,pass\"\n\
             SecRule ARGS_POST \"@streq x\" \"id:4,phase:2,pass\"\n\
             SecRule RESPONSE_BODY \"@contains hello\" \"id:5,phase:4,pass\""
        ))
    };
    let sent = form(b"a=b");
    assert_eq!(ids(&sent.through(&rules_for("t:none"))), [2, 3, 5]);
    assert_eq!(ids(&sent.through(&rules_for("ctl:requestBodyAccess=Off"))), [5]);
    assert_eq!(
        ids(&sent.through(&rules_for("ctl:responseBodyAccess=Off"))),
        [2, 3]
    );
    assert_eq!(
        sent.through(&rules_for("ctl:requestBodyLimit=2"))
            .interruption
            .unwrap()
            .status,
        413
    );
    assert_eq!(
        ids(&form(b"[\"x\"]").through(&rules_for("ctl:requestBodyProcessor=JSON"))),
        [4, 5]
    );
    let plain = Sent {
        headers: &[(b"Content-Type", b"text/plain")],
        ..form(b"a=b")
    };
    assert_eq!(ids(&plain.through(&rules_for("t:none"))), [5]);
    assert_eq!(
        ids(&plain.through(&rules_for("ctl:forceRequestBodyVariable=On"))),
        [3, 5]
    );
}

/// What only detects refuses no body for its length: what fits is looked at.
#[test]
fn a_body_beyond_its_limit_is_cut_where_nothing_is_stopped() {
    let text = "SecRuleEngine DetectionOnly\nSecRequestBodyLimit 5\n\
                SecRule ARGS_POST:a \"@streq b\" \"id:1,phase:2,deny\"\n\
                SecRule ARGS_POST:z \"@streq b\" \"id:2,phase:2,deny\"\n\
                SecRule INBOUND_DATA_ERROR \"@eq 1\" \"id:3,phase:2,deny\"";
    let report = form(b"a=b&c=d&z=b").through(&rules(text));
    assert_eq!((ids(&report), report.interruption), (vec![1, 3], None));
}

#[test]
fn of_a_response_beyond_its_limit_the_beginning_is_looked_at() {
    let text = "SecResponseBodyLimit 8\n\
                SecRule RESPONSE_BODY \"@streq <html>he\" \"id:1,phase:4,pass\"\n\
                SecRule OUTBOUND_DATA_ERROR \"@eq 1\" \"id:2,phase:4,pass\"";
    assert_eq!(ids(&Sent::get("/").through(&rules(text))), [1, 2]);
}
