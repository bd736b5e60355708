//! Runs of the pipeline: what a push asks for, from the moment it is received to its report.

mod tools;

pub use tools::runner_tools;
