//! Golden transcripts of the lives of alerts.

use crate::script::{World, breached, run};
use astraler_alert::{Observation, State, Tick};
use astraler_model::Environment;

#[test]
fn a_critical_alert_is_told_at_once_and_resolved_when_it_stays_well() {
    let said = run("
        breach production errors critical
        look
        for 120
        well production errors
        for 30
        breach production errors critical
        for 60
        well production errors
        for 120
    ");
    insta::assert_snapshot!(said, @r#"
    0:00:00 pagerduty [CRITICAL] production: errors (1)
    0:00:00 slack [CRITICAL] production: errors (1)
    0:04:40 pagerduty [RESOLVED] production: errors (1)
    0:04:40 slack [RESOLVED] production: errors (1)
    0:04:40 alert 1 errors is forgotten
    "#);
}

#[test]
fn the_first_notice_leaves_time_for_its_way() {
    let policy = astraler_alert::Policy::default();
    assert!(policy.routes.values().all(|route| route.wait_s <= 5));
}

#[test]
fn a_group_waits_for_others_and_tells_news_after_its_interval() {
    let said = run("
        breach production errors high
        for 20
        breach production slow high
        for 60
        breach production disk high
        for 400
        well production slow
        for 600
    ");
    insta::assert_snapshot!(said, @r#"
    0:00:40 slack [HIGH] production: errors, slow (1,2)
    0:05:40 slack [HIGH] production: errors, slow, disk (1,2,3)
    0:10:40 slack [RESOLVED] production: slow (2)
    0:10:40 alert 2 slow is forgotten
    "#);
}

#[test]
fn it_repeats_after_four_hours_unless_somebody_acknowledged() {
    let said = run("
        breach production drift low
        breach production backup medium
        for 30000
        ack 1 36000
        for 36100
    ");
    insta::assert_snapshot!(said, @r#"
     0:00:40 email [MEDIUM] production: backup (1)
     4:00:40 email [MEDIUM] production: backup (1)
     8:00:40 email [MEDIUM] production: backup (1)
    18:20:00 email [MEDIUM] production: backup (1)
    "#);
}

#[test]
fn it_escalates_when_nobody_acknowledges_and_all_who_were_told_hear_of_the_end() {
    let said = run("
        breach production backup medium
        for 86400
        for 3700
        for 1000
        ack 1 3600
        for 3700
        well production backup
        for 100
    ");
    insta::assert_snapshot!(said, @r#"
     0:00:40 email [MEDIUM] production: backup (1)
     4:00:40 email [MEDIUM] production: backup (1)
     8:00:40 email [MEDIUM] production: backup (1)
    12:00:40 email [MEDIUM] production: backup (1)
    16:00:40 email [MEDIUM] production: backup (1)
    20:00:40 email [MEDIUM] production: backup (1)
    24:00:10 slack [HIGH] production: backup (1)
    25:00:10 pagerduty [CRITICAL] production: backup (1)
    25:00:10 slack [CRITICAL] production: backup (1)
    25:15:10 pagerduty [CRITICAL] production: backup (1)
    25:15:10 slack [CRITICAL] production: backup (1)
    25:18:20 pagerduty [ACKNOWLEDGED] production: backup (1)
    25:18:20 slack [ACKNOWLEDGED] production: backup (1)
    26:18:20 pagerduty [CRITICAL] production: backup (1)
    26:18:20 slack [CRITICAL] production: backup (1)
    26:21:10 pagerduty [RESOLVED] production: backup (1)
    26:21:10 slack [RESOLVED] production: backup (1)
    26:21:10 email [RESOLVED] production: backup (1)
    26:21:10 alert 1 backup is forgotten
    "#);
}

#[test]
fn worse_takes_the_acknowledgement_away_and_better_changes_nothing() {
    let said = run("
        breach production errors high
        for 60
        ack 1 36000
        breach production errors critical
        for 20
        breach production errors high
        for 60
        well production errors
        for 100
    ");
    insta::assert_snapshot!(said, @r#"
    0:00:40 slack [HIGH] production: errors (1)
    0:01:00 slack [ACKNOWLEDGED] production: errors (1)
    0:01:10 pagerduty [CRITICAL] production: errors (1)
    0:01:10 slack [CRITICAL] production: errors (1)
    0:03:30 pagerduty [RESOLVED] production: errors (1)
    0:03:30 slack [RESOLVED] production: errors (1)
    0:03:30 alert 1 errors is forgotten
    "#);
}

#[test]
fn a_silence_hides_what_it_fits_and_hides_no_end() {
    let said = run("
        breach production slow critical
        look
        silence slow 3600
        for 1800
        well production slow
        for 100
        breach production slow critical
        for 600
        breach production errors critical
        for 1800
        well production errors
        for 100
    ");
    insta::assert_snapshot!(said, @r#"
    0:00:00 pagerduty [CRITICAL] production: slow (1)
    0:00:00 slack [CRITICAL] production: slow (1)
    0:31:10 pagerduty [RESOLVED] production: slow (1)
    0:31:10 slack [RESOLVED] production: slow (1)
    0:31:10 alert 1 slow is forgotten
    0:41:50 pagerduty [CRITICAL] production: errors (3)
    0:41:50 slack [CRITICAL] production: errors (3)
    0:56:50 pagerduty [CRITICAL] production: errors (3)
    0:56:50 slack [CRITICAL] production: errors (3)
    1:00:00 pagerduty [CRITICAL] production: slow (2)
    1:00:00 slack [CRITICAL] production: slow, errors (2,3)
    1:11:50 pagerduty [CRITICAL] production: errors (3)
    1:11:50 slack [CRITICAL] production: slow, errors (2,3)
    1:12:50 pagerduty [RESOLVED] production: errors (3)
    1:12:50 slack [RESOLVED] production: errors (3)
    1:12:50 alert 3 errors is forgotten
    "#);
}

#[test]
fn what_nobody_measures_neither_begins_nor_ends_and_what_is_gone_is_well() {
    let said = run("
        breach production errors critical
        look
        unmeasured production errors
        for 600
        gone production errors
        for 100
    ");
    insta::assert_snapshot!(said, @r#"
    0:00:00 pagerduty [CRITICAL] production: errors (1)
    0:00:00 slack [CRITICAL] production: errors (1)
    0:11:10 pagerduty [RESOLVED] production: errors (1)
    0:11:10 slack [RESOLVED] production: errors (1)
    0:11:10 alert 1 errors is forgotten
    "#);
}

#[test]
fn a_raised_alert_stays_until_it_is_lowered() {
    let said = run("
        raise platform backup-missing high
        look
        for 600
        restart
        for 60
        lower platform backup-missing
        for 600
    ");
    insta::assert_snapshot!(said, @r#"
    0:00:00 slack [HIGH] platform: backup-missing (1)
    0:11:10 slack [RESOLVED] platform: backup-missing (1)
    0:11:10 alert 1 backup-missing is forgotten
    "#);
}

#[test]
fn a_clock_that_jumps_changes_nothing_of_what_is_said_when() {
    let script = |jumps: [&str; 3]| {
        run(&format!(
            "breach production errors high
             for 30
             {}
             for 3000
             {}
             for 3000
             well production errors
             {}
             for 600",
            jumps[0], jumps[1], jumps[2]
        ))
    };
    let still = script(["", "", ""]);
    assert!(still.contains("pagerduty [CRITICAL]"), "it escalates: {still}");
    assert_eq!(
        script(["clock -86400", "clock 400000000", "clock -90000000"]),
        still
    );
    assert_eq!(script(["clock 864000", "restart", "clock -1"]), still);
}

#[test]
fn what_is_breached_for_less_than_its_hold_is_never_told() {
    let mut world = World::new();
    let observed = Observation {
        hold_s: 60,
        ..breached("slow", Environment::Production, "critical".parse().unwrap())
    };
    let mut look = |measured: &[Observation]| {
        let tick = Tick {
            wall_ms: 0,
            passed_ms: 10_000,
        };
        let outcome = world.book.step(tick, measured, &world.policy);
        (
            outcome.notices.len(),
            world.book.alerts().first().map(|alert| alert.state),
        )
    };
    for _ in 0..6 {
        assert_eq!(look(std::slice::from_ref(&observed)), (0, Some(State::Pending)));
    }
    assert_eq!(look(&[]), (0, None));
    for _ in 0..6 {
        assert_eq!(look(std::slice::from_ref(&observed)), (0, Some(State::Pending)));
    }
    assert_eq!(look(&[observed]), (2, Some(State::Firing)));
}

#[test]
fn numbers_that_are_not_there_are_refused_with_the_next_step() {
    let mut world = World::new();
    let refused = world.book.acknowledge(7, "ada", 60).unwrap_err().to_string();
    assert_eq!(
        refused,
        "there is no open alert 7: `astraler alerts list` shows them"
    );
    world.book.unsilence(7).unwrap_err();
    for _ in 0..astraler_alert::MAX_SILENCES {
        world.book.silence(None, None, "ada", "", 60).unwrap();
    }
    world.book.silence(None, None, "ada", "", 60).unwrap_err();
}
