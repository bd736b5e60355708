//! Directives that change other rules, and modes.

use astraler_waf::engine::Stop;

use crate::with::{Sent, ids, rules};

const RULES: &str = r#"
SecRule ARGS "@contains attack" "id:1,phase:2,deny,status:418,msg:'one',tag:'kind/a'"
SecRule ARGS "@contains attack" "id:2,phase:2,pass,msg:'two',tag:'kind/b'"
"#;

fn matched(more: &str, target: &str) -> Vec<u64> {
    ids(&Sent::get(target).through(&rules(&format!("{RULES}{more}"))))
}

#[test]
fn rules_are_removed_by_id_tag_and_message() {
    assert_eq!(matched("", "/?a=attack"), [1]);
    assert_eq!(matched("SecRuleRemoveById 1", "/?a=attack"), [2]);
    assert_eq!(matched("SecRuleRemoveById 0-1 7", "/?a=attack"), [2]);
    assert_eq!(matched("SecRuleRemoveByTag kind/a", "/?a=attack"), [2]);
    assert_eq!(matched("SecRuleRemoveByMsg ^one$", "/?a=attack"), [2]);
    assert_eq!(matched("SecRuleRemoveByTag kind", "/?a=attack"), [0u64; 0]);
}

#[test]
fn targets_are_taken_out_and_put_in() {
    let without = "SecRuleUpdateTargetById 1 \"!ARGS:a\"";
    assert_eq!(matched(without, "/?a=attack"), [2]);
    assert_eq!(matched(without, "/?b=attack"), [1]);
    assert_eq!(
        matched("SecRuleUpdateTargetByTag kind/ !ARGS:/^A/", "/?ab=attack"),
        [0u64; 0]
    );
    assert_eq!(
        matched("SecRuleUpdateTargetByMsg two REQUEST_URI", "/attack"),
        [2]
    );
}

#[test]
fn actions_are_replaced() {
    let report = Sent::get("/?a=attack").through(&rules(&format!(
        "{RULES}SecRuleUpdateActionById 1 \"redirect:https://example.com/%{{ARGS.a}},status:307\""
    )));
    let stopped = report.interruption.unwrap();
    assert_eq!(
        stopped.action,
        Stop::Redirect("https://example.com/attack".to_owned())
    );
    assert_eq!((stopped.status, stopped.rule, stopped.phase), (307, 1, 2));
}

#[test]
fn block_is_what_the_phase_says() {
    let rule = "SecRule ARGS \"@contains attack\" \"id:1,phase:2,block\"";
    let sent = Sent::get("/?a=attack");
    assert_eq!(sent.through(&rules(rule)).interruption, None);
    let denying = format!("SecDefaultAction \"phase:2,deny,status:499,log\"\n{rule}");
    assert_eq!(sent.through(&rules(&denying)).interruption.unwrap().status, 499);
    let other_phase = format!("SecDefaultAction \"phase:1,deny,log\"\n{rule}");
    assert_eq!(sent.through(&rules(&other_phase)).interruption, None);
}

#[test]
fn detection_only_stops_nothing_and_off_looks_at_nothing() {
    let sent = Sent::get("/?a=attack");
    let report = sent.through(&rules(&format!("SecRuleEngine DetectionOnly\n{RULES}")));
    assert_eq!((ids(&report), report.interruption), (vec![1, 2], None));
    let report = sent.through(&rules(&format!("SecRuleEngine Off\n{RULES}")));
    assert_eq!((ids(&report), report.interruption), (vec![], None));
}
