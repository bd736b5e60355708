//! One request or response through a program.

/// What a thread keeps between transactions.
#[derive(Debug, Default)]
pub struct Scratch {}
