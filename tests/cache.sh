# Sourced by scripts: names, in HOLDFAST_TEST_CACHE, the directory of what tests need and is made on a
# machine once. tests/cache.rs is the same for the tests themselves.
if [ -z "${HOLDFAST_TEST_CACHE:-}" ]; then
    if [ "$(id -u)" -eq 0 ]; then
        HOLDFAST_TEST_CACHE=/var/cache/holdfast-tests
    else
        HOLDFAST_TEST_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/holdfast-tests
    fi
fi
export HOLDFAST_TEST_CACHE
