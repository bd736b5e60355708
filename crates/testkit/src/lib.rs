//! A whole platform in a temporary folder, for tests.
