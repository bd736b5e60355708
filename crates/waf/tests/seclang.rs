//! What is accepted, and that all else is refused with its place.

use crate::with::{problems, rules};

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
    // Words are wrong when they are read; then all of them are told together.
    let wanted = [
        "test.conf:2: unknown directive SecRuul (did you mean SecRule?)",
        "test.conf:3: unknown variable ARG (did you mean ARGS?)",
        "test.conf:6: unknown action denny (did you mean deny?)",
        "test.conf:6: no transformation is called 'lowercas' (did you mean lowercase?)",
        "test.conf:7: unknown ctl:ruleRemoveByIdd (did you mean ruleRemoveById?)",
        "test.conf:8: unknown variable TXX (did you mean TX?)",
    ];
    assert_eq!(found, wanted);
    assert_eq!(
        problems("SecRule ARGS \"@rxx a\" \"id:4\""),
        ["test.conf:1: unknown operator @rxx (did you mean rx?)"]
    );
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
    let program = astraler_waf::compile::Program::from_files(std::slice::from_ref(&main)).unwrap();
    let mut ids: Vec<u64> = program.rules().map(|rule| rule.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
    // A file that includes itself ends, as an error.
    write("main.conf", "Include main.conf");
    let error = astraler_waf::compile::Program::from_files(&[main]).unwrap_err();
    assert!(error.to_string().contains("include each other"), "{error}");
}
