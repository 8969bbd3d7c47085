#!/usr/bin/env bash
# Runs every benchmark of the workspace. Each prints a table for people, and its figures as lines
# that are one JSON object each; the lines are collected into target/bench.json. No benchmark fails
# on time: machines are noisy, so figures are ratios, counts and CPU times.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
log=$target/bench-output.log
cargo build --quiet --release --workspace --bins
export HOLDFAST_BIN_DIR=$target/release

cargo bench --quiet --workspace --bench '*' -- "$@" </dev/null | tee "$log"

{
    printf '{"items": [\n'
    grep '^{.*}$' "$log" | sed '$!s/$/,/'
    printf ']}\n'
} >"$target/bench.json"
echo "figures: $target/bench.json" >&2
