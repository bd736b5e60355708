//! The planner against written transcripts, and against every pair of states that proptest finds.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a transcript that is written anew is read by people and git"
)]

mod addresses;
mod machine;
mod properties;
mod transcripts;
