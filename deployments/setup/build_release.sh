#!/usr/bin/env bash
# build_release.sh VERSION: build the files of a release from this checkout into dist/: wheel, source archive, SBOM and
# SHA256SUMS. The wheel is tried in an empty environment. The same tag gives the same bytes, here and in the workflow.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=deployments/setup/lib.sh
. "$here/lib.sh"
cd "$ROOT"

version="${1:-}"
dist="$ROOT/dist"
work="$(mktemp -d)"

main() {
    trap 'rm -rf "$work"' EXIT
    check_version
    build
    check_wheel
    "$here/sbom.sh" "$work/sbom" --pinned-only
    mv "$work/sbom/python.cdx.json" "$dist/roas_ops-$version.cdx.json"
    (cd "$dist" && sha256sum -- *.whl *.tar.gz *.cdx.json >SHA256SUMS)
}

check_version() {
    grep -q "^version = \"$version\"$" pyproject.toml || die "pyproject.toml does not say version $version"
    date="$(sed -n "s/^## \[$version\] - \([0-9-]*\)$/\1/p" CHANGELOG.md)"
    [ -n "$date" ] || die "CHANGELOG.md has no section $version with a date"
    [ ! -e man ] || die "man/ is there, and would be part of this build alone" "Remove it: rm -r man"
}

# Twice, since what differs between two builds cannot be checked by others.
build() {
    local again="$work/again"
    SOURCE_DATE_EPOCH="$(date -u -d "$date" +%s)"
    export SOURCE_DATE_EPOCH
    rm -rf "$dist"
    "$VENV/bin/python" -m hatchling build -d "$dist" >/dev/null
    "$VENV/bin/python" -m hatchling build -d "$again" >/dev/null
    diff <(cd "$dist" && sha256sum ./*) <(cd "$again" && sha256sum ./*) ||
        die "two builds of the same files differ" "The files with different sums are above."
}

# In an environment of its own, with the pinned packages, in an empty folder and home.
check_wheel() {
    local uv="$VENV/bin/uv" home="$work/home" roas="$work/venv/bin/roas" printed
    mkdir "$home"
    "$uv" venv --quiet --python "$VENV/bin/python" "$work/venv"
    "$uv" pip install --quiet --python "$work/venv/bin/python" --require-hashes -r requirements.txt
    "$uv" pip install --quiet --python "$work/venv/bin/python" --no-deps "$dist"/*.whl
    printed="$(in_empty_home "$roas" --version)"
    [ "$printed" = "roas $version" ] || die "the installed wheel says '$printed'"
    in_empty_home "$roas" doctor || die "roas doctor of the installed wheel finds this machine wanting"
}

in_empty_home() {
    (cd "$home" && env -u ROAS_DATA_DIR -u XDG_DATA_HOME -u XDG_CONFIG_HOME -u PYTHONPATH \
        HOME="$home" ROAS_WARM=0 "$@")
}

main
