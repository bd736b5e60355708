//! Transaction pool; being written.
