//! A workflow file, or an action's metadata: no text panics, and every error can be shown.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Err(errors) = astraler_workflow::parse("w.yml", text) {
        assert!(!errors.is_empty(), "nothing is wrong and there is no workflow");
        errors.iter().for_each(|error| drop(error.to_string()));
    }
    drop(astraler_workflow::action::parse("action.yml", text));
});
