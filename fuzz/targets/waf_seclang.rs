//! Rule files: whatever they say, they are compiled or refused with places, and what was compiled runs.
#![no_main]

use std::path::Path;

use astraler_waf::compile::Program;
use astraler_waf::engine::Limits;
use astraler_waf::seclang::Rules;
use astraler_waf::suite;

const REQUEST: &[u8] = b"POST /a?b=c%20d HTTP/1.1\r\nHost: a.example\r\nCookie: e=f\r\n\
Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 5\r\n\r\ng=h;i";

libfuzzer_sys::fuzz_target!(|text: &str| {
    // Names of files are the machine's, not the text's.
    let names = text.to_ascii_lowercase();
    if names.contains("include") || names.contains("file") || names.contains("pmf") || names.contains("ipmatchf") {
        return;
    }
    match Program::new(&Rules::base().text(text, Path::new("fuzz.conf"))) {
        Ok(program) => {
            let limits = Limits { work: 1 << 20, ..Limits::default() };
            suite::send_within(&program, REQUEST, limits);
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            assert!(error.to_string().contains(&error.problems[0].message));
        }
    }
});
