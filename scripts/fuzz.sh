#!/usr/bin/env bash
# Runs every fuzz target for some seconds (60 by default), or the ones that are named:
#
#   scripts/fuzz.sh [SECONDS [TARGET...]]
#
# Stable Rust does: the instrumentation of libFuzzer is a matter of code generation. What a run finds is kept in
# fuzz/corpus and seeds the next; an input that fails is written to fuzz/artifacts and named.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds="${1:-60}"
[ $# -eq 0 ] || shift
case "$seconds" in '' | *[!0-9]*) echo "fuzz: expected seconds, found '$seconds'" >&2; exit 2 ;; esac
if [ $# -gt 0 ]; then targets=("$@"); else mapfile -t targets < <(basename -s .rs fuzz/targets/*.rs); fi

host="$(rustc -vV | sed -n 's/^host: //p')"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/fuzz"
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
# With --target, build scripts and macros are built without the flags.
cargo build --locked --release --target "$host" --manifest-path fuzz/Cargo.toml

# Good files to begin with.
seed() { mkdir -p "fuzz/corpus/$1" && cp "$2" "fuzz/corpus/$1/$(basename "$2")"; }
seed manifest starter/astraler.toml
seed wrangler starter/workers/api/wrangler.jsonc
seed workflow starter/.github/workflows/ci.yml
mkdir -p fuzz/corpus/edge_head fuzz/corpus/edge_chunk
printf 'POST /a?b=c HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello' > fuzz/corpus/edge_head/length
printf 'GET / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n' > fuzz/corpus/edge_head/chunked
printf '3;x=y\r\nabc\r\n0\r\na: b\r\n\r\n' > fuzz/corpus/edge_chunk/trailer

for target in "${targets[@]}"; do
  mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
  echo "fuzz: $target for $seconds s"
  "$CARGO_TARGET_DIR/$host/release/$target" "fuzz/corpus/$target" \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="fuzz/artifacts/$target/" 2>&1 | grep -E '^(stat::|==|SUMMARY|thread|Test unit|artifact_prefix|INFO: Seed)|panicked|assertion' \
    || { echo "fuzz: $target failed" >&2; exit 1; }
done
