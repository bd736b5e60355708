//! The regression files of the Core Rule Set, run in this process.
