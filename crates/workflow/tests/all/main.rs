//! The language against outside cases.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod expressions;
mod golden;
mod hostile;
mod language;
