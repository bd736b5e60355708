//! `astraler.toml`: no text panics, and every error can be shown.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Err(errors) = astraler_manifest::parse("astraler.toml", text) {
        errors.render(false, 80);
    }
});
