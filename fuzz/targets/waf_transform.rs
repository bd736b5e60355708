//! Every transformation of any bytes: it says whether it changed something, and is right; nothing grows without bound.
#![no_main]

use astraler_waf::transform::{Transformation, apply};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut out = Vec::new();
    for transformation in Transformation::ALL {
        if apply(*transformation, input, &mut out) {
            assert_ne!(out, input, "{transformation}");
            assert!(out.len() <= 4 * input.len() + 64, "{transformation}");
        }
    }
});
