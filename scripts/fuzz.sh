#!/usr/bin/env bash
# Runs every fuzz target for some seconds (60 by default): scripts/fuzz.sh [SECONDS]
# Needs a nightly toolchain and cargo-fuzz, which neither `make up` nor `make test` do.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds="${1:-60}"
if ! cargo +nightly --version > /dev/null 2>&1; then
  echo "fuzz: needs nightly Rust: rustup toolchain install nightly" >&2
  exit 1
fi
if ! cargo +nightly fuzz --version > /dev/null 2>&1; then
  echo "fuzz: needs cargo-fuzz: cargo install cargo-fuzz --locked" >&2
  exit 1
fi
[ -f fuzz/Cargo.toml ] || { echo "fuzz: there is no fuzz target yet" >&2; exit 1; }

for target in $(cargo +nightly fuzz list); do
  echo "fuzz: $target for $seconds s"
  cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048
done
