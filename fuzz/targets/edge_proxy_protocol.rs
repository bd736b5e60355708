//! The PROXY protocol: the verdict is the same however much of the bytes is there, and no more is asked for than a header
//! may have.
#![no_main]

use astraler_edge::proxy_protocol::{Step, parse};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut have = 0;
    loop {
        match parse(&bytes[..have]) {
            Ok(Step::More(more)) => {
                assert!(more > 0 && have + more <= 16 + 4096);
                have += more;
                if have > bytes.len() {
                    return;
                }
            }
            Ok(Step::Whole(_)) => {
                // Another byte does not belong to it.
                if have < bytes.len() {
                    assert!(parse(&bytes[..have + 1]).is_err());
                }
                return;
            }
            Err(_) => return,
        }
    }
});
