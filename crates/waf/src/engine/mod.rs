//! One request or response through a program.
