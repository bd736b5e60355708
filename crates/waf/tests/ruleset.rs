//! Rule sets in folders, and what is set for them.

use std::path::Path;

use astraler_waf::compile::Program;
use astraler_waf::engine::{Known, Limits};
use astraler_waf::ruleset::{Files, INSTALLED, Options, Setup};
use astraler_waf::seclang::Mode;
use astraler_waf::suite::{self, Expected, Verdict};

use crate::with::{Sent, ids};

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A set in small that scores as the Core Rule Set does.
const RULES: &str = r#"
SecRule &TX:crs_setup_version "@eq 0" "id:901001,phase:1,deny,status:500"
SecRule &TX:blocking_paranoia_level "@eq 0" "id:901120,phase:1,pass,nolog,setvar:tx.blocking_paranoia_level=1"
SecRule ARGS "@contains evil" "id:1000,phase:2,pass,log,setvar:tx.blocking_inbound_anomaly_score=+5"
SecRule TX:blocking_paranoia_level "@ge 2" "id:1001,phase:2,pass,log"
SecRule TX:blocking_inbound_anomaly_score "@ge %{tx.inbound_anomaly_score_threshold}" "id:949110,phase:2,deny,status:403"
"#;

fn compile(folder: &Path, options: &Options) -> Program {
    Files::find(folder).unwrap().compile(options).unwrap()
}

#[test]
fn a_released_set_is_found_with_its_setup() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "rules/B.conf", "");
    write(folder.path(), "rules/A.conf", "");
    write(folder.path(), "rules/list.data", "");
    write(folder.path(), "crs-setup.conf.example", "");
    let from = |folder: &Path| {
        let files = Files::find(folder).unwrap();
        let names = |paths: &[std::path::PathBuf]| -> Vec<String> {
            let name = |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
            paths.iter().map(name).collect()
        };
        (names(&files.setup), names(&files.rules))
    };
    let rules = vec!["A.conf".to_owned(), "B.conf".to_owned()];
    let example = vec!["crs-setup.conf.example".to_owned()];
    assert_eq!(from(folder.path()), (example.clone(), rules.clone()));
    assert_eq!(from(&folder.path().join("rules")), (example, rules.clone()));
    write(folder.path(), "crs-setup.conf", "");
    assert_eq!(from(folder.path()), (vec!["crs-setup.conf".to_owned()], rules));
}

#[test]
fn a_folder_without_rules_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let error = Files::find(folder.path()).unwrap_err().to_string();
    assert!(error.contains("apt install modsecurity-crs"), "{error}");
}

#[test]
fn options_are_set_behind_the_setup_and_before_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "rules.conf", RULES);
    write(
        folder.path(),
        "crs-setup.conf",
        "SecAction \"id:900990,phase:1,nolog,pass,setvar:tx.crs_setup_version=400,\
         setvar:tx.inbound_anomaly_score_threshold=10\"",
    );
    let evil = Sent::get("/?a=evil");
    let as_set_up = evil.through(&compile(folder.path(), &Options::default()));
    assert_eq!(ids(&as_set_up), [1000], "the setup's threshold is 10");
    assert_eq!(as_set_up.inbound_score, 5);
    let strict = Options {
        mode: Some(Mode::DetectionOnly),
        paranoia_level: Some(2),
        inbound_threshold: Some(5),
        ..Options::default()
    };
    let report = evil.through(&compile(folder.path(), &strict));
    assert_eq!(ids(&report), [1000, 1001, 949_110]);
    assert!(report.interruption.is_none(), "it only detects");
    let excepted = Options {
        inbound_threshold: Some(5),
        more: "SecRuleRemoveById 1000".to_owned(),
        ..Options::default()
    };
    assert!(ids(&evil.through(&compile(folder.path(), &excepted))).is_empty());
}

#[test]
fn what_a_transaction_is_told_goes_before_what_its_program_was_compiled_with() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "rules.conf", RULES);
    let program = compile(
        folder.path(),
        &Options {
            paranoia_level: Some(1),
            inbound_threshold: Some(5),
            ..Options::default()
        },
    );
    let through = |setup: Setup| {
        let sent = Sent::get("/?a=evil");
        let mut transaction = program.begin(sent.request(), None, Limits::default());
        setup.tell(&mut transaction);
        transaction.request_headers();
        // What it was told outlives a pause.
        let mut paused = transaction.pause();
        let known = Known {
            request: sent.request(),
            request_body: b"",
            response: None,
        };
        let mut transaction = program.resume(&mut paused, known, None);
        transaction.request_body(&[], false);
        ids(&transaction.finish())
    };
    assert_eq!(through(Setup::default()), [1000, 949_110]);
    let own = Setup {
        paranoia_level: Some(2),
        inbound_threshold: Some(6),
        ..Setup::default()
    };
    assert_eq!(through(own), [1000, 1001]);
    let outbound = Setup {
        outbound_threshold: Some(3),
        ..Setup::default()
    };
    assert_eq!(through(outbound), [1000, 949_110]);
}

#[test]
fn a_set_that_nobody_has_set_up_works() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "rules.conf", RULES);
    let options = Options {
        inbound_threshold: Some(5),
        ..Options::default()
    };
    let program = compile(folder.path(), &options);
    let report = Sent::get("/?a=evil").through(&program);
    assert_eq!(report.interruption.unwrap().status, 403);
    assert!(Sent::get("/?a=good").through(&program).interruption.is_none());
}

#[test]
fn of_a_body_beyond_its_limit_the_beginning_is_looked_at_and_the_rest_passes() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "rules.conf", RULES);
    let options = Options {
        inbound_threshold: Some(5),
        request_body_limit_bytes: Some(64),
        ..Options::default()
    };
    let program = compile(folder.path(), &options);
    let sent = |body: &[u8], kind: &[u8]| {
        let request = Sent {
            method: "POST",
            headers: &[(b"Host", b"example.com"), (b"Content-Type", kind)],
            body,
            ..Sent::default()
        };
        request.through(&program).interruption.map(|stop| stop.status)
    };
    let filler = "x".repeat(100);
    let form = b"application/x-www-form-urlencoded";
    assert_eq!(sent(format!("a=evil&b={filler}").as_bytes(), form), Some(403));
    assert_eq!(sent(format!("b={filler}&a=evil").as_bytes(), form), None);
    let json = b"application/json";
    assert_eq!(
        sent(format!("{{\"a\":\"evil\",\"b\":\"{filler}\"}}").as_bytes(), json),
        Some(403)
    );
    assert_eq!(sent(format!("{{\"b\":\"{filler}\"}}").as_bytes(), json), None);
}

/// The package of the distribution: rules and setup lie in two places.
#[test]
fn the_installed_set_blocks_at_its_thresholds() {
    if !Path::new(INSTALLED).exists() {
        eprintln!("SKIPPED: the package modsecurity-crs is not installed");
        return;
    }
    let program = compile(
        Path::new(INSTALLED),
        &Options {
            mode: Some(Mode::On),
            ..Options::default()
        },
    );
    let attack = b"GET /?q=1%27%20or%201%3D1%20union%20select%20password%20from%20users HTTP/1.1\r\nHost: a.example\r\nUser-Agent: a\r\nAccept: */*\r\n\r\n";
    let (status, report) = suite::send(&program, attack);
    assert_eq!(status, 403, "{report:?}");
    let honest = b"GET /?q=shoes HTTP/1.1\r\nHost: a.example\r\nUser-Agent: a\r\nAccept: */*\r\n\r\n";
    assert_eq!(suite::send(&program, honest).0, 200);
}

#[test]
fn a_status_is_judged_by_what_is_expected() {
    let expected = |ids: &[u64], no_ids: &[u64], status| Expected {
        ids: ids.to_vec(),
        no_ids: no_ids.to_vec(),
        status,
        ..Expected::default()
    };
    assert_eq!(suite::judge(&expected(&[1], &[], None), 403), Verdict::Passed);
    assert!(matches!(
        suite::judge(&expected(&[1], &[], None), 200),
        Verdict::Failed(_)
    ));
    assert_eq!(suite::judge(&expected(&[], &[1], None), 404), Verdict::Passed);
    assert!(matches!(
        suite::judge(&expected(&[], &[1], None), 403),
        Verdict::Failed(_)
    ));
    assert_eq!(
        suite::judge(&expected(&[1], &[], Some(400)), 400),
        Verdict::Passed
    );
    assert!(matches!(
        suite::judge(&expected(&[], &[], None), 200),
        Verdict::Skipped(_)
    ));
}
