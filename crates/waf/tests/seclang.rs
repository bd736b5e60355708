//! What is accepted, and that all else is refused with its place.

use std::path::{Path, PathBuf};

use astraler_waf::compile::Program;
use astraler_waf::seclang::{LoadError, Rules};

use crate::with::{Sent, ids, problems, rules};

fn compiled(file: &Path) -> Result<Program, LoadError> {
    let files: [PathBuf; 1] = [file.to_path_buf()];
    Program::new(&Rules::default().files(&files))
}

#[test]
fn unknown_words_are_errors_with_file_line_and_hint() {
    let found = problems(
        "SecRule ARGS \"@rx a\" \"id:1,pass\"\n\
         SecRuul ARGS \"@rx a\" \"id:2\"\n\
         SecRule ARG \"@rx a\" \"id:3\"\n\
         \n\
         SecRule ARGS \"@rxx a\" \"id:4\"\n\
         SecRule ARGS \"@rx a\" \"id:5,denny,t:lowercas\"\n\
         SecAction \"id:6,ctl:ruleRemoveByIdd=1\"\n\
         SecAction \"id:7,setvar:tx.a=%{TXX.b}\"\n",
    );
    let wanted = [
        "test.conf:2: unknown directive SecRuul (did you mean SecRule?)",
        "test.conf:3: unknown variable ARG (did you mean ARGS?)",
        "test.conf:5: unknown operator @rxx (did you mean rx?)",
        "test.conf:6: unknown action denny (did you mean deny?)",
        "test.conf:6: no transformation is called 'lowercas' (did you mean lowercase?)",
        "test.conf:7: unknown ctl:ruleRemoveByIdd (did you mean ruleRemoveById?)",
        "test.conf:8: unknown variable TXX (did you mean TX?)",
    ];
    assert_eq!(found, wanted);
}

/// One fault is one problem: what follows a rule that cannot be read is not wrong for that.
#[test]
fn links_of_a_rule_that_cannot_be_read_are_no_rules_of_their_own() {
    for head in [
        "SecRule ARG \"@rx a\" \"id:1,pass,chain\"",
        "SecRule ARGS \"@rx a\" \"id:1,pass,chain,denny\"",
        "SecRule ARGS \"@rx (\" \"id:1,pass,chain\"",
        "SecRule ARGS \"@rx a \\\n \"id:1,pass,chain\"",
    ] {
        let found = problems(&format!(
            "{head}\n  SecRule ARGS \"@rx b\" \"chain\"\n  SecRule ARGS \"@rx c\"\n"
        ));
        assert_eq!(found.len(), 1, "{head}: {found:?}");
    }
    let link = "SecRule ARGS \"@rx a\" \"id:1,pass,chain\"\n  SecRule ARG \"@rx b\" \"chain\"\n  SecRule ARGS \"@rx c\"\n";
    assert_eq!(
        problems(link),
        ["test.conf:2: unknown variable ARG (did you mean ARGS?)"]
    );
    let last =
        "SecRule ARGS \"@rx a\" \"id:1,pass,chain\"\n  SecRule ARG \"@rx b\"\nSecAction \"id:2,pass\"\n";
    assert_eq!(
        problems(last),
        ["test.conf:2: unknown variable ARG (did you mean ARGS?)"]
    );
}

#[test]
fn a_set_may_bring_the_rules_of_the_base_itself() {
    let own = "SecRule REQBODY_ERROR \"!@eq 0\" \"id:'200002',phase:2,deny,status:418,msg:'own'\"";
    let program = Program::new(&Rules::base().text(own, Path::new("modsecurity.conf"))).unwrap();
    let broken = Sent {
        method: "POST",
        headers: &[(b"Content-Type", b"application/json")],
        body: b"{",
        ..Sent::default()
    };
    let report = broken.through(&program);
    assert_eq!(ids(&report), [200_002]);
    assert_eq!(report.interruption.unwrap().status, 418);
}

#[test]
fn what_would_change_decisions_and_is_not_done_is_refused_with_the_reason() {
    for (text, reason) in [
        ("SecRuleScript a.lua \"id:1\"", "a script has no bound"),
        ("SecRule ARGS \"@gsbLookup x\" \"id:1\"", "asks nobody"),
        ("SecRule ARGS \"@inspectFile x\" \"id:1\"", "starts none"),
        ("SecRule ARGS \"@rx a\" \"id:1,exec:/bin/true\"", "starts none"),
        ("SecHashEngine On", "only Off is accepted"),
        (
            "SecRule ARGS \"@rx a(?=b)\" \"id:1\"",
            "look-ahead cannot be matched in linear time",
        ),
        (
            "SecRule ARGS \"@rx (a)\\1\" \"id:1\"",
            "a back-reference cannot be matched in linear time",
        ),
        ("SecRule ARGS \"@rx (\" \"id:1\"", "unclosed group"),
        ("SecRule XML:/a/b \"@rx a\" \"id:1\"", "the path /a/b is unknown"),
    ] {
        let found = problems(text).join("\n");
        assert!(found.contains(reason), "{text}: {found}");
    }
}

#[test]
fn rules_that_contradict_each_other_are_errors() {
    let found = problems(
        "SecAction \"id:1,pass\"\n\
         SecAction \"id:1,pass\"\n\
         SecRule ARGS \"@rx a\" \"pass\"\n\
         SecRule ARGS \"@rx a\" \"id:2,chain\"\n",
    );
    assert_eq!(
        found,
        [
            "test.conf:2: id 1 is taken by test.conf:1",
            "test.conf:3: the rule has no id (id:100000 to 199999 are for your own)",
            "test.conf:4: rule 2 says chain, and no rule follows",
        ]
    );
    let found = problems("SecAction \"id:1,pass,skipAfter:END\"");
    assert_eq!(found, ["test.conf:1: skipAfter:END: there is no such SecMarker"]);
    let found = problems("SecMarker END\nSecAction \"id:1,pass\"\nSecAction \"id:2,pass,skipAfter:END\"");
    assert_eq!(found, ["test.conf:3: skipAfter:END goes backwards"]);
}

#[test]
fn lines_go_on_and_comments_end() {
    let program = rules(
        "# SecRule ARGS \"@rx a\" \\\n    \"id:1\"\n\
         SecRule ARGS|!ARGS:'/^a|b$/' \"@rx say \\\"hi\\\"\" \\\n    \"id:2,phase:2,\\\n    pass,\\\n    msg:'it\\'s, well',\\\n    tag:'a/b'\"\n",
    );
    let all: Vec<_> = program.rules().collect();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].id, all[0].phase, all[0].msg), (2, 2, Some("it's, well")));
    assert_eq!(all[0].place.line, 3);
    assert_eq!(&*all[0].tags[0], "a/b");
}

#[test]
fn folders_are_included_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("b.conf", "SecAction \"id:2,pass\"");
    write("a.conf", "SecAction \"id:1,pass\"");
    write("c.txt", "nonsense");
    write("words.data", "# a comment\nfirst\nsecond\n");
    write(
        "main.conf",
        "Include ?.conf\nSecRule ARGS \"@pmFromFile words.data\" \"id:3,deny,phase:1\"",
    );
    let main = folder.path().join("main.conf");
    let program = compiled(&main).unwrap();
    let mut ids: Vec<u64> = program.rules().map(|rule| rule.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
    // A file that includes itself ends, as an error.
    write("main.conf", "Include main.conf");
    let error = compiled(&main).unwrap_err();
    assert!(error.to_string().contains("include each other"), "{error}");
}
