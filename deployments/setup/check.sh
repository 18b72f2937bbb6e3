#!/usr/bin/env bash
# The gate without tests: format, lint, types, import contracts, shell, documentation. Runs all; one failure fails the script.
set -uo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=deployments/setup/lib.sh
. "$here/lib.sh"
cd "$ROOT" || exit 1
[ -x "$VENV/bin/ruff" ] || die "the tools of the checks are not installed" "Run 'make tools' first."
have shellcheck || die "shellcheck is not installed" "Run 'make test' once, or install the package shellcheck."
failed=()
# For all checkouts: mypy compares contents, so that a new one does not wait for what another one has checked.
export MYPY_CACHE_DIR="${MYPY_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/roas/mypy}"

check() {
    local name="$1" output
    shift
    if output="$("$@" 2>&1)"; then
        say "$name: ok"
    else
        printf '%s\n' "$output"
        say "$name: FAILED"
        failed+=("$name")
    fi
}

shell_files() {
    git ls-files -z deployments .ci |
        xargs -0 grep -lE --null '^#!/(usr/)?bin/(env )?(ba)?sh|shellcheck shell=' |
        xargs -0 shellcheck -x
}

check "format" "$VENV/bin/ruff" format --check .
check "lint" "$VENV/bin/ruff" check .
check "types" "$VENV/bin/mypy"
check "import contracts" "$VENV/bin/lint-imports"
check "shell" shell_files
check "documentation" "$VENV/bin/python" -m deployments.docs.build

[ "${#failed[@]}" -eq 0 ] || die "checks failed: ${failed[*]}"
