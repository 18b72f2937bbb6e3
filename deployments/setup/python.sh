# Python, uv and the checkout's own environment (.venv), from the pinned requirements.
# shellcheck shell=bash

WITH_TOOLS=""
readonly STAMP="$VENV/.roas-requirements"

# Trust the system's certificates, which may include a company's own.
[ ! -r /etc/ssl/certs/ca-certificates.crt ] || export UV_SYSTEM_CERTS=1
# shellcheck source=deployments/setup/downloads.sh
. "$ROOT/deployments/setup/downloads.sh"
[ -z "${PIP_INDEX_URL:-}" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"

# Prints a Python 3.11-3.13; fails where there is none.
find_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    return 1
}

find_uv() {
    if [ -x "$TOOLS/bin/uv" ]; then
        echo "$TOOLS/bin/uv"
    else
        command -v uv
    fi
}

_can_make_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

python_missing() {
    local python
    if ! python="$(find_python)"; then
        echo "Python 3.11, 3.12 or 3.13 with venv"
    elif ! find_uv >/dev/null && ! _can_make_venv "$python"; then
        echo "Python's venv"
    fi
    find_uv >/dev/null || echo "uv, into .tools"
    environment_is_current || echo "the project and its pinned requirements, into .venv"
}

# Print the distribution's packages for the parts that python_missing named.
python_packages() {
    local python version
    if python="$(find_python)"; then
        if ! find_uv >/dev/null && ! _can_make_venv "$python"; then
            version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
            echo "python$version-venv"
        fi
        return
    fi
    for version in 3.13 3.12 3.11; do
        if [ -n "$(apt_candidate "python$version")" ]; then
            echo "python$version" "python$version-venv"
            return
        fi
    done
    die "this distribution offers no Python 3.11, 3.12 or 3.13" "Install one, then run this again."
}

environment_is_current() {
    [ -x "$VENV/bin/roas" ] && [ -r "$STAMP" ] && [ "$(cat "$STAMP")" = "$(_wanted)" ]
}

# What works on the code stays where it was installed once.
_pins() {
    if [ -n "$WITH_TOOLS" ] || [ -x "$VENV/bin/pytest" ]; then
        echo requirements-dev.txt
    else
        echo requirements.txt requirements-build.txt
    fi
}

# The code is read from the checkout, so only changes of these files need a new installation.
# shellcheck disable=SC2046  # a list of names
_wanted() { (cd "$ROOT" && content_hash $(_pins) pyproject.toml); }

python_install() {
    local python uv
    python="$(find_python)" || die "Python was installed, but no version from 3.11 to 3.13 runs" "Try 'python3 --version'."
    if ! find_uv >/dev/null; then
        say "Installing uv into .tools"
        "$python" -m venv "$TOOLS"
        retry "$TOOLS/bin/python" -m pip install --quiet --disable-pip-version-check \
            --require-hashes -r "$ROOT/requirements-build.txt" ||
            die "uv could not be installed" "The output of pip is above; check the package index and its certificates."
    fi
    uv="$(find_uv)"
    environment_is_current && return
    say "Installing the project and its pinned requirements into .venv"
    if ! "$VENV/bin/python" -c '' 2>/dev/null; then
        "$uv" venv --quiet --clear --python "$python" "$VENV"
    fi
    # shellcheck disable=SC2046  # a list of names
    (cd "$ROOT" && "$uv" pip sync --quiet --compile-bytecode --require-hashes --python "$VENV/bin/python" $(_pins)) ||
        die "the pinned requirements could not be installed" "The output of uv is above; 'make lock' renews the pins."
    "$uv" pip install --quiet --no-deps --no-build-isolation --python "$VENV/bin/python" --editable "$ROOT"
    _wanted >"$STAMP"
}
