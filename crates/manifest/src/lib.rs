//! astraler.toml and the files beside it, read into one validated manifest.
