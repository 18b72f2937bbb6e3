#!/usr/bin/env bash
# test.sh: the checks, the audit and every test. test.sh PART ...: the tests of these parts alone, of unit, integration,
# e2e and golden. A skipped test fails it: everything that a test may need is installed here, so a skip hides something.
set -uo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=deployments/setup/lib.sh
. "$here/lib.sh"
cd "$ROOT" || exit 1

# Tests with an engine or a Prefect server wait for it, so one more than there are processors. With two more they waited
# for each other.
readonly WORKERS_THAT_WAIT=$(($(nproc) + 1))

results="$(mktemp -d)"
trap 'rm -rf "$results"' EXIT
failed=""
took=()
shopt -s nullglob

# No test may reach a server or store of the user who runs it.
unset PREFECT_API_URL PREFECT_API_KEY PREFECT_PROFILE "${!ROAS_@}"

# step NAME COMMAND ...: runs it and keeps the time that it took.
step() {
    local name="$1" began="$SECONDS"
    shift
    "$@" || failed=yes
    took+=("$name $((SECONDS - began)) s")
}

run_tests() {
    local part="$1" workers
    case "$part" in
        unit | golden) workers=auto ;;
        integration | e2e) workers="$WORKERS_THAT_WAIT" ;;
        *) die "there are no tests called $part" "Name unit, integration, e2e or golden." ;;
    esac
    say "Tests: $part"
    "$VENV/bin/pytest" --junitxml "$results/$part.xml" --numprocesses "$workers" --no-loadscope-reorder \
        "tests/$part"
}

parts=("$@")
if [ $# -eq 0 ]; then
    step checks "$here/check.sh"
    step audit "$VENV/bin/python" "$here/audit.py" 20
    parts=(unit golden integration e2e)
fi
for part in "${parts[@]}"; do
    step "$part" run_tests "$part"
done

say "Took: $(printf '%s, ' "${took[@]}" | sed 's/, $//'); together $SECONDS s"
"$VENV/bin/python" "$here/count_tests.py" "$results"/*.xml || failed=yes
[ -z "$failed" ]
