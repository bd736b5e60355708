//! Rules of the edge on a real platform.

use std::fmt::Write as _;

#[test]
fn requests_and_answers_are_as_the_rules_say() {
    let _ = String::new().write_str("");
}

#[test]
fn operators_close_and_tighten_an_environment_at_run_time() {}
