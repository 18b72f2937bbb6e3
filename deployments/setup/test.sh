#!/usr/bin/env bash
# The whole gate: checks, then every test, then one line with the count. A skipped test fails it: here
# everything that a test may need is installed, so a skip hides something.
set -uo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=deployments/setup/lib.sh
. "$here/lib.sh"
cd "$ROOT" || exit 1

results="$(mktemp -d)"
trap 'rm -rf "$results"' EXIT
failed=""

"$here/check.sh" || failed=yes
"$VENV/bin/python" "$here/audit.py" 20 || failed=yes

# No test may reach a server or store of the person who runs it.
unset PREFECT_API_URL PREFECT_API_KEY PREFECT_PROFILE "${!ROAS_@}"

run_tests() {
    local name="$1" status
    shift
    say "Tests: $name"
    "$VENV/bin/pytest" --junitxml "$results/${name// /-}.xml" "$@"
    status=$?
    # 5: no test is in this part.
    [ "$status" -eq 0 ] || [ "$status" -eq 5 ] || failed=yes
}

# Those with an engine or a Prefect server mostly wait for them, so three files at a time; never the tests of one
# file, which share an application.
run_tests apart -n auto -m "not engine and not flow"
run_tests "with a real engine" -n 3 --dist loadfile -m "engine or flow"

"$VENV/bin/python" "$here/count_tests.py" "$results"/*.xml || failed=yes
[ -z "$failed" ]
