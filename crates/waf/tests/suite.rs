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
        output: { response_contains: "x" }
  - test_id: 5
    stages:
      - input: { uri: "/?a=1", headers: { Host: a.example } }
        output: { log_contains: "id \"10\"" }
"#;

/// As the project's own setup for its tests begins.
const SETUP: &str =
    "SecRuleEngine On\nSecAction \"id:900005,phase:1,nolog,pass,setvar:tx.blocking_paranoia_level=4\"\n";

const RULES: &str = "SecRule REQUEST_PROTOCOL \"!@rx ^HTTP/1\" \"id:10,phase:1,deny,log,msg:'old'\"\n\
                     SecRule ARGS \"@rx 1\" \"id:11,phase:2,deny,log,msg:'one'\"\n";

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
    assert_eq!(verdicts[..3], [Verdict::Passed, Verdict::Passed, Verdict::Passed]);
    assert!(matches!(&verdicts[3], Verdict::Skipped(why) if why.contains("response_contains")));
    assert!(matches!(&verdicts[4], Verdict::Failed(_)));
}
