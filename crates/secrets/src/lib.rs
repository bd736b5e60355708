//! Seal, open, rotate and redact secrets under the root key.
