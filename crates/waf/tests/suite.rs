//! The runner of regression files: what it makes of a test, and what it does not pass over in silence.

use astraler_waf::suite::{self, Verdict};

const FILE: &str = r#"
rule_id: 1
tests:
  - test_id: 1
    stages:
      - input: { uri: "/", version: "HTTP/0.8", headers: { Host: a.example } }
        output: { log: { expect_ids: [10] } }
  - test_id: 2
    stages:
      - input: { uri: "/", version: "HTTP/0.8", headers: { Host: a.example } }
        output: { status: 400 }
  - test_id: 3
    stages:
      - input: { uri: "/?a=1", headers: { Host: a.example } }
        output: { log: { no_expect_ids: [10], match_regex: "id \"11\"" } }
  - test_id: 4
    stages:
      - input: { uri: "/?a=1", headers: { Host: a.example } }
        output: { surprise: "x" }
  - test_id: 5
    stages:
      - input: { uri: "/?a=1", headers: { Host: a.example } }
        output: { log_contains: "id \"10\"" }
  - test_id: 6
    stages:
      - input: { uri: "/?a=1", headers: { Host: a.example }, save_cookie: true }
        output: { log: { expect_ids: [11] } }
  - test_id: 7
    stages:
      - input: { uris: ["/?a=1", "/?a=2"], headers: { Host: a.example } }
        output: { log: { expect_ids: [11] } }
  - test_id: 8
    stages:
      - input:
          method: POST
          ordered_headers: [{ name: Host, value: a.example }, { name: X, value: "1" }, { name: X, value: "2" }]
          encoded_data: YT0x/w==
        output: { log: { expect_ids: [11, 12] } }
  - test_id: 9
    stages:
      - input:
          uri: "/?a=0"
          headers: { Host: a.example }
          response: { status: 201, headers: { Content-Type: text/html }, body: "a page of 13" }
        output: { status: 201, response_contains: "page of \\d+", log: { expect_ids: [13] } }
  - test_id: 10
    stages:
      - input: { uri: "/?a=0", headers: { Host: a.example } }
        output: { response_contains: "page" }
  - test_id: 11
    stages:
      - input: { uri: "/?a=1", headers: { Host: a.example }, stop_magic: true }
        output: { isolated: true, log: { expect_ids: [11] } }
  - test_id: 12
    stages:
      - input: { uri: "/?a=1", headers: { Host: a.example, X: "2" } }
        output: { isolated: true, log: { expect_ids: [11] } }
  - test_id: 13
    stages:
      - input: { uri: "none", headers: { Host: a.example } }
        output: { expect_error: true }
  - test_id: 14
    stages:
      - input: { uri: "/", headers: { Host: a.example } }
        output: { expect_error: true }
"#;

/// As the project's own setup for its tests begins.
const SETUP: &str =
    "SecRuleEngine On\nSecAction \"id:900005,phase:1,nolog,pass,setvar:tx.blocking_paranoia_level=4\"\n";

const RULES: &str = "SecRule REQUEST_PROTOCOL \"!@rx ^HTTP/1\" \"id:10,phase:1,deny,log,msg:'old'\"\n\
                     SecRule ARGS \"@rx 1\" \"id:11,phase:2,deny,log,msg:'one'\"\n\
                     SecRule REQUEST_HEADERS:X \"@streq 2\" \"id:12,phase:1,deny,log,msg:'two'\"\n\
                     SecRule RESPONSE_BODY \"@contains 13\" \"id:13,phase:4,deny,log,msg:'page'\"\n";

#[test]
fn tests_are_run_as_their_files_mean_them() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("1.yaml", FILE);
    write("setup.conf", SETUP);
    write("z.conf", RULES);
    std::fs::create_dir(folder.path().join("rules")).unwrap();
    std::fs::rename(folder.path().join("z.conf"), folder.path().join("rules/z.conf")).unwrap();
    let setup = folder.path().join("setup.conf");
    let program = suite::program(&folder.path().join("rules"), Some(&setup)).unwrap();
    let cases = suite::read(folder.path()).unwrap();
    let verdicts: Vec<Verdict> = cases.iter().map(|case| suite::run(&program, case)).collect();
    let of = |number: usize| &verdicts[number - 1];
    for passes in [1, 2, 3, 8, 9, 11, 13] {
        assert_eq!(of(passes), &Verdict::Passed, "{passes}");
    }
    for (number, key) in [(4, "surprise"), (6, "save_cookie")] {
        assert!(
            matches!(of(number), Verdict::Skipped(why) if why.contains(key)),
            "{:?}",
            of(number)
        );
    }
    for (number, what) in [
        (5, "lines that match"),
        (7, "11 did not match"),
        (10, "nothing in the answer"),
        (12, "12 matched as well"),
        (14, "took the request"),
    ] {
        assert!(
            matches!(of(number), Verdict::Failed(why) if why.contains(what)),
            "{:?}",
            of(number)
        );
    }
}

#[test]
fn a_servers_log_says_what_matched() {
    let expected = suite::Expected {
        ids: vec![942_100],
        no_ids: vec![941_100],
        ..suite::Expected::default()
    };
    let ours = r#"{"path":"/","rules":[{"rule":"942100","action":"log"},{"rule":"920273","action":"log"}]}"#;
    let theirs = r#"[error] 1#1: ModSecurity: Warning. [id "942100"] [msg "x"]"#;
    for log in [ours, theirs] {
        assert_eq!(suite::judge_logged(&expected, 200, log), Verdict::Passed);
    }
    for log in ["", r#"[id "942100"] [id "941100"]"#] {
        assert!(
            matches!(suite::judge_logged(&expected, 200, log), Verdict::Failed(_)),
            "{log}"
        );
    }
    let a_line = suite::Expected {
        line: Some("msg \"x\"".to_owned()),
        ..expected.clone()
    };
    assert_eq!(suite::judge_logged(&a_line, 200, theirs), Verdict::Passed);
    assert!(matches!(
        suite::judge_logged(&a_line, 200, ours),
        Verdict::Skipped(_)
    ));
    let unknown = suite::Expected {
        contains: Some("x".to_owned()),
        ..expected
    };
    assert!(matches!(
        suite::judge_logged(&unknown, 200, ours),
        Verdict::Skipped(_)
    ));
}
