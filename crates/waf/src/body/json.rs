//! JSON.
use super::{Limits, Outcome, Sink};

/// A JSON document.
pub fn json<'b>(_body: &'b [u8], _limits: &Limits, _sink: Sink<'_, 'b>) -> Outcome {
    Outcome::default()
}
