#!/usr/bin/env bash
# Builds the programs once, runs every test against them, and ends with one line that says how many
# passed and failed. Called by `make test`; arguments go to cargo test, such as `-p holdfast-engine`.
set -euo pipefail
cd "$(dirname "$0")/.."

# The longest that the whole run may take before it is ended as hung.
readonly LIMIT=60m

target=${CARGO_TARGET_DIR:-$PWD/target}
mkdir -p "$target"
log=$target/test-output.log
skips=$target/test-skips.log
conformance=$target/test-conformance.tsv
: >"$skips"
: >"$conformance"

cargo build --quiet --workspace --bins
export HOLDFAST_BIN_DIR=$target/debug
export HOLDFAST_SKIP_LOG=$skips
export HOLDFAST_CONFORMANCE_LOG=$conformance

selection=("$@")
if [ ${#selection[@]} -eq 0 ]; then selection=(--workspace); fi

status=0
timeout --kill-after=20s "$LIMIT" cargo test --no-fail-fast "${selection[@]}" </dev/null 2>&1 |
    tee "$log" || status=$?

if [ "$status" -eq 124 ]; then echo "error: the tests were ended after $LIMIT" >&2; fi
echo
awk -f tests/conformance.awk "$conformance"
if [ -s "$skips" ]; then
    echo "$(wc -l <"$skips") skipped:"
    sed 's/^/  /' "$skips"
fi
awk -v status="$status" '
    /^test result:/ { passed += $4; failed += $6 }
    # A test binary that died prints no result of its own.
    END {
        if (status != 0 && failed == 0) failed = 1
        printf "%d passed, %d failed\n", passed, failed
    }' "$log" | tee "$target/test-summary"
exit "$status"
