//! An expression: no text panics, and what it makes is bounded.
#![no_main]

use astraler_workflow::expression::{self, Contexts, Value};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut contexts = Contexts::default();
    let labels = Value::array([Value::object([("name", Value::from("bug"))]), Value::Null, Value::from(1.5)]);
    contexts.insert("github", Value::object([("ref", Value::from("refs/heads/main")), ("labels", labels)]));
    if let Ok(value) = expression::evaluate(text, &contexts) {
        drop(value.to_text());
    }
});
