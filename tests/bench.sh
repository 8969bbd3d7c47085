#!/usr/bin/env bash
# Runs every benchmark of the workspace. Each prints a table for people, and its figures as lines
# that are one JSON object each; the lines are collected into target/bench.json. No benchmark fails
# on time: machines are noisy, so figures are ratios, counts and CPU times.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
log=$target/bench-output.log
# As `make install` builds them: the agent to be small, everything else to be fast.
cargo build --quiet --release --workspace --exclude holdfast-agent --bins
cargo build --quiet --profile agent -p holdfast-agent
export HOLDFAST_BIN_DIR=$target/bench-programs
mkdir -p "$HOLDFAST_BIN_DIR"
find "$target/release" -maxdepth 1 -type f -perm -u+x ! -name holdfast-agent \
    -exec ln -f {} "$HOLDFAST_BIN_DIR" \;
ln -f "$target/agent/holdfast-agent" "$HOLDFAST_BIN_DIR"

cargo bench --quiet --workspace --bench '*' -- "$@" </dev/null | tee "$log"

{
    printf '{"items": [\n'
    grep '^{.*}$' "$log" | sed '$!s/$/,/'
    printf ']}\n'
} >"$target/bench.json"
echo "figures: $target/bench.json" >&2
