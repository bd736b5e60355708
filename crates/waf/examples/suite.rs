//! Runs the regression files of a Core Rule Set folder: `suite FOLDER [NAME…]`.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::path::Path;

use astraler_waf::suite::{self, Verdict};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap();
    let only: Vec<String> = arguments.collect();
    let folder = Path::new(&folder);
    let setup = folder.join("crs-setup.conf.example");
    let program = match suite::program(&folder.join("rules"), Some(&setup)) {
        Ok(program) => program,
        Err(error) => {
            println!("{error}");
            std::process::exit(1);
        }
    };
    let cases = suite::read(&folder.join("tests")).unwrap();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for case in &cases {
        if !only.is_empty() && !only.contains(&case.name) {
            continue;
        }
        match suite::run(&program, case) {
            Verdict::Passed => passed += 1,
            Verdict::Failed(why) => {
                failed += 1;
                println!("{}: {why}", case.name);
            }
            Verdict::Skipped(why) => {
                skipped += 1;
                println!("{}: skipped: {why}", case.name);
            }
        }
        if !only.is_empty() {
            for stage in &case.stages {
                println!("{}", String::from_utf8_lossy(&stage.request));
                let (status, report) = suite::send(&program, &stage.request);
                println!("--> {status}");
                for one in report.into_iter().flat_map(|report| report.matches) {
                    println!(
                        "{} {} {} = {:?} data {:?}",
                        one.rule, one.msg, one.variable, one.value, one.data
                    );
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
}
