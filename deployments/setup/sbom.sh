#!/usr/bin/env bash
# Write the project's packages into sbom/ (CycloneDX 1.6): the pinned Python packages, this checkout's environment
# with its licences, and the Debian packages of each local image. Validate each file.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=deployments/setup/lib.sh
. "$here/lib.sh"

into="${1:-$ROOT/sbom}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

main() {
    mkdir -p "$into"
    python_packages
    [ "${2:-}" = --pinned-only ] && return
    "$VENV/bin/cyclonedx-py" environment --spec-version 1.6 --output-reproducible --validate \
        --pyproject "$ROOT/pyproject.toml" --output-file "$into/environment.cdx.json" "$VENV/bin/python"
    local image
    for image in $(docker image ls --filter 'reference=roas/*:local' --format '{{.Repository}}' | sort); do
        debian_packages "$image"
    done
    "$VENV/bin/python" "$here/validate_sbom.py" "$into"/*.cdx.json
    say "SBOM: $(find "$into" -name '*.cdx.json' | wc -l) files in ${into#"$ROOT/"}"
}

# With the hash of every file that may be installed.
python_packages() {
    "$VENV/bin/cyclonedx-py" requirements --spec-version 1.6 --output-reproducible --validate \
        --pyproject "$ROOT/pyproject.toml" --output-file "$into/python.cdx.json" "$ROOT/requirements.txt"
}

debian_packages() {
    local image="$1" root="$work/$1"
    mkdir -p "$root/var/lib/dpkg"
    docker run --rm --network none --user 65534 --entrypoint cat "$image:local" /var/lib/dpkg/status \
        >"$root/var/lib/dpkg/status"
    quietly "$VENV/bin/debsbom" generate --sbom-type cdx --cdx-schema-version 1.6 --distro-name "$image" \
        --root "$root" --out "$into/image-${image#roas/}" ||
        die "no SBOM could be made of $image:local" "The last lines of debsbom are above."
}

main "$@"
