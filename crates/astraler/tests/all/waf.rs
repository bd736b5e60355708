//! `astraler waf`, without a platform.

use crate::support::PROGRAM;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

/// A set in small that scores as the Core Rule Set does.
const RULES: &str = r#"
SecRule ARGS|REQUEST_COOKIES "@contains evil" "id:1000,phase:2,pass,log,severity:CRITICAL,msg:'Evil',\
    tag:'attack-evil',setvar:tx.blocking_inbound_anomaly_score=+5"
SecRule TX:paranoia_level "@ge 2" "id:1001,phase:2,pass,log,msg:'Paranoid'"
SecRule TX:blocking_inbound_anomaly_score "@ge 5" "id:949110,phase:2,deny,status:403"
"#;
const TESTS: &str = r#"
rule_id: 1000
tests:
  - test_id: 1
    stages: [{input: {uri: "/?a=evil", headers: {Host: a}}, output: {log: {expect_ids: [1000]}}}]
  - test_id: 2
    stages: [{input: {uri: "/?a=good", headers: {Host: a}}, output: {log: {no_expect_ids: [1000]}}}]
"#;

struct Set(tempfile::TempDir);

impl Set {
    fn new() -> Self {
        let set = Self(tempfile::tempdir().unwrap());
        set.write("rules/main.conf", RULES);
        set.write("tests/1000.yaml", TESTS);
        set
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::File::create(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}

struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap()
    }

    fn last_line(&self) -> &str {
        self.out.lines().last().unwrap_or_default()
    }
}

fn waf(arguments: &[&str], input: &str) -> Ended {
    let mut child = Command::new(PROGRAM)
        .arg("waf")
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended before it has read anything.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn check_counts_rules_and_tells_all_that_is_wrong_with_its_place() {
    let set = Set::new();
    let ended = waf(&["check", &set.path(""), "--json"], "");
    assert_eq!(ended.code, 0, "{}", ended.err);
    let said = ended.json();
    assert_eq!(
        said["rules_by_phase"][1],
        3 + 4,
        "{said}: those of the base are counted too"
    );
    assert!(
        said["took_ms"].is_u64() && said["search_bytes"].is_u64(),
        "{said}"
    );
    set.write(
        "rules/wrong.conf",
        "SecRule NOPE \"@contains x\" \"id:5\"\nSecRlue ARGS \"@rx x\" \"id:6\"\n",
    );
    let ended = waf(&["check", &set.path("")], "");
    assert_eq!(ended.code, 3);
    for place in ["wrong.conf:1:", "wrong.conf:2:", "SecRule"] {
        assert!(ended.err.contains(place), "{place}: {}", ended.err);
    }
    let said = waf(&["check", &set.path(""), "--json"], "");
    assert_eq!(
        (said.code, said.json()["errors"].as_array().unwrap().len()),
        (3, 2)
    );
    assert!(
        waf(&["check", &set.path("tests")], "")
            .err
            .contains("apt install modsecurity-crs")
    );
}

#[test]
fn explain_says_which_rules_match_in_what_and_whether_it_is_refused() {
    let set = Set::new();
    let rules = set.path("rules");
    let form = "Content-Type: application/x-www-form-urlencoded";
    set.write(
        "request.txt",
        &format!("POST /a HTTP/1.1\nHost: a.example\n{form}\n\nb=evil%3B"),
    );
    let request = set.path("request.txt");
    let ended = waf(&["explain", &request, "--rules", &rules], "");
    assert_eq!(ended.code, 0, "{}", ended.err);
    for words in ["1000", "ARGS:b", "evil;", "refused with 403 by rule 949110"] {
        assert!(ended.out.contains(words), "{words}: {}", ended.out);
    }
    let login = format!("POST /a HTTP/1.1\nHost: a.example\n{form}\n\npassword=evil7");
    let ended = waf(&["explain", "-", "--rules", &rules], &login);
    assert!(ended.out.contains("ARGS:password"), "{}", ended.out);
    assert!(
        ended.out.contains("(not shown)") && !ended.out.contains("evil7"),
        "{}",
        ended.out
    );
    let good = "GET /?a=good HTTP/1.1\nHost: a\n\n";
    let said = waf(&["explain", "-", "--rules", &rules, "--json"], good).json();
    assert_eq!(
        (&said["verdict"], &said["refused"]),
        (&"passes".into(), &serde_json::Value::Null)
    );
    let said = waf(
        &["explain", "-", "--rules", &rules, "--paranoia", "2", "--json"],
        good,
    )
    .json();
    assert_eq!(said["matches"][0]["rule"], 1001, "{said}");
    let none = waf(&["explain", "-", "--rules", &rules], "hello");
    assert_eq!(none.code, 1);
    assert!(none.err.contains("no HTTP/1.1 request"), "{}", none.err);
}

#[test]
fn test_runs_regression_files_and_closes_with_a_tally() {
    let set = Set::new();
    let (rules, tests) = (set.path("rules"), set.path("tests"));
    let ended = waf(&["test", "--rules", &rules, "--tests", &tests], "");
    assert_eq!(
        (ended.code, ended.last_line()),
        (0, "2 passed, 0 failed, 0 skipped"),
        "{}",
        ended.err
    );
    set.write("setup.conf", "SecRuleRemoveById 1000");
    let setup = set.path("setup.conf");
    let ended = waf(
        &["test", "--rules", &rules, "--setup", &setup, "--tests", &tests],
        "",
    );
    assert_eq!(
        (ended.code, ended.last_line()),
        (1, "1 passed, 1 failed, 0 skipped")
    );
    assert!(
        ended.out.contains("1000-1 failed: 1000 did not match"),
        "{}",
        ended.out
    );
    let said = waf(
        &[
            "test", "--rules", &rules, "--setup", &setup, "--tests", &tests, "--json",
        ],
        "",
    )
    .json();
    assert_eq!(
        (&said["failed"], &said["tests"][0]["test"]),
        (&1.into(), &"1000-1".into())
    );
    assert_eq!(
        waf(&["test", "--rules", &rules, "--tests", &rules], "").code,
        1,
        "no tests"
    );
}

#[test]
fn test_asks_a_server_over_the_wire() {
    let set = Set::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("http://{}", listener.local_addr().unwrap());
    // Refuses everything: what is right for the first test, and wrong for the second.
    let server = std::thread::spawn(move || {
        for connection in listener.incoming().take(2) {
            let mut connection = connection.unwrap();
            let mut head = [0; 4096];
            let _ = connection.read(&mut head).unwrap();
            connection
                .write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        }
    });
    let ended = waf(&["test", "--tests", &set.path("tests"), "--target", &target], "");
    assert_eq!(
        (ended.code, ended.last_line()),
        (1, "1 passed, 1 failed, 0 skipped"),
        "{}",
        ended.err
    );
    server.join().unwrap();
    assert!(
        waf(
            &["test", "--tests", &set.path("tests"), "--target", "ftp://a"],
            ""
        )
        .err
        .contains("http://HOST:PORT")
    );
    assert_eq!(
        waf(&["test", "--tests", &set.path("tests"), "--target", &target], "").code,
        1,
        "nobody is there"
    );
}

/// The suite that the project publishes, where it is there.
#[test]
fn the_installed_rules_are_checked_by_default() {
    if !Path::new(astraler_waf::ruleset::INSTALLED).exists() {
        return;
    }
    let ended = waf(&["check", "--json"], "");
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.json()["rules"].as_u64().unwrap() > 400);
}
