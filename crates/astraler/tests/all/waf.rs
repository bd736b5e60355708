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
    // A setup among the rules is the setup, and is read once.
    set.write("rules/crs-setup.conf", "SecAction \"id:900,phase:1,pass,nolog\"");
    let ended = waf(&["test", "--rules", &rules, "--tests", &tests], "");
    assert_eq!(
        ended.last_line(),
        "2 passed, 0 failed, 0 skipped",
        "{}",
        ended.err
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
        listener
    });
    let ended = waf(&["test", "--tests", &set.path("tests"), "--target", &target], "");
    assert_eq!(
        (ended.code, ended.last_line()),
        (1, "1 passed, 1 failed, 0 skipped"),
        "{}",
        ended.err
    );
    let listener = server.join().unwrap();
    // One that only detects, and writes what it has found.
    let log = set.path("log");
    set.write("log", "[id \"1000\"] of before\n");
    let writes = log.clone();
    let server = std::thread::spawn(move || {
        for connection in listener.incoming().take(2) {
            let mut connection = connection.unwrap();
            let mut head = [0; 4096];
            let read = connection.read(&mut head).unwrap();
            let found = String::from_utf8_lossy(&head[..read]).contains("evil");
            let mut log = std::fs::OpenOptions::new().append(true).open(&writes).unwrap();
            if found {
                log.write_all(b"{\"rules\":[{\"rule\":\"1000\",\"action\":\"match\"}]}\n")
                    .unwrap();
            }
            connection
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        }
    });
    let ended = waf(
        &[
            "test",
            "--tests",
            &set.path("tests"),
            "--target",
            &target,
            "--log",
            &log,
        ],
        "",
    );
    assert_eq!(
        (ended.code, ended.last_line()),
        (0, "2 passed, 0 failed, 0 skipped"),
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

#[test]
fn top_lists_what_matches_most_and_writes_an_exception_for_one() {
    let set = Set::new();
    set.write("astraler.toml", "name = \"shop\"\ndomain = \"shop.example\"\n");
    let record = |environment: &str, path: &str, rules: &str| {
        format!(
            "{{\"environment\":\"{environment}\",\"path\":\"{path}\",\"status\":403,\"rules\":[{rules}]}}\n"
        )
    };
    let block = r#"{"rule":"949110","action":"block","score":5}"#;
    let one = r#"{"rule":"942100","action":"match","variable":"ARGS:q","score":5}"#;
    let two = r#"{"rule":"941100","action":"match","variable":"ARGS:text","score":5}"#;
    set.write(
        "logs/access.log.1",
        &record("staging", "/editor", &format!("{block},{one},{two}")),
    );
    let custom = r#"{"rule":"office","action":"deny"}"#;
    let log = [
        record("staging", "/editor", &format!("{block},{one}")),
        record("production", "/search", one),
        record("production", "/", custom),
        record(
            "preview",
            "/q",
            &format!("{one},{}", block.replace("block", "match")),
        ),
        "{\"environment\":\"prod".to_owned(),
    ];
    set.write("logs/access.log", &log.concat());
    let (dir, log) = (set.path(""), set.path("logs/access.log"));
    let said = waf(&["top", "--log", &log, "--json"], "").json();
    assert_eq!(said.as_array().unwrap().len(), 2, "{said}");
    assert_eq!(
        (&said[0]["rule"], &said[0]["requests"], &said[0]["refused"]),
        (&942_100.into(), &4.into(), &2.into())
    );
    assert_eq!(said[0]["would_be_refused"], 1, "by a firewall that only detects");
    assert_eq!(said[0]["paths"]["/editor"], 2);
    let said = waf(&["top", "--log", &log, "--env", "production", "--json"], "").json();
    assert_eq!(
        (said.as_array().unwrap().len(), &said[0]["refused"]),
        (1, &0.into()),
        "{said}"
    );

    let ended = waf(&["top", "--log", &log, "--dir", &dir, "--except", "941100"], "");
    assert_eq!(ended.code, 0, "{}", ended.err);
    let ended = waf(
        &[
            "top", "--log", &log, "--dir", &dir, "--except", "942100", "--path", "/a\"b",
        ],
        "",
    );
    assert_eq!(ended.code, 0, "{}", ended.err);
    let text = std::fs::read_to_string(set.path("astraler.toml")).unwrap();
    let written = astraler_manifest::parse("astraler.toml", &text).unwrap();
    let written = serde_json::to_value(&written.edge).unwrap();
    let exceptions = &written["waf"]["exceptions"];
    assert_eq!(exceptions[0]["rules"][0], 941_100);
    assert_eq!(exceptions[0]["paths"][0], "/editor");
    assert_eq!(exceptions[1]["paths"][0], "/a\"b");
    let wrong = waf(
        &[
            "top", "--log", &log, "--dir", &dir, "--except", "942100", "--path", "editor",
        ],
        "",
    );
    assert_ne!(wrong.code, 0, "not a path");
    assert_eq!(
        std::fs::read_to_string(set.path("astraler.toml")).unwrap(),
        text,
        "nothing is written then"
    );
    assert_eq!(
        waf(&["top", "--log", &log, "--dir", &dir, "--except", "1"], "").code,
        1,
        "for which paths?"
    );
}
