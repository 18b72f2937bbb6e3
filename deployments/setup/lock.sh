#!/usr/bin/env bash
# Renews the pinned requirements from pyproject.toml: every package with its hashes, no index named.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=deployments/setup/lib.sh
. "$here/lib.sh"
# shellcheck source=deployments/setup/python.sh
. "$here/python.sh"

uv="$(find_uv)" || die "uv is not installed" "Run 'make setup' first."
cd "$ROOT"

# Each file may only repeat what the one before it pinned, so that images and tests run the same code.
export_pins() {
    local into="$1"
    shift
    say "Pinning $into"
    "$uv" pip compile --quiet --upgrade --universal --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --output-file "$into" "$@"
}

export_pins requirements-build.txt --group build
export_pins requirements.txt pyproject.toml --extra otel
# jsonschema, which Prefect imports, uses rfc3987-syntax where the SBOM tools install it, and that package parses a
# grammar at import: it more than doubles the time to import Prefect, in every process of the tests.
export_pins requirements-dev.txt pyproject.toml --extra otel --group dev --group build \
    --constraint requirements.txt --constraint requirements-build.txt --excludes <(echo rfc3987-syntax)
