//! SQL injection and XSS: any bytes get an answer, and the same one again.
#![no_main]

use astraler_waf::libinjection::{sqli, xss};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    assert_eq!(sqli(input), sqli(input));
    assert_eq!(xss(input), xss(input));
});
