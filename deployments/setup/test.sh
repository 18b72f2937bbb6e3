#!/usr/bin/env bash
# test.sh: the checks and the tests that hold every promise, with a sixteenth of the campaigns: the one that the number
# of commits chooses, or SHARD=N (0 to 15). test.sh --all: with all campaigns. test.sh PART ...: every test of these
# parts, of unit, integration, e2e, golden, simulation and campaigns (with SHARD=N that sixteenth).
# A skipped test fails it: everything that a test may need is installed here, so a skip hides something.
set -uo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=deployments/setup/lib.sh
. "$here/lib.sh"
cd "$ROOT" || exit 1

readonly SHARDS=16

results="$(mktemp -d)"
# Also what runs beside, where a person interrupts.
trap 'trap - EXIT; rm -rf "$results"; kill 0' INT TERM
trap 'rm -rf "$results"' EXIT
shopt -s nullglob
# What runs beside each other writes to logs; its progress goes here.
exec 3>&1

# Each worker would compile all tests anew.
unset PYTHONDONTWRITEBYTECODE
# In a virtual machine a small page that the processor has to look up may cost microseconds, and Python touches many:
# in large pages, which the C library's allocator asks for, the same work took a sixth of the processor time there.
export PYTHONMALLOC=malloc GLIBC_TUNABLES=glibc.malloc.hugetlb=1
# No test may reach a server or store of the user who runs it.
unset PREFECT_API_URL PREFECT_API_KEY PREFECT_PROFILE "${!ROAS_@}"

# step NAME COMMAND ...: runs it, and says how it ended and what it took.
step() {
    local name="$1" began="$SECONDS" how=ok
    shift
    if ! "$@" >"$results/$name.log" 2>&1; then
        how=FAILED
        touch "$results/failed"
    fi
    [ "$how" = ok ] || cat "$results/$name.log"
    say "$name: $how$(counted "$name"), $((SECONDS - began)) s"
}

# The counts of a part of the tests.
counted() { [ ! -f "$results/$1.xml" ] || printf ', %s' "$("$VENV/bin/python" "$here/count_tests.py" --line "$results/$1.xml")"; }

# run_tests NAME: a part, or what waits for the engine, or what runs beside it as one, so that no part waits for the last
# test of another. Its progress goes to the terminal, the rest to the log of the step.
run_tests() {
    local folders=("tests/$1") workers
    local simulated_and_real=tests/simulation/test_held_to_reality.py
    # They wait for engines and servers, and share the processors with other parts.
    workers=$(($(nproc) + 1))
    case "$1" in
        unit | golden | simulation) workers="$(nproc)" ;;
        integration | e2e) ;;
        engine) folders=(tests/e2e "$simulated_and_real") ;;
        beside) folders=(tests/unit tests/golden tests/simulation tests/integration --ignore "$simulated_and_real") ;;
        campaigns)
            folders=(tests)
            chosen=(--tier campaigns ${SHARD:+--shard "$SHARD"})
            ;;
        *) die "there are no tests called $1" "Name unit, integration, e2e, golden, simulation or campaigns." ;;
    esac
    # Most of the time nothing runs beside the campaigns, and three of them left processors idle half of it. With all of
    # them, six beside two brought a load of 20, and some had no time to answer.
    if [ "$1" = campaigns ]; then
        workers=$((2 * $(nproc) + 1))
    elif [ "${#chosen[@]}" = 0 ]; then
        case "$1" in
            engine) workers=$((2 * $(nproc) + 1)) ;;
            beside) workers="$(nproc)" ;;
        esac
    fi
    "$VENV/bin/pytest" --junitxml "$results/$1.xml" --numprocesses "$workers" --no-loadscope-reorder \
        --progress /dev/fd/3 --part "$1" "${chosen[@]}" "${folders[@]}"
}

# Tests on the engine wait for it, so what needs the processor runs beside them. All tests have one priority: what gave way
# to an engine and its containers got so little that it ran out of its time. The checks hold no times: they take what the
# tests leave.
run_everything() {
    say "Tests: $1"
    # Its packages come from a mirror, meanwhile other tests run.
    step images tests/e2e/gallery/image/build.sh &
    step engine run_tests engine &
    step checks nice -n 19 "$here/check.sh" &
    step audit "$VENV/bin/python" "$here/audit.py" 20 &
    step beside run_tests beside
    wait
}

chosen=()
case "${1:-}" in
    "")
        shard="${SHARD:-$(($(git rev-list --count HEAD) % SHARDS))}"
        chosen=(--tier gate --shard "$shard")
        run_everything "all but the campaigns, and sixteenth $shard of these (again: SHARD=$shard make test; all: make test-all)"
        ;;
    --all) run_everything "all, with every campaign" ;;
    *)
        for part in "$@"; do
            step "$part" run_tests "$part"
        done
        ;;
esac

say "Together $SECONDS s"
"$VENV/bin/python" "$here/count_tests.py" "$results"/*.xml || touch "$results/failed"
[ ! -e "$results/failed" ]
