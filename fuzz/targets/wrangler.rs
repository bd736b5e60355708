//! wrangler's files in both syntaxes: no text panics, and every error can be shown.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    for name in ["wrangler.jsonc", "wrangler.toml"] {
        if let Err(errors) = astraler_manifest::check_wrangler(name, text) {
            errors.render(false, 80);
        }
    }
});
